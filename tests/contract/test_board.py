"""The board of the fleet's records in JetStream: what a reader that lags may not do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agezero.core.purge import RequestIds
from agezero.core.shared import Gate, Write
from agezero.fleet_nats import control_node
from agezero.jetstream import stream
from agezero.jetstream.board import JetStreamBoard, open_board
from agezero.jetstream.link import Access, Link
from agezero.jetstream.names import BOARD_STREAM, BOARD_SUBJECTS
from agezero.ports import Overtaken
from support.logs import linked
from support.nats import nats_servers


async def head_of_the_board(link: Link, least: int) -> int:
    """Once it is so high."""
    async with asyncio.timeout(10):
        while True:
            seen = await stream.look(link, BOARD_STREAM)
            if seen is not None and seen.head >= least:
                return seen.head


def test_who_is_behind_on_the_board_writes_no_gate_and_passes_no_barrier(tmp_path: Path) -> None:
    """What it would break: ``test_to_be_abreast_is_needed``. Here the entries are handed over one by one, as a consumer that lags does."""

    async def story(urls: list[str]) -> None:
        async with linked(urls) as link:
            board = await open_board(link)
            board.write_s = 30  # on a busy machine
            board.behind()
            with pytest.raises(Overtaken, match="more on the board"):
                await board.write(Write(Gate(1), 0))
            before = await head_of_the_board(link, 0)
            barrier = asyncio.create_task(board.barrier())
            board.take(await head_of_the_board(link, before + 1), f"{BOARD_SUBJECTS}barrier.here", b"")
            board.behind()
            done, _ = await asyncio.wait([barrier], timeout=0.05)
            assert not done
            board.caught_up()
            await barrier

    with nats_servers(tmp_path) as one:
        asyncio.run(story(one.urls))


def test_the_first_gate_is_written_once_its_writer_is_abreast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may be there to ask for it again: no agent, no purge."""
    answers = iter([False])
    monkeypatch.setattr(JetStreamBoard, "abreast", property(lambda board: next(answers, board._abreast)))

    async def story(urls: list[str]) -> None:
        async with control_node(Access(servers=urls), RequestIds(b"s" * 32), 5, 1) as (control, _), asyncio.timeout(20):
            await control.recover()
        assert next(answers, None) is None

    with nats_servers(tmp_path) as one:
        asyncio.run(story(one.urls))
