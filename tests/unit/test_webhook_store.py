"""What has to be told, in SQLite: bounded, in order, there after a restart."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agezero.database import open_database
from agezero.events import Blocked, Completed
from agezero.webhooks import store as store_module
from agezero.webhooks.messages import DELAYS_S, after, headers, message
from agezero.webhooks.shared import SharedStore
from agezero.webhooks.store import Store, Webhook
from agezero.webhooks.targets import Answer
from agezero.webhooks.watch import FAILING_S, Watch
from support.documents import MemoryDocuments, loop_of_its_own

NOW_MS = 1_800_000_000_000
URL = "https://ci.example.com/hook"


@pytest.fixture(params=["sqlite", "shared"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        with closing(open_database(tmp_path)) as connection:
            yield Store(connection)
        return
    with loop_of_its_own() as loop, closing(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)) as index:
        yield SharedStore(MemoryDocuments(), loop, index)


def made(store: Store, *events: str, completed: int = 0) -> Webhook:
    webhook = store.add(URL, events or ("purge.completed",), completed, NOW_MS)
    assert webhook is not None
    return webhook


def test_a_signature_is_what_the_specification_says(store: Store) -> None:
    """By hand: HMAC-SHA256 of id.timestamp.body under the secret's bytes, in base64 behind v1."""
    webhook = made(store)
    sent = message(webhook, "webhook.test", {"ä": 1}, NOW_MS)
    told = headers(webhook, sent, NOW_MS + 999)
    assert (told["webhook-id"], told["webhook-timestamp"]) == (sent.id, "1800000000")
    key = base64.b64decode(webhook.secrets[0].text.removeprefix("whsec_"))
    assert len(key) == 24
    digest = hmac.new(key, f"{sent.id}.1800000000.{sent.body}".encode(), hashlib.sha256).digest()
    assert told["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_a_rotated_secret_signs_beside_the_old_one_until_the_overlap_is_over(store: Store) -> None:
    webhook = made(store)
    new = store.rotate(webhook.id, 60_000, NOW_MS)
    assert new is not None
    webhook = store.webhooks[webhook.id]
    sent = message(webhook, "webhook.test", {}, NOW_MS)
    assert [len(headers(webhook, sent, NOW_MS + ms)["webhook-signature"].split()) for ms in (0, 59_999, 60_000)] == [2, 2, 1]
    store.rotate(webhook.id, 0, NOW_MS)
    assert len(store.webhooks[webhook.id].secrets) == 1
    assert store.rotate("wh_none", 0, NOW_MS) is None


def test_attempts_are_spread_over_hours_and_then_given_up(store: Store) -> None:
    sent = message(made(store), "webhook.test", {}, NOW_MS)
    waits = []
    for _ in DELAYS_S:
        sent = after(sent, Answer(500, "no"), NOW_MS)
        assert (sent.state, sent.next_ms is not None) == ("pending", True)
        waits.append(((sent.next_ms or 0) - NOW_MS) / 1000)
    assert all(0.8 * delay <= wait <= 1.2 * delay for delay, wait in zip(DELAYS_S, waits, strict=True))
    assert (after(sent, Answer(0, "refused"), NOW_MS).state, after(sent, Answer(0, "refused"), NOW_MS).next_ms) == ("failed", None)


@pytest.mark.parametrize(
    ("status", "state"), [(200, "delivered"), (204, "delivered"), (301, "pending"), (404, "pending"), (410, "failed"), (0, "pending")]
)
def test_what_an_answer_means(store: Store, status: int, state: str) -> None:
    assert after(message(made(store), "webhook.test", {}, NOW_MS), Answer(status, ""), NOW_MS).state == state


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_all_is_there_after_a_restart(store: Store, tmp_path: Path) -> None:
    webhook = made(store)
    sent = message(webhook, "purge.completed", {}, NOW_MS)
    store.tell_completed(webhook.id, sent, 7)
    store.tell([], {"edge": True})
    with closing(open_database(tmp_path)) as connection:
        again = Store(connection)
        assert again.webhooks == store.webhooks
        assert again.webhooks[webhook.id].completed == 7
        assert again.due(NOW_MS, [], 10) == [sent]
        assert again.edges_told() == {"edge": True}


def test_one_message_of_each_webhook_is_due_at_a_time_and_none_of_a_busy_one(store: Store) -> None:
    one, other = made(store), made(store)
    sent = [message(webhook, "purge.blocked", {}, NOW_MS) for webhook in (one, one, other)]
    store.tell(sent)
    assert store.due(NOW_MS, [], 10) == [sent[0], sent[2]]
    assert store.due(NOW_MS, [one.id], 10) == [sent[2]]
    store.finish(after(sent[0], Answer(500, ""), NOW_MS))
    assert store.due(NOW_MS, [other.id], 10) == [sent[1]]
    assert store.due(NOW_MS - 1, [], 10) == []
    assert store.waiting(one.id) == (2, 1)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_what_waits_and_what_is_over_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PENDING_MAX", 5)
    monkeypatch.setattr(store_module, "KEPT", 3)
    monkeypatch.setattr(store_module, "WEBHOOKS_MAX", 1)
    webhook = made(store)
    assert store.add(URL, ["purge.blocked"], 0, NOW_MS) is None
    for i in range(9):
        store.tell([message(webhook, "purge.blocked", {"i": i}, NOW_MS)])
    assert store.waiting(webhook.id) == (5, 0)
    found = store.deliveries(webhook.id, 100)
    assert [each.said for each in found[5:]] == ["too many messages wait"] * 4
    for each in found[:5]:
        store.finish(replace(each, state="delivered", next_ms=None))
    assert len(store.deliveries(webhook.id, 100)) == 3
    assert store.remove(webhook.id)
    assert not store.deliveries(webhook.id, 100)
    assert not store.remove(webhook.id)


def test_a_receiver_that_is_back_gets_what_waits_but_not_what_failed_just_now(store: Store) -> None:
    webhook = made(store)
    old, new = message(webhook, "a", {}, NOW_MS), message(webhook, "b", {}, NOW_MS)
    store.tell([old, new])
    store.finish(replace(old, attempts=4, last_ms=NOW_MS - 100_000, next_ms=NOW_MS + 3_600_000))
    store.finish(replace(new, attempts=1, last_ms=NOW_MS - 1_000, next_ms=NOW_MS + 5_000))
    store.hurry(webhook.id, NOW_MS, 60_000)
    assert [each.id for each in store.due(NOW_MS, [], 10)] == [old.id]


# ── what is written down ──


class Past:
    """Events that a test makes up."""

    def __init__(self, completed: int = 0) -> None:
        self.head = completed
        self.edges: dict[str, bool] | None = {"edge": False}
        self.held_up_s = 0.0
        self.asked = 0

    def latest(self) -> int:
        return self.head

    async def completed(self, after: int, limit: int) -> Sequence[Completed]:
        self.asked += 1
        return [Completed(f"{seq:024x}", seq) for seq in range(after + 1, min(self.head, after + limit) + 1)]

    async def blocked(self) -> Blocked | None:
        return Blocked("0" * 24, 9, self.held_up_s, 1, []) if self.held_up_s else None

    def fenced(self) -> Mapping[str, bool] | None:
        return self.edges

    async def change(self, timeout_s: float) -> bool:
        raise AssertionError(timeout_s)


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


async def looked(watch: Watch) -> None:
    while await watch.look():
        pass


def bodies(store: Store, webhook: Webhook) -> list[str]:
    return [each.body for each in reversed(store.deliveries(webhook.id, 100))]


def run_watch(store: Store, past: Past, clock: Clock) -> Watch:
    return Watch(store, past, 30, clock)


def test_many_purges_are_told_in_few_messages_each_once_and_only_from_the_start_on(store: Store) -> None:
    past, webhook = Past(100), made(store, completed=100)
    watch = run_watch(store, past, Clock())
    past.head = 6_100
    asyncio.run(looked(watch))
    told = [json.loads(body)["data"]["purges"] for body in bodies(store, webhook)]
    assert [purge["seq"] for batch in told for purge in batch] == list(range(101, 6_101))
    assert len(told) == 3
    asyncio.run(looked(watch))
    assert len(bodies(store, webhook)) == 3


def test_who_is_not_subscribed_costs_nothing(store: Store) -> None:
    made(store, "edge.fenced")
    past = Past()
    past.head = 1_000
    asyncio.run(looked(run_watch(store, past, Clock())))
    assert past.asked == 0


def test_a_receiver_that_fails_is_told_more_seldom_and_nothing_is_lost(store: Store) -> None:
    past, webhook, clock = Past(), made(store), Clock()
    watch = run_watch(store, past, clock)
    past.head = 1
    asyncio.run(looked(watch))
    (sent,) = store.due(NOW_MS, [], 10)
    store.finish(after(sent, Answer(500, ""), NOW_MS))
    for head in range(2, 10):
        past.head = head
        asyncio.run(looked(watch))
    assert len(bodies(store, webhook)) == 1
    clock.ms += FAILING_S * 1000
    asyncio.run(looked(watch))
    assert [purge["seq"] for purge in json.loads(bodies(store, webhook)[1])["data"]["purges"]] == list(range(2, 10))


def test_edges_are_told_when_they_change_not_as_they_are_found(store: Store) -> None:
    past, webhook = Past(), made(store, "edge.fenced", "edge.unfenced")
    for edges in (None, {"edge": False}, {"edge": False}, {"edge": True}, None, {"edge": False}, {}):
        past.edges = edges
        asyncio.run(looked(run_watch(store, past, Clock())))  # another process each time: what was told is on the disk
    assert [json.loads(body)["type"] for body in bodies(store, webhook)] == ["edge.fenced", "edge.unfenced"]


def test_what_is_held_up_is_told_once_for_each_time(store: Store) -> None:
    past, webhook = Past(), made(store, "purge.blocked")
    watch = run_watch(store, past, Clock())
    for held_up_s in (1, 29, 30, 31, 0, 5, 40):
        past.held_up_s = held_up_s
        asyncio.run(looked(watch))
    assert [json.loads(body)["data"]["pending_s"] for body in bodies(store, webhook)] == [30, 40]


def test_a_webhook_that_is_gone_is_told_nothing(store: Store) -> None:
    past, webhook = Past(), made(store)
    store.tell_completed(webhook.id, message(webhook, "purge.completed", {}, NOW_MS), 1)
    store.stop(webhook.id, "410")
    past.head = 5
    asyncio.run(looked(run_watch(store, past, Clock())))
    assert store.next_ms() is None
    assert len(bodies(store, webhook)) == 1
