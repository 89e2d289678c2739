"""Documents that control nodes share, over the real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agezero.fleet_nats import shared_documents
from agezero.jetstream.bucket import Bucket
from agezero.jetstream.link import Message, Nobody
from agezero.jetstream.names import SERVICE_STREAM
from agezero.ports import BoardUnavailable, Overtaken
from support.logs import linked
from support.nats import Servers
from support.waiting import until


@asynccontextmanager
async def two_nodes(servers: Servers) -> AsyncIterator[tuple[Bucket, Bucket]]:
    async with linked(servers.urls[:1]) as left, linked(servers.urls[-1:]) as right, shared_documents(left) as one, shared_documents(right) as other:
        one.write_s = other.write_s = 0.5
        yield one, other


def test_who_was_overtaken_knows_by_what(one: Servers) -> None:
    """So who tries again decides by that, and not by the same as before."""

    async def story() -> None:
        async with two_nodes(one) as (left, right):
            for n in range(50):
                at = left.get("a").at if left.get("a") else 0  # type: ignore[union-attr]
                await left.put("a", b"left", at)
                with pytest.raises(Overtaken):
                    await right.put("a", b"right", at)
                known = right.get("a")
                assert known is not None
                assert known.at > at, n

    asyncio.run(story())


def test_of_several_nodes_that_write_at_once_one_does_and_the_others_are_overtaken(three: Servers) -> None:
    """As when they start together and make what they share. A write under way at the leader is an answer of its own there."""

    async def put(documents: Bucket, name: str) -> bool:
        try:
            await documents.put(name, b"mine", 0)
        except Overtaken:
            return False
        return True

    async def story() -> None:
        async with two_nodes(three) as nodes:
            for n in range(50):
                assert sorted(await asyncio.gather(*(put(node, f"a{n}") for node in nodes))) == [False, True]

    asyncio.run(story())


def test_a_bucket_that_another_node_has_just_made_is_written_to_once_its_name_is_known_here(one: Servers) -> None:
    """A server hears a little later what subjects the others have taken on; until then nobody is there."""

    async def story() -> None:
        async with two_nodes(one) as (left, _):
            ask, unknown = left.link.ask, [Nobody("nobody answers")] * 3

            async def early(*rest: Any, **more: Any) -> Message:
                if unknown:
                    raise unknown.pop()
                return await ask(*rest, **more)

            left.link.ask = early  # type: ignore[method-assign]
            assert await left.put("a", b"mine", 0)

    asyncio.run(story())


def test_what_another_node_has_forgotten_is_not_written_over_again_and_again(one: Servers) -> None:
    """This node's view of it never changes: it would be overtaken by nobody, for ever."""

    async def story() -> None:
        async with two_nodes(one) as (left, right):
            at = await left.put("message.a", b"{}", 0)
            await until(lambda: right.get("message.a"), "read")
            await left.forget("message.")
            with pytest.raises(BoardUnavailable):
                await right.put("message.a", b"{}", at)

    asyncio.run(story())


def test_over_a_bucket_that_was_restored_nothing_is_tried_for_ever(one: Servers) -> None:
    async def story() -> None:
        async with two_nodes(one) as (left, _):
            at = 0
            for n in range(3):
                at = await left.put("a", str(n).encode(), at)
            info = await left.link.api(f"STREAM.INFO.{SERVICE_STREAM}")
            await left.link.api(f"STREAM.DELETE.{SERVICE_STREAM}")
            await left.link.api(f"STREAM.CREATE.{SERVICE_STREAM}", info["config"])
            with pytest.raises(BoardUnavailable):
                await left.put("a", b"3", at)

    asyncio.run(story())
