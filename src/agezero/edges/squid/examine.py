"""What `agezero doctor` can see of a Squid before it sends the canary through it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import h11

from agezero.config.edges import Squid
from agezero.edges.kinds import Finding
from agezero.edges.readers import TableReader
from agezero.edges.squid.driver import look, table_path
from agezero.edges.squid.look import TIMEOUT_S, exchange, nonce_in
from agezero.edges.squid.proof import LOOK_PATH, digest
from agezero.ports import DriverFailed

OLDEST = 5
_TRIES = 5
"""An agent that runs writes a new nonce now and then, maybe between our reading and Squid's."""
_VERSION = re.compile(r"Squid Cache: Version (\d+)")
_PLACES = f"/usr/sbin:/usr/local/sbin:/usr/local/squid/sbin:{Path('/usr/bin')}"

Check = Callable[[Squid, Path], Awaitable[Finding]]


async def examine(options: Squid, folder: Path) -> list[Finding]:
    """One finding for each check."""
    checks: tuple[Check, ...] = (_version, _table, _helper, _stranger, _front)
    return [await check(options, folder) for check in checks]


async def _version(options: Squid, folder: Path) -> Finding:  # noqa: ARG001
    what, program = "the program's version", shutil.which("squid") or shutil.which("squid", path=_PLACES)
    if program is None:
        return Finding(what, True, "no squid is installed here to ask; its configuration is judged by what it answers")
    process = await asyncio.create_subprocess_exec(program, "-v", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    said, _ = await process.communicate()
    return judge_version(what, said.decode(errors="replace"))


def judge_version(what: str, said: str) -> Finding:
    """From what ``squid -v`` says."""
    found = _VERSION.search(said)
    if found and int(found[1]) >= OLDEST:
        return Finding(what, True, found[0])
    return Finding(what, False, f"{found[0] if found else 'squid -v says nothing'}; expected {OLDEST} or newer", f"install Squid {OLDEST} or newer")


async def _table(options: Squid, folder: Path) -> Finding:
    what, table = "the purge table", table_path(options, folder)
    try:
        shut = [path for path in table.resolve(strict=True).parents if not path.stat().st_mode & 0o001]
        closed = not table.stat().st_mode & 0o004
    except OSError as error:
        return Finding(what, False, f"{table}: {error.strerror}", "start `agezero up` once, which makes it, or correct edges.table")
    if shut or closed:
        said = f"{shut[0] if shut else table} is closed to other users; Squid's helper runs as Squid's own user"
        return Finding(
            what, False, said, f"set edges.table to a file in a directory that everybody may enter, or `chmod o+x {shut[0] if shut else ''}`"
        )
    return Finding(what, True, str(table))


async def _helper(options: Squid, folder: Path) -> Finding:
    what, table = "the helper", table_path(options, folder)
    try:
        for tries_left in reversed(range(_TRIES)):
            expected = _nonce(table)
            answer = await look(options, folder).ask(digest(expected))
            try:
                if nonce_in(answer, table) == expected:
                    break
            except DriverFailed:
                if not tries_left:
                    raise
        return Finding(what, True, f"reads {table}")
    except DriverFailed as error:
        said, _, fix = str(error).partition("\nhint: ")
        return Finding(what, False, said, fix)


async def _stranger(options: Squid, folder: Path) -> Finding:
    what = "the agent's port is closed to who can't read the table"
    try:
        answer = await look(options, folder).ask("0" * 32)
    except DriverFailed as error:
        return Finding(what, False, str(error).partition("\n")[0], "start Squid with the configuration that `agezero edge-config` prints")
    told = "nonce=" in answer.mark
    return Finding(what, not told, "it tells the nonce to anybody" if told else "", "use the helper of this version" if told else "")


async def _front(options: Squid, folder: Path) -> Finding:
    what, front = "the front does not answer as an agent's port", urlsplit(options.front)
    if not front.hostname:
        return Finding(what, True, "edges.front is not set")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await exchange(front.hostname, front.port or 80, LOOK_PATH + digest(_nonce(table_path(options, folder))))
    except (OSError, EOFError, TimeoutError, h11.ProtocolError) as error:
        return Finding(what, False, f"{options.front}: {error}", "start Squid, or correct edges.front")
    said = f"{options.front} gives the agent's answer to its clients" if answer.mark else ""
    fix = "keep the http_access lines that `agezero edge-config` prints, before all others" if answer.mark else ""
    return Finding(what, not answer.mark, said, fix)


def _nonce(table: Path) -> int:
    reader = TableReader(table)
    try:
        return reader.nonce() or 0
    finally:
        reader.close()
