"""A lease is never longer than it was given, wherever the agent stands still while it is handed on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agezero.edges.nginx.driver import TableDriver
from agezero.edges.nginx_njs.driver import NginxNjsDriver
from agezero.edges.nginx_njs.last_lease import LastLease
from agezero.edges.position import PositionFile
from agezero.edges.slots import SlotFile
from agezero.edges.varnish.connection import Reply
from agezero.edges.varnish.driver import VarnishDriver
from agezero.ports import Lease

ASKED_S, LENGTH_S, WALL_S = 100.0, 5.0, 1_000_000.0
PAUSE_S = 30.0


class Clocks:
    """Both clocks go on by a pause with the look number ``paused_after``."""

    def __init__(self, paused_after: int) -> None:
        self._left = paused_after
        self._passed_s = 0.0

    def monotonic(self) -> float:
        return ASKED_S + self._pass()

    def time(self) -> float:
        return WALL_S + self._pass()

    def _pass(self) -> float:
        now_s = self._passed_s
        self._left -= 1
        if self._left == 0:
            self._passed_s = PAUSE_S
        return now_s


class Varnish(VarnishDriver):
    """Remembers what it would have told Varnish."""

    until_s = 0.0

    async def _do(self, path: str, headers: Mapping[str, str]) -> Reply:
        assert path == "/lease"
        self.until_s = float(headers["AgeZero-Until"])
        return Reply(200, {}, "")


class Nginx(TableDriver):
    """Remembers what it would have told nginx."""

    until_s = 0.0

    async def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:  # noqa: ARG002
        self.until_s = body["until"] / 1000
        return {}


class OwnNginx(NginxNjsDriver):
    """Hands nothing on."""

    async def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}


def varnish(folder: Path) -> Varnish:
    return Varnish(folder / "socket", PositionFile(folder / "position"))


def nginx(folder: Path) -> Nginx:
    return Nginx(folder / "socket", SlotFile(folder / "slots", 16))


@pytest.mark.parametrize("paused_after", range(1, 5))
@pytest.mark.parametrize(("make", "module"), [(varnish, "agezero.edges.varnish.driver"), (nginx, "agezero.edges.nginx.driver")])
def test_a_pause_between_two_looks_at_a_clock_shortens_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Varnish | Nginx], module: str, paused_after: int
) -> None:
    driver = make(tmp_path)
    monkeypatch.setattr(f"{module}.time", Clocks(paused_after))
    asyncio.run(driver.install(Lease(1, ASKED_S, LENGTH_S)))
    assert driver.until_s <= WALL_S + LENGTH_S


@pytest.mark.parametrize("paused_after", [1, 2])
def test_a_lease_that_is_remembered_ends_no_earlier_than_the_one_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused_after: int
) -> None:
    last = LastLease(tmp_path / "last")
    driver = OwnNginx(SlotFile(tmp_path / "slots", 16), tmp_path / "socket", last)
    monkeypatch.setattr("agezero.edges.nginx.driver.time", Clocks(0))
    monkeypatch.setattr("agezero.edges.nginx_njs.driver.time", Clocks(paused_after))
    asyncio.run(driver.install(Lease(1, ASKED_S, LENGTH_S)))
    assert last._saved.monotonic_s >= ASKED_S + LENGTH_S
