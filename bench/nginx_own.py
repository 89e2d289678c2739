"""A user's own nginx with Lua. It has no PURGE of its own: its peer is a raw client whose requests nginx answers at once with a 204."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import caches, raw
from bench.caches import Cache, Peer
from bench.harness import at_least, at_most
from support.caches.base import CacheEdge
from support.caches.nginx_lua import NGINX, running_nginx_lua

CONNECTIONS = 4
_SLOTS = 2**18
_MORE = "keepalive_requests 1000000; location /nothing/ { return 204; }"


def _start(origin: str, folder: Path, ours: bool) -> AbstractContextManager[CacheEdge]:
    return running_nginx_lua(origin, folder, opened=False, without="" if ours else "include", workers=1, slots=_SLOTS, more=_MORE)


def _answered(ours: CacheEdge, bare: CacheEdge, urls: Sequence[str]) -> float:  # noqa: ARG001 - a Peer's
    requests = [f"GET /nothing/{url} HTTP/1.1\r\nHost: {bare.host}\r\n\r\n".encode() for url in urls]
    return raw.took_s(bare.host, requests, CONNECTIONS)


CACHE = Cache(
    title="nginx with Lua",
    programs=NGINX,
    start=_start,
    is_hit=lambda headers: headers.get("X-Cache") == "HIT",
    peers={"204": Peer(f"as many requests that nginx answers with 204, by a raw client over {CONNECTIONS} connections", _answered, at_least(0.5))},
    hits=at_least(0.75),
    prefix=at_most(20),
    fresh=True,
)
parts, measure = partial(caches.parts, CACHE), partial(caches.measure, CACHE)
