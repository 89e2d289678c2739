"""Streams that somebody has made otherwise, or changed, with the real server: refused by the name of the field."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog.testing

from agezero.errors import UserError
from agezero.jetstream import stream
from agezero.jetstream.link import NO_STREAM, ApiError
from agezero.jetstream.log import open_log
from agezero.jetstream.names import BOARD_STREAM, LOG_STREAM
from support.logs import SHAPE, linked
from support.nats import Servers

BUCKET = stream.bucket_shape(BOARD_STREAM, 64 << 20)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("discard", "old", "wrong discard: it is old; expected new"),
        ("storage", "memory", "wrong storage: it is memory; expected file"),
        ("max_age", 3_600_000_000_000, "wrong max_age: it is 3600000000000; expected 0"),
        ("subjects", ["agezero.purges", "agezero.more"], "wrong subjects"),
        ("retention", "interest", "wrong retention: it is interest; expected limits"),
        ("allow_atomic", False, "wrong allow_atomic: it is false; expected true"),
        ("deny_delete", False, "wrong deny_delete: it is false; expected true"),
        ("metadata", {}, "wrong metadata"),
    ],
)
def test_a_stream_that_could_lose_purges_is_refused_by_name_of_the_field(one: Servers, field: str, value: Any, words: str) -> None:
    async def story() -> None:
        async with linked(one.urls) as link:
            config = {"name": LOG_STREAM, **SHAPE.fixed, "num_replicas": 1, "max_bytes": SHAPE.bytes_max, "metadata": {stream.ID: "x"}, field: value}
            await link.api(f"STREAM.CREATE.{LOG_STREAM}", config)
            with pytest.raises(UserError, match=words) as error:
                await open_log(link, SHAPE)
            assert "nats stream edit" in error.value.hint

    asyncio.run(story())


@pytest.mark.parametrize(
    ("field", "value", "shapes"),
    [
        ("persist_mode", "async", [BUCKET]),  # with allow_atomic, as the log has to have, the server itself refuses it
        ("subject_transform", {"src": ">", "dest": "elsewhere.>"}, [SHAPE, BUCKET]),
        ("max_msg_size", 1000, [SHAPE, BUCKET]),
        ("discard_new_per_subject", True, [BUCKET]),  # likewise without max_msgs_per_subject
        ("allow_msg_ttl", True, [SHAPE, BUCKET]),
        ("allow_rollup_hdrs", True, [SHAPE, BUCKET]),
    ],
)
def test_a_stream_with_a_field_that_nobody_asked_for_is_refused_by_its_name(one: Servers, field: str, value: Any, shapes: list[stream.Shape]) -> None:
    """As AgeZero makes it, but for that. The twin: without that, it is taken."""

    async def story() -> None:
        async with linked(one.urls) as link:
            for shape in shapes:
                config = stream._config(shape, 1, stream.Origin("x", 1))
                await link.api(f"STREAM.CREATE.{shape.name}", {**config, field: value})
                with pytest.raises(UserError, match=f"the stream {shape.name} has the wrong {field}: it is ") as error:
                    await stream.ensure(link, shape)
                assert "expected" in error.value.message
                await link.api(f"STREAM.DELETE.{shape.name}")
                await link.api(f"STREAM.CREATE.{shape.name}", config)
                assert (await stream.ensure(link, shape)).id == "x"

    asyncio.run(story())


def test_nothing_is_told_of_a_cluster_where_there_is_one_server(one: Servers) -> None:
    """Not at the second start either: the server says more of a stream that it has than of one that it makes."""

    async def story() -> None:
        async with linked(one.urls) as link:
            with structlog.testing.capture_logs() as lines:
                await stream.ensure(link, BUCKET)
                await stream.ensure(link, BUCKET)
            assert lines == []

    asyncio.run(story())


def test_a_bucket_that_one_server_of_a_cluster_keeps_is_told_of_by_name(three: Servers) -> None:
    async def story() -> None:
        async with linked(three.urls) as link:
            await link.api(f"STREAM.CREATE.{BUCKET.name}", stream._config(BUCKET, 1, stream.Origin("x", 1)), timeout_s=10)
            with structlog.testing.capture_logs() as lines:
                await stream.ensure(link, BUCKET)
                await link.api(f"STREAM.DELETE.{BUCKET.name}")
                await stream.ensure(link, BUCKET)
            assert [(line["stream"], line["hint"]) for line in lines] == [(BUCKET.name, f"nats stream edit {BUCKET.name} --replicas 3")]

    asyncio.run(story())


def test_a_stream_that_another_control_node_is_making_is_waited_for(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists already for whoever wants to make it, and not yet for whoever looks for it."""

    async def story() -> None:
        async with linked(one.urls) as link:
            await link.api(f"STREAM.CREATE.{LOG_STREAM}", stream._config(SHAPE, 1, stream.Origin("x", 1)))
            looked = 0

            async def api(call: str, *rest: Any, **more: Any) -> dict[str, Any]:
                nonlocal looked
                looked += call == f"STREAM.INFO.{LOG_STREAM}"
                if looked <= 2 and call == f"STREAM.INFO.{LOG_STREAM}":
                    raise ApiError(NO_STREAM, 404, "stream not found")
                return await type(link).api(link, call, *rest, **more)

            monkeypatch.setattr(link, "api", api)
            assert (await open_log(link, SHAPE)).epoch == "x"
            assert looked >= 3

    asyncio.run(story())
