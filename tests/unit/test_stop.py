"""A service that is stopped ends in good order, whatever its threads are at."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from agezero import app
from agezero.config import Api, Config
from support.ports import free_address

CLOSED = threading.Event()


class Watched(sqlite3.Connection):
    def close(self) -> None:
        super().close()
        CLOSED.set()


def stopped_beneath_a_thread(data: Path) -> list[bool]:
    """Whether a database was closed while a thread, whose task had been cancelled, had yet to use it."""
    closed: list[bool] = []

    def slow() -> None:
        closed.append(CLOSED.wait(1))

    async def story() -> None:
        async with app.running(Config(data=str(data), api=Api(listen=free_address()))):
            CLOSED.clear()
            left = asyncio.create_task(asyncio.to_thread(slow))
            await asyncio.sleep(0)
            left.cancel()

    asyncio.run(story())
    return closed


def test_no_database_is_closed_beneath_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    assert stopped_beneath_a_thread(tmp_path) == [False]


def test_without_waiting_for_threads_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))

    @contextlib.asynccontextmanager
    async def unsafe() -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(app, "threads_ended", unsafe)
    assert stopped_beneath_a_thread(tmp_path) == [True]


def test_no_database_is_closed_beneath_the_writer_of_the_log_when_the_service_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beneath: list[bool] = []

    class Closing(sqlite3.Connection):
        def close(self) -> None:
            beneath.append(any(thread.name == "purge-log" for thread in threading.enumerate()))
            super().close()

    async def story() -> None:
        async with app.running(Config(data=str(tmp_path), api=Api(listen=free_address()))):
            raise RuntimeError("a bug")

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Closing))
    with pytest.raises(ExceptionGroup):
        asyncio.run(story())
    assert beneath
    assert not any(beneath)
