"""What control nodes take from an agent that means harm, over the real NATS server: its requests and reports as it may word them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from agezero.core.purge import RequestIds
from agezero.errors import UserError
from agezero.fleet_nats import control_node
from agezero.jetstream import admission, desk
from agezero.jetstream.link import Access, Link
from agezero.shared_control import SharedControl
from support.logs import linked, url
from support.nats import Servers
from support.waiting import until

IDS = RequestIds(b"s" * 32)
FAR = 1 << 50
"""Beyond any log."""
EDGE = "edge-a.x"


@asynccontextmanager
async def node(servers: Servers) -> AsyncIterator[tuple[SharedControl, Link]]:
    """A control node, and a connection of an agent."""
    async with control_node(Access(servers=servers.urls), IDS, 60, 0.2) as (control, _), linked(servers.urls) as agent:
        yield control, agent


async def ask(agent: Link, verb: str, edge: str, **fields: object) -> dict[str, Any]:
    message = await agent.ask(f"agezero.control.{verb}.{edge}", msgspec.json.encode(fields), timeout_s=5)
    return msgspec.json.decode(message.data, type=dict[str, Any])


async def join(agent: Link, edge: str, **fields: object) -> dict[str, Any]:
    return await ask(agent, "join", edge, **{"tier": 0, "fences": True, **fields})


async def claim(servers: Servers) -> dict[str, Any]:
    """The answer to a renewal beyond the log. Then the control node starts again."""
    async with node(servers) as (_, agent):
        token = (await join(agent, EDGE))["token"]
        answer = await ask(agent, "renew", EDGE, token=token, watermark=FAR)
    async with node(servers):
        return answer


def test_a_renewal_beyond_the_log_is_refused_and_not_put_on_record(one: Servers) -> None:
    answer = asyncio.run(claim(one))
    assert f"watermark {FAR} is beyond the purge log, which ends at " in answer["refused"]


def test_were_it_put_on_record_no_control_node_would_start_again(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin."""

    async def unchecked(*_: object) -> None:
        pass

    def believed(self: SharedControl, name: str, token: int, watermark: int, trouble: str) -> None:
        self.ledger.report(name, token, watermark, trouble, 0.0)

    monkeypatch.setattr(SharedControl, "_in_the_log", unchecked)
    monkeypatch.setattr(SharedControl, "heard", believed)
    with pytest.raises(UserError, match=f"but edges have applied {FAR}"):
        asyncio.run(claim(one))


def test_a_report_beyond_the_log_is_believed_once_the_log_has_got_there(one: Servers) -> None:
    """An agent may hear of an entry before this node does; and what it will never have applied proves nothing."""

    async def story() -> None:
        async with node(one) as (control, agent):
            tokens = {edge: (await join(agent, edge))["token"] for edge in (EDGE, "edge-a.y")}
            head = control.log.head
            for edge, watermark in ((EDGE, head + 1), ("edge-a.y", FAR)):
                await agent.publish(f"agezero.report.{edge}", msgspec.json.encode({"token": tokens[edge], "watermark": watermark}))
            seats = control.ledger.seats
            await until(lambda: all(seats[edge].reported for edge in tokens), "both are heard")
            assert [seats[edge].watermark for edge in tokens] == [0, 0]
            await control.submit(url(1), "key")
            assert [seats[edge].watermark for edge in tokens] == [head + 1, 0]
            assert (await ask(agent, "renew", EDGE, token=tokens[EDGE], watermark=head + 1))["length_s"] == 60

    asyncio.run(story())


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("edge-a.z", {"does": ["x" * 200_000]}, "too long; expected at most 64 characters"),
    ("edge-a.z", {"does": ["x"] * 33}, "33 words on what the edge does; expected at most 32"),
    ("edge-a.z", {"tier": -1}, "tier -1 is not valid"),
    ("edge-a.z", {"tier": 1 << 40}, "is not valid; expected 0 to 100"),
    ("edge-a.z", {"lease_s": -5}, "a lease of -5.0 s is not valid; expected more than 0"),
    ("edge-a.z", {"lease_s": 0}, "expected more than 0"),
    ("edge-a.+", {}, "the edge's name 'edge-a.+' is not valid; expected a letter"),
    ("edge-a." + "z" * 60, {}, "is not valid; expected a letter, then at most 62"),
]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "check_join", lambda *_: None)


def test_what_no_setting_allows_does_not_get_on_the_board(one: Servers) -> None:
    async def story() -> None:
        async with node(one) as (control, agent):
            for edge, fields, words in WRONG:
                assert words in (await join(agent, edge, **fields))["refused"], fields
            assert not control.ledger.seats
            assert (await join(agent, "edge-a.z", does=["url", "by table"], lease_s=0.5, tier=1))["token"] == 1

    asyncio.run(story())


@pytest.mark.usefixtures("unchecked")
def test_without_the_checks_all_of_that_is_on_the_board(one: Servers) -> None:
    """The twin."""

    async def story() -> None:
        async with node(one) as (control, agent):
            for edge, fields, _ in WRONG:
                assert (await join(agent, edge, **fields))["token"], fields
            assert "edge-a.+" in control.ledger.seats

    asyncio.run(story())


def test_a_host_has_only_so_many_edges_until_somebody_removes_one(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "EDGES_MAX", 3)

    async def story() -> None:
        async with node(one) as (control, agent):
            for edge in ("edge-a", "edge-a.x", "edge-a.x.y"):
                assert "token" in await join(agent, edge)
            assert "3 edges of 'edge-a' are on record, and no more than 3 may be" in (await join(agent, "edge-a.z"))["refused"]
            assert (await join(agent, "edge-a.x"))["token"] == 2, "one that is on record may join again"
            assert "token" in await join(agent, "edge-b.z"), "another host's may join"
            assert await control.remove_edge("edge-a.x")
            assert "token" in await join(agent, "edge-a.z")

    asyncio.run(story())
