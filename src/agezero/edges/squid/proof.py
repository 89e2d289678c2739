"""What the driver and the helper have to agree on: how one asks, and how the other answers, which purge table is read.

The path that asks carries a digest of the table's nonce. Only who can read the table can make it, so no secret has to be kept in squid.conf,
and the helper tells the nonce to nobody who does not know it.
"""

from __future__ import annotations

import hashlib

LOOK_PATH = "/.well-known/agezero/look/"
MARK = "agezero"
"""The header of Squid's own answer. What the origin says under this name is removed."""
NONCE = "nonce="
OTHER = "fault=other-table"
UNREADABLE = "fault=no-table"


def digest(nonce: int) -> str:
    """What the path ends in; 32 hexadecimal digits."""
    return hashlib.sha256(b"agezero look %d" % nonce).hexdigest()[:32]
