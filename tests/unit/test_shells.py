"""The two shells, control and agent, with a real log and an edge in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from agezero.agent import Agent
from agezero.control import Control
from agezero.core.follower import Limits, State
from agezero.core.ledger import DRAINED, Standing
from agezero.core.purge import Purge, RequestIds
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.database import open_database
from agezero.edges.slots import SlotFile
from agezero.fleet import FleetEdge, running_edges
from agezero.log.sqlite import SqliteLog
from agezero.ports import Lease, LogUnavailable
from agezero.registry import SqliteRegistry
from support.edges import MemoryEdge, MemoryStore

URL = Selector(Kind.URL, "example.com/a")
QUICK = Limits(retry_min_s=0.001, retry_max_s=0.002)


@dataclass
class Machine:
    """Everything but HTTP and a real cache."""

    log: SqliteLog
    control: Control
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def agent(self, name: str, edge: MemoryEdge, store: MemoryStore | None = None) -> Agent:
        agent = Agent(name, edge, self.log, self.control, store or MemoryStore(), limits=QUICK)
        self.tasks.add(asyncio.create_task(agent.run()))
        return agent


@contextlib.asynccontextmanager
async def running(data: Path, lease_s: float = 60, margin_s: float = 1) -> AsyncIterator[Machine]:
    connection = open_database(data)
    log = SqliteLog(connection)
    log.start()
    control = Control(log, SqliteRegistry(open_database(data)), RequestIds(b"s" * 32), lease_s, margin_s)
    machine = Machine(log, control)
    machine.tasks.add(asyncio.create_task(control.run()))
    try:
        yield machine
    finally:
        for task in machine.tasks:
            task.cancel()
        await asyncio.gather(*machine.tasks, return_exceptions=True)
        await log.stop()


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what changes it has no event
            await asyncio.sleep(0.001)
    assert condition(), what


async def leased(machine: Machine, name: str) -> None:
    await until(lambda: name in machine.control.ledger.members, "has joined")
    await until(lambda: machine.control.ledger.members[name].standing is Standing.LEASED, "holds a lease")


def test_a_purge_is_complete_only_when_its_edge_has_confirmed_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            edge = MemoryEdge()
            machine.agent("e", edge)
            await leased(machine, "e")
            edge.open.clear()
            request_id = await machine.control.submit(URL, "key")
            assert machine.control.completed(request_id) is False
            edge.open.set()
            await until(lambda: machine.control.completed(request_id), "completed")
            assert [purge.selector for purge in edge.applied] == [URL]

    asyncio.run(story())


def test_the_slower_of_two_edges_decides(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            quick, slow = MemoryEdge(), MemoryEdge()
            machine.agent("quick", quick)
            machine.agent("slow", slow)
            await leased(machine, "quick")
            await leased(machine, "slow")
            slow.open.clear()
            request_id = await machine.control.submit(URL, "key")
            await until(lambda: quick.applied, "the quick one has it")
            assert machine.control.completed(request_id) is False
            assert [blocker.name for blocker in machine.control.ledger.blockers(1)] == ["slow"]
            slow.open.set()
            await until(lambda: machine.control.completed(request_id), "completed")

    asyncio.run(story())


def test_a_dead_edge_holds_a_purge_up_until_its_lease_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, lease_s=0.2, margin_s=0.1) as machine:
            edge = MemoryEdge()
            machine.agent("e", edge)
            await leased(machine, "e")
            edge.broken = "out of order"
            request_id = await machine.control.submit(URL, "key")
            assert machine.control.completed(request_id) is False
            await until(lambda: machine.control.completed(request_id), "completed by the fence")
            assert machine.control.ledger.members["e"].record.fenced
            assert edge.applied == []
            edge.broken = ""
            await leased(machine, "e")
            assert [purge.selector for purge in edge.applied] == [URL], "it came back only after it had applied everything"

    asyncio.run(story())


def test_an_edge_that_cannot_do_a_prefix_purges_its_host(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            edge = MemoryEdge(refused=frozenset({Kind.PREFIX}))
            machine.agent("e", edge)
            await leased(machine, "e")
            request_id = await machine.control.submit(Selector(Kind.PREFIX, "example.com/a/"), "key")
            await until(lambda: machine.control.completed(request_id), "completed")
            assert [purge.selector for purge in edge.applied] == [Selector(Kind.HOST, "example.com")]

    asyncio.run(story())


def test_nothing_is_acknowledged_that_could_not_be_saved(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            edge, store = MemoryEdge(), MemoryStore()
            machine.agent("e", edge, store)
            await leased(machine, "e")
            store.full = True
            request_id = await machine.control.submit(URL, "key")
            await until(lambda: edge.applied, "applied")
            assert machine.control.completed(request_id) is False
            store.full = False
            await until(lambda: machine.control.completed(request_id), "completed")

    asyncio.run(story())


def test_a_status_survives_a_restart_of_everything(tmp_path: Path) -> None:
    async def story() -> None:
        store = MemoryStore()
        async with running(tmp_path) as machine:
            machine.agent("e", MemoryEdge(), store)
            await leased(machine, "e")
            request_id = await machine.control.submit(URL, "key")
            await until(lambda: machine.control.completed(request_id), "completed")
        async with running(tmp_path) as machine:
            assert machine.control.ready() is not None, "the edge may still hold its old lease, and has not reported"
            machine.agent("e", MemoryEdge(boot_id="boot-2"), store)
            await asyncio.wait_for(machine.control.recovered.wait(), 10)
            assert machine.control.completed(request_id) is True

    asyncio.run(story())


def test_an_agent_without_its_position_purges_everything_before_its_edge_serves(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            for _ in range(3):
                await machine.control.submit(URL, "key")
            edge = MemoryEdge()
            machine.agent("e", edge)
            await leased(machine, "e")
            assert edge.table.everything == 3
            assert edge.applied == []

    asyncio.run(story())


def test_a_second_agent_of_the_same_name_takes_over_and_the_first_one_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            first = Agent("e", MemoryEdge(), machine.log, machine.control, MemoryStore(), limits=QUICK)
            running_first = asyncio.create_task(first.run())
            await leased(machine, "e")
            machine.agent("e", MemoryEdge())
            await until(lambda: machine.control.ledger.members["e"].record.token == 2, "taken over")
            await machine.control.submit(EVERYTHING, "key")
            await asyncio.wait_for(running_first, 10)

    asyncio.run(story())


def test_a_cache_that_restarts_while_its_agent_is_over_ends_no_supervisor(tmp_path: Path) -> None:
    """The agent was removed, or is about to begin again. Whoever supervises the cache tells it of each restart, and has to go on."""

    async def story() -> None:
        async with running(tmp_path) as machine:
            agent = Agent("e", MemoryEdge(), machine.log, machine.control, MemoryStore(), limits=QUICK)
            living = asyncio.create_task(agent.run())
            await leased(machine, "e")
            await machine.control.remove_edge("e")
            await machine.control.submit(URL, "key")
            await asyncio.wait_for(living, 10)
            agent.edge_restarted()
            agent._head_known(machine.control.look(1))
            assert agent._events.empty(), "nobody takes from it any more"

    asyncio.run(story())


def test_the_agent_tells_what_keeps_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            edge = MemoryEdge()
            agent = machine.agent("e", edge)
            await leased(machine, "e")
            edge.broken = "the disk is on fire"
            await machine.control.submit(URL, "key")
            await until(lambda: machine.control.ledger.members["e"].trouble, "trouble reported")
            assert machine.control.ledger.blockers(1)[0].why == "the disk is on fire"
            await until(lambda: agent.follower.state is State.BACKING_OFF, "backing off")

    asyncio.run(story())


def test_a_file_of_the_driver_that_cannot_be_written_is_a_failure_in_words(tmp_path: Path) -> None:
    class FullDisk(MemoryEdge):
        async def apply(self, purges: Sequence[Purge]) -> None:  # noqa: ARG002
            raise OSError(28, "No space left on device", "/data/position")

    async def story() -> None:
        async with running(tmp_path) as machine:
            agent = machine.agent("e", FullDisk())
            await leased(machine, "e")
            await machine.control.submit(URL, "key")
            await until(lambda: agent.follower.state is State.BACKING_OFF, "backing off")
            assert "/data/position" in machine.control.ledger.blockers(1)[0].why
            assert machine.control.ledger.members["e"].record.token == 1, "the agent goes on"

    asyncio.run(story())


def test_why_nothing_is_acknowledged_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            store = MemoryStore()
            machine.agent("e", MemoryEdge(), store)
            await leased(machine, "e")
            request_id = await machine.control.submit(URL, "key")
            await until(lambda: machine.control.completed(request_id), "completed")
            store.full = True
            await machine.control.submit(URL, "key")
            await until(lambda: "No space left" in machine.control.ledger.blockers(2)[0].why, "why is told")
            assert machine.control.ledger.members["e"].watermark == 1

    asyncio.run(story())


class SlowToLease(MemoryEdge):
    async def install(self, lease: Lease) -> None:
        self.leases.append(lease)
        await asyncio.Event().wait()


@pytest.mark.parametrize("edge", [MemoryEdge(), SlowToLease()])
def test_a_lease_is_given_back_unless_it_may_arrive_after_the_fence(tmp_path: Path, edge: MemoryEdge) -> None:
    """Then it runs out, as that of an agent that was killed."""

    async def story() -> None:
        async with running(tmp_path) as machine:
            with SlotFile(tmp_path / "slots", 16) as state:
                async with running_edges([FleetEdge("e", edge, state)], machine.log, machine.control):
                    await leased(machine, "e")
                    await until(lambda: edge.leases, "the lease is on its way")
                assert machine.control.ledger.members["e"].record.fenced is not isinstance(edge, SlowToLease)

    asyncio.run(story())


def test_an_agent_that_meets_a_fault_of_our_own_again_and_again_says_so(tmp_path: Path) -> None:
    class Faulty(MemoryEdge):
        async def apply(self, purges: Sequence[Purge]) -> None:  # noqa: ARG002
            raise RuntimeError("a bug")

    async def story() -> None:
        async with running(tmp_path) as machine:
            machine.agent("e", Faulty())
            await leased(machine, "e")
            await machine.control.submit(URL, "key")
            await until(lambda: "a bug" in machine.control.ledger.blockers(1)[0].why, "why is told")

    asyncio.run(story())


def test_an_agent_that_meets_a_fault_of_our_own_begins_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            edge, failures = MemoryEdge(), iter([RuntimeError("a bug"), None])
            read = machine.log.read

            async def faulty(after: int, limit: int) -> Sequence[Purge]:
                if failure := next(failures, None):
                    raise failure
                return await read(after, limit)

            machine.log.read = faulty  # type: ignore[method-assign]
            machine.agent("e", edge)
            await until(lambda: "e" in machine.control.ledger.members and machine.control.ledger.members["e"].record.token == 2, "a second life")
            await leased(machine, "e")
            request_id = await machine.control.submit(URL, "key")
            await until(lambda: machine.control.completed(request_id), "completed")

    asyncio.run(story())


def test_an_edge_that_cannot_read_the_log_is_fenced_instead_of_holding_everybody_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, lease_s=0.3, margin_s=0.1) as machine:
            machine.agent("e", MemoryEdge())
            await leased(machine, "e")

            async def unreadable(after: int, limit: int) -> Sequence[Purge]:  # noqa: ARG001
                raise LogUnavailable("disk I/O error")

            read, machine.log.read = machine.log.read, unreadable  # type: ignore[method-assign]
            request_id = await machine.control.submit(URL, "key")
            await until(lambda: machine.control.completed(request_id), "completed by the fence")
            assert machine.control.ledger.members["e"].record.fenced
            assert machine.control.ledger.members["e"].trouble == "the log could not be read: disk I/O error"
            machine.log.read = read  # type: ignore[method-assign]
            await until(lambda: not machine.control.ledger.members["e"].trouble, "that it could be read is told as well")

    asyncio.run(story())


def test_the_log_warns_of_an_edge_that_is_fenced_and_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, lease_s=0.3, margin_s=0.1) as machine:
            agent = machine.agent("e", MemoryEdge())
            await leased(machine, "e")
            with structlog.testing.capture_logs() as lines:
                await machine.control.drain_edge("e", True)
                await until(lambda: agent.follower.state is State.FENCED, "fenced")
            (fenced,) = [line for line in lines if line["event"] == "edge fenced"]
            assert (fenced["log_level"], fenced["because"]) == ("warning", DRAINED)

    asyncio.run(story())


def test_every_edge_of_a_tier_is_told_what_is_released_to_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as machine:
            machine.agent("shield", MemoryEdge())
            await leased(machine, "shield")
            told: dict[str, list[int | None]] = {"first": [], "second": []}
            for heads in told.values():
                machine.control.watch(1, lambda known, heads=heads: heads.append(known.released))  # type: ignore[misc]
            await machine.control.submit(URL, "key")
            await until(lambda: all(1 in heads for heads in told.values()), "both know that the shield has it")

    asyncio.run(story())
