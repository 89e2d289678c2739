"""``make bench-fleet``: many edges, a steady rate of purges, one control node; from accept to `Completed`, and what it cost.

The real `agezero serve`, real NATS servers, real agents with a driver in memory (``bench/fleet_agents.py``). All of it on this machine: what its
processors can't carry is a limit of the machine, and the table says who took how much of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from bench.fleet_idle import Status, beside, client_of, cpu_s, one_dies, statuses
from support.fleet import ENDPOINT, Client, Program, fleet
from support.nats import Servers, nats_servers
from support.wire import Broken, Wire

ROOT = Path(__file__).parents[1]
CONFIG = "[lease]\nlease_s = 15\nmargin_s = 2\n[limits]\npurges_per_s = 0\nstatus_per_s = 0\n"
POLL_S = 0.005
DRAIN_S = 60


class Waiting(NamedTuple):
    """A purge that was accepted."""

    request_id: str
    sent_s: float
    accepted_s: float


@dataclass
class Load:
    """What the purger and the watcher of a run share."""

    api: str
    rate: float
    seconds: float
    waiting: list[Waiting] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    accepted: int = 0
    refused: int = 0
    broken: int = 0
    no_s: list[float] = field(default_factory=list)
    yes_s: list[float] = field(default_factory=list)

    async def purge(self, client: Wire) -> None:
        """At a steady rate, whatever the answers take."""
        begin_s, running = time.monotonic(), set()
        for number in range(int(self.rate * self.seconds)):
            await asyncio.sleep(max(0.0, begin_s + number / self.rate - time.monotonic()))
            task = asyncio.create_task(self._one(client, number))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _one(self, client: Wire, number: int) -> None:
        sent_s = time.monotonic()
        try:
            answer = await client.request("POST", "/v1/files/purge", body=json.dumps({"url": f"{ENDPOINT}/{number}"}).encode())
        except Broken:
            self.broken += 1
            return
        if answer.status != 201:
            self.refused += 1
            return
        self.accepted += 1
        self.waiting.append(Waiting(json.loads(answer.body)["requestId"], sent_s, time.monotonic()))

    async def watch(self, client: Wire, purging: asyncio.Task[None]) -> None:
        """Purges complete in the log's order, so who is complete says so for all that were accepted before it was sent: after a yes, twice as
        many are asked for at once."""
        ahead = 1
        while self.waiting or not purging.done():
            ahead = min(ahead, len(self.waiting))
            if ahead and await self._complete(client, self.waiting[ahead - 1].request_id):
                self._done(ahead)
                ahead *= 2
            else:
                await asyncio.sleep(POLL_S if ahead < 2 else 0)
                ahead = 1

    def _done(self, ahead: int) -> None:
        now_s, asked = time.monotonic(), self.waiting[ahead - 1]
        open_yet = [each for each in self.waiting[: ahead - 1] if each.accepted_s >= asked.sent_s]
        proven = [each for each in self.waiting[:ahead] if each not in open_yet]
        self.took_s += [now_s - each.accepted_s for each in proven]
        self.waiting[:ahead] = open_yet

    async def _complete(self, client: Wire, request_id: str) -> bool:
        asked_s = time.monotonic()
        answer = await client.request("GET", f"/v1/files/purge/{request_id}")
        complete = answer.status == 200 and bool(json.loads(answer.body)["status"] == "Completed")
        (self.yes_s if complete else self.no_s).append(time.monotonic() - asked_s)
        return complete


async def loaded(load: Load) -> None:
    client = client_of(load.api)
    purging = asyncio.create_task(load.purge(client))
    with contextlib.suppress(TimeoutError):  # the table says how many were not completed by then
        async with asyncio.timeout(load.seconds + DRAIN_S):
            await load.watch(client, purging)
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)
    await client.aclose()


@dataclass(frozen=True)
class Scene:
    """A fleet at work."""

    servers: Servers
    node: Program
    workers: list[subprocess.Popen[str]]

    @property
    def pid(self) -> int:
        assert self.node.process is not None
        return self.node.process.pid

    @property
    def pids(self) -> list[int]:
        return [self.pid, *(server.process.pid for server in self.servers.all if server.process)]


@contextmanager
def scene(given: argparse.Namespace, edges: int) -> Iterator[Scene]:
    """All edges leased on entry; one of them has a process for itself, the last one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agezero-bench-")))
        servers = stack.enter_context(nats_servers(folder / "nats", given.servers))
        made = stack.enter_context(fleet(folder / "fleet", servers))
        made.config = CONFIG
        node = made.node("node", "--new-fleet")
        Client(node).ready()
        counts = [(edges - 1) // given.processes] * given.processes
        counts[0] += edges - 1 - sum(counts)
        yield Scene(servers, node, stack.enter_context(agents(servers.urls, [*counts, 1], given.wake_s)))


@contextmanager
def agents(urls: Sequence[str], counts: Sequence[int], wake_s: float) -> Iterator[list[subprocess.Popen[str]]]:
    """A process for each count of edges. All leased on entry."""
    started: list[subprocess.Popen[str]] = []
    try:
        for n, count in enumerate(counts):
            command = [sys.executable, "-m", "bench.fleet_agents", ",".join(urls), str(sum(counts[:n])), str(count), str(wake_s)]
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All rows."""
    with scene(given, given.few) as small:
        few = asyncio.run(status_at(small))
    with scene(given, given.edges) as large:
        many = asyncio.run(status_at(large))
        idle = {} if given.no_death else asyncio.run(death(large))
        rows = under_load(given, large)
    return {
        **rows,
        f"status at {given.few} / {given.edges} edges, p50 (ms)": [round(x.took_s * 1000, 3) for x in (few, many)],
        f"status at {given.few} / {given.edges} edges, control node's processor (µs)": [round(x.used_s * 1e6) for x in (few, many)],
        "  how many times as much (time, processor)": beside(few, many),
        **idle,
    }


async def status_at(at: Scene) -> Status:
    client = client_of(at.node.address)
    try:
        return await statuses(client, at.pid)
    finally:
        await client.aclose()


async def death(at: Scene) -> dict[str, Any]:
    """Of the edge that has a process for itself."""
    client = client_of(at.node.address)
    try:
        return await one_dies(client, at.workers.pop().kill)
    finally:
        await client.aclose()


def under_load(given: argparse.Namespace, at: Scene) -> dict[str, Any]:
    """A steady rate, for a while."""
    for worker in at.workers:
        worker.send_signal(signal.SIGUSR1)
    before = [cpu_s(pid) for pid in at.pids]
    load = Load(at.node.address, given.rate, given.seconds)
    begin_s, own_s = time.monotonic(), time.process_time()
    asyncio.run(loaded(load))
    took_s = time.monotonic() - begin_s
    own_s = time.process_time() - own_s
    used = [(cpu_s(pid) - earlier) / took_s for pid, earlier in zip(at.pids, before, strict=True)]
    memory = rss_bytes(at.pid)
    told = [ended(worker) for worker in at.workers]
    cuts = quantiles(load.took_s, n=100) if len(load.took_s) > 1 else [0.0] * 99
    agents_cpu_s, batches = sum(each["cpu_s"] for each in told), sum(each["batches"] for each in told)
    return {
        "edges": given.edges,
        "agent processes": given.processes,
        "NATS servers": given.servers,
        "purges accepted": load.accepted,
        "purges refused / without an answer": [load.refused, load.broken],
        "completed": len(load.took_s),
        "accept to Completed, p50 / p99 / max (ms)": [round(x * 1000, 1) for x in (cuts[49], cuts[98], max(load.took_s, default=0.0))],
        "control node: cores": round(used[0], 2),
        "control node: MiB": round(memory / 2**20),
        "NATS: cores": round(sum(used[1:]), 2),
        "agents: cores": round(agents_cpu_s / took_s, 2),
        "agents: µs of processor time per edge and batch": round(agents_cpu_s / max(1, batches) * 1e6),
        "machine: load average of the last minute": round(os.getloadavg()[0], 1),
        "load: cores": round(own_s / took_s, 2),
        "reports per purge and edge": round(sum(each["reports"] for each in told) / max(1, load.accepted * given.edges), 4),
        "purges applied at a time": round(sum(each["applied"] for each in told) / max(1, batches), 1),
        "status, yes / no (ms, p50)": [round(middle(x) * 1000, 2) for x in (load.yes_s, load.no_s)],
    }


def ended(worker: subprocess.Popen[str]) -> dict[str, float]:
    worker.send_signal(signal.SIGTERM)
    assert worker.stdout is not None
    found: dict[str, float] = json.loads(worker.stdout.readline())
    return found


def middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.fleet", description="Many edges, a steady rate of purges, one control node.")
    parser.add_argument("--edges", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=2, help="that host the agents")
    parser.add_argument("--servers", type=int, default=1, choices=(1, 3), help="of NATS")
    parser.add_argument("--few", type=int, default=10, help="edges, beside which a status is measured")
    parser.add_argument("--no-death", action="store_true", help="leave out the edge that dies, which takes a lease")
    parser.add_argument("--wake-s", type=float, default=0.07, help="how often agents that share a process are woken")
    for name, value in measured(parser.parse_args()).items():
        print(f"{name:64} {value}")


if __name__ == "__main__":
    main()
