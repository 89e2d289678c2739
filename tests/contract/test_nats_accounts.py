"""The accounts shipped in ``deploy/nats/``, as written, on three real servers with TLS: what control nodes and agents may do, and agents may not.

The hole that accounts close: a client names the subject of an answer, and the server publishes there with its own rights.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from agezero.agent import Agent
from agezero.core.purge import RequestIds
from agezero.errors import UserError
from agezero.fleet_nats import agent_side, control_node
from agezero.fleet_nats import linked as linked_as
from agezero.jetstream import stream
from agezero.jetstream.link import Access, ApiError, Link, LinkFailed
from agezero.jetstream.log import JetStreamLog
from agezero.jetstream.names import BOARD_STREAM, FOLLOWED, LOG_STREAM, LOG_SUBJECT, NEWS, SERVICE_STREAM
from agezero.shared_control import SharedControl
from support.edges import MemoryEdge, MemoryStore
from support.logs import linked, url
from support.nats import nats_servers
from support.nats_shipped import Leaf, ShippedServers, password, shipped_leaf, shipped_servers
from support.waiting import until

IDS = RequestIds(b"s" * 32)
AGENT = "edge-a"
FORGED = b'{"kind":"url","value":"example.com/666","by":"x","ms":1}'
WITHOUT_ACCOUNTS = """
authorization {
  users: [
    { user: control, password: secret }
    { user: edge-a, password: secret, permissions: {
        publish: ["agezero.control.*.edge-a", "agezero.report.edge-a", "$JS.API.STREAM.INFO.agezero_purges", "$JS.API.DIRECT.GET.agezero_purges"]
        subscribe: ["agezero.log", "agezero.news", "_INBOX.>"]
    } }
  ]
}
"""
"""The naive way: one account, and permissions that name no subject too many."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedServers]:
    with shipped_servers(tmp_path_factory.mktemp("nats")) as started:
        yield started


@contextlib.asynccontextmanager
async def guarded(servers: ShippedServers) -> AsyncIterator[tuple[SharedControl, JetStreamLog, Link]]:
    """A control node, its log, and a connection with an agent's credentials."""
    async with control_node(servers.access("control"), IDS, 60, 1) as (control, log), linked(servers.urls, **servers.options(AGENT)) as agent:
        yield control, log, agent


async def works(control: SharedControl, access: Access, edge: str) -> None:
    """An agent with ``access`` joins, applies, catches up and leaves."""
    behind = await control.submit(url(1), "key")
    async with agent_side(access) as (log, remote):
        driver = MemoryEdge()
        agent = Agent(edge, driver, log, remote, MemoryStore())
        task = asyncio.create_task(agent.run())
        await until(lambda: driver.leases, f"{edge} is leased")
        request_id = await control.submit(url(2), "key")
        async with asyncio.timeout(20):
            while not await control.status(request_id):
                pass
        assert await control.status(behind)
        assert driver.applied[-1].selector == url(2)
        assert [purge.selector for purge in await log.read(log.head - 2, 10)] == [url(1), url(2)], "what it had missed can be read"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await remote.leave(edge, agent.token)


def test_control_nodes_and_agents_may_do_all_that_they_do(servers: ShippedServers, tmp_path: Path) -> None:
    """For the edge of the host's own name, one whose name begins with it, and through a leaf node."""

    async def story(leaf: Leaf) -> None:
        async with control_node(servers.access("control"), IDS, 60, 1) as (control, _):
            await works(control, servers.access(AGENT), AGENT)
            await works(control, servers.access(AGENT), f"{AGENT}.varnish")
            await works(control, leaf.access(), "edge-b")
            await works(control, leaf.access(), "edge-b.varnish")

    with shipped_leaf(tmp_path, servers, "edge-b") as leaf:
        asyncio.run(story(leaf))


def test_a_leaf_node_lets_in_its_agent_alone_which_cannot_tell_the_log_there(servers: ShippedServers, tmp_path: Path) -> None:
    """Not even with the host's own password at the three servers: that is in the leaf node's environment alone."""

    async def story(leaf: Leaf) -> None:
        for stranger in ({}, {"user": "edge-b", "password": "edge-b"}, {"user": "edge-b", "password": password("edge-b")}, {"user": "edge-a"}):
            with pytest.raises(UserError, match="NATS does not let us in"):
                async with linked([leaf.url], **stranger):
                    pass
        async with linked_as(leaf.access()) as agent, linked_as(leaf.access()) as neighbour:
            heard = await hears(neighbour, FOLLOWED, NEWS)
            for subject in (FOLLOWED, NEWS):
                await agent.publish(subject, FORGED)
            await agent.client.flush()
            await neighbour.client.flush()
            assert heard == []

    with shipped_leaf(tmp_path, servers, "edge-b") as leaf:
        asyncio.run(story(leaf))


def test_without_users_at_a_leaf_node_any_process_there_tells_its_agent_purges(servers: ShippedServers, tmp_path: Path) -> None:
    """The twin: nobody knows of that purge but the stranger, and the agent has applied it in place of the one that has its seq."""

    async def story(leaf: Leaf) -> None:
        async with control_node(servers.access("control"), IDS, 60, 1) as (_, log), agent_side(Access(servers=[leaf.url])) as (told, remote):
            driver = MemoryEdge()
            task = asyncio.create_task(Agent("edge-b", driver, told, remote, MemoryStore()).run())
            await until(lambda: driver.leases, "edge-b is leased")
            async with linked([leaf.url]) as stranger:
                await stranger.publish(FOLLOWED, FORGED, headers={"Nats-Sequence": str(log.head + 1)})
                await until(lambda: any(purge.selector == url(666) for purge in driver.applied), "the forged purge is believed")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with shipped_leaf(tmp_path, servers, "edge-b", guarded=False) as leaf:
        asyncio.run(story(leaf))


def test_an_agent_can_fool_none_but_its_own_host(servers: ShippedServers) -> None:
    """It can't tell the log, even in its own account; but it may name any subject there for an answer, so agents of one account trust each other."""

    async def story() -> None:
        async with guarded(servers) as (control, _, agent), linked_as(servers.access(AGENT)) as same, linked_as(servers.access("edge-b")) as other:
            mine, theirs = await hears(same, FOLLOWED), await hears(other, FOLLOWED)
            await agent.publish(FOLLOWED, FORGED)
            await agent.publish(f"agezero.api.STREAM.INFO.{LOG_STREAM}", b"", FOLLOWED)
            await until(lambda: mine, "an answer of the server is told to its own account")
            await control.submit(url(1), "key")
            await until(lambda: theirs, "the log is told")
            assert FORGED not in mine
            assert len(theirs) == 1
            assert b"config" not in theirs[0]

    asyncio.run(story())


REACHES = [
    LOG_SUBJECT,
    "$KV.agezero_edges.gate",
    "$KV.agezero_edges.edge.edge-a",
    f"$JS.API.STREAM.PURGE.{LOG_STREAM}",
    f"$JS.API.STREAM.DELETE.{LOG_STREAM}",
    "agezero.control.leave.edge-b",
    "agezero.report.edge-b",
    "agezero.report.edge-b.+",
]
"""Subjects in the account of control nodes that no agent may write to, itself or by somebody else's hand."""


@pytest.mark.parametrize(
    "subject",
    [
        *REACHES,
        f"$JS.API.STREAM.INFO.{BOARD_STREAM}",
        f"$JS.API.DIRECT.GET.{BOARD_STREAM}",
        f"$JS.API.DIRECT.GET.{SERVICE_STREAM}",
        f"$JS.API.STREAM.MSG.GET.{SERVICE_STREAM}",
        f"agezero.api.DIRECT.GET.{SERVICE_STREAM}",
        "$KV.agezero_service.keys",
        f"$JS.API.CONSUMER.CREATE.{LOG_STREAM}",
        f"agezero.api.STREAM.DELETE.{LOG_STREAM}",
        f"agezero.api.STREAM.INFO.{BOARD_STREAM}",
    ],
)
def test_an_agent_gets_nothing_where_it_has_no_business(servers: ShippedServers, subject: str) -> None:
    async def story() -> None:
        async with guarded(servers) as (_, log, agent):
            head = log.head
            with pytest.raises(LinkFailed):
                await agent.ask(subject, b'{"token":1,"watermark":1}', timeout_s=0.3)
            assert (await looked(servers))[0] == head

    asyncio.run(story())


def test_an_agent_cannot_have_a_server_or_a_control_node_write_for_it(servers: ShippedServers) -> None:
    """Every request that it may make, with every subject that it may not reach as the place for the answer, or for the server's trace."""

    async def story() -> None:
        async with guarded(servers) as (control, _, agent):
            heard: list[str] = []
            control.heard = lambda name, *_: heard.append(name)  # type: ignore[method-assign]
            left: list[str] = []

            async def leave(name: str, token: int) -> None:  # noqa: ARG001
                left.append(name)

            control.leave = leave  # type: ignore[method-assign]
            await control.submit(url(1), "key")
            before = await looked(servers)
            for reply in REACHES:
                await everything_with(agent, reply, servers_api="agezero.api")
            await agent.ask("agezero.control.leave.edge-a", b'{"token":1}')
            await until(lambda: {"edge-a", "edge-a.x"} <= set(heard), "its own reports are heard")
            assert set(heard) == {"edge-a", "edge-a.x"}
            assert set(left) == {"edge-a"}
            assert await looked(servers) == before

    asyncio.run(story())


def test_within_one_account_permissions_do_not_keep_it_from_that(tmp_path: Path) -> None:
    """The twin: the same requests, with permissions that forbid each of those subjects."""

    async def story(urls: list[str]) -> None:
        control_access: Any = {"user": "control", "password": "secret"}
        async with control_node(Access(servers=urls, **control_access), IDS, 60, 1) as (control, log):
            await control.submit(url(1), "key")
            head = log.head
            async with linked(urls, user=AGENT, password="secret") as agent:
                with pytest.raises(LinkFailed):
                    await agent.ask(LOG_SUBJECT, b"{}", timeout_s=0.3)
                await agent.publish(f"$JS.API.STREAM.INFO.{LOG_STREAM}", b"", LOG_SUBJECT)
                await until(lambda: log.head > head, "an answer of the server is in the purge log")

    with nats_servers(tmp_path, extra=WITHOUT_ACCOUNTS) as one:
        asyncio.run(story(one.urls))


def test_the_log_tells_an_agent_how_its_edges_may_be_called(servers: ShippedServers) -> None:
    async def story() -> None:
        async with linked_as(servers.access(AGENT)) as agent:
            with structlog.testing.capture_logs() as lines:
                await agent.publish("agezero.control.join.front-1", b"")
                await until(lambda: lines, "the server has complained")
        assert "front-1" in lines[0]["error"]
        assert "called like its host's account" in lines[0]["hint"]

    asyncio.run(story())


def test_an_agent_hears_nobody_else(servers: ShippedServers) -> None:
    async def story() -> None:
        async with guarded(servers) as (control, _, agent):
            heard: list[str] = []
            for subject in ("agezero.control.>", "agezero.report.>", "agezero.purges", "$KV.>", "_R_.>", "$SYS.>", ">"):
                await agent.listen(subject, lambda message: heard.append(message.subject))
            told: list[str] = []
            await agent.listen("agezero.log", lambda message: told.append(message.subject))
            await agent.client.flush()
            await works(control, servers.access("edge-b"), "edge-b")
            await until(lambda: told, "the log is told")
            assert heard == []

    asyncio.run(story())


def test_people_may_delete_a_stream_and_control_nodes_may_not(servers: ShippedServers) -> None:
    async def story() -> None:
        async with guarded(servers) as (_, log, _agent):
            async with linked(servers.urls, **servers.options("control")) as control:
                await control.api(f"STREAM.PURGE.{LOG_STREAM}", {"seq": log.head})
                with pytest.raises(LinkFailed):
                    await control.api(f"STREAM.DELETE.{LOG_STREAM}", timeout_s=0.3)
            async with linked(servers.urls, **servers.options("admin")) as admin:
                with pytest.raises(ApiError, match="not found"):
                    await admin.api("STREAM.DELETE.no_such_stream")
                await admin.api(f"STREAM.DELETE.{LOG_STREAM}")

    asyncio.run(story())


def test_a_message_for_all_edges_of_a_host_speaks_for_no_other_host(servers: ShippedServers) -> None:
    """As it was written for another host's edge, with a token that is in force there; the host's own edge beside it is heard."""

    async def story() -> None:
        async with guarded(servers) as (control, log, agent):
            tokens = {name: await control.join(name, 0, True) for name in ("edge-b.x", "edge-a.x", "edge-a.y")}
            told = {name: {"token": tokens.get(name, tokens["edge-b.x"]), "watermark": log.head} for name in ("edge-b.x", "b.x", "")}
            own = {name.removeprefix("edge-a."): {"token": token, "watermark": log.head} for name, token in tokens.items() if "edge-a" in name}
            await agent.publish("agezero.report.edge-b.+", msgspec.json.encode({"x": {"token": tokens["edge-b.x"], "watermark": log.head}}))
            await agent.publish("agezero.report.edge-a.+", msgspec.json.encode(told | own))
            await until(lambda: control.ledger.seats["edge-a.y"].reported, "its own edges are heard, though strangers stand before them")
            assert control.ledger.seats["edge-a.x"].reported
            assert not control.ledger.seats["edge-b.x"].reported

    asyncio.run(story())


async def hears(link: Link, *subjects: str) -> list[bytes]:
    """What is told there from now on."""
    heard: list[bytes] = []
    for subject in subjects:
        await link.listen(subject, lambda message: heard.append(message.data))
    await link.client.flush()
    return heard


async def everything_with(agent: Link, reply: str, servers_api: str) -> None:
    """All that an agent may publish, with ``reply``; on return the servers have taken it."""
    trace = {"Nats-Trace-Dest": reply}
    for data in (b"", b'{"token":1}', b'{"token":1,"watermark":1}', b'{"tier":0,"fences":true}'):
        for verb in ("join", "renew", "leave"):
            await agent.publish(f"agezero.control.{verb}.edge-a", data, reply)
        for headers in (None, trace):
            await agent.publish("agezero.report.edge-a", data, reply, headers)
            await agent.publish("agezero.report.edge-a.+", b'{"x":' + data + b"}", reply, headers)
    for headers in (None, trace):
        await agent.publish(f"{servers_api}.STREAM.INFO.{LOG_STREAM}", b"", reply, headers)
        await agent.publish(f"{servers_api}.DIRECT.GET.{LOG_STREAM}", b'{"seq":1,"batch":10}', reply, headers)
    await agent.client.flush()


async def looked(servers: ShippedServers) -> tuple[int, int]:
    """The newest entries of log and board that agents could have written: barriers and gates come and go by themselves."""
    async with linked(servers.urls, **servers.options("admin")) as admin:
        seen = await stream.look(admin, LOG_STREAM)
        assert seen is not None
        try:
            entry = await admin.api(f"STREAM.MSG.GET.{BOARD_STREAM}", {"last_by_subj": "$KV.agezero_edges.edge.edge-b"})
        except ApiError:
            return seen.head, 0
        return seen.head, entry["message"]["seq"]
