"""The purge as it stands in the log, and its request id.

A request id is the purge's seq, sealed: 48 bits of seq and 48 bits of authentication in 24 lowercase hex digits (the
contract's length). It is checked and opened without a look-up, answers after any restart, and says nothing about
other ids. The construction is that of a synthetic IV: a keyed hash of the seq authenticates it and masks it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache

from agezero.core.selector import Selector

SEQ_MAX = 2**48 - 1
_HALF = 6  # bytes: half of a request id
OPENED_MAX = 4096
"""How many ids are remembered with what they are."""


@dataclass(frozen=True, slots=True)
class Purge:
    """An entry of the purge log. ``seq`` counts from 1 and is never reused.

    ``soft``: what it names may be served stale while it is revalidated; a hard purge says that it is not served again.
    ``trace``: in the last entry of a purge that is traced, whose trace it belongs to (W3C Trace Context); else empty.
    """

    seq: int
    selector: Selector
    soft: bool = False
    trace: str = ""


class RequestIds:
    """Seals a seq into a request id and opens it again. ``secret``: at least 32 random bytes, the service's own."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("the sealing secret must have at least 32 bytes")
        self._tag = hashlib.blake2b(key=secret[:64], digest_size=_HALF, person=b"agezero tag")
        self._mask = hashlib.blake2b(key=secret[:64], digest_size=_HALF, person=b"agezero mask")
        self.open = lru_cache(OPENED_MAX)(self._open)
        """The seq of an id that this secret sealed, else None. Who waits for a purge asks for the same one again and again."""

    def seal(self, seq: int) -> str:
        """``seq`` (1 to 2^48-1) → 24 lowercase hex digits."""
        if not 0 < seq <= SEQ_MAX:
            raise ValueError(f"a seq lies between 1 and 2^48-1, not at {seq}")
        plain = seq.to_bytes(_HALF)
        tag = _keyed(self._tag, plain)
        return (tag + _xor(plain, _keyed(self._mask, tag))).hex()

    def _open(self, request_id: str) -> int | None:
        if len(request_id) != 4 * _HALF or request_id != request_id.lower():
            return None
        try:
            sealed = bytes.fromhex(request_id)
        except ValueError:
            return None
        if len(sealed) != 2 * _HALF:  # fromhex skips white space
            return None
        tag = sealed[:_HALF]
        plain = _xor(sealed[_HALF:], _keyed(self._mask, tag))
        if not hmac.compare_digest(tag, _keyed(self._tag, plain)):
            return None
        return int.from_bytes(plain) or None


def _keyed(base: hashlib.blake2b, data: bytes) -> bytes:
    hasher = base.copy()  # copying a keyed state is twice as fast as keying again
    hasher.update(data)
    return hasher.digest()


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))
