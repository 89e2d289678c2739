"""A real name server on loopback whose answers a test changes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, UDPServer

_A, _IN, _TTL_S = 1, 1, 1
_HEADER = struct.Struct(">HHHHHH")
_POINTER_TO_QUESTION = b"\xc0\x0c"


class NameServer(UDPServer):
    """Knows ``addresses`` by name, for a second each; a name it does not know does not exist (RFC 1035 §4)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.addresses: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseRequestHandler):
    server: NameServer

    def handle(self) -> None:
        query, reply_socket = self.request
        number, *_ = _HEADER.unpack_from(query)
        labels, at = [], _HEADER.size
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        question = query[_HEADER.size : at + 5]
        kind = struct.unpack_from(">H", query, at + 1)[0]
        address = self.server.addresses.get(".".join(labels))
        answer = b""
        if address and kind == _A:
            answer = _POINTER_TO_QUESTION + struct.pack(">HHIH", _A, _IN, _TTL_S, 4) + socket.inet_aton(address)
        flags = 0x8180 | (0 if address else 3)
        reply_socket.sendto(_HEADER.pack(number, flags, 1, bool(answer), 0, 0) + question + answer, self.client_address)


@contextmanager
def name_server() -> Iterator[NameServer]:
    """On a free port of 127.0.0.1."""
    with NameServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
