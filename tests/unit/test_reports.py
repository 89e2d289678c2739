"""Reports of all edges of a host in one message: what goes out when, and for whom a message can speak."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.jetstream import reports
from agezero.jetstream.reports import Outbox, Report, decode, encode, group_of
from support.waiting import until

HOST = "edge-a"
NAMES = st.text("ab.-", min_size=1, max_size=8).map("x".__add__)


async def empty(outbox: Outbox) -> None:
    await until(lambda: not outbox.busy, "all that was due has gone out")


def in_one(outbox_s: float, *said: tuple[str, Report]) -> list[Mapping[str, Report]]:
    """What goes out where edges say this at once."""

    async def story() -> list[Mapping[str, Report]]:
        sent: list[Mapping[str, Report]] = []
        outbox = Outbox(outbox_s, sent.append)
        edges = {name: outbox.enter(name) for name, _ in said}
        for name, report in said:
            edges[name].say(report)
        await empty(outbox)
        return sent

    return asyncio.run(story())


def test_edges_of_a_host_are_told_of_in_one_message_and_only_their_last_word() -> None:
    first, last = Report(1, 5), Report(1, 7)
    assert in_one(60, ("edge-a.x", first), ("edge-a.y", first), ("edge-a.x", last)) == [{"edge-a.x": last, "edge-a.y": first}]


def test_what_was_said_is_not_said_again() -> None:
    async def story() -> None:
        sent: list[Mapping[str, Report]] = []
        outbox = Outbox(0, sent.append)
        edge = outbox.enter("edge-a.x")
        for report in (Report(1, 5), Report(1, 5), Report(1, 6)):
            edge.say(report)
            await empty(outbox)
        outbox.enter("edge-a.x").say(Report(1, 6))  # another agent, which has said nothing
        await empty(outbox)
        assert [report["edge-a.x"].watermark for report in sent] == [5, 6, 6]

    asyncio.run(story())


def test_an_edge_waits_for_its_turn_but_not_where_another_ones_message_goes_out() -> None:
    async def story() -> None:
        sent: list[Mapping[str, Report]] = []
        outbox = Outbox(60, sent.append)
        x, y = outbox.enter("edge-a.x"), outbox.enter("edge-a.y")
        x.say(Report(1, 5))
        await empty(outbox)
        x.say(Report(1, 6))  # a minute later, for its own sake
        assert outbox.busy
        y.say(Report(1, 6))
        await empty(outbox)
        assert sent == [{"edge-a.x": Report(1, 5)}, {"edge-a.x": Report(1, 6), "edge-a.y": Report(1, 6)}]

    asyncio.run(story())


def test_a_message_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "EDGES_MAX", 2)
    sent = in_one(60, *((f"edge-a.{n}", Report(1, n)) for n in range(5)))
    assert [len(each) for each in sent] == [2, 2, 1]


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_what_is_told_is_what_is_heard(names: list[str]) -> None:
    told = {name: Report(number, 7, "trouble") for number, name in enumerate(names) if group_of(name) == group_of(names[0])}
    subject, data = encode(told)
    assert dict(decode(subject, data)) == told
    assert len(told) == 1 or subject == f"agezero.report.{group_of(names[0])}+"


@pytest.mark.parametrize("name", ["edge-b", "edge-b.x", "~edge-b", "..edge-b", "", "+"])
def test_a_message_of_a_host_speaks_for_its_edges_alone_whatever_stands_in_it(name: str) -> None:
    heard = dict(decode(f"agezero.report.{HOST}.+", msgspec.json.encode({name: Report(1, 9)})))
    assert all(edge.startswith(f"{HOST}.") for edge in heard)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"x": {"token": 1}}', b'{"x": {"token": 1, "watermark": 2, "more": 3}}'])
def test_what_is_not_understood_is_no_report(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        dict(decode(f"agezero.report.{HOST}.+", data))
