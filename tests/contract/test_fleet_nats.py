"""Two control nodes and their agents over the real NATS server: leases, statuses and fences that all nodes agree on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from unittest.mock import AsyncMock

import pytest

from agezero import shared_control
from agezero.agent import Agent
from agezero.core.follower import Limits
from agezero.core.purge import RequestIds
from agezero.core.selector import Kind, Selector
from agezero.core.shared import Gate, Write
from agezero.errors import UserError
from agezero.fleet_nats import FleetSettings, agent_side, control_node, fleet_node
from agezero.jetstream import remote
from agezero.jetstream.board import JetStreamBoard
from agezero.jetstream.link import Access, Message
from agezero.jetstream.log import JetStreamLog
from agezero.jetstream.names import BOARD_STREAM, CONTROL, LOG_STREAM
from agezero.ports import Accepted, BoardUnavailable, LogUnavailable, Overtaken, StatusUnknown, Submission, Superseded
from agezero.shared_control import SharedControl
from support.edges import MemoryEdge, MemoryStore
from support.logs import linked, url
from support.nats import Servers
from support.waiting import until

QUICK = Limits(retry_min_s=0.02, retry_max_s=0.05)
IDS = RequestIds(b"s" * 32)


@dataclass
class Fleet:
    """Control nodes and agents, each with a connection of its own. What is entered is left with the fleet, or by ``kill``."""

    servers: Servers
    lease_s: float
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def node(self, name: str) -> SharedControl:
        ready: asyncio.Future[SharedControl] = asyncio.get_running_loop().create_future()

        async def live() -> None:
            try:
                async with control_node(Access(servers=self.servers.urls), IDS, self.lease_s, 0.2, lease_max_s=self.lease_s) as (control, _):
                    ready.set_result(control)
                    await asyncio.Event().wait()
            except Exception as error:
                if not ready.done():
                    ready.set_exception(error)
                raise

        self.tasks[name] = asyncio.create_task(live())
        return await ready

    def agent(self, name: str, edge: MemoryEdge, store: MemoryStore | None = None, tier: int = 0, task: str = "") -> None:
        async def live() -> None:
            async with agent_side(Access(servers=self.servers.urls), report_s=0.02) as (log, control):
                agent = Agent(name, edge, log, control, store or MemoryStore(), tier=tier, limits=QUICK)
                await agent.run()

        self.tasks[task or name] = asyncio.create_task(live())

    async def kill(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def fleet(servers: Servers, lease_s: float = 60) -> AsyncIterator[Fleet]:
    made = Fleet(servers, lease_s)
    try:
        yield made
    finally:
        for name in list(made.tasks):
            await made.kill(name)


async def completed(control: SharedControl, request_id: str) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(StatusUnknown):
                if await control.status(request_id):
                    return
            await asyncio.sleep(0.01)


def test_a_purge_taken_by_one_node_is_proven_at_both(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one) as made:
            left, right = await made.node("left"), await made.node("right")
            edges = {name: MemoryEdge() for name in ("a", "b", "c.example")}
            for name, edge in edges.items():
                made.agent(name, edge)
            await until(lambda: all(edge.leases for edge in edges.values()), "all leased")
            request_id = await left.submit(url(1), "key", soft=True)
            await completed(right, request_id)
            assert await left.status(request_id) is True
            assert all(edge.applied[-1].selector == url(1) for edge in edges.values())
            assert [view.state for view in right.edges()] == ["leased"] * 3

    asyncio.run(story())


def test_a_node_without_any_edge_can_prove(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one) as made:
            node = await made.node("left")
            await until(lambda: node.ledger.gate is not None, "it can prove")
            await completed(node, await node.submit(url(1), "key"))

    asyncio.run(story())


def test_a_first_gate_that_was_not_taken_is_written_again(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """No edge is there and nobody purges, so nothing else asks for it."""
    written, failures = JetStreamBoard.write, [BoardUnavailable("there is no quorum")]

    async def write(board: JetStreamBoard, what: Write) -> int:
        if failures:
            raise failures.pop()
        return await written(board, what)

    async def story() -> None:
        async with fleet(one) as made:
            node = await made.node("left")
            await until(lambda: node.ready() != "waiting for the board of the fleet's records", "it can prove")

    monkeypatch.setattr(JetStreamBoard, "write", write)
    asyncio.run(story())


def test_a_gate_that_an_edge_waits_for_is_not_forgotten_over_one_that_came_too_late(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would have no lease for another two seconds."""
    monkeypatch.setattr(shared_control, "GRANT_S", 60)
    monkeypatch.setattr(remote, "REQUEST_S", 60)
    written = JetStreamBoard.write

    async def story() -> None:
        async with fleet(one) as made:
            node = await made.node("left")
            await until(lambda: node.ledger.gate is not None, "it can prove")
            overtaken = asyncio.Event()

            async def write(board: JetStreamBoard, what: Write) -> int:
                at = await written(board, what)
                if isinstance(what.entry, Gate) and not overtaken.is_set():
                    overtaken.set()
                    await until(lambda: node._touch, "an edge waits for a gate")
                    raise Overtaken("by another node's, which says the same")
                return at

            monkeypatch.setattr(JetStreamBoard, "write", write)
            await node.submit(url(1), "key")
            await overtaken.wait()
            made.agent("e", edge := MemoryEdge())
            await until(lambda: edge.leases, "leased")

    asyncio.run(story())


def test_a_status_never_goes_back_from_one_node_to_the_next(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one) as made:
            nodes = [await made.node("left"), await made.node("right")]
            edge = MemoryEdge()
            made.agent("e", edge)
            await until(lambda: edge.leases, "leased")
            for n in range(100):
                request_id = await nodes[n % 2].submit(url(n), "key")
                while not await nodes[n % 2].status(request_id):
                    pass
                assert await nodes[1 - n % 2].status(request_id) is True

    asyncio.run(story())


def test_without_the_barrier_a_status_does_go_back(one: Servers) -> None:
    """The twin: a node that hears late from the board says nothing, for its barrier is late too; without, it says what it knows."""

    async def story() -> None:
        async with fleet(one) as made:
            left, right = await made.node("left"), await made.node("right")
            edge = MemoryEdge()
            made.agent("e", edge)
            await until(lambda: edge.leases, "leased")

            async def nothing() -> None:
                pass

            right._board.take = lambda *_: None  # type: ignore[attr-defined]
            right._board.write_s = 0.3  # type: ignore[attr-defined]
            request_id = await left.submit(url(1), "key")
            await completed(left, request_id)
            with pytest.raises(StatusUnknown):
                await right.status(request_id)
            right._board.barrier = nothing  # type: ignore[method-assign]
            assert await right.status(request_id) is False

    asyncio.run(story())


def test_a_lease_is_honoured_by_a_node_that_did_not_grant_it(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one, lease_s=1) as made:
            left = await made.node("left")
            edge = MemoryEdge()
            made.agent("e", edge)
            await until(lambda: edge.leases, "leased")
            edge.open.clear()
            request_id = await left.submit(url(1), "key")
            right = await made.node("right")
            await made.kill("left")
            assert await right.status(request_id) is False
            edge.open.set()
            await completed(right, request_id)
            assert edge.applied

    asyncio.run(story())


def test_a_dead_edge_is_fenced_by_whichever_node_is_left_and_comes_back_behind_nobody(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one, lease_s=0.6) as made:
            await made.node("left")
            right = await made.node("right")
            edge, store = MemoryEdge(), MemoryStore()
            made.agent("e", edge, store)
            await until(lambda: edge.leases, "leased")
            await made.kill("e")
            await made.kill("left")
            request_id = await right.submit(url(1), "key")
            assert await right.status(request_id) is False
            await completed(right, request_id)
            assert [view.state for view in right.edges()] == ["fenced"]
            again = MemoryEdge()
            made.agent("e", again, store)
            await until(lambda: again.leases, "leased again")
            assert again.applied, "it came back only after it had applied the purge"

    asyncio.run(story())


def test_of_two_agents_with_one_name_the_older_one_ends(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one, lease_s=0.6) as made:
            control = await made.node("left")
            made.agent("e", first := MemoryEdge(), task="first")
            await until(lambda: first.leases, "leased")
            made.agent("e", second := MemoryEdge(), task="second")
            await until(lambda: second.leases, "taken over")
            await asyncio.wait_for(made.tasks["first"], 20)
            with pytest.raises(Superseded):
                control.heard("e", 1, 1 << 60, "")

    asyncio.run(story())


def test_a_join_that_comes_late_takes_the_edge_from_nobody(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control node that was paused carries out what had been asked of it. By then another one has answered the same agent."""
    monkeypatch.setattr(remote, "REQUEST_S", 0.3)

    async def story() -> None:
        async with fleet(one) as made, linked(one.urls) as paused:
            await made.node("left")
            await made.kill("left")
            late: list[Message] = []
            end = await paused.listen(f"{CONTROL}join.>", late.append, queue="control")
            made.agent("e", edge := MemoryEdge())
            await until(lambda: late, "the agent asks who doesn't answer")
            control = await made.node("right")
            end()
            await until(lambda: edge.leases, "leased by the other one")
            await paused.ask(late[0].subject, late[0].data, timeout_s=5)
            assert control.ledger.seats["e"].record.token == edge.token
            await completed(control, await control.submit(url(1), "key"))
            assert edge.applied
            assert not made.tasks["e"].done()

    asyncio.run(story())


def test_an_edge_behind_a_shield_applies_only_what_the_shield_has(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one) as made:
            left, right = await made.node("left"), await made.node("right")
            shield, front = MemoryEdge(), MemoryEdge()
            made.agent("shield", shield)
            await until(lambda: shield.leases, "the shield is leased")
            made.agent("front", front, tier=1)
            await until(lambda: front.leases, "both leased")
            shield.open.clear()
            request_id = await left.submit(url(1), "key")
            assert await right.status(request_id) is False
            assert not front.applied
            shield.open.set()
            await completed(right, request_id)
            assert front.applied

    asyncio.run(story())


def test_a_node_is_ready_only_while_a_quorum_answers(three: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a load balancer would go on sending it purges that it can't accept."""
    monkeypatch.setattr(shared_control, "ASK_S", 0.05)

    async def story() -> None:
        async with fleet(three) as made:
            node = await made.node("left")
            node.started = True
            await until(lambda: node.ready() is None, "ready")
            for server in three.all[1:]:
                server.kill()
            await until(lambda: "can't be written" in (node.ready() or ""), "not ready without a quorum")
            for server in three.all[1:]:
                server.start()
            await until(lambda: node.ready() is None, "ready again")

    asyncio.run(story())


def test_everything_dies_at_once_and_what_was_accepted_is_completed_afterwards(three: Servers) -> None:
    async def story() -> None:
        store = MemoryStore()
        async with fleet(three, lease_s=1) as made:
            control = await made.node("left")
            made.agent("e", edge := MemoryEdge(), store)
            await until(lambda: edge.leases, "leased")
            done = await control.submit(url(1), "key")
            await completed(control, done)
            await made.kill("e")
            pending = [await control.submit(url(n), "key") for n in range(2, 20)]
            for server in three.all:
                server.kill()
            with pytest.raises(LogUnavailable):
                await control.submit(url(20), "key")
            with pytest.raises(StatusUnknown):
                await control.status(pending[0])
            assert await control.status(done) is True
        for server in three.all:
            server.start()
        three.ready()
        async with fleet(three, lease_s=1) as made:
            control = await made.node("another")
            assert await control.status(done) is True
            made.agent("e", edge := MemoryEdge(), store)
            for request_id in pending:
                await completed(control, request_id)

    asyncio.run(story())


def test_a_log_made_anew_has_every_edge_purge_everything(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one, lease_s=1) as made:
            control = await made.node("left")
            made.agent("e", edge := MemoryEdge())
            await until(lambda: edge.leases, "leased")
            await completed(control, await control.submit(url(1), "key"))
            async with linked(one.urls) as admin:
                await admin.api(f"STREAM.DELETE.{LOG_STREAM}")
            right = await made.node("right")
            request_id = await right.submit(url(2), "key")
            await completed(right, request_id)
            assert edge.table.everything > 0

    asyncio.run(story())


def test_a_board_made_anew_waits_until_no_edge_can_hold_a_lease(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one, lease_s=1) as made:
            control = await made.node("left")
            made.agent("e", edge := MemoryEdge())
            await until(lambda: edge.leases, "leased")
            request_id = await control.submit(url(1), "key")
            await completed(control, request_id)
            async with linked(one.urls) as admin:
                await admin.api(f"STREAM.DELETE.{BOARD_STREAM}")
            right = await made.node("right")
            with pytest.raises(StatusUnknown):
                await right.status(request_id)
            await completed(right, request_id)
            leases = len(edge.leases)
            await until(lambda: len(edge.leases) > leases, "leased again")

    asyncio.run(story())


def test_over_a_board_that_was_rolled_back_a_node_says_nothing_more_and_ends(one: Servers) -> None:
    """It would take its own write for one that it has read, and answer by what it knew; and go on behind entries that it never saw."""

    async def story() -> None:
        async with fleet(one) as made:
            control = await made.node("left")
            made.agent("e", edge := MemoryEdge())
            await until(lambda: edge.leases, "leased")
            edge.open.clear()
            request_id = await control.submit(url(1), "key")
            assert await control.status(request_id) is False
            async with linked(one.urls) as admin:
                info = await admin.api(f"STREAM.INFO.{BOARD_STREAM}")
                await admin.api(f"STREAM.DELETE.{BOARD_STREAM}")
                await admin.api(f"STREAM.CREATE.{BOARD_STREAM}", {**info["config"], "first_seq": 1})
            with pytest.raises(StatusUnknown):
                await control.status(request_id)
            with pytest.raises(UserError, match="have lost entries"):
                await made.tasks["left"]

    asyncio.run(story())


@pytest.mark.parametrize("first_ever", [True, False])
def test_where_log_and_board_are_new_leases_of_before_are_waited_for(one: Servers, first_ever: bool) -> None:
    """All disks may have been lost, and edges may still serve by leases of which nobody knows. Only a human can say that there were none."""

    async def story() -> None:
        settings = FleetSettings(lease_s=60, margin_s=0.2, first_ever=first_ever)
        async with fleet_node(Access(servers=one.urls), settings) as node:
            request_id = await node.control.submit(url(1), "key")
            if first_ever:
                await completed(node.control, request_id)
            else:
                with pytest.raises(StatusUnknown):
                    await node.control.status(request_id)
                said = "the fleet's records are new: nothing is Completed until no edge can hold a lease of before (60.2 s)"
                await until(lambda: node.control.ready() == said, "once the board is read, it says for what it waits, and how long")

    asyncio.run(story())


def test_a_seq_that_is_complete_already_is_given_to_no_purge(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log was rolled back, and the node that appends has not read what was in it before."""

    async def story() -> None:
        async with fleet(one) as made:
            control = await made.node("left")
            await completed(control, await control.submit(url(1), "key"))
            monkeypatch.setattr(JetStreamLog, "append", AsyncMock(return_value=control.ledger.completed))
            monkeypatch.setattr(JetStreamLog, "append_many", AsyncMock(return_value=Accepted(control.ledger.completed, control.ledger.completed + 1)))
            with pytest.raises(LogUnavailable, match="the log has lost entries"):
                await control.submit(url(2), "key")
            with pytest.raises(LogUnavailable, match="the log has lost entries"):
                await control.submit_many(Submission((url(2), url(3)), "key"))

    asyncio.run(story())


def test_a_log_older_than_what_was_applied_is_refused(one: Servers) -> None:
    async def story() -> None:
        async with fleet(one) as made:
            control = await made.node("left")
            await completed(control, await control.submit(Selector(Kind.URL, "example.com/"), "key"))
            await made.kill("left")
            async with linked(one.urls) as admin:
                info = await admin.api(f"STREAM.INFO.{LOG_STREAM}")
                await admin.api(f"STREAM.DELETE.{LOG_STREAM}")
                await admin.api(f"STREAM.CREATE.{LOG_STREAM}", {**info["config"], "first_seq": 1})
            with pytest.raises(UserError, match="restored from a backup"):
                await made.node("left")

    asyncio.run(story())
