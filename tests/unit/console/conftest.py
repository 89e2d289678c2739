"""A service with its console, for the tests of one module, and an admin who is signed in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from agezero.config import Config, Limits
from support.api import ENDPOINT, KEY, Api, running_api
from support.console import signed_in


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(failed_attempts_per_min=10))) as api:
        yield api


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    yield server
    server.within(server.edge.open.set)


@pytest.fixture(scope="module")
def admin(server: Api) -> Iterator[httpx.Client]:
    with signed_in(server.url, KEY) as client:
        yield client
