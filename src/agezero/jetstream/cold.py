"""Reading entries that are older than what is kept in memory: many in one request, answered by any replica."""

from __future__ import annotations

import asyncio

import msgspec

from agezero.jetstream.entry import Stored, decode
from agezero.jetstream.link import API_S, ApiError, Link, LinkFailed, Message

_END = "204"
_NONE = "404"
BYTES_MAX = 4 << 20
"""Most bytes in one answer."""


async def read_batch(link: Link, stream: str, first: int, limit: int) -> list[Stored]:
    """Contiguous entries from the first one at or after ``first``. Raises :class:`LinkFailed`, :class:`ApiError`."""
    return [decode(seq, data) for seq, data in await read_raw(link, stream, first, limit)]


async def read_raw(link: Link, stream: str, first: int, limit: int) -> list[tuple[int, bytes]]:
    """Like :func:`read_batch`, as it stands in the stream."""
    arriving: asyncio.Queue[Message] = asyncio.Queue()
    inbox = link.new_inbox()
    end = await link.listen(inbox, arriving.put_nowait)
    found: list[tuple[int, bytes]] = []
    try:
        request = msgspec.json.encode({"seq": first, "batch": limit, "max_bytes": BYTES_MAX})
        await link.publish(f"{link.api_prefix}.DIRECT.GET.{stream}", request, inbox)
        async with asyncio.timeout(API_S):
            while (message := await arriving.get()).status not in (_END, _NONE):
                if message.status:
                    raise _failed(message)
                seq = int(message.headers["Nats-Sequence"])
                if found and seq != found[-1][0] + 1:
                    break
                found.append((seq, message.data))
    except TimeoutError:
        if not found:
            raise LinkFailed(f"no entries from {stream} within {API_S:g} s") from None
    finally:
        end()
    return found


def _failed(message: Message) -> Exception:
    words = message.headers.get("Description", "no reason given")
    return LinkFailed(words) if message.status == "503" else ApiError(0, int(message.status), words)
