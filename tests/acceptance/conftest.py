"""What acceptance tests share: one running service for all that need nothing special of it, and an origin for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.scripted import ScriptedOrigin, scripted_origin
from support.service import Service, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """``agezero up`` with its defaults. Shared: a test takes paths of its own and leaves the origin's content alone for others' paths."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def origin() -> Iterator[ScriptedOrigin]:
    """An origin that answers as it is told, for the tests of one module."""
    with scripted_origin() as running:
        yield running
