"""What can be seen of a Traffic Server from outside, for ``agezero doctor``: version, plugin, rules, the script in them, the table's readers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from agezero.config.checks import parse_address
from agezero.config.edges import TrafficServer
from agezero.edges.kinds import Finding
from agezero.edges.trafficserver.look import Answer, nonce_in
from agezero.edges.trafficserver.place import hosts, look, table_path
from agezero.ports import DriverFailed

OLDEST = (9, 0)
_VERSION = re.compile(r"Traffic Server (\d+)\.(\d+)\S*")
_PATHS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/ts/bin", "/opt/trafficserver/bin")
_LOOKS_AGAIN_S = 1.1  # a fenced Lua state looks for a table once a second
_WRONG = "0" * 64
"""No digest of any nonce."""


async def examine(options: TrafficServer, folder: Path) -> Sequence[Finding]:
    """In the order in which things are set up."""
    return [*await _program(), _readable(table_path(options, folder)), _loopback(options), *await _rules(options, folder)]


async def _program() -> list[Finding]:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PATHS])
    server, layout = (shutil.which(name, path=path) for name in ("traffic_server", "traffic_layout"))
    if server is None or layout is None:
        return []  # it may run in a container, or from another path: its rules tell
    folder = next((line.split(": ", 1)[1] for line in (await _said(layout)).splitlines() if line.startswith("PLUGINDIR: ")), "")
    return program_findings(server, await _said(server, "--version"), Path(folder))


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    return (await process.communicate())[0].decode(errors="replace")


def program_findings(program: str, said: str, plugins: Path) -> list[Finding]:
    """What ``traffic_server --version`` said, and the folder of its plugins."""
    match = _VERSION.search(said)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    old = f"{program} is {match[0] if match else 'of an unknown version'}; expected 9.0 or newer" if version < OLDEST else ""
    missing = [name for name in ("tslua.so", "conf_remap.so") if not (plugins / name).exists()]
    return [
        Finding("Traffic Server's version", not old, old, "install a newer Traffic Server"),
        Finding(
            "Traffic Server's plugins",
            not missing,
            f"{plugins} has no {' and no '.join(missing)}" if missing else "",
            "on Debian: apt install trafficserver-experimental-plugins",
        ),
    ]


def _readable(table: Path) -> Finding:
    """May any user read the file and enter its directories? Traffic Server is another user than the agent."""
    what = "the purge table can be read by Traffic Server"
    fix = f"set edges.table to a path that all may enter, such as /var/lib/agezero/{table.parent.name}/table"
    for folder in [*table.parents][::-1]:
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return Finding(what, False, f"{folder} can not be entered by others (mode {stat.S_IMODE(folder.stat().st_mode):04o})", fix)
    if table.exists() and not table.stat().st_mode & stat.S_IROTH:
        return Finding(what, False, f"{table} can not be read by others", f"chmod o+r {table}")
    return Finding(what, True)


def _loopback(options: TrafficServer) -> Finding:
    """The script answers loopback only."""
    host, _ = parse_address(options.control)
    ok = host == "localhost" or _is_loopback(host)
    return Finding("the control path is on this machine", ok, "" if ok else f"edges.control is {options.control}", "give the port on 127.0.0.1")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _rules(options: TrafficServer, folder: Path) -> list[Finding]:
    """One finding for the rule of each host, and one for who is told the nonce."""
    asking, table = look(options, folder), table_path(options, folder)
    try:
        answers = await asking.ask(_WRONG)
    except DriverFailed as failed:
        return [_failed("Traffic Server answers", failed)]
    findings = [_rule(host, answer, table) for host, answer in zip(hosts(options), answers, strict=True)]
    told = [host for host, answer in zip(hosts(options), answers, strict=True) if re.search(rb'"nonce":"[0-9]', answer.body)]
    said = f"the rule for {', '.join(told)} tells the nonce to anybody" if told else ""
    findings.append(
        Finding("the control path is closed to others", not told, said, "install the script that `agezero edge-config` prints, unchanged")
    )
    if any(b"no-table" in answer.body for answer in answers):
        await asyncio.sleep(_LOOKS_AGAIN_S)  # a state that has just looked in vain would bypass what the doctor does next
    return findings


def _rule(host: str, answer: Answer, table: Path) -> Finding:
    """Nobody can tell us the nonce yet, so "other-table" and "no-table" are as good as an answer can be; what is read is proven later."""
    what = f"AgeZero's script is in the rule for {host}"
    if b'"fault":"other-table"' in answer.body or b'"fault":"no-table"' in answer.body:
        return Finding(what, True)
    try:
        nonce_in(answer, host, table)
    except DriverFailed as failed:
        return _failed(what, failed)
    return Finding(what, True)


def _failed(what: str, failed: DriverFailed) -> Finding:
    said, _, fix = str(failed).partition("\nhint: ")
    return Finding(what, False, said, fix)
