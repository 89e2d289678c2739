"""`agezero edges` against the real HTTP side."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from agezero.cli.main import run
from agezero.cli.output import Exit
from agezero.control import EdgeView
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api

FLEET = [
    EdgeView("shield", "leased", 0, 9, 0, ("url", "everything", "soft"), ""),
    EdgeView("front", "fenced", 1, 7, 2, ("url",), "connection refused"),
]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api() as running:
        monkeypatch.setenv("AGEZERO_URL", running.url)
        monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
        running.purges.fleet = list(FLEET)
        yield running


@pytest.mark.usefixtures("api")
def test_edges_are_listed_in_columns(capsys: Capture) -> None:
    capsys.readouterr()  # what the start had to say
    assert run(["edges"]) == Exit.OK
    rows = [line.split(maxsplit=6) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["shield", "leased", "0", "9", "0", "url,everything,soft"],
        ["front", "fenced", "1", "7", "2", "url", "connection refused"],
    ]


@pytest.mark.usefixtures("api")
def test_on_a_terminal_the_columns_have_names(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    capsys.readouterr()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(["edges"]) == Exit.OK
    assert capsys.readouterr().out.splitlines()[0].split() == ["NAME", "STATE", "TIER", "WATERMARK", "LAG", "DOES", "TROUBLE"]


def test_an_edge_is_removed(api: Api, capsys: Capture) -> None:
    assert run(["edges", "remove", "front"]) == Exit.OK
    assert api.purges.fleet == FLEET[:1]
    assert "front is removed" in capsys.readouterr().err


def test_an_edge_is_drained_and_put_back(api: Api, capsys: Capture) -> None:
    assert run(["edges", "drain", "front"]) == Exit.OK
    assert api.purges.fleet[1].state == "draining"
    assert run(["edges", "drain", "front", "--undo"]) == Exit.OK
    assert api.purges.fleet[1].state == "leased"
    assert "front is in service again" in capsys.readouterr().err
    assert run(["edges", "drain", "frnt"]) == Exit.REFUSED


def test_an_unknown_edge_is_said(api: Api, capsys: Capture) -> None:
    assert run(["edges", "remove", "frnt"]) == Exit.REFUSED
    assert api.purges.fleet == FLEET
    assert "There is no edge of this name. (HTTP 404)\nhint: `agezero edges` lists" in capsys.readouterr().err


def test_who_may_not_purge_everything_may_not_remove_an_edge(api: Api) -> None:
    keys = [api.keys.create("reads", Permission.READ, None, None), api.keys.create("bound", Permission.WRITE, [ENDPOINT], None)]
    for key in keys:
        assert httpx.get(f"{api.url}/v1/edges", auth=(key, "")).status_code == 200
        assert httpx.delete(f"{api.url}/v1/edges/front", auth=(key, "")).status_code == 403
        assert httpx.put(f"{api.url}/v1/edges/front/drain", auth=(key, "")).status_code == 403
    assert httpx.get(f"{api.url}/v1/edges").status_code == 401
    assert api.purges.fleet == FLEET
