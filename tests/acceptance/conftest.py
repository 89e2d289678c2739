"""One running service for all acceptance tests that need nothing special of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.service import Service, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """``agezero up`` with its defaults. Shared: a test takes paths of its own and leaves the origin's content alone for others' paths."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running
