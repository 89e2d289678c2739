"""Reading a stream of events in a test, as plainly as can be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Sent:
    id: str
    name: str
    data: Any


def events(response: httpx.Response) -> Iterator[Sent]:
    """Each block of lines that has an event, in order."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Sent(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


async def aevents(response: httpx.Response) -> AsyncIterator[Sent]:
    """Every block of lines, also one that has no more than an id: a reader keeps that (the HTML standard §9.2.6)."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "id" in fields or "data" in fields:
            yield Sent(fields.get("id", ""), fields.get("event", ""), json.loads(fields.get("data", "{}")))
            fields = {}
        else:
            fields = {}


def until(stream: Iterator[Sent], name: str, purge_id: str) -> list[Sent]:
    """All events up to this one, it included."""
    seen: list[Sent] = []
    for event in stream:
        seen.append(event)
        if (event.name, event.data.get("id")) == (name, purge_id):
            return seen
    raise AssertionError(f"the stream ended before {name} {purge_id}: {seen}")


def fragments(response: httpx.Response) -> Iterator[Sent]:
    """Events with text of several lines, such as parts of a page."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = "\n".join(filter(None, [fields.get(name, ""), value.removeprefix(" ")]))
        elif "event" in fields:
            yield Sent(fields.get("id", ""), fields["event"], fields.get("data", ""))
            fields = {}
        else:
            fields = {}
