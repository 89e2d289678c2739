"""A purge log in JetStream whose server has forgotten what it acknowledged, as after a power failure, or a backup that was put back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agezero.jetstream.link import LinkFailed
from agezero.jetstream.log import following, open_log
from agezero.ports import LogUnavailable
from support.logs import SHAPE, eventually_appended, jetstream_log, linked, url
from support.nats import Servers, nats_servers


@contextlib.contextmanager
def rolled_back(servers: Servers, tmp_path: Path) -> Iterator[None]:
    """On leaving, the only server has forgotten what came within the block, as after a power failure, or a backup that was put back."""
    server, kept = servers.all[0], tmp_path / "kept"
    store = server.directory / f"store-{server.number}"
    server.kill()
    shutil.copytree(store, kept)
    server.start()
    servers.ready()
    yield
    server.kill()
    shutil.rmtree(store)
    shutil.copytree(kept, store)
    server.start()
    servers.ready()


@pytest.mark.parametrize("grown", [False, True], ids=["shorter", "grown past it"])
def test_a_log_that_was_rolled_back_takes_no_purge(tmp_path: Path, grown: bool) -> None:
    """A node that goes on would give out seqs of which its edges say that they are applied, and `Completed` would be answered at once."""

    async def story(one: Servers) -> None:
        async with linked(one.urls) as link:
            log = await open_log(link, SHAPE)
            async with following(log):
                await log.append(url(1), "key")
                with rolled_back(one, tmp_path):
                    for number in range(5):
                        last = await eventually_appended(log, url(number))
                    await log.read(last - 1, 1)
            if grown:
                async with jetstream_log(one.urls)() as other:
                    for number in range(10):
                        await eventually_appended(other, url(number))
                assert "not the one that was there before" in await refusal(log.begin)
                await log.look()  # by its length alone nothing is wrong, and that changes nothing
            for number in range(3):
                await refusal(partial(log.append, url(number), "key"))

    with nats_servers(tmp_path / "nats") as one:
        asyncio.run(story(one))


async def refusal(ask: Callable[[], Awaitable[object]]) -> str:
    """Why the log is given up; what says no more than that the server isn't there yet doesn't count."""
    async with asyncio.timeout(30):
        while True:
            try:
                got = await ask()
            except (LogUnavailable, LinkFailed) as error:
                if "restored from a backup" in str(error):
                    return str(error)
            else:
                raise AssertionError(f"not refused: {got}")
            await asyncio.sleep(0.01)
