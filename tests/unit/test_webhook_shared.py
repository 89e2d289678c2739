"""Webhooks that several nodes share: each finds what the others wrote, one of them tells, and all of it is bounded."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from agezero.ports import BoardUnavailable
from agezero.webhooks import shared
from agezero.webhooks.messages import message
from agezero.webhooks.shared import HOLD_S, QUIET_S, SharedStore, Turn
from support.documents import MemoryDocuments, loop_of_its_own

NOW_MS = 1_800_000_000_000
URL = "https://ci.example.com/hook"
EVENT = "purge.completed"
Node = Callable[[], SharedStore]


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments()


@pytest.fixture
def node(documents: MemoryDocuments) -> Iterator[Node]:
    """Another node: it reads what there is."""
    with ExitStack() as open_nodes:
        loop = open_nodes.enter_context(loop_of_its_own())

        def made() -> SharedStore:
            index = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            return SharedStore(documents, loop, open_nodes.enter_context(closing(index)))

        yield made


def test_each_node_finds_what_another_wrote_at_once_and_when_it_starts(node: Node) -> None:
    left, right = node(), node()
    webhook = left.add(URL, [EVENT], 3, NOW_MS)
    assert webhook is not None
    for mark in range(4, 9):
        left.tell_completed(webhook.id, message(webhook, EVENT, {"mark": mark}, NOW_MS), mark)
    left.tell_completed(webhook.id, None, 12)
    left.finish(replace(left.due(NOW_MS, [], 1)[0], state="delivered", next_ms=None))
    left.tell([], {"edge": True})
    for store in (right, node()):
        assert store.webhooks[webhook.id].completed == 12
        assert store.deliveries(webhook.id, 99) == left.deliveries(webhook.id, 99)
        assert [each.state for each in store.deliveries(webhook.id, 99)] == ["pending"] * 4 + ["delivered"]
        assert store.edges_told() == {"edge": True}
    assert right.rotate(webhook.id, 60_000, NOW_MS)
    assert len(left.webhooks[webhook.id].secrets) == 2
    right.stop(webhook.id, "gone")
    assert left.due(NOW_MS, [], 9) == []
    assert right.remove(webhook.id)
    assert not left.webhooks
    assert not left.remove(webhook.id)
    assert not node().deliveries(webhook.id, 9)


def test_a_node_that_died_between_two_writes_loses_no_message_and_makes_none_twice(node: Node, documents: MemoryDocuments) -> None:
    left = node()
    webhook = left.add(URL, [EVENT], 0, NOW_MS)
    assert webhook is not None
    sent = message(webhook, EVENT, {}, NOW_MS)
    left.tell_completed(webhook.id, sent, 7)
    assert not documents.names("message."), "it lies in the webhook's own document"
    right = node()
    assert right.due(NOW_MS, [], 1) == [sent]
    right.finish(replace(sent, state="delivered", next_ms=None))
    right.tell_completed(webhook.id, second := message(webhook, EVENT, {}, NOW_MS), 9)
    assert [each.id for each in node().deliveries(webhook.id, 9)] == [second.id, sent.id]
    assert node().due(NOW_MS, [], 9) == [second], "what was delivered stays so"


def test_without_the_turn_two_nodes_would_send_the_same(node: Node) -> None:
    """The twin of the test of turns: nothing else keeps them from it."""
    left, right = node(), node()
    webhook = left.add(URL, [EVENT], 0, NOW_MS)
    assert webhook is not None
    left.tell([sent := message(webhook, EVENT, {}, NOW_MS)])
    assert left.due(NOW_MS, [], 1) == right.due(NOW_MS, [], 1) == [sent]


def test_the_ring_is_bounded(node: Node, documents: MemoryDocuments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "RING", 4)
    store = node()
    webhook = store.add(URL, [EVENT], 0, NOW_MS)
    assert webhook is not None
    sent = [message(webhook, EVENT, {"n": n}, NOW_MS) for n in range(10)]
    store.tell(sent)
    store.finish(replace(sent[0], state="delivered"))  # too late: it was pushed out
    for each in (store, node()):
        assert [one.id for one in each.deliveries(webhook.id, 99)] == [one.id for one in reversed(sent[-4:])]
    assert len(documents.names("message.")) <= 4


def test_there_are_not_more_webhooks_than_there_may_be(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "WEBHOOKS_MAX", 1)
    store = node()
    assert store.add(URL, [EVENT], 0, NOW_MS)
    assert store.add(URL, [EVENT], 0, NOW_MS) is None


def test_what_can_not_be_written_is_said(node: Node, documents: MemoryDocuments) -> None:
    store = node()
    documents.broken = True
    with pytest.raises(BoardUnavailable):
        store.add(URL, [EVENT], 0, NOW_MS)


def test_one_node_tells_and_another_takes_over_only_when_it_can_tell_no_more(documents: MemoryDocuments) -> None:
    now_s = 100.0
    left, right = Turn(documents, lambda: now_s), Turn(documents, lambda: now_s)

    async def story() -> None:
        nonlocal now_s
        await left.step()
        await right.step()
        assert (left.mine(), right.mine()) == (True, False)
        last_s, taken_s = now_s, 0.0
        while not right.mine():  # left is paused, or dead
            now_s += 0.5
            assert not (left.mine() and right.mine())
            await right.step()
            taken_s = now_s
        assert taken_s - last_s >= QUIET_S > HOLD_S
        await left.step()
        assert (left.mine(), right.mine()) == (False, True)
        await right._give_back()
        await left.step()
        assert (left.mine(), right.mine()) == (True, False), "at once, since it was given back"
        documents.broken = True
        now_s += HOLD_S
        await left.step()
        assert not left.mine(), "who can't say that it tells does not"

    asyncio.run(story())


@pytest.mark.parametrize("data", [b"", b"nonsense", b'{"of":"a newer version"}'])
def test_a_document_that_is_not_understood_counts_as_none_and_ends_nobody(node: Node, documents: MemoryDocuments, data: bytes) -> None:
    """Emptied by NATS's own tools, or written by somebody else."""
    store = node()
    webhook, other = store.add(URL, [EVENT], 0, NOW_MS), store.add(URL, [EVENT], 0, NOW_MS)
    assert webhook is not None
    assert other is not None
    store.tell([message(webhook, EVENT, {"n": n}, NOW_MS) for n in range(2)], {"edge": True})
    (in_the_ring,) = documents.names("message.")
    for name in (in_the_ring, f"hook.{webhook.id}", "edges", "teller"):
        known = documents.get(name)
        asyncio.run(documents.put(name, data, known.at if known else 0))
    for each in (store, node()):
        assert list(each.webhooks) == [other.id]
        assert each.edges_told() == {}
        assert not each.due(NOW_MS, [], 9)
        assert not each.remove(webhook.id)
    turn = Turn(documents)
    asyncio.run(turn.step())
    assert turn.mine()
    store.tell([message(other, EVENT, {}, NOW_MS)], {"edge": False})
    assert store.edges_told() == {"edge": False}
