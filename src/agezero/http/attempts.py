"""Failed attempts: counted, limited per client address, and told to whoever wants to know.

A key that is made here can't be guessed, so the limit is not what protects it: it keeps somebody who tries from filling logs and the audit, and it
protects the keys that came from outside. Each address has a token bucket. One whose bucket is empty is answered 429 before anything is looked
up, so that it learns nothing; a header that was accepted before is no guess and passes, or a stranger behind the same proxy could lock a client out.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

HEADERS_MAX = 4096
"""How many headers are remembered; beyond, all are forgotten at once."""
ADDRESSES_MAX = 4096
"""How many addresses are remembered; beyond, the one that was quiet the longest is forgotten."""
_NETWORK_V6 = 64  # one customer has at least that much of IPv6


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """What is known of it. ``why``: ``no_key``, ``wrong_key``, ``expired_key``, ``disabled`` or ``too_many_attempts``.

    ``guess``: there was a key in it, which takes a token.
    """

    at_s: float
    address: str
    why: str
    guess: bool


OnFailed = Callable[[FailedAttempt], None]


def _ignore(_: FailedAttempt) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Attempts:
    """``per_min`` failed attempts a minute and address, and as many at once; 0 is no limit. ``on_failed`` must not block and may not fail."""

    def __init__(self, per_min: int, on_failed: OnFailed | None = None, failed: Counter[str] | None = None) -> None:
        self._per_min = per_min
        self._on_failed = on_failed or _ignore
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._accepted: set[int] = set()
        """Hashes of headers. One that shares such a hash by chance is one more guess, no more."""
        self.failed = Counter[str]() if failed is None else failed
        """By why."""

    def accept(self, header: bytes) -> None:
        """This header was right, at whatever call."""
        if len(self._accepted) >= HEADERS_MAX:
            self._accepted.clear()
        self._accepted.add(hash(header))

    def was_accepted(self, header: bytes) -> bool:
        """Then it is no guess."""
        return hash(header) in self._accepted

    def wait_s(self, address: str, now_s: float) -> int:
        """Whole seconds until this address may try again; 0: now."""
        bucket = self._bucket(address, now_s)
        if bucket is None or bucket.tokens >= 1:
            return 0
        return math.ceil((1 - bucket.tokens) * 60 / self._per_min)

    def count(self, address: str, why: str, now_s: float, *, guess: bool) -> None:
        """An attempt failed. ``guess``: it had a key, and takes a token."""
        self.failed[why] += 1
        if guess and self._per_min:
            name = network(address)
            bucket = self._bucket(address, now_s) or _Bucket(self._per_min, now_s)
            bucket.tokens = max(0.0, bucket.tokens - 1)
            self._buckets[name] = bucket
            self._buckets.move_to_end(name)
            while len(self._buckets) > ADDRESSES_MAX:
                self._buckets.popitem(last=False)
        self._on_failed(FailedAttempt(now_s, address, why, guess))

    def _bucket(self, address: str, now_s: float) -> _Bucket | None:
        """Filled up to now. A clock that went back fills nothing."""
        bucket = self._buckets.get(network(address)) if self._buckets else None
        if bucket is not None:
            bucket.tokens = min(self._per_min, bucket.tokens + max(0.0, now_s - bucket.at_s) * self._per_min / 60)
            bucket.at_s = now_s
        return bucket


def network(address: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.IPv6Network((parsed, _NETWORK_V6), strict=False))
