"""Status requests/s of a service with a million purges in its log and a thousand edges that report and renew their leases, beside an empty one.

``python -m bench.crowded EDGES …``: `agezero …` with so many edges more. They have no cache and no driver, but are members as any other: each joins,
reports how far the log has grown and renews its lease in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from unittest.mock import patch

from agezero import fleet
from agezero.agent import Agent
from agezero.background import background
from agezero.cli.main import main
from agezero.database import open_database, prepare
from agezero.fleet import FleetEdge
from agezero.log.sqlite import SCHEMA
from agezero.ports import ControlSide, LeaseRefused, PurgeLog
from bench import wrk
from bench.harness import Figure, Scale, Tick, at_least, beside, in_turn
from bench.service import AUTHORIZATION, PURGES, Service, service

CONNECTIONS = 32
_PURGES_AN_EDGE = 1000
_RENEW_PART = 1 / 3


def parts(scale: Scale) -> int:
    return 2 * scale.rounds


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    purges = scale.purges_kept
    edges = purges // _PURGES_AN_EDGE
    _fill(folder / "crowded" / "store", purges)
    command = (sys.executable, "-m", "bench.crowded", str(edges))
    with service(folder / "empty") as empty, service(folder / "crowded", program=command) as crowded:
        sides = {name: _Side(ours, scale.seconds) for name, ours in (("crowded", crowded), ("empty", empty))}
        samples = in_turn({name: side.load for name, side in sides.items()}, scale.rounds, tick)
    what = f"status requests/s, {purges:,} purges in the log and {edges + 1:,} edges"
    return [beside(what, samples, "crowded", "empty", "the same with an empty log and one edge", at_least(0.95))]


def _fill(store: Path, purges: int) -> None:
    store.mkdir(parents=True)
    now_ms = time.time_ns() // 1_000_000
    with prepare(store), closing(open_database(store)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        rows = (("url", f"127.0.0.1:8081/photos/{number}.jpg", "environment", now_ms) for number in range(purges))
        connection.executemany("INSERT INTO purge (kind, value, key_id, accepted_ms) VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


class _Side:
    def __init__(self, ours: Service, seconds: float) -> None:
        connection = ours.connect()
        request_id = ours.purge("/status", connection)
        ours.wait_completed(request_id, connection)
        self._url = f"http://{ours.address}{PURGES}/{request_id}"
        self._seconds = seconds

    def load(self) -> float:
        return wrk.load(self._url, CONNECTIONS, self._seconds, AUTHORIZATION)


# The service with more edges


async def _member(name: str, control: ControlSide) -> None:
    token = await control.join(name, 0, True)
    while True:
        watermark, length_s = control.look(0).head, 1.0
        await control.report(name, token, watermark, "")
        with contextlib.suppress(LeaseRefused):
            length_s = await control.renew(name, token, watermark)
        await asyncio.sleep(length_s * _RENEW_PART)


def _serve(edges: int, arguments: Sequence[str]) -> None:
    @asynccontextmanager
    async def crowd(own: Sequence[FleetEdge], purge_log: PurgeLog, control: ControlSide) -> AsyncIterator[list[Agent]]:
        async with fleet.running_edges(own, purge_log, control) as agents, background(*(_member(f"member-{n}", control) for n in range(edges))):
            yield agents

    with patch("agezero.app.running_edges", crowd):
        sys.argv[1:] = arguments
        main()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2:])
