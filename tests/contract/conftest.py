"""NATS servers for what is tested against the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.nats import Servers, emptied, nats_servers


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One, for all tests of a module."""
    with nats_servers(tmp_path_factory.mktemp("nats")) as servers:
        yield servers


@pytest.fixture
def one(shared: Servers) -> Servers:
    """The same, with nothing in it."""
    return emptied(shared)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Servers]:
    """A cluster of one's own, to be broken."""
    with nats_servers(tmp_path, 3) as servers:
        yield servers
