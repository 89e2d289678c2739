"""What the purge log in JetStream promises beyond ``test_log.py``, with the real server: quorums, idempotence, other streams of the same name."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING
from agezero.errors import UserError
from agezero.jetstream import appending, stream
from agezero.jetstream.history import JetStreamHistory
from agezero.jetstream.link import Access, LinkFailed, connect
from agezero.jetstream.log import JetStreamLog, following, open_log
from agezero.jetstream.names import LOG_STREAM, LOG_SUBJECT
from agezero.ports import Accepted, BelowFloor, IdempotencyConflict, LogUnavailable, Submission
from support.logs import SHAPE, eventually_appended, jetstream_log, linked, url
from support.nats import Server, Servers
from support.waiting import until


def test_with_the_quorum_lost_purges_are_refused_soon_and_nothing_is_lost(three: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(three.urls)() as log:
            base = log.head
            await asyncio.gather(*(log.append(url(n), "key") for n in range(100)))
            for server in three.all[1:]:
                server.kill()
            async with asyncio.timeout(10):
                with pytest.raises(LogUnavailable):
                    await log.append(url(100), "key")
            for server in three.all[1:]:
                server.start()
            seq = await eventually_appended(log, url(101))
            await log.wait(seq - 1)
            purges = await read_all(log, base)
            assert [purge.seq for purge in purges] == list(range(base + 1, log.head + 1))
            assert {str(purge.selector) for purge in purges} >= {str(url(n)) for n in [*range(100), 101]}

    asyncio.run(story())


def test_another_server_takes_over_when_the_leader_is_killed(three: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(three.urls)() as log:
            base = log.head
            seqs = [await log.append(url(0), "key")]
            three.leader(LOG_STREAM).kill()
            seqs += [await eventually_appended(log, url(n)) for n in range(1, 50)]
            await log.wait(seqs[-1] - 1)
            purges = {purge.seq: purge.selector for purge in await read_all(log, base)}
            assert [purges[seq] for seq in seqs] == [url(n) for n in range(50)]
            assert sorted(purges) == list(range(base + 1, log.head + 1))

    asyncio.run(story())


def test_purges_of_several_entries_are_whole_while_a_leader_dies(three: Servers) -> None:
    """What is acknowledged is where it was said to be; what is not is in the log as a whole or not at all."""

    async def story() -> None:
        async with jetstream_log(three.urls)() as log:
            base, accepted = log.head, dict[int, Accepted]()

            number, enough = count(), asyncio.Event()

            async def client() -> None:
                while not enough.is_set():
                    n = next(number)
                    with contextlib.suppress(LogUnavailable):
                        accepted[n] = await log.append_many(Submission(tuple(url(10 * n + k) for k in range(5)), "key"))

            async with asyncio.TaskGroup() as clients:
                for _ in range(8):
                    clients.create_task(client())
                await until(lambda: len(accepted) > 20, "appended")
                leader = await asyncio.to_thread(three.leader, LOG_STREAM)
                leader.kill()
                before = len(accepted)
                await until(lambda: len(accepted) > before + 20, "appended by another leader")
                enough.set()
            leader.start()
            await eventually_appended(log, url(9999))
            assert isinstance(log, JetStreamLog)
            stored = {purge.seq: purge.selector for purge in await read_all(log, base)}
            assert sorted(stored) == list(range(base + 1, log.head + 1))
            for n, each in accepted.items():
                assert [stored[seq] for seq in range(each.first, each.last + 1)] == [url(10 * n + k) for k in range(5)]
            found = await JetStreamHistory(log).after(base, 1000)
            assert sum(len(each.selectors) for each in found) == len(stored), "no entry without its purge"
            assert {len(each.selectors) for each in found} <= {5, 1}
            ours = [each.first for each in found if len(each.selectors) == 5]
            assert len({str(stored[first]) for first in ours}) == len(ours), "none is there twice"

    asyncio.run(story())


def test_everything_acknowledged_outlives_the_death_of_all_servers(three: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(three.urls)() as log:
            base = log.head
            seqs = await asyncio.gather(*(log.append(url(n), "key") for n in range(200)))
        kill_and_restart(three.all)
        three.ready()
        async with jetstream_log(three.urls)() as log:
            assert log.head >= max(seqs)
            assert {purge.seq for purge in await read_all(log, base)} >= set(seqs)

    asyncio.run(story())


@pytest.mark.parametrize("count", [1, 3])
def test_an_append_whose_answer_was_lost_is_sent_again_and_is_one(one: Servers, count: int) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as log:
            assert isinstance(log, JetStreamLog)
            base, ask = log.head, log.link.ask
            lost: list[str] = []

            async def losing(subject: str, *rest: Any, **more: Any) -> Any:
                answer = await ask(subject, *rest, **more)
                if subject == LOG_SUBJECT and not lost:
                    lost.append(subject)
                    raise LinkFailed("the answer was lost")
                return answer

            log.link.ask = losing  # type: ignore[method-assign]
            submission = Submission(tuple(url(n) for n in range(count)), "key")
            assert await log.append_many(submission) == Accepted(base + 1, base + count)
            assert lost
            assert await log.append(url(9), "key") == base + count + 1

    asyncio.run(story())


@pytest.mark.parametrize("count", [1, 3])
def test_an_append_that_is_sent_again_while_it_is_under_way_is_one(three: Servers, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A leader that has yet to hear from another server answers neither yes nor no."""
    monkeypatch.setattr(appending, "AGAIN_S", 0)

    async def story() -> None:
        async with jetstream_log(three.urls)() as log:
            assert isinstance(log, JetStreamLog)
            ask, first = log.link.ask, set[asyncio.Task[Any]]()

            async def impatient(subject: str, *rest: Any, **more: Any) -> Any:
                if subject == LOG_SUBJECT and not first:
                    first.add(asyncio.create_task(ask(subject, *rest, **more)))
                    raise LinkFailed("the answer is late")
                return await ask(subject, *rest, **more)

            log.link.ask = impatient  # type: ignore[method-assign]
            base = log.head
            for number in range(30):
                submission = Submission(tuple(url(n) for n in range(count)), "key")
                assert await log.append_many(submission) == Accepted(base + number * count + 1, base + (number + 1) * count)
                await asyncio.gather(*first, return_exceptions=True)
                first.clear()

    asyncio.run(story())


def test_a_batch_without_its_commit_is_not_in_the_log(one: Servers) -> None:
    """The control node died in the middle of it."""

    async def story() -> None:
        async with jetstream_log(one.urls)() as log, linked(one.urls) as dying:
            base = log.head
            for number in (1, 2):
                await dying.publish(LOG_SUBJECT, b"{}", headers={"Nats-Batch-Id": "half", "Nats-Batch-Sequence": str(number)})
            assert await log.append(url(1), "key") == base + 1
            assert log.head == base + 1

    asyncio.run(story())


def test_an_idempotency_key_answers_at_another_node(one: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as left, jetstream_log(one.urls)() as right:
            asked = Submission((url(1), url(2)), "key", idempotency_key="a", fingerprint="f")
            both = await asyncio.gather(left.append_many(asked), right.append_many(asked))
            assert {(each.first, each.last) for each in both} == {(left.floor + 1, left.floor + 2)}
            assert sorted(each.repeated for each in both) == [False, True]
            with pytest.raises(IdempotencyConflict):
                await right.append_many(replace(asked, fingerprint="another"))

    asyncio.run(story())


def test_an_idempotency_key_that_several_nodes_are_given_at_once_has_one_answer(three: Servers) -> None:
    """What is under way at the leader is an answer of its own there."""

    async def story() -> None:
        async with jetstream_log(three.urls[:1])() as left, jetstream_log(three.urls[1:2])() as right:
            for number in range(30):
                asked = Submission((url(number),), "key", idempotency_key=str(number), fingerprint="f")
                both = await asyncio.gather(left.append_many(asked), right.append_many(asked))
                assert len({each.last for each in both}) == 1

    asyncio.run(story())


def test_a_purge_is_found_at_a_node_that_has_not_read_it_yet(one: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as left, linked(one.urls) as link:
            right = await open_log(link)  # it does not follow
            accepted = await left.append_many(Submission((url(1), url(2)), "key", note="fresh"))
            assert right.head < accepted.first
            found = await JetStreamHistory(right).find(accepted.last)
            assert found is not None
            assert (found.first, found.note) == (accepted.first, "fresh")
            assert await JetStreamHistory(right).find(accepted.last + 1) is None

    asyncio.run(story())


def test_a_claim_whose_node_died_is_taken_over(one: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as left, jetstream_log(one.urls)() as right:
            asked = Submission((url(1),), "key", idempotency_key="a", fingerprint="f")
            base = left.head
            assert isinstance(left, JetStreamLog)
            assert isinstance(right, JetStreamLog)

            async def dies(_: Submission) -> Accepted:
                raise LogUnavailable("this node dies")

            with pytest.raises(LogUnavailable, match="dies"):
                await left._once.append(asked, dies)
            right._once.claim_s = 0.1
            assert await right.append_many(asked) == Accepted(base + 1, base + 1)
            assert await left.append_many(asked) == Accepted(base + 1, base + 1, repeated=True)

    asyncio.run(story())


def test_a_stream_that_was_deleted_and_made_again_is_another_epoch_beyond_every_old_seq(one: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as log, linked(one.urls) as admin:
            assert isinstance(log, JetStreamLog)
            old = await log.append(url(1), "key")
            epoch, heads = log.epoch, list[int]()
            log.subscribe(heads.append)
            await admin.api(f"STREAM.DELETE.{LOG_STREAM}")
            await stream.ensure(admin, SHAPE)
            await until(lambda: log.epoch != epoch, "the new epoch is noticed")
            assert heads, "who follows is told"
            assert log.floor > old
            assert await log.append(url(2), "key") > log.floor
            with pytest.raises(BelowFloor):
                await log.read(old - 1, 10)

    asyncio.run(story())


def test_a_stream_that_was_restored_from_a_backup_takes_no_entries(one: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as log:
            assert isinstance(log, JetStreamLog)
            await log.append(url(1), "key")
            log.head += 5  # as if these had been acknowledged before
            with pytest.raises(Exception, match="restored from a backup"):
                await log.begin()
            with pytest.raises(LogUnavailable, match="restored from a backup"):
                await log.append(url(2), "key")

    asyncio.run(story())


def test_two_control_nodes_that_start_at_once_make_one_stream(one: Servers) -> None:
    async def story() -> None:
        async with linked(one.urls) as left, linked(one.urls) as right:
            logs = await asyncio.gather(open_log(left, SHAPE), open_log(right, SHAPE))
            assert logs[0].epoch == logs[1].epoch

    asyncio.run(story())


def test_a_full_stream_refuses_and_drops_nothing(one: Servers) -> None:
    async def story() -> None:
        async with linked(one.urls) as link:
            log = await open_log(link, stream.log_shape(20_000, 60))
            async with following(log):
                base = log.head
                with pytest.raises(LogUnavailable, match="full"):
                    await asyncio.gather(*(log.append(url(n), "key") for n in range(1000)))
                assert (await log.read(base, 1))[0].seq == base + 1
                assert log.floor == base

    asyncio.run(story())


def test_a_log_that_can_not_be_followed_ends_whoever_needs_it(one: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a node would hear of no purge of another one, and an agent of none at all."""

    async def story() -> None:
        async with linked(one.urls) as link:
            log = await open_log(link, SHAPE)
            monkeypatch.setattr(log, "run", AsyncMock(side_effect=RuntimeError("a bug")))
            async with asyncio.timeout(10), following(log):
                await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup):
        asyncio.run(story())


def test_what_is_not_understood_purges_everything(one: Servers) -> None:
    async def story() -> None:
        async with jetstream_log(one.urls)() as log, linked(one.urls) as stranger:
            base = log.head
            await stranger.ask(LOG_SUBJECT, b'{"kind":"galaxy","value":"","by":"","ms":0}')
            await log.wait(base)
            assert list(await log.read(base, 10)) == [Purge(base + 1, EVERYTHING)]

    asyncio.run(story())


def test_no_entry_is_skipped_when_deliveries_are_lost(one: Servers) -> None:
    async def story() -> None:
        async with linked(one.urls) as link:
            log = await open_log(link, SHAPE)
            deaf = Deaf(log)
            async with following(log):
                base = log.head
                await asyncio.gather(*(log.append(url(n), "key") for n in range(100)))
                await until(lambda: log._taken == base + 100, "all taken")
                assert deaf.lost, "the test lost something"
                assert [purge.seq for purge in await read_all(log, base)] == list(range(base + 1, base + 101))

    asyncio.run(story())


def test_an_agent_makes_no_stream(one: Servers) -> None:
    async def story() -> None:
        async with linked(one.urls) as link:
            with pytest.raises(LogUnavailable, match="a control node makes it"):
                await open_log(link)

    asyncio.run(story())


def test_where_no_server_answers_the_error_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no NATS server answers at nats://127\.0\.0\.1:1") as error:
        asyncio.run(connect(Access(servers=["nats://127.0.0.1:1"])))
    assert "log.url" in error.value.hint


class Deaf:
    """Every tenth delivery to a log gets lost, once each."""

    def __init__(self, log: JetStreamLog) -> None:
        self.lost: set[str] = set()
        self._link, self._listen = log.link, log.link.listen
        log.link.listen = self.listen  # type: ignore[method-assign]

    async def listen(self, subject: str, heard: Any, queue: str = "") -> Any:
        def some(message: Any) -> None:
            number = msgspec.json.decode(message.data)["value"].rpartition("/")[2] if message.data[:1] == b"{" else ""
            if number.endswith("7") and number not in self.lost:
                self.lost.add(number)
            else:
                heard(message)

        return await self._listen(subject, some, queue)


async def read_all(log: Any, after: int) -> list[Purge]:
    found: list[Purge] = []
    async with asyncio.timeout(30):
        while after < log.head:
            try:
                found += (some := await log.read(after, 1000))
                after = some[-1].seq if some else after
            except LogUnavailable:
                await asyncio.sleep(0.05)
    return found


def kill_and_restart(servers: list[Server]) -> None:
    for server in servers:
        server.kill()
    for server in servers:
        server.start()
