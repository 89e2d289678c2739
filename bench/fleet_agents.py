"""One process with many agents over simulated edges: real agents, a driver in memory. Prints what it took from SIGUSR1 to SIGTERM, as JSON.

python -m bench.fleet_agents URLS FIRST COUNT WAKE_S
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import signal
import sys
from collections.abc import Sequence

import structlog
import uvloop

from agezero.agent import Agent
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import Kind
from agezero.fleet_nats import agent_side
from agezero.jetstream.link import Access
from agezero.ports import Capabilities, Lease

REPORT_S = 0.05


class Counted:
    """A driver that confirms at once, and the position of its agent."""

    capabilities = Capabilities(exact=frozenset(Kind), fences=True, restores=True)

    def __init__(self) -> None:
        self.applied = 0
        self.batches = 0
        self.position = Position()

    def take_over(self, token: int) -> None: ...

    async def probe(self) -> str:
        return "boot"

    async def restore(self, boot_id: str) -> None: ...

    async def apply(self, purges: Sequence[Purge]) -> None:
        self.applied += len(purges)
        self.batches += 1

    async def purge_everything(self, seq: int) -> None: ...

    async def install(self, lease: Lease) -> None: ...

    async def fence(self) -> None: ...

    async def aclose(self) -> None: ...

    def load(self) -> Position:
        return self.position

    def save(self, watermark: int, epoch: str) -> None:
        self.position = Position(watermark, epoch)


async def main(urls: str, first: int, count: int, wake_s: float) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begun.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    edges = [Counted() for _ in range(count)]
    async with agent_side(Access(servers=urls.split(",")), REPORT_S, wake_s) as (log, control):
        agents = [Agent(f"host-{first}.edge-{first + n}", edge, log, control, edge) for n, edge in enumerate(edges)]
        tasks = [asyncio.create_task(agent.run()) for agent in agents]
        for agent in agents:
            await agent.serving.wait()
        gc.collect()
        gc.freeze()  # hundreds of agents in one process are a burden to the collector that no agent of a host has
        print("ready", flush=True)
        await begun.wait()
        for edge in edges:
            edge.applied = edge.batches = 0
        before = resource.getrusage(resource.RUSAGE_SELF)
        sent = control.sent
        await ended.wait()
        after = resource.getrusage(resource.RUSAGE_SELF)
        took = {
            "reports": control.sent - sent,
            "batches": sum(edge.batches for edge in edges),
            "applied": sum(edge.applied for edge in edges),
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "rss_bytes": after.ru_maxrss * 1024,
        }
        print(json.dumps(took), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
