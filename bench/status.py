"""Status requests per second, 32 connections, beside a bare constant ASGI application on the same server."""

from __future__ import annotations

from pathlib import Path

from bench import wrk
from bench.harness import Figure, Scale, Tick, at_least, beside, in_turn
from bench.service import AUTHORIZATION, PURGES, constant, service

CONNECTIONS = 32


def parts(scale: Scale) -> int:
    return 2 * scale.rounds


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with service(folder / "service") as ours, constant(folder) as bare:
        connection = ours.connect()
        request_id = ours.purge("/status", connection)
        ours.wait_completed(request_id, connection)
        path = f"{PURGES}/{request_id}"
        samples = in_turn(
            {
                "ours": lambda: wrk.load(f"http://{ours.address}{path}", CONNECTIONS, scale.seconds, AUTHORIZATION),
                "bare": lambda: wrk.load(f"http://{bare}{path}", CONNECTIONS, scale.seconds, AUTHORIZATION),
            },
            scale.rounds,
            tick,
        )
    peer = "a bare constant ASGI application on the same server"
    return [beside(f"status requests/s, {CONNECTIONS} connections", samples, "ours", "bare", peer, at_least(0.65, 0.8))]
