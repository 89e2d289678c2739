"""What `agezero doctor` looks at before it tries the cache with real requests: the socket, who may use it, what answers there, and its clock."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from agezero.config.edges import Varnish
from agezero.edges.kinds import Finding
from agezero.edges.varnish import names
from agezero.edges.varnish.connection import Connections
from agezero.ports import DriverFailed

VERSION_MIN = (7, 1)
CLOCK_S = 0.5
CALL_S = 5.0
_TRY = "agezero/~"
_CLOCK = "run the agent on the machine of its Varnish, and both by one clock: a lease is compared with it"
_START = "start varnishd with -a agezero={},mode=0600 (and user= or group= of the agent)"


async def examine(options: Varnish, folder: Path) -> Sequence[Finding]:  # noqa: ARG001 - it has nothing in the data directory to look at
    """The static checks, each with what to do."""
    control = Path(options.control)
    findings = [_version(), _closed(control)]
    if all(finding.ok for finding in findings):
        findings += await _answers(control)
    if options.front:
        findings.append(await _shut_in_front(options.front))
    return findings


def _version() -> Finding:
    what, program = "the version of Varnish", shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        return Finding(what, ok=True, said="varnishd is not installed here; its answers will tell")
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False, timeout=10)
    match = re.search(r"varnish-(\d+)\.(\d+)", said.stderr + said.stdout)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    return Finding(
        what,
        found >= VERSION_MIN,
        f"{found[0]}.{found[1]}" + ("" if found >= VERSION_MIN else ", expected 7.1 or newer"),
        "install Varnish 7.1 or newer with varnish-modules (Debian 12 has both)",
    )


def _closed(control: Path) -> Finding:
    what = "the control path is closed to others"
    try:
        mode = control.stat().st_mode
    except OSError as error:
        return Finding(what, ok=False, said=f"{control}: {error.strerror}", fix=_START.format(control))
    if not stat.S_ISSOCK(mode):
        return Finding(what, ok=False, said=f"{control} is not a socket", fix=_START.format(control))
    return Finding(what, not mode & 0o007, f"mode {mode & 0o777:04o}: others may use it" if mode & 0o007 else "", _START.format(control))


async def _answers(control: Path) -> list[Finding]:
    calls, asked_s = Connections(control, 1, CALL_S), time.time()
    what, fix = "agezero.vcl is in use", "include what `agezero edge-config` prints before your own subs, then vcl.load and vcl.use"
    try:
        reply = await calls.call("/state", {"AgeZero-Try": _TRY})
    except DriverFailed as error:
        said, _, hint = str(error).partition("\nhint: ")
        return [Finding(what, ok=False, said=said, fix=hint or fix)]
    finally:
        calls.close()
    now_s = float(reply.headers.get("agezero-now", 0))
    apart_s = max(asked_s - now_s, now_s - time.time(), 0.0)
    key = reply.headers.get("agezero-key")
    return [
        Finding(what, reply.status == 200, f"it answered {reply.status} {reply.body}" if reply.status != 200 else "", fix),
        Finding("its keys are computed as here", key == str(names.key(_TRY)), "", "use a Varnish of a version that docs/drivers/varnish.md names"),
        Finding("its clock is the agent's", apart_s < CLOCK_S, f"{apart_s:.1f} s apart" if apart_s else "", _CLOCK),
    ]


async def _shut_in_front(front: str) -> Finding:
    what = "the front takes no commands"
    try:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            answer = await client.request("AGEZERO", f"{front.rstrip('/')}/state")
    except httpx.HTTPError as error:
        return Finding(what, ok=False, said=f"{front}: {error}", fix="start Varnish, or correct edges.front")
    marked = "AgeZero" in answer.headers
    said = "it answers as the agent's listener does" if marked else ""
    return Finding(what, not marked, said, "give the name agezero to the agent's listener alone: -a agezero=PATH")
