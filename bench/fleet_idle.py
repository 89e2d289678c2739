"""What a fleet costs that is not under load: a status, and an edge that dies."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from support.fleet import ENDPOINT, KEY
from support.wire import Wire

ASKED = 3_000
"""Statuses of one purge, one after the other."""
SINGLE = 20
"""Purges, each after the one before it is complete."""
STILL_S = 3.0


def client_of(api: str) -> Wire:
    key = base64.b64encode(f"{KEY}:".encode()).decode()
    return Wire(api, {"authorization": f"Basic {key}", "content-type": "application/json"})


async def accepted(client: Wire, path: str) -> str:
    answer = await client.request("POST", "/v1/files/purge", body=json.dumps({"url": f"{ENDPOINT}/{path}"}).encode())
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["requestId"])


async def is_complete(client: Wire, request_id: str) -> bool:
    answer = await client.request("GET", f"/v1/files/purge/{request_id}")
    assert answer.status == 200, answer.body
    return bool(json.loads(answer.body)["status"] == "Completed")


async def proven_s(client: Wire, path: str, pause_s: float = 0.002) -> float:
    """From accept to `Completed`, of one purge."""
    request_id, begin_s = await accepted(client, path), time.monotonic()
    await completion(client, request_id, pause_s)
    return time.monotonic() - begin_s


async def completion(client: Wire, request_id: str, pause_s: float) -> None:
    while True:
        if await is_complete(client, request_id):
            return
        await asyncio.sleep(pause_s)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Status:
    """``used_s``: processor time of the control node for one, beyond what it takes anyway."""

    took_s: float
    used_s: float


async def statuses(client: Wire, pid: int) -> Status:
    """Of a purge that is complete."""
    request_id = await accepted(client, "status")
    await completion(client, request_id, 0.01)
    still, took = cpu_s(pid), list[float]()
    await asyncio.sleep(STILL_S)
    idle = (cpu_s(pid) - still) / STILL_S
    begin_s, before = time.monotonic(), cpu_s(pid)
    for _ in range(ASKED):
        asked_s = time.monotonic()
        assert await is_complete(client, request_id)
        took.append(time.monotonic() - asked_s)
    used_s = cpu_s(pid) - before - idle * (time.monotonic() - begin_s)
    return Status(median(took), used_s / ASKED)


async def one_dies(client: Wire, kill: Callable[[], None]) -> dict[str, Any]:
    """All edges are there; ``kill`` ends the agent of one. What becomes of the others, and of purges."""
    before = [await proven_s(client, f"before-{n}") for n in range(SINGLE)]
    kill()
    waiting = asyncio.create_task(proven_s(client, "dead", 0.1))
    others: list[float] = []
    while not waiting.done():
        begin_s = time.monotonic()
        await accepted(client, f"meanwhile-{len(others)}")
        others.append(await _by_all_but_one(client, begin_s))
        await asyncio.sleep(1)
    after = [await proven_s(client, f"after-{n}") for n in range(SINGLE)]
    return {
        "one purge, all edges there: accept to Completed, p50 (ms)": round(median(before) * 1000, 1),
        "an edge dies: until its purges complete (s)": round(await waiting, 1),
        "meanwhile, until all others have a purge, p50 / max (ms)": [round(x * 1000, 1) for x in (median(others), max(others))],
        "one purge, once the dead edge is fenced, p50 (ms)": round(median(after) * 1000, 1),
    }


async def _by_all_but_one(client: Wire, begin_s: float) -> float:
    while True:
        answer = await client.request("GET", "/v1/edges")
        behind = sum(edge["lag"] > 0 for edge in json.loads(answer.body)["edges"])
        if behind <= 1:
            return time.monotonic() - begin_s
        await asyncio.sleep(0.01)


def beside(few: Status, many: Status) -> Sequence[float]:
    """Time and processor time, of many edges over few."""
    return [round(many.took_s / few.took_s, 2), round(many.used_s / few.used_s, 2)]
