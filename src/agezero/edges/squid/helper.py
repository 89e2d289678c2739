"""The StoreID helper: Squid asks it, for each GET and HEAD, under which key the object is stored.

Its answer is the URL as it was asked for, with the epoch of its canonical form in front, and the annotation ``agezero_=live`` while there is a
lease. Without that annotation agezero.conf lets Squid neither serve nor store: so whatever goes wrong here (no lease, no table, a URL without a
canonical form, an error, a helper that dies) ends in a bypass. The spelling stays in the key: an origin may answer ``/a/../b`` in another way than
``/b``, and nobody should be able to put the one in the other's place.

The protocol is Squid's, with channels: ``ID URL METHOD`` → ``ID OK store-id="…" agezero_=live`` or ``ID ERR``. Quoted, or Squid would decode the
percent signs, and ``/a%2Fb`` would be ``/a/b``. Little is imported: Squid waits for this at its start, and after the helper died.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from agezero.core.canonical import InvalidUrl, canonical_url
from agezero.edges.readers import TableReader
from agezero.edges.squid.proof import LOOK_PATH, NONCE, OTHER, UNREADABLE, digest

READ_BYTES = 1 << 16
LOOK_AGAIN_S = 0.2
KNOWN_BYTES_MAX = 16 << 20
"""Of URLs whose canonical form is remembered."""

_LOOK = re.compile(rb"https?://[^/]+" + re.escape(LOOK_PATH.encode()) + rb"([0-9a-f]{32})")
_UNQUOTED = re.compile(rb"[^\x00-\x20\x7f-\xff\"\\#]+")
_METHODS = (b"GET", b"HEAD")


class Helper:
    """Answers the lines of one Squid from the purge table at ``table``."""

    def __init__(self, table: Path) -> None:
        self._table = TableReader(table, LOOK_AGAIN_S)
        self._known: dict[bytes, str] = {}
        self._known_bytes = 0

    def answer(self, line: bytes) -> bytes:
        """Never fails: an error is an answer without the annotation."""
        channel, _, rest = line.partition(b" ")
        try:
            return channel + self._reply(*rest.split(b" "))
        except Exception:  # whatever it is, this request bypasses the cache
            return channel + b" ERR\n"

    def _reply(self, url: bytes, method: bytes) -> bytes:
        canonical = self._known.get(url)
        if canonical is None:
            look = _LOOK.fullmatch(url)
            if look:
                return b' ERR agezero_look_="%s"\n' % self._look(look[1].decode()).encode()
            canonical = self._canonical(url)
        epoch = self._table.epoch(canonical) if canonical and method in _METHODS else None
        if epoch is None:
            return b" ERR\n"
        return b' OK store-id="http://e%d.agezero.internal/%s" agezero_=live\n' % (epoch, url)

    def _canonical(self, url: bytes) -> str:
        """Empty: there is none."""
        try:
            canonical = canonical_url(url.decode()) if _UNQUOTED.fullmatch(url) else ""
        except (InvalidUrl, UnicodeDecodeError):
            canonical = ""
        self._known_bytes += 2 * len(url) + 200
        if self._known_bytes > KNOWN_BYTES_MAX:
            self._known.clear()
            self._known_bytes = 0
        self._known[url] = canonical
        return canonical

    def _look(self, asked: str) -> str:
        nonce = self._table.nonce()
        if nonce is None:
            return UNREADABLE
        return f"{NONCE}{nonce}" if digest(nonce) == asked else OTHER


def serve(answer: Callable[[bytes], bytes], source: int, sink: int) -> None:
    """Answer until ``source`` ends: all lines that are there at once, with one write."""
    rest = b""
    while data := os.read(source, READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        answers = memoryview(b"".join(map(answer, lines)))
        while answers:
            answers = answers[os.write(sink, answers) :]


def main() -> None:
    """``agezero-squid-helper TABLE``."""
    if len(sys.argv) != 2:
        sys.exit("usage: agezero-squid-helper TABLE\nhint: this is run by Squid; `agezero edge-config` prints the line for squid.conf")
    try:
        serve(Helper(Path(sys.argv[1])).answer, 0, 1)
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):  # Squid has gone
        sys.exit(0)


if __name__ == "__main__":
    main()
