"""Visitors and API clients of a machine; whatever they are answered goes into a history."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator

from support.history import History, Poll, Purge, Read
from support.machine import KEY, Machine
from support.stamped import VARIANT, Stamp
from support.wire import Broken, Wire

PURGE = "/v1/files/purge"
_NOW_AND_THEN_S = 0.005


class Traffic:
    """No method raises where the machine is in trouble: the answer is None then."""

    def __init__(self, machine: Machine, history: History) -> None:
        self._machine = machine
        self._history = history
        self._visitor = Wire(machine.edge)
        key = base64.b64encode(f"{KEY}:".encode()).decode()
        self._api = Wire(machine.api, {"authorization": f"Basic {key}", "content-type": "application/json"})

    async def read(self, path: str, variant: str = "-") -> tuple[Stamp, Read] | None:
        """A complete 200 of the edge."""
        sent_s = time.monotonic()
        try:
            answer = await self._visitor.request("GET", path, {VARIANT: variant})
        except Broken:
            return None
        if answer.status != 200:
            self._history.counts[f"edge {answer.status}"] += 1
            return None
        stamp = Stamp.of(answer.body)
        assert stamp.variant == variant, f"asked for variant {variant!r} of {path}, got {stamp}"
        read = Read(path, sent_s, stamp.fetched_s, answer.headers.get("cache-status", ""))
        self._history.read(read)
        return stamp, read

    async def purge(self, selector: str) -> Purge | None:
        """The purge, if it was answered 201."""
        sent_s = time.monotonic()
        try:
            answer = await self._api.request("POST", PURGE, body=json.dumps({"url": f"http://{self._machine.edge}{selector}"}).encode())
        except Broken:
            return None
        if answer.status != 201:
            assert answer.status in (429, 503), answer
            self._history.counts["refused"] += 1
            return None
        purge = Purge(json.loads(answer.body)["requestId"], selector, sent_s)
        self._history.accepted(purge)
        return purge

    async def poll(self, request_id: str) -> bool | None:
        """Is it `Completed`?"""
        sent_s = time.monotonic()
        try:
            answer = await self._api.request("GET", f"{PURGE}/{request_id}")
        except Broken:
            return None
        if answer.status in (429, 503):
            return None
        assert answer.status in (200, 400), answer
        status = json.loads(answer.body)["status"] if answer.status == 200 else "unknown"
        self._history.polled(Poll(request_id, sent_s, time.monotonic(), status))
        return bool(status == "Completed")

    async def completed(self, request_id: str, deadline_s: float = 30) -> None:
        """Poll until `Completed`."""
        async with asyncio.timeout(deadline_s):
            while not await self.poll(request_id):  # noqa: ASYNC110 (another process cannot set an event here)
                await asyncio.sleep(_NOW_AND_THEN_S)

    async def cached(self, path: str, deadline_s: float = 30) -> Read:
        """Read until it is a hit."""
        async with asyncio.timeout(deadline_s):
            while True:
                answer = await self.read(path)
                if answer and "; hit" in answer[1].told:
                    return answer[1]
                await asyncio.sleep(_NOW_AND_THEN_S)

    async def fenced(self, path: str, deadline_s: float = 30) -> Read:
        """Read until the edge says that it bypasses its cache."""
        async with asyncio.timeout(deadline_s):
            while True:
                answer = await self.read(path)
                if answer and "fwd=bypass; detail=fenced" in answer[1].told:
                    return answer[1]
                await asyncio.sleep(_NOW_AND_THEN_S)

    async def aclose(self) -> None:
        await self._visitor.aclose()
        await self._api.aclose()


@contextlib.asynccontextmanager
async def traffic(machine: Machine, history: History) -> AsyncIterator[Traffic]:
    here = Traffic(machine, history)
    try:
        yield here
    finally:
        await here.aclose()
