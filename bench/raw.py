"""A raw client: requests that were made beforehand, written ahead on a few connections, of whose answers only the beginnings are counted.

It knows nothing of what it does: no log, no order, no check of what was answered. So it's as fast as one client can be on so many connections.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.harness import NotMeasured

AHEAD = 32
"""Requests written before their answers are read."""
_BEGIN = b"HTTP/1.1 "
_READ_BYTES = 262_144
_TIMEOUT_S = 60


def took_s(address: str | Path, requests: Sequence[bytes], connections: int) -> float:
    """Seconds until all are answered. ``address``: HOST:PORT, or the path of a unix socket. Raises :class:`NotMeasured`."""
    failures: list[Exception] = []
    sides = [requests[number::connections] for number in range(connections)]
    threads = [threading.Thread(target=_write_ahead, args=(address, side, failures)) for side in sides]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise NotMeasured(f"{address} did not answer all requests: {failures[0]}")
    return time.perf_counter() - began_s


def connect(address: str | Path) -> socket.socket:
    """A connection to it."""
    if isinstance(address, Path):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(address))
    else:
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host, int(port)))
    connection.settimeout(_TIMEOUT_S)
    return connection


def _write_ahead(address: str | Path, requests: Sequence[bytes], failures: list[Exception]) -> None:
    try:
        with connect(address) as connection:
            for begin in range(0, len(requests), AHEAD):
                part = requests[begin : begin + AHEAD]
                connection.sendall(b"".join(part))
                _read(connection, len(part))
    except OSError as error:
        failures.append(error)


def _read(connection: socket.socket, answers: int) -> None:
    begun, rest = 0, b""
    while begun < answers:
        if connection.family != socket.AF_UNIX:  # else a server that writes its small answers one by one waits 40 ms for ours
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = connection.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the connection was closed")
        data = rest + data
        begun += data.count(_BEGIN)
        rest = data[-len(_BEGIN) + 1 :]  # a beginning may be cut in two
