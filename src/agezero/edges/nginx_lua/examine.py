"""What can be seen of an nginx from outside, for ``agezero doctor``: the module, our include, the control socket, the table's readers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from agezero.config.edges import Nginx
from agezero.edges.kinds import Finding
from agezero.edges.nginx_lua.driver import NginxLuaLook
from agezero.ports import DriverFailed

OLDEST = (1, 18)
_PROGRAMS = ("openresty", "nginx")
_PATHS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/openresty/bin")
_LOOKS_AGAIN_S = 1.1  # a fenced worker looks for a table once a second
_VERSION = re.compile(r"(?:nginx|openresty)/(\d+)\.(\d+)")
_CONF_PATH = re.compile(r"--conf-path=(\S+)/[^/\s]+")


async def examine(options: Nginx, folder: Path) -> Sequence[Finding]:
    """In the order in which things are set up."""
    table = Path(options.table) if options.table else folder / "table"
    socket = Path(options.control)
    return [*await _program(), _reachable(table), *await _answers(socket), closed(socket)]


async def _program() -> list[Finding]:
    program, said = await said_of_itself()
    home = _CONF_PATH.search(said)  # Debian's nginx loads what is named beside its configuration
    return program_findings(program, said, [path.name for path in Path(home[1]).glob("modules-enabled/*lua*")] if home else []) if program else []


async def said_of_itself() -> tuple[str, str]:
    """The path of this machine's nginx and what it says with ``-V``. Empty where it lies elsewhere: then its socket tells."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PATHS])
    program = next((found for name in _PROGRAMS if (found := shutil.which(name, path=path))), None)
    if program is None:
        return "", ""
    process = await asyncio.create_subprocess_exec(program, "-V", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    return program, (await process.communicate())[0].decode(errors="replace")


def program_findings(program: str, said: str, enabled: Sequence[str]) -> list[Finding]:
    """What ``nginx -V`` tells. ``enabled``: the names of Lua's modules that are loaded dynamically."""
    match = _VERSION.search(said)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    old = f"{program} is {match[0] if match else 'of an unknown version'}; expected 1.18 or newer" if version < OLDEST else ""
    lua = "lua-nginx-module" in said or "ngx_lua" in said or "openresty" in said or bool(enabled)
    return [
        Finding("nginx's version", not old, old, "install a newer nginx, or OpenResty"),
        Finding(
            "nginx's Lua module", lua, "" if lua else f"{program} has no Lua", "on Debian: apt install libnginx-mod-http-lua; or install OpenResty"
        ),
    ]


def _reachable(table: Path) -> Finding:
    """May any user read the file and enter its directories? nginx's workers are another user than the agent."""
    what, fix = "the purge table can be read by nginx", f"set edges.table to a path that all may enter, such as /var/lib/agezero/{table.parent.name}"
    for folder in [*table.parents][::-1]:
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return Finding(what, False, f"{folder} can not be entered by others (mode {stat.S_IMODE(folder.stat().st_mode):04o})", fix)
    if table.exists() and not table.stat().st_mode & stat.S_IROTH:
        return Finding(what, False, f"{table} can not be read by others", f"chmod o+r {table}")
    return Finding(what, True)


async def _answers(socket: Path) -> list[Finding]:
    look = NginxLuaLook(socket)
    try:
        nonce = await look.nonce()
    except DriverFailed as failed:
        said, _, fix = str(failed).partition("\nhint: ")
        return [Finding("AgeZero's code runs in nginx", False, said, fix)]
    finally:
        await look.aclose()
    if not nonce:
        await asyncio.sleep(_LOOKS_AGAIN_S)  # a worker that has just looked in vain would bypass what the doctor does next
    said = "" if nonce else "there is none yet, or its workers may not read it; the next checks tell"
    return [Finding("AgeZero's code runs in nginx", True), Finding("nginx can map a purge table", True, said)]


def closed(socket: Path) -> Finding:
    """nginx makes its sockets for everybody (0666), so the directory has to keep others out."""
    what, fix = "the control path is closed to others", f"chmod 0750 {socket.parent}, and give it the agent's group"
    try:
        opened = socket.stat().st_mode & stat.S_IWOTH and all(folder.stat().st_mode & stat.S_IXOTH for folder in socket.parents)
    except OSError as error:
        return Finding(what, False, f"{socket}: {error.strerror}", "include agezero-http.conf in http { }, and reload nginx")
    return Finding(what, not opened, f"any user of this machine can connect to {socket}" if opened else "", fix)
