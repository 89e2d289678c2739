"""How agents follow the log: plain messages, which may be lost, and a look at the stream for what was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from agezero.jetstream import overhear
from agezero.jetstream.link import Message
from agezero.jetstream.log import JetStreamLog, following, open_log
from agezero.ports import Submission
from support.logs import SHAPE, linked, url
from support.nats import Servers, nats_servers
from support.waiting import until

ENTRIES = 60


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with nats_servers(tmp_path_factory.mktemp("nats")) as servers:
        yield servers


async def told(
    one: Servers, follower: Callable[[JetStreamLog], overhear.Overhearing], follow: Callable[[JetStreamLog, int], Awaitable[None]]
) -> None:
    """An agent's log, following by ``follower``, while a control node appends; ``follow`` is given it and the last seq."""
    async with linked(one.urls) as control_link, linked(one.urls) as link:
        log = await open_log(control_link, SHAPE)
        agents = await open_log(link)
        task = asyncio.create_task(follower(agents).run())
        async with following(log):
            await until(lambda: link.client._subs and agents._taken == log.head, "it follows")
            for n in range(0, ENTRIES, 3):
                await log.append_many(Submission((url(n), url(n + 1), url(n + 2)), "key"))
            await follow(agents, log.head)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_arrive(log: JetStreamLog, last: int) -> None:
    await until(lambda: log._taken == last, "the last one has arrived")
    assert [purge.seq for purge in log._tail] == list(range(last - ENTRIES + 1, last + 1))
    assert [purge.selector for purge in log._tail] == [url(n) for n in range(ENTRIES)]


def lossy(log: JetStreamLog) -> overhear.Overhearing:
    """Every third message is lost, and the last one."""
    follower = overhear.Overhearing(log.link, log, quiet_s=0.1)
    heard, number = follower.heard, 0

    def lose(message: Message) -> None:
        nonlocal number
        number += 1
        if number % 3:
            heard(message)

    follower.heard = lose  # type: ignore[method-assign]
    return follower


def test_what_was_not_told_is_fetched(one: Servers) -> None:
    asyncio.run(told(one, lossy, all_arrive))


def test_without_a_look_at_the_stream_it_would_never_be_known(one: Servers) -> None:
    """The twin: neither a gap nor silence makes it look."""

    def trusting(log: JetStreamLog) -> overhear.Overhearing:
        follower = lossy(log)
        follower.quiet_s = 1e9
        follower._doubt.set = lambda: None  # type: ignore[method-assign]
        return follower

    async def short(log: JetStreamLog, last: int) -> None:
        await log.link.client.flush()
        assert log._taken < last

    asyncio.run(told(one, trusting, short))


def test_what_is_told_twice_or_by_a_stranger_is_taken_once(one: Servers) -> None:
    def doubled(log: JetStreamLog) -> overhear.Overhearing:
        follower = overhear.Overhearing(log.link, log)
        heard = follower.heard

        def twice(message: Message) -> None:
            heard(message)
            heard(message)
            heard(Message(message.subject, "", message.data, {}))

        follower.heard = twice  # type: ignore[method-assign]
        return follower

    asyncio.run(told(one, doubled, all_arrive))
