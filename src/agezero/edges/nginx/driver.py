"""Drives the embedded edge, and most of an nginx of one's own with njs: the port ``EdgeDriver`` over the control socket, see control.js."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agezero.core.epochs import Gates
from agezero.core.purge import Purge
from agezero.core.selector import Kind
from agezero.edges.nginx.config import Layout
from agezero.edges.nginx.control import ControlClient, ControlFailed
from agezero.edges.nginx.marks import Marks
from agezero.edges.slots import SlotFile
from agezero.ports import Capabilities, DriverFailed, Lease

PROTOCOL = 1
WRITES_MAX = 10_000
"""Numbers in one call; about 150 KiB, some 10 ms of one of nginx's processes."""
TIMEOUT_S = 10.0

Numbers = Sequence[tuple[int, int]]


class TableDriver:
    """Drives an nginx whose workers share the purge table by njs: most of :class:`agezero.ports.EdgeDriver`.

    ``slots`` is written before nginx, so that a restore finds all that was ever confirmed. ``socket``: where control.js answers.
    """

    capabilities = Capabilities(exact=frozenset({Kind.URL, Kind.PREFIX, Kind.HOST, Kind.EVERYTHING}), fences=True, restores=True, method="table")
    silent = "the edge's nginx did not answer on its control socket"
    hint = ""

    def __init__(self, socket: Path, slots: SlotFile, timeout_s: float = TIMEOUT_S) -> None:
        self._slots = slots
        self._control = ControlClient(socket, timeout_s)
        self._fresh = 0

    def take_over(self, token: int) -> None:
        """All calls from now on are under ``token``; nginx learns of it with the first, and then refuses a lower one."""
        self._slots.save_token(token)

    async def probe(self) -> str:
        """The boot id. It changes with every start of nginx, and when nginx could not make an invalidation durable."""
        state = await self._call("GET", "/state")
        if state["token"] > self._slots.token:
            raise DriverFailed(
                f"the edge obeys a newer agent, token {state['token']}; this one holds {self._slots.token}"
                "\nhint: stop one of the two agents; if there is no other, since the records of the service were lost, restart the cache"
            )
        self._look_at(state)
        return str(state["boot"])

    async def restore(self, boot_id: str) -> None:
        """Load the saved table. The lease ends first, and nothing is served from the store until :meth:`install`."""
        # A number that no key of what is stored exceeds. One that was just made for everything is in no key yet.
        born = self._slots.top - (self._slots.top == self._fresh)
        self._fresh = 0
        await self._call("POST", "/load", boot=boot_id)
        await self._write(self._slots.filled(), await self._local())
        await self._call("POST", "/loaded", boot=boot_id, origin=self._slots.readers.origin, born=born)

    async def apply(self, purges: Sequence[Purge]) -> None:
        """Confirmed on return; in a cache that has lost its table meanwhile, by the fence and the next restore."""
        writes = self._slots.apply(purges)
        await self._write([(write.slot, write.seq) for write in writes if write.slot is not None], ())

    async def purge_everything(self, seq: int) -> None:
        """Under a number that no stored object can have, whatever log it came from."""
        self._slots.purge_everything(seq)
        self._fresh = self._slots.table.everything
        await self.restore(await self.probe())

    async def install(self, lease: Lease) -> None:
        """Convert the lease to the wall clock that njs can read; it began when it was asked for, not now."""
        issued_s = time.time() - (time.monotonic() - lease.asked_at_s)  # in this order: a pause between the two shortens the lease
        await self._lease(int(issued_s * 1000), int((issued_s + lease.length_s) * 1000))

    async def fence(self) -> None:
        """End the lease at once."""
        await self._call("POST", "/fence")

    async def aclose(self) -> None:
        """Close the connection."""
        self._control.close()

    def _look_at(self, state: dict[str, Any]) -> None:
        """Raises :class:`DriverFailed` where this nginx cannot be driven."""

    async def _local(self) -> Numbers:
        """What nginx counted by itself and has to find again."""
        return ()

    async def _lease(self, issued_ms: int, until_ms: int) -> None:
        await self._call("POST", "/lease", issued=issued_ms, until=until_ms)

    async def _write(self, writes: Numbers, local: Numbers) -> None:
        for part, local_part in _batches(writes, local):
            table = self._slots.table
            fixed = {"everything": table.everything, "tags": table.tags, "gates": gates_text(table.gates)}
            answer = await self._call("POST", "/write", **fixed, writes=part, local=local_part)
            if answer.get("written") != len(part) + len(local_part):
                raise DriverFailed(f"the edge wrote {answer.get('written')} numbers of {len(part) + len(local_part)}")

    async def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        content = msgspec.json.encode({"token": self._slots.token, **body}) if method == "POST" else b""
        try:
            status, said = await self._control.call(method, path, content)
            answer = msgspec.json.decode(said, type=dict[str, Any])
        except (ControlFailed, msgspec.DecodeError) as error:
            raise DriverFailed(f"{self.silent}: {error}{self.hint}") from error
        if answer.get("agezero") != PROTOCOL:
            raise DriverFailed(f"what answered on the control socket does not speak protocol {PROTOCOL}{self.hint}")
        if status != 200:
            raise DriverFailed(f"the edge did not do {path}: {answer.get('error')}")
        return answer


class NginxDriver(TableDriver):
    """The embedded edge's: a :class:`TableDriver` that knows what unsafe requests have touched. Implements :class:`agezero.ports.EdgeDriver`."""

    def __init__(self, files: Layout, slots: SlotFile, marks: Marks, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(files.control, slots, timeout_s)
        self._marks = marks

    async def _local(self) -> Numbers:
        if (await self._call("GET", "/state"))["unsaved"]:
            self._disown()
        return self._marks.writes()

    def _disown(self) -> None:
        try:
            self._marks.disown()
        except OSError as error:
            raise DriverFailed(f"{self._marks.path} can be neither written nor removed: {error.strerror}\nhint: check its permissions") from error


def gates_text(gates: Gates) -> str:
    """As edge.js reads them; empty while there is nothing to look up but URLs."""
    if not (gates.host or gates.slash or gates.lengths):
        return ""
    return ",".join(str(int(number)) for number in (gates.host, gates.slash, *sorted(gates.lengths)))


def _batches(writes: Numbers, local: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """At least one, for what is sent with every call."""
    for start in range(0, max(1, len(writes)), WRITES_MAX):
        yield writes[start : start + WRITES_MAX], ()
    for start in range(0, len(local), WRITES_MAX):
        yield (), local[start : start + WRITES_MAX]
