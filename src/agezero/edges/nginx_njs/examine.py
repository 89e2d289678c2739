"""What can be seen of an nginx with njs from outside, for ``agezero doctor``: its version, njs, our include, the control socket."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from agezero.config.edges import NginxNjs
from agezero.edges.kinds import Finding
from agezero.edges.nginx.control import ControlClient, ControlFailed
from agezero.edges.nginx.driver import PROTOCOL
from agezero.edges.nginx_lua.driver import decoded
from agezero.edges.nginx_lua.examine import closed, said_of_itself

OLDEST = (0, 8)
TIMEOUT_S = 10.0
_NJS = re.compile(r"njs-(\d+)\.(\d+)")
_WHAT = "AgeZero's code runs in nginx"


async def examine(options: NginxNjs, folder: Path) -> Sequence[Finding]:  # noqa: ARG001 - nginx reads nothing of the data directory
    """In the order in which things are set up."""
    socket = Path(options.control)
    program, said = await said_of_itself()
    return [*program_findings(program, said), *await _answers(socket, options.slots), closed(socket)]


def program_findings(program: str, said: str) -> list[Finding]:
    """What ``nginx -V`` tells of an njs that was built in. As a dynamic module it is not named there: then the socket tells."""
    match = _NJS.search(said)
    if match is None or (int(match[1]), int(match[2])) >= OLDEST:
        return []
    fix = "install a newer njs: the package nginx-module-njs of nginx's makers"
    return [Finding("njs's version", False, f"{program} has {match[0]}; expected 0.8 or newer", fix)]


async def _answers(socket: Path, slots: int) -> list[Finding]:
    control = ControlClient(socket, TIMEOUT_S)
    fix = "include agezero-http.conf in http { }, reload nginx, and let the agent enter the socket's folder"
    try:
        status, said = await control.call("GET", "/state")
    except ControlFailed as error:
        return [Finding(_WHAT, False, f"nginx does not answer on {socket}: {error}", fix)]
    finally:
        control.close()
    state = decoded(said)
    if status != 200 or state.get("agezero") != PROTOCOL:
        return [Finding(_WHAT, False, f"what answers on {socket} is not AgeZero's code in nginx (status {status})", fix)]
    differs = state.get("slots") != slots
    told = f"nginx has {state.get('slots')} slots, the settings {slots}" if differs else ""
    anew = "print its configuration anew with `agezero edge-config`, and reload nginx"
    return [Finding(_WHAT, True), Finding("nginx and the agent have purge tables of one size", not differs, told, anew)]
