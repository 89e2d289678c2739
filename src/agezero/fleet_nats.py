"""The parts of a fleet on NATS, put together: a control node, and what agents share in one process.

From the inside out: what only control nodes know (the secret that seals ids, keys), then the board, for it knows the highest seq that was ever
used; then the log; then the control side; agents are heard last.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from agezero.background import background
from agezero.core.purge import RequestIds
from agezero.errors import UserError
from agezero.jetstream.board import open_board
from agezero.jetstream.bucket import Bucket, open_bucket
from agezero.jetstream.desk import at_desk
from agezero.jetstream.link import Access, Link, Unreachable, connect
from agezero.jetstream.log import JetStreamLog, following, open_log
from agezero.jetstream.names import SERVICE_STREAM, WEBHOOKS_STREAM
from agezero.jetstream.remote import REPORT_S, RemoteControl, at_control
from agezero.jetstream.stream import log_shape
from agezero.ports import BoardUnavailable, Documents, LogUnavailable, Overtaken
from agezero.shared_control import SharedControl

LOADED_S = 20.0
SECRET = "secret"  # noqa: S105 (its name)
SECRET_BYTES = 64
DUPLICATE_WINDOW_S = 120.0
"""Longer than an append is sent again."""
AGAIN_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """For all control nodes the same. ``retention_purges``, ``bytes_max``: of the log; the others: seconds, of leases.

    ``first_ever``: no edge was there before the fleet's records, says a human.
    """

    lease_s: float
    margin_s: float
    lease_max_s: float = 60.0
    retention_purges: int = 1_000_000
    bytes_max: int = 1 << 30
    first_ever: bool = False


@dataclass(frozen=True, slots=True)
class FleetNode:
    """A control node at work. ``secret``: what all of them share, and nobody else knows."""

    control: SharedControl
    log: JetStreamLog
    documents: Documents
    webhooks: Documents
    secret: bytes


@contextlib.asynccontextmanager
async def linked(access: Access) -> AsyncIterator[Link]:
    """Connected while the block lasts. Raises :class:`UserError`."""
    link = await connect(access)
    try:
        yield link
    finally:
        await link.close()


@contextlib.asynccontextmanager
async def fleet_node(access: Access, settings: FleetSettings, ids: RequestIds | None = None) -> AsyncIterator[FleetNode]:
    """One of several, at work while the block lasts. ``ids``: None: sealed with the secret that they share.

    Raises :class:`UserError`, ``LogUnavailable``, ``BoardUnavailable``.
    """
    async with plain_errors(), linked(access) as link, shared_documents(link) as documents, shared_documents(link, WEBHOOKS_STREAM) as webhooks:
        secret = await shared_secret(documents)
        ids = ids or RequestIds(secret)
        board = await open_board(link)
        async with background(board.run()):
            await loaded(board.loaded)
            shape = log_shape(settings.bytes_max, DUPLICATE_WINDOW_S)
            purge_log = await open_log(link, shape, beyond=board.highest(), retention=settings.retention_purges)
            _check_head(purge_log, board.highest())
            control = SharedControl(purge_log, board, ids, settings.lease_s, settings.margin_s, settings.lease_max_s, first_ever=settings.first_ever)
            async with following(purge_log), background(control.run()), at_desk(link, control) as desk:
                control.on_gate(desk.tell)
                yield FleetNode(control, purge_log, documents, webhooks, secret)


@contextlib.asynccontextmanager
async def control_node(
    access: Access, ids: RequestIds, lease_s: float, margin_s: float, lease_max_s: float = 60.0
) -> AsyncIterator[tuple[SharedControl, JetStreamLog]]:
    """The same, of a new fleet, for programs that bring their own secret."""
    settings = FleetSettings(lease_s=lease_s, margin_s=margin_s, lease_max_s=lease_max_s, first_ever=True)
    async with fleet_node(access, settings, ids) as node:
        yield node.control, node.log


@contextlib.asynccontextmanager
async def shared_documents(link: Link, stream: str = SERVICE_STREAM) -> AsyncIterator[Bucket]:
    """What only control nodes know, read to its end. Raises :class:`UserError`, ``BoardUnavailable``."""
    documents = await open_bucket(link, stream)
    async with background(documents.run()):
        await loaded(documents.loaded)
        yield documents


async def shared_secret(documents: Documents, ours: bytes = b"") -> bytes:
    """The secret that seals ids; made by the first node that asks, or ``ours`` then. Raises ``BoardUnavailable``, :class:`UserError`."""
    while not ((found := documents.get(SECRET)) and found.data):
        with contextlib.suppress(Overtaken):  # by another node, at the same time
            await documents.put(SECRET, base64.b64encode(ours or secrets.token_bytes(SECRET_BYTES)), found.at if found else 0)
    with contextlib.suppress(ValueError):
        if len(secret := base64.b64decode(found.data, validate=True)) == SECRET_BYTES:
            return secret
    raise UserError(
        f"the secret that seals request ids, {SECRET!r} in {SERVICE_STREAM}, is damaged",
        "restore that bucket from a backup; or delete the secret there, and start all control nodes again: ids of before are unknown then",
    )


@contextlib.asynccontextmanager
async def agent_side(access: Access, report_s: float = REPORT_S, wake_s: float = 0.0) -> AsyncIterator[tuple[JetStreamLog, RemoteControl]]:
    """The log and the control side for all agents of this process. Raises :class:`UserError`, ``LogUnavailable``."""
    async with plain_errors(), linked(access) as link:
        purge_log = await open_log(link)
        purge_log.wake_s = wake_s
        async with following(purge_log), at_control(link, purge_log, report_s) as control:
            yield purge_log, control


@contextlib.asynccontextmanager
async def patient_agent_side(access: Access, report_s: float = REPORT_S) -> AsyncIterator[tuple[JetStreamLog, RemoteControl]]:
    """The same, once there are servers and a log: until then, edges do without. Raises :class:`UserError` where servers don't let us in."""
    async with contextlib.AsyncExitStack() as parts:
        while True:
            try:
                found = await parts.enter_async_context(agent_side(access, report_s))
            except (Unreachable, LogUnavailable) as error:
                log.warning("waiting for the purge log; until then the edges fetch everything from their origins", because=str(error))
                await asyncio.sleep(AGAIN_S)
            else:
                break
        yield found


async def loaded(read: asyncio.Event) -> None:
    """Wait until all that there was is ``read``. Raises ``BoardUnavailable``."""
    try:
        async with asyncio.timeout(LOADED_S):
            await read.wait()
    except TimeoutError:
        raise BoardUnavailable(f"the fleet's records were not read within {LOADED_S:g} s") from None


@contextlib.asynccontextmanager
async def plain_errors() -> AsyncIterator[None]:
    """What is meant for a person leaves the groups that tasks wrap it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        found: BaseException | None = group.subgroup((UserError, BoardUnavailable, LogUnavailable))
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is None:
            raise
        raise found from None


def _check_head(purge_log: JetStreamLog, highest: int) -> None:
    """A log that ends before what was applied from it would give the same seqs again."""
    if purge_log.head < highest:
        raise UserError(
            f"the purge log ends at {purge_log.head}, but edges have applied {highest}: it was restored from a backup, or has lost entries",
            "delete the stream agezero_purges; a control node makes it anew, beyond all that was used, and every edge purges everything first",
        )
