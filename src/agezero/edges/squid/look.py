"""Asks a Squid, through its own data plane, what its helper reads in the purge table.

The request goes the way of every other one, up to the helper. What the helper says of it comes back in a header of Squid's own 403: ``miss_access``
refuses the path, so no origin can be asked. An answer without that header proves nothing, whatever its status.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import h11

from agezero.edges.readers import KERNEL_BOOT_ID, TableReader
from agezero.edges.squid.proof import LOOK_PATH, MARK, NONCE, OTHER, UNREADABLE, digest
from agezero.ports import DriverFailed

READ_BYTES = 65536
TIMEOUT_S = 5.0
_HINT = "include what `agezero edge-config` prints in squid.conf, before other http_access lines, and reload Squid"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of whoever listens there. ``mark``: the header ``AgeZero``, empty where there is none."""

    status: int
    mark: str


class SquidLook:
    """Implements :class:`agezero.edges.mapped.Look`. ``address``: the port of agezero.conf; ``table``: the purge table, as this side knows it.

    Each look opens a connection, so that it is not always the same of several Squid workers that answers.
    """

    def __init__(self, address: tuple[str, int], table: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._table = table
        self._timeout_s = timeout_s

    async def nonce(self) -> int:
        """The nonce that the helper sees. Raises :class:`DriverFailed`."""
        return nonce_in(await self.ask(digest(self._expected())), self._table)

    async def ask(self, proof: str) -> Answer:
        """What is answered to who proves himself with ``proof``. Raises :class:`DriverFailed`."""
        host, port = self._address
        try:
            async with asyncio.timeout(self._timeout_s):
                return await exchange(host, port, LOOK_PATH + proof)
        except TimeoutError:
            raise DriverFailed(f"Squid did not answer on {host}:{port} within {self._timeout_s:g} s\nhint: does it run, and its helper?") from None
        except (OSError, EOFError, h11.ProtocolError) as error:
            raise DriverFailed(f"Squid does not answer on {host}:{port}: {error}\nhint: start it; {_HINT}") from error

    async def aclose(self) -> None:
        """No connection is kept."""

    def _expected(self) -> int:
        reader = TableReader(self._table)
        try:
            return reader.nonce() or 0
        finally:
            reader.close()


def nonce_in(answer: Answer, table: Path) -> int:
    """What the helper saw. Raises :class:`DriverFailed`, in words for a person."""
    mark = answer.mark
    if mark.startswith(NONCE) and mark.removeprefix(NONCE).isdigit():
        return int(mark.removeprefix(NONCE))
    if mark == UNREADABLE:
        raise DriverFailed(
            f"Squid's helper cannot read the purge table {table}\n"
            "hint: give Squid's user the right to read the file and to enter its directories, or choose another edges.table; "
            f"then check the path in store_id_program; the helper must see {KERNEL_BOOT_ID}, too"
        )
    if mark == OTHER:
        raise DriverFailed(f"Squid's helper reads another purge table than {table}\nhint: correct the path in store_id_program, and reload Squid")
    raise DriverFailed(f"the answer, {answer.status}, does not come from AgeZero's helper in Squid\nhint: {_HINT}")


async def exchange(host: str, port: int, target: str) -> Answer:
    """One GET on a connection of its own. Raises ``OSError``, ``EOFError``, ``h11.ProtocolError``."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", "agezero.internal"), ("Connection", "close")]
        writer.write((http.send(h11.Request(method="GET", target=target, headers=headers)) or b"") + (http.send(h11.EndOfMessage()) or b""))
        while (event := http.next_event()) is h11.NEED_DATA:
            data = await reader.read(READ_BYTES)
            if not data:
                raise EOFError("the connection ended before the answer")
            http.receive_data(data)
    finally:
        writer.close()
    if not isinstance(event, h11.Response):
        raise EOFError("the connection ended before the answer")
    mark = dict(event.headers).get(MARK.encode(), b"")
    return Answer(event.status_code, mark.decode("latin-1"))
