"""Rate limits, per key and call, in windows of one second that begin with the first request (the library ``limits``, in memory).

The counter is asked through the library's storage rather than its strategy: the strategy builds the counter's name anew on every request
and keeps the end of the window to itself, which together cost as much as all the rest of a status request.
"""

from __future__ import annotations

from dataclasses import dataclass

from limits.storage import MemoryStorage

from agezero.http.reply import Header, RateHeaders

INTERVAL_S = 1
NO_LIMIT = 2**31 - 1
"""``X-RateLimit-Limit`` when there is none: the largest number that every client can read. 0 would stop those that pace themselves by it."""

_INTERVAL: Header = (b"x-ratelimit-interval", b"%d" % (INTERVAL_S * 1000))
_RESETS: tuple[Header, ...] = tuple((b"x-ratelimit-reset", b"%d" % ms) for ms in range(INTERVAL_S * 1000 + 1))


@dataclass(slots=True)
class Window:
    """The running window of one key at one call. ``ends_at_s`` is on the wall clock, as the library's is."""

    counter: str
    ends_at_s: float = 0.0

    def left_ms(self, now_s: float) -> int:
        """Milliseconds until the window ends, 0 to the interval."""
        left_ms = int((self.ends_at_s - now_s) * 1000)
        return left_ms if 0 <= left_ms <= INTERVAL_S * 1000 else min(max(left_ms, 0), INTERVAL_S * 1000)


class RateLimit:
    """The limit of one call: ``amount`` requests in each window of each key; 0 is no limit."""

    def __init__(self, storage: MemoryStorage, call: str, amount: int) -> None:
        self._storage = storage
        self._call = call
        self._amount = amount
        limit: Header = (b"x-ratelimit-limit", b"%d" % (amount or NO_LIMIT))
        self._headers = tuple(RateHeaders(limit, reset, _INTERVAL) for reset in _RESETS)  # by milliseconds left
        self.idle = self._headers[0]
        """The headers of a response that was not counted."""

    def window(self, key_id: str) -> Window:
        """The window for a key, not yet begun."""
        return Window(f"{self._call}/{key_id}")

    def take(self, window: Window) -> bool:
        """Count one request; False when it is one too many."""
        if not self._amount:
            return True
        count = self._storage.incr(window.counter, INTERVAL_S)
        if count == 1 or not window.ends_at_s:
            window.ends_at_s = self._storage.get_expiry(window.counter)
        return count <= self._amount

    def headers(self, window: Window, now_s: float) -> RateHeaders:
        """The three headers of a response that was counted."""
        if not self._amount:
            return self.idle
        return self._headers[window.left_ms(now_s)]
