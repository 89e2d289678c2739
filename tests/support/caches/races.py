"""The in-flight race: a purge while a fetch of the old object is under way."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from http.client import HTTPConnection

import httpx

from agezero.core.selector import Selector
from support.caches.base import CacheEdge
from support.scripted import Gate, Reply, ScriptedOrigin

AT_ONCE = 8
STEP_S = 0.03


def raced(cache: CacheEdge, origin: ScriptedOrigin, target: str, place: str, what: str | Selector, herd: int = 4) -> str:
    """What is served after a purge was confirmed while a fetch of the old object, with a herd waiting for it, was in ``place``."""
    gate = Gate()
    old = Reply(body=b"old" * 10_000)
    setattr(old, place, gate)
    origin.answer(target, old)
    with ThreadPoolExecutor(herd + 1) as pool:
        waiting = [pool.submit(httpx.get, cache.url + target, timeout=60) for _ in range(herd)]
        assert gate.reached.wait(30)
        origin.answer(target, Reply(body=b"new"))
        cache.purge(what)
        during = [pool.submit(httpx.get, cache.url + target, timeout=60)] if place == "before_head" else []
        wait(during, timeout=1)  # Varnish has it wait for the old fetch, and then fetches anew
        gate.open.set()
        for one in waiting:
            assert one.result().status_code == 200
    served = {one.result().text[:3] for one in during} | {cache.get(target).text[:3] for _ in range(3)}
    return "old" if "old" in served else "new"


def body_of(cache: CacheEdge, target: str) -> bytes:
    """A GET on a connection of its own, without what a client that knows TLS and cookies spends on that."""
    with closing(HTTPConnection(cache.host, timeout=60)) as connection:
        connection.request("GET", target)
        return connection.getresponse().read()


class Races:
    """Purges at random moments of fetches that take ``STEP_S`` or so, many at once. ``old``: what was served after the confirmation."""

    def __init__(self, cache: CacheEdge, origin: ScriptedOrigin, seed: int) -> None:
        self._cache, self._origin, self._seed = cache, origin, seed
        self._one_purge = threading.Lock()
        self.old: list[str] = []

    def run(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        target = f"/race{self._seed}/{number}/o"
        gate = Gate()
        old = Reply(body=b"old" * 5_000)
        setattr(old, chance.choice(["before_head", "in_body"]), gate)
        self._origin.answer(target, old)
        fetch = threading.Thread(target=body_of, args=(self._cache, target))
        fetch.start()
        opener = threading.Timer(chance.uniform(0, STEP_S), gate.open.set)
        opener.start()
        assert gate.reached.wait(30)
        threading.Event().wait(chance.uniform(0, STEP_S))
        self._origin.answer(target, Reply(body=b"new"))
        with self._one_purge:
            self._cache.purge(target if chance.random() < 0.7 else target[:-1] + "*")
        self._read(target)
        fetch.join()
        opener.join()
        self._read(target)

    def _read(self, target: str) -> None:
        if not body_of(self._cache, target).startswith(b"new"):
            self.old.append(target)


def old_responses(cache: CacheEdge, origin: ScriptedOrigin, seed: int, trials: int) -> list[str]:
    races = Races(cache, origin, seed)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(races.run, range(trials)))
    return races.old
