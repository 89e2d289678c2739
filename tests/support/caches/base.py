"""A real cache, driven from a test as its agent would: what all of them have in common."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import httpx

from agezero.config.edges import ExternalEdge
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Selector, parse_url, widen
from agezero.edges.kinds import EdgeState
from agezero.ports import EdgeDriver, Lease

T = TypeVar("T")
Edge = TypeVar("Edge", bound="CacheEdge")
CALL_S = 60
LEASE_S = 600.0
LOG = "log"


class TokenState(EdgeState, Protocol):
    """The state of an edge, with the fencing token of its agent."""

    token: int


class CacheEdge:
    """A cache with its driver. Who inherits starts the program in ``start`` and ends it in ``stop``; ``url`` is where it serves."""

    url: str
    driver: EdgeDriver
    state: TokenState
    described: ExternalEdge
    """As ``[[edges]]`` would; the embedded edge is not described there."""

    def __init__(self) -> None:
        self.client = httpx.Client(timeout=CALL_S)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the edge's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    # The program

    def start(self) -> None:
        """Start it; on return it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it in good order, if it runs."""
        raise NotImplementedError

    def kill(self) -> None:
        """kill -9 of all of it."""
        raise NotImplementedError

    def freeze(self) -> None:
        """SIGSTOP to whatever answers."""
        raise NotImplementedError

    def thaw(self) -> None:
        """SIGCONT."""
        raise NotImplementedError

    def restart(self) -> None:
        """The program anew, with what is on its disk."""
        self.stop()
        self.start()

    # As an agent

    def open(self, length_s: float = LEASE_S) -> None:
        """What an agent does before the first lease."""
        self.driver.take_over(self.state.token + 1)
        boot = self.call(self.driver.probe())
        if self.driver.capabilities.restores and not self.state.load().doubt:
            self.call(self.driver.restore(boot))
        else:
            self.call(self.driver.purge_everything(self.state.watermark))
            self.state.save(self.state.watermark, LOG)
        self.lease(length_s)

    def lease(self, length_s: float = LEASE_S) -> None:
        self.call(self.driver.install(Lease(self.state.token, time.monotonic(), length_s)))

    def fence(self) -> None:
        self.call(self.driver.fence())

    def purge(self, *what: str | Selector, soft: bool = False) -> None:
        """Apply purges of paths (with ``*``: prefixes) or selectors, widened and hardened as the follower does; confirmed on return."""
        selectors = [parse_url(self.url + one) if isinstance(one, str) else one for one in what]
        seq = self.state.watermark + 1
        can = self.driver.capabilities
        purges = [Purge(seq + number, within(selector, can.exact), soft and can.soft) for number, selector in enumerate(selectors)]
        self.call(self.driver.apply(purges))
        self.state.save(purges[-1].seq, self.state.load().epoch or LOG)

    # As a client

    @property
    def host(self) -> str:
        """The authority under which it is asked."""
        return self.url.removeprefix("http://")

    def get(self, target: str = "/", **headers: str) -> httpx.Response:
        return self.client.get(self.url + target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def let_go(self) -> None:
        """Of its state, for another agent to take over."""
        self.call(self.driver.aclose())
        self.state.close()

    def close(self) -> None:
        """End everything."""
        self.client.close()
        self.call(self.driver.aclose())
        self.stop()
        self.state.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def within(selector: Selector, exact: frozenset[Any]) -> Selector:
    """As :class:`agezero.core.follower.Follower` widens."""
    while selector.kind not in exact and selector != EVERYTHING:
        selector = widen(selector)
    return selector


__all__ = ["LEASE_S", "CacheEdge", "TokenState", "within"]


@contextmanager
def running(edge: Edge, *, opened: bool) -> Iterator[Edge]:
    """Start it; ``opened``: with a lease. Ended on leaving."""
    try:
        edge.start()
        if opened:
            edge.open()
        yield edge
    finally:
        edge.close()
