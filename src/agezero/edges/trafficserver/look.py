"""Asks a Traffic Server, through its own data plane, what its script reads in the purge table.

The request goes the way of every other one: accepted by the cache's own port, matched with a rule by its host, given to the script of that rule. A
rule for each host of ``hosts`` is asked, so that none is without the script. What proves itself is the nonce, which nobody knows who cannot read the
table; an origin that answers 200 to everything does not. And who asks proves himself by a digest of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import msgspec

from agezero.edges.readers import KERNEL_BOOT_ID, TableReader
from agezero.ports import DriverFailed

LOOK_PATH = "/.well-known/agezero-look/"
PROTOCOL = 1
READ_BYTES = 65536
BODY_BYTES_MAX = 1 << 20
TIMEOUT_S = 10.0
_SCRIPT = "agezero_trafficserver.lua in remap.config"
_NO_RULE = b"Not Found on Accelerator"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of whoever listens there."""

    status: int
    body: bytes


def digest(nonce: int) -> str:
    """What the path ends in; :file:`agezero_trafficserver.lua` makes the same."""
    return hashlib.sha256(b"agezero look %d" % nonce).hexdigest()


class TrafficServerLook:
    """Implements :class:`agezero.edges.mapped.Look`. ``address``: where it listens, by loopback; ``table``: the purge table, as we know it."""

    def __init__(self, address: tuple[str, int], hosts: Sequence[str], table: Path, timeout_s: float = TIMEOUT_S) -> None:
        assert hosts
        self._address = address
        self._hosts = hosts
        self._table = table
        self._timeout_s = timeout_s

    async def nonce(self) -> int:
        """The nonce that the script sees, in the rule of every host. Raises :class:`DriverFailed`."""
        answers = await self.ask(digest(self._expected()))
        found = {nonce_in(answer, host, self._table) for host, answer in zip(self._hosts, answers, strict=True)}
        if len(found) > 1:
            raise DriverFailed("the rules of remap.config read different purge tables\nhint: give all of them the same path")
        return found.pop()

    async def ask(self, proof: str) -> list[Answer]:
        """What is answered to who proves himself with ``proof``, for each host. Raises :class:`DriverFailed`."""
        where = "{}:{}".format(*self._address)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await exchange(self._address, [(host, LOOK_PATH + proof) for host in self._hosts])
        except TimeoutError:
            raise DriverFailed(
                f"Traffic Server did not answer on {where} within {self._timeout_s:g} s\nhint: does it run, and does it hang?"
            ) from None
        except (OSError, EOFError, h11.ProtocolError) as error:
            raise DriverFailed(f"Traffic Server does not answer on {where}: {error}\nhint: start it, or correct edges.control") from error

    async def aclose(self) -> None:
        """No connection is kept."""

    def _expected(self) -> int:
        reader = TableReader(self._table)
        try:
            return reader.nonce() or 0
        finally:
            reader.close()


def nonce_in(answer: Answer, host: str, table: Path) -> int:
    """What the script saw. Raises :class:`DriverFailed`, in words for a person."""
    said = _decoded(answer.body)
    if answer.status != 200 or said.get("agezero") != PROTOCOL:
        raise DriverFailed(_stranger(answer, host))
    match said.get("fault"), str(said.get("nonce")):
        case "", nonce if nonce.isdigit():
            return int(nonce)
        case "other-table", _:
            raise DriverFailed(
                f"the rule for {host} reads another purge table than {table}\nhint: correct the path behind {_SCRIPT}, and reload Traffic Server"
            )
        case _:
            raise DriverFailed(
                f"the rule for {host} cannot read the purge table {table}\n"
                "hint: give Traffic Server's user the right to read the file and to enter its directories; then check the path in remap.config; "
                f"it must see {KERNEL_BOOT_ID}, too"
            )


def _stranger(answer: Answer, host: str) -> str:
    if _NO_RULE in answer.body:
        return f'Traffic Server has no rule for {host} ("Not Found on Accelerator")\nhint: map it in remap.config, or correct edges.hosts'
    return (
        f"the answer for {host}, {answer.status}, does not come from AgeZero's script in Traffic Server\n"
        "hint: put the plugins that `agezero edge-config` prints into the rule of this host in remap.config, and reload it"
    )


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


async def exchange(address: tuple[str, int], asked: Sequence[tuple[str, str]]) -> list[Answer]:
    """One GET for each (host, target), over one connection. Raises ``OSError``, ``EOFError``, ``h11.ProtocolError``."""
    reader, writer = await asyncio.open_connection(*address)
    http = h11.Connection(h11.CLIENT)
    answers = []
    try:
        for number, (host, target) in enumerate(asked, 1):
            last = [("Connection", "close")] if number == len(asked) else []
            request = h11.Request(method="GET", target=target, headers=[("Host", host), *last])
            writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
            answers.append(await _answer(http, reader))
            if number < len(asked):
                http.start_next_cycle()
    finally:
        writer.close()
    return answers


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    status, body = 0, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if len(body) > BODY_BYTES_MAX:
                raise EOFError("the answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, body)
        elif not isinstance(event, h11.InformationalResponse):
            raise EOFError("the connection ended before the answer")


__all__ = ["Answer", "TrafficServerLook", "digest", "exchange", "nonce_in"]
