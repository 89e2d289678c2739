"""Ports for programs that take no port 0, each given out once: to one test, of one process, of one run."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

BLOCK = 100
# Below those that outgoing connections come from (32,768 and up), or one of these could take a port while its program is restarted.
_BLOCKS = range(10_000, 32_000, BLOCK)


def free_address() -> str:
    """``127.0.0.1:PORT``; see :func:`free_port`."""
    return f"127.0.0.1:{free_port()}"


def free_port() -> int:
    """A port that nobody has bound, and that nobody else is given while this process lives.

    That it is free is not enough: a program takes a while to bind it, and meanwhile another test could be told the same.
    """
    return next(_ports)


def _unbound() -> Iterator[int]:
    """The ports of one block after another. A process holds a block by binding its first port, until it ends."""
    for first in random.SystemRandom().sample(_BLOCKS, len(_BLOCKS)):
        with socket.socket() as holder:
            if not _binds(holder, first):
                continue
            holder.detach()
        for port in range(first + 1, first + BLOCK):
            with socket.socket() as probe:
                free = _binds(probe, port)
            if free:
                yield port
    raise AssertionError(f"all ports from {_BLOCKS.start} to {_BLOCKS.stop} are given out")


def _binds(bound: socket.socket, port: int) -> bool:
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


_ports = _unbound()
