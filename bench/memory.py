"""Memory of the service, idle and after many purges; that of its nginx beside it."""

from __future__ import annotations

import http.client
import re
from pathlib import Path

from agezero.edges.nginx.process import running
from bench.accept import purge
from bench.harness import Figure, Scale, Tick, at_most
from bench.service import Service, resident_bytes, service

MIB = 2**20
_ONE_BY_ONE = 10
"""This part of the purges comes one in a request, the others a thousand."""
_AT_ONCE = 1000


def parts(scale: Scale) -> int:
    return scale.purges_kept


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with service(folder / "service") as ours:
        connection = ours.connect()
        ours.wait_completed(ours.purge("/first", connection), connection)
        idle, edge_idle = _memory(ours)
        accepted = 0
        while accepted < scale.purges_kept:
            if accepted < scale.purges_kept // _ONE_BY_ONE:
                purge(ours.address, ours, scale.seconds, f"after-{accepted}")
            else:
                ours.purge_all([f"/bulk/{accepted}/{number}.jpg" for number in range(min(_AT_ONCE, scale.purges_kept - accepted))])
            before, accepted = accepted, _head(ours)
            for _ in range(min(accepted, scale.purges_kept) - before):
                tick()
        connection = ours.connect()
        ours.wait_completed(ours.purge("/last", connection), connection)
        after, edge_after = _memory(ours)
    million = f"{accepted:,} purges" + ("" if accepted >= 1_000_000 else " (the limit is for 1 M)")
    return [
        Figure("memory of the service, idle", idle, "MiB", "", at_most(120, 80), f"its nginx, shared memory included: {edge_idle:.0f} MiB"),
        Figure(
            f"memory of the service after {million}", after, "MiB", "", at_most(200, 150), f"its nginx, shared memory included: {edge_after:.0f} MiB"
        ),
    ]


def _memory(ours: Service) -> tuple[float, float]:
    """Resident memory of the service, and that of all its nginx processes together (each shared page counted once), in MiB."""
    edge = sum(resident_bytes(pid, "Pss") for pid in running((ours.data / "edge").resolve()))
    return resident_bytes(ours.pid) / MIB, edge / MIB


def _head(ours: Service) -> int:
    connection = http.client.HTTPConnection(ours.address)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = re.search(r"^agezero_log_head_seq ([0-9.e+]+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))
