"""What is lost when whoever purges is killed with a backlog: of the service, and of a forwarder that keeps its queue in memory.

Both have the same Varnish to purge, full of objects. As soon as they have said of all purges that they are accepted, they are killed (-9) and started
again. What can then still be got from the cache is lost.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from bench import raw
from bench.edges import plain
from bench.harness import ROOT, Figure, NotMeasured, Scale, Tick, at_most
from bench.service import service
from bench.varnish import CACHE, CONNECTIONS, STOCK
from support.caches.varnish import VarnishEdge, running_varnish

_AT_ONCE = 1000
"""Selectors in one request, at most."""


def parts(scale: Scale) -> int:  # noqa: ARG001 - a row's
    return 2


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    objects = max(_AT_ONCE, scale.purges_driven // _AT_ONCE * _AT_ONCE)
    with plain(folder / "origin") as peer:
        with running_varnish(f"http://{peer.origin}", folder / "ours", opened=False) as edge:
            ours = _ours(edge, folder / "service", objects)
        tick()
        with running_varnish(f"http://{peer.origin}", folder / "bare", opened=False, include=False, after=STOCK) as edge:
            forwarder = _forwarder(edge, objects)
        tick()
    what = f"purges lost by kill -9 with a backlog, of {objects:,}"
    detail = f"by the forwarder {forwarder:,}"
    return [Figure(what, ours, "purges", "a forwarder that forgets", at_most(0), detail, {"ours": [ours], "forwarder": [forwarder]})]


def _ours(edge: VarnishEdge, folder: Path, objects: int) -> int:
    edges = f'[[edges]]\nname = "varnish"\ndriver = "varnish"\ncontrol = "{edge.control}"\nfront = "{edge.url}"\n'
    with service(folder, edges, edge.host) as ours:
        _fill(edge, objects)
        for begin in range(0, objects, _AT_ONCE):
            ours.purge_all(_paths(begin, begin + _AT_ONCE))
        os.kill(ours.pid, signal.SIGKILL)
    with service(folder, edges, edge.host) as ours, closing(ours.connect()) as connection:
        ours.wait_completed(ours.purge("/last", connection), connection)
        return _stored(edge, objects)


def _forwarder(edge: VarnishEdge, objects: int) -> int:
    _fill(edge, objects)
    command = [sys.executable, "-m", "bench.forwarder", edge.host, str(CONNECTIONS)]
    for urls in ("".join(f"{edge.host}{path}\n" for path in _paths(0, objects)), ""):  # the second time it finds nothing to do
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(urls)
            child.stdin.close()
            child.stdout.readline()
            child.kill()
    return _stored(edge, objects)


def _paths(begin: int, end: int) -> list[str]:
    return [f"/backlog/{number}" for number in range(begin, end)]


def _fill(edge: VarnishEdge, objects: int) -> None:
    raw.took_s(edge.host, [f"GET {path} HTTP/1.1\r\nHost: {edge.host}\r\n\r\n".encode() for path in _paths(0, objects)], 2 * CONNECTIONS)
    if not _stored(edge, 1):
        raise NotMeasured("the objects to be purged were not stored")


def _stored(edge: VarnishEdge, objects: int) -> int:
    with closing(http.client.HTTPConnection(edge.host)) as connection:
        return sum(_hit(connection, path) for path in _paths(0, objects))


def _hit(connection: http.client.HTTPConnection, path: str) -> bool:
    connection.request("HEAD", path)
    answer = connection.getresponse()
    answer.read()
    return CACHE.is_hit(answer.headers)
