"""Runs nginx as a supervised child, and finds the one that a killed service left behind.

nginx gets a session of its own, so that it outlives a kill -9 of the service: it goes on serving, without its cache once the lease is over.
The next start replaces it. A process is ours when its program is nginx and its working directory is the edge's own directory, which nobody else
can enter; that needs no record that could be missing or out of date. A master that died leaves such workers too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path

import httpx
import structlog

from agezero.edges.nginx.binary import Nginx, find_nginx
from agezero.edges.nginx.config import layout, sweep, wipe_cache, write_config
from agezero.edges.nginx.errors import EdgeUnusable, explain
from agezero.edges.nginx.settings import EdgeSettings

READY_TIMEOUT_S = 10.0
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 5.0
_STEADY_S = 10.0  # who ran that long starts the back-off anew
_ENDINGS = ((signal.SIGQUIT, 2.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))  # ask, insist, end
_POLL_S = 0.02

_log = structlog.get_logger(__name__)


class EdgeProcess:
    """The nginx of one data directory. The keyword arguments ``epoch_in_key`` and ``lease_checked`` are for tests, see ``write_config``."""

    def __init__(
        self, settings: EdgeSettings, data: Path, nginx: Nginx | None = None, *, epoch_in_key: bool = True, lease_checked: bool = True
    ) -> None:
        self.settings = settings
        self.files = layout(data)
        self._nginx = nginx
        self._switches = {"epoch_in_key": epoch_in_key, "lease_checked": lease_checked}
        self._child: asyncio.subprocess.Process | None = None
        self._said: deque[str] = deque(maxlen=20)
        self.on_restart: Callable[[], None] = lambda: None
        """Called when nginx was started again after it had died: its table is empty."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The master's process id; None while there is none."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    async def start(self, *, wipe: bool = False) -> None:
        """Return once it answers on its control socket, with its cache fenced. ``wipe``: the stored objects cannot be trusted.

        Raises :class:`EdgeUnusable`, ``NginxMissing``.
        """
        try:
            await self._start(wipe)
        except OSError as error:
            raise EdgeUnusable(
                f"the edge cannot use its directory {self.files.home}: {error.strerror}",
                "make room on the disk, or correct the owner of the data directory",
            ) from None

    async def _start(self, wipe: bool) -> None:
        if self._nginx is None:
            self._nginx = await asyncio.to_thread(find_nginx)
        await asyncio.to_thread(write_config, self.settings, self.files, self._nginx, **self._switches)
        await end(self.files.home)
        if wipe:
            self.files.marks(self.settings).disown()
        _claim(self.settings)
        await self._test()
        await self._spawn()
        self._keep(self._supervise())

    async def stop(self) -> None:
        """End nginx and all of its workers; open answers get two seconds."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await end(self.files.home)
        if self._child is not None:
            await self._child.wait()
            self._child = None

    async def reload(self) -> None:
        """Take up a new certificate: new workers for new connections, while the old ones end what they have begun. The table stays.

        Raises :class:`EdgeUnusable` where nginx does not take it; then nothing has changed.
        """
        await self._test()
        if self.pid is not None:
            os.kill(self.pid, signal.SIGHUP)

    async def _test(self) -> None:
        process = await asyncio.create_subprocess_exec(*self._command(), "-t", stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
        if process.returncode:
            raise explain(said.decode(errors="replace").splitlines(), self.settings)

    async def _spawn(self) -> None:
        await asyncio.to_thread(self._prepare)
        self._said.clear()
        self._child = await asyncio.create_subprocess_exec(
            *self._command(),
            cwd=self.files.home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        listening = self._keep(self._listen(self._child))
        try:
            await asyncio.wait_for(self._ready(self._child), READY_TIMEOUT_S)
        except (TimeoutError, EdgeUnusable):
            await end(self.files.home)
            await listening
            raise explain(self._said, self.settings) from None
        for path in (self.files.control, self.files.filler):
            path.chmod(0o600)
        self._keep(self._sweep())

    async def _sweep(self) -> None:
        enough = threading.Event()
        try:
            await asyncio.to_thread(sweep, self.files.wiped, enough)
        except OSError as error:
            _log.warning("objects that were wiped from the cache could not be removed", error=str(error))
        finally:
            enough.set()

    def _prepare(self) -> None:
        marks = self.files.marks(self.settings)
        if not marks.intact():
            wipe_cache(self.files)  # first: a crash in between finds the marks still missing
            marks.create()
        marks.count_start()
        for path in (self.files.control, self.files.filler):
            path.unlink(missing_ok=True)

    async def _ready(self, child: asyncio.subprocess.Process) -> None:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(self.files.control))) as client:
            while child.returncode is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("http://edge/state")).status_code == 200:
                        return
                await asyncio.sleep(_POLL_S)
        raise EdgeUnusable("nginx ended at once")

    async def _supervise(self) -> None:
        backoff_s = BACKOFF_MIN_S
        clock = asyncio.get_running_loop().time
        while self._child is not None:
            began_s = clock()
            await _death(self._child)
            backoff_s = BACKOFF_MIN_S if clock() - began_s > _STEADY_S else backoff_s
            _log.error("the edge's nginx ended and is started again", said=list(self._said)[-3:], backoff_s=backoff_s)
            try:
                await end(self.files.home, at_once=True)
                await asyncio.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, 2 * backoff_s)
                await self._spawn()
                self.on_restart()
            except (EdgeUnusable, OSError) as error:
                _log.error("the edge's nginx could not be started again", error=str(error))

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None
        async for line in child.stderr:
            said = line.decode(errors="replace").rstrip()
            self._said.append(said)
            _log.warning("nginx", said=said)

    def _command(self) -> list[str]:
        assert self._nginx is not None
        return [str(self._nginx.binary), "-p", f"{self.files.home}/", "-e", "stderr", "-c", str(self.files.config)]

    def _keep(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _claim(settings: EdgeSettings) -> None:
    """Fail early, and in words, where the address cannot be had."""
    host, port = settings.address
    try:
        found = socket.getaddrinfo("0.0.0.0" if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)  # noqa: S104
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen(1)
    except OSError as error:
        raise explain([f"bind() to {settings.listen} failed ({error.errno}: {error.strerror})"], settings) from None


async def _death(child: asyncio.subprocess.Process) -> None:
    """Return when ``child`` has died. Not ``Process.wait``: that also waits for its stderr, which its workers keep open."""
    if child.returncode is not None:
        return
    try:
        handle = os.pidfd_open(child.pid)
    except ProcessLookupError:
        return
    died = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, died.set)
    try:
        await died.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def running(home: Path) -> list[int]:
    """The processes of the edge in ``home``, masters and workers."""
    return [pid for pid in _processes() if _belongs(pid, home)]


async def end(home: Path, *, at_once: bool = False) -> None:
    """End every process of the edge in ``home``: asked first, killed at last. ``at_once``: killed."""
    with contextlib.ExitStack() as closing:
        dying: dict[int, int] = {}
        for number, patience_s in _ENDINGS[-1:] if at_once else _ENDINGS:
            for pid in running(home):
                with contextlib.suppress(ProcessLookupError):
                    if pid not in dying:
                        dying[pid] = os.pidfd_open(pid)
                        closing.callback(os.close, dying[pid])
                    signal.pidfd_send_signal(dying[pid], number)
            if await _gone(home, dying.values(), patience_s):
                return
    raise EdgeUnusable(f"nginx does not end: {running(home)}", "it may hang in a broken file system; end it by hand")


async def _gone(home: Path, dying: Iterable[int], patience_s: float) -> bool:
    """``dying``: pidfds. A process that exits has no working directory any more, and so is not ``running``, before its sockets are closed."""
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + patience_s
    while running(home) or not all(map(_ended, dying)):
        if clock() > deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _ended(handle: int) -> bool:
    looking = select.poll()
    looking.register(handle, select.POLLIN)
    return bool(looking.poll(0))


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _belongs(pid: int, home: Path) -> bool:
    folder = Path("/proc", str(pid))
    try:
        return (folder / "comm").read_text().strip() == "nginx" and (folder / "cwd").readlink() == home
    except OSError:  # gone, a zombie, or somebody else's
        return False
