"""Listening sockets: bound in words, and replaced without losing a connection.

Theory of the replacement: two sockets listen on one port (SO_REUSEPORT), and the kernel asks a filter which of them gets the next connection. The
filter names the newer one. So the older one takes nothing more, while what it has taken, handshakes that have just begun included, is finished by
whoever serves it. Once it is closed the newer one is alone; a filter that names a socket that isn't there is no filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from agezero.errors import UserError
from agezero.listening import holder

BACKLOG = 1024
_SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
_RETURN_CONSTANT = 0x06  # BPF_RET | BPF_K


def prefer_newer(listener: socket.socket) -> None:
    """Give all further connections to the second of the two sockets on this port. Raises ``OSError`` where the kernel can't."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN_CONSTANT, 0, 0, 1), 8)
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


def bind(host: str, port: int, *, renewable: bool = False, again: bool = False) -> socket.socket:
    """A listening socket. ``renewable``: there may be another beside it, which is bound ``again``. Raises :class:`UserError`."""
    address = f"{host}:{port}"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UserError(f"cannot listen on {address}: {error.strerror}", "give an address of this machine, such as 127.0.0.1:8080") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if again:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(target)
        if renewable and not again:  # only now, so that the port of another program is refused
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()}", _hint(error, port)) from None
    listener.setblocking(False)
    return listener


def _hint(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        who = holder(port)
        named = f"{who} listens there" if who else f"another program uses port {port} (`ss -ltnp 'sport = :{port}'` names it, as root)"
        return f"{named}: end it, or choose another address with --api HOST:PORT, which is api.listen in agezero.toml"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose one from 1024 up"
    return "give an address of this machine, such as 127.0.0.1:8080"
