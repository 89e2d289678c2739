"""The one door to NATS: a connection that asks, publishes and listens. No type of nats-py passes through it.

JetStream is asked by its JSON API directly: the streams here need fields (first_seq, metadata) and error codes that a client's model hides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import nats
import nats.errors
import structlog
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from agezero.errors import UserError
from agezero.jetstream.credentials import check_creds_file, check_nkey_file
from agezero.jetstream.names import API

log = structlog.get_logger()
T = TypeVar("T")

API_S = 2.0
"""How long JetStream's API may take to answer."""
CONNECT_S = 5.0
PATIENCE_S = 20.0
PENDING_MAX = 100_000
"""Messages that wait within a subscription; beyond, some are dropped, and whoever counts them notices."""


class LinkFailed(Exception):
    """No answer: what was asked for may or may not have been done."""


class Nobody(LinkFailed):
    """Nobody listens there (no leader, no such stream, no control node): it was not done."""


class ApiError(Exception):
    """JetStream refused: ``number`` is NATS's own for the reason."""

    def __init__(self, number: int, status: int, description: str) -> None:
        super().__init__(description)
        self.number = number
        self.status = status


NO_STREAM = 10059
NO_MESSAGE = 10037
STREAM_EXISTS = 10058
_NO_RESPONDERS = "503"
WRONG_LAST = frozenset({10071, 10164})
"""Compare-and-set: the subject's last entry is another one; or one that is under way at the leader of a cluster may become it."""


# nats-py's TLS makes asyncio warn of each connection that ends: two dozen lines a second where the password is wrong, one after every command.
_HARMLESS = "returning true from eof_received() has no effect when using ssl"
logging.getLogger("asyncio").addFilter(lambda record: record.getMessage() != _HARMLESS)


class Unreachable(UserError):
    """No server answers; one may later."""


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived. ``status``: of a message that the server itself made, such as a heartbeat; else empty."""

    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str]

    @property
    def status(self) -> str:
        """The server's own number, such as 100, 404 or 503."""
        return self.headers.get("Status", "")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where the servers are, and as whom to go there. ``inbox``: the prefix of the subjects on which answers are taken."""

    servers: Sequence[str]
    name: str = "agezero"
    user: str | None = None
    password: str | None = None
    creds_file: str | None = None
    nkey_file: str | None = None
    tls: ssl.SSLContext | None = None
    inbox: str = "_INBOX"


class _Client(Client):
    """Its own way back overwrites a connection on which nobody answered, without hanging up: one socket lost every two seconds."""

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)


@dataclass
class Link:
    """A connection that reconnects for ever. Made by :func:`connect`."""

    client: Client = field(default_factory=_Client)
    on_reconnected: list[Callable[[], None]] = field(default_factory=list)
    closing: bool = False
    api_prefix: str = API
    """Before JetStream's calls; an agent's account has them under another name."""
    _answers: dict[str, asyncio.Future[Message]] = field(default_factory=dict)
    _asked: int = 0
    _inbox: str = ""

    async def open_inbox(self) -> None:
        """Begin to take answers. (Not the client's own way: its ``wait_for`` swallows a cancellation on Python 3.11.)"""
        self._inbox = self.client.new_inbox()
        await self.listen(f"{self._inbox}.*", self._answered)

    def _answered(self, message: Message) -> None:
        waiting = self._answers.get(message.subject.rpartition(".")[2])
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def publish(self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Send, without an answer. Raises :class:`LinkFailed`."""
        try:
            await self.client.publish(subject, data, reply, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise LinkFailed(_words(error)) from None

    async def ask(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, timeout_s: float = API_S) -> Message:
        """Send, and wait for one answer. Raises :class:`LinkFailed`."""
        if not self.client.is_connected:
            raise Nobody("not connected to NATS")
        self._asked += 1
        token = str(self._asked)
        answered = self._answers[token] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self.publish(subject, data, f"{self._inbox}.{token}", headers)
                message: Message = await answered
        except TimeoutError:
            raise LinkFailed(f"no answer from {subject} within {timeout_s:g} s") from None
        finally:
            del self._answers[token]
        if message.status == _NO_RESPONDERS:
            raise Nobody(f"nobody answers at {subject}")
        return message

    async def api(self, call: str, request: Mapping[str, Any] | None = None, timeout_s: float = API_S) -> dict[str, Any]:
        """Ask JetStream's API. Raises :class:`LinkFailed`, :class:`ApiError`."""
        message = await self.ask(f"{self.api_prefix}.{call}", msgspec.json.encode(request) if request else b"", timeout_s=timeout_s)
        return answer(message)

    async def listen(self, subject: str, heard: Callable[[Message], None], queue: str = "") -> Callable[[], None]:
        """Call ``heard`` for each message, in order. Returns what ends it. Raises :class:`LinkFailed`."""

        async def pass_on(message: Msg) -> None:
            heard(_message(message))

        try:
            subscription = await self.client.subscribe(subject, queue, cb=pass_on, pending_msgs_limit=PENDING_MAX, pending_bytes_limit=0)
        except (nats.errors.Error, OSError) as error:
            raise LinkFailed(_words(error)) from None
        return lambda: _forget(subscription)

    def new_inbox(self) -> str:
        """A subject of this connection's own."""
        return self.client.new_inbox()

    async def close(self) -> None:
        """Send what is left, then hang up."""
        self.closing = True
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self.client.flush(1)
        await self.client.close()


async def connect(access: Access) -> Link:
    """Connect. Raises :class:`UserError` where no server can be reached or none lets us in, or where a file with a key is none."""
    if access.nkey_file:
        check_nkey_file(access.nkey_file)
    if access.creds_file:
        check_creds_file(access.creds_file)
    link = Link()

    async def disconnected() -> None:
        if not link.closing:
            log.warning("the connection to NATS is lost")

    async def reconnected() -> None:
        log.info("connected to NATS again", server=str(link.client.connected_url and link.client.connected_url.netloc))
        for tell in link.on_reconnected:
            tell()

    said: list[Exception] = []

    async def complained(error: Exception) -> None:
        said.append(error)
        if link.client.is_connected:
            log.warning("NATS", error=_words(error), **_hint(error))

    try:
        async with asyncio.timeout(CONNECT_S):
            await link.client.connect(**_options(access), reconnected_cb=reconnected, disconnected_cb=disconnected, error_cb=complained)
            await link.open_inbox()
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
        link.closing = True
        with contextlib.suppress(Exception):
            await link.client.close()
        raise _refused(access, [*said, error]) from None
    return link


def _hint(error: Exception) -> dict[str, str]:
    """As a member of a line of the log: the usual reason for a name that an agent may not speak for."""
    hint = "an edge is called like its host's account, or begins with that name and a dot: docs/RUNBOOK.md#accounts"
    return {"hint": hint} if "permissions violation for publish" in str(error).lower() else {}


def _refused(access: Access, errors: Sequence[Exception]) -> UserError:
    """The servers' own words say more than that time was up."""
    for error in errors:
        if isinstance(error, ssl.SSLError):
            return UserError(f"no TLS with NATS at {', '.join(access.servers)}: {_words(error)}", "check nats.ca_file, and that log.url is tls://")
    for error in errors:
        if "uthorization" in str(error) or "permission" in str(error).lower() or isinstance(error, ValueError):
            hint = "check the section [nats], and AGEZERO_NATS_PASSWORD"
            return UserError(f"NATS does not let us in at {', '.join(access.servers)}: {_words(error)}", hint)
    hint = "start the servers, or correct log.url, such as nats://127.0.0.1:4222"
    return Unreachable(f"no NATS server answers at {', '.join(access.servers)}: {_words(errors[0])}", hint)


async def patient(ask: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S) -> T:
    """Ask again while nobody answers: a cluster that starts has no leader for a while. Raises :class:`LinkFailed` in the end."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            return await ask()
        except LinkFailed as error:
            if time.monotonic() >= end_s:
                raise
            log.info("waiting for JetStream", because=str(error))
            await asyncio.sleep(0.5)


def answer(message: Message) -> dict[str, Any]:
    """The JSON object in an answer of JetStream. Raises :class:`ApiError`."""
    try:
        found = msgspec.json.decode(message.data, type=dict[str, Any])
    except msgspec.DecodeError:
        raise LinkFailed(f"an answer that is no JSON object: {message.data[:80]!r}") from None
    if error := found.get("error"):
        raise ApiError(error.get("err_code", 0), error.get("code", 0), error.get("description", "no reason given"))
    return found


def _options(access: Access) -> dict[str, Any]:
    return {
        "servers": list(access.servers),
        "name": access.name,
        "user": access.user,
        "password": access.password,
        "user_credentials": access.creds_file,
        "nkeys_seed": access.nkey_file,
        "tls": access.tls,
        "inbox_prefix": access.inbox,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": 2,
        "ping_interval": 2,
        "max_outstanding_pings": 2,
    }


def _message(message: Msg) -> Message:
    return Message(message.subject, message.reply, message.data, message.headers or {})


def _forget(subscription: Subscription) -> None:
    async def end() -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()

    _ending.add(task := asyncio.ensure_future(end()))
    task.add_done_callback(_ending.discard)


_ending: set[asyncio.Future[None]] = set()


def _words(error: BaseException) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__
