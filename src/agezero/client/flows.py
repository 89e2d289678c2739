"""What the two clients do, without doing it: generators that yield requests and pauses, and are sent what came of them.

So the rules (what is sent again, how long, what an answer means) stand here once, for sync and async, and can be tested without either.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from agezero import wire
from agezero.client.errors import ClientError, NotTheService, Unavailable, Unreachable, WaitTimeout, refused

POLL_S = 30.0
"""Longest wait that one request asks for."""
SEEN_S = 0.5
"""The same, where somebody watches."""
AGAIN_S = 0.5
"""Between two attempts to reach a service that does not answer."""
REQUEST_S = 30.0

T = TypeVar("T")
Seen = Callable[[wire.PurgeDetail], object]


@dataclass(frozen=True, slots=True)
class Request:
    """To be sent. ``longer_s``: how much longer than usual the answer may take."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    longer_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Response:
    """What came. ``failure``: no answer, and why."""

    status: int = 0
    body: bytes = b""
    retry_after_s: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    s: float


Flow = Generator[Request | Pause, Response | None, T]


class _Contract(msgspec.Struct):
    message: str
    help: str


@dataclass(frozen=True, slots=True)
class Base:
    """Where the service is, for errors; and the clock, monotonic, in seconds."""

    url: str
    clock: Callable[[], float]

    def unreachable(self, why: str) -> Unreachable:
        """Nobody answered."""
        return Unreachable(f"no answer from {self.url}: {why}", "is `agezero up` running there?")


@dataclass(frozen=True, slots=True)
class Wish:
    """What to purge; see docs/API.md."""

    urls: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    tags: Sequence[str] = ()
    hosts: Sequence[str] = ()
    assets: Sequence[str] = ()
    everything: bool = False
    mode: wire.Mode = "hard"
    note: str = ""
    dry_run: bool = False

    def body(self) -> dict[str, Any]:
        """As JSON, without what is not asked for."""
        lists: dict[str, Any] = {name: _texts(name, getattr(self, name)) for name in ("urls", "prefixes", "tags", "hosts", "assets")}
        rest = {"everything": self.everything, "mode": self.mode, "note": self.note, "dry_run": self.dry_run}
        return {name: value for name, value in (lists | rest).items() if value}


def _texts(name: str, given: Sequence[str]) -> list[str]:
    """To Python, a text is a sequence of texts: ``tags="abc"`` would purge the tags a, b and c."""
    if isinstance(given, str):
        raise ClientError(f"{name} is one text; expected a list of them", f"write {name}=[{given!r}]")
    return list(given)


def purge(base: Base, wish: Wish, idempotency_key: str | None, deadline_s: float) -> Flow[wire.Accepted]:
    """Submit. Sent again after a lost connection: the idempotency key makes it the same purge."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    request = Request("POST", "/v1/purges", body=wish.body(), headers=headers)
    response = yield from ask(base, request, deadline_s, attempts=2)
    return decoded(base, response, wire.Accepted)


def detail(base: Base, purge_id: str, deadline_s: float) -> Flow[wire.PurgeDetail]:
    """As it is now."""
    response = yield from ask(base, Request("GET", f"/v1/purges/{quote(purge_id, safe='')}"), deadline_s)
    return decoded(base, response, wire.PurgeDetail)


def wait(base: Base, purge_id: str, timeout_s: float, seen: Seen | None = None) -> Flow[wire.PurgeDetail]:
    """Until it is complete. A service that is away for a while, or does not know the status yet, is waited for as well.

    ``seen`` is told what is known so far, every half second. Raises :class:`WaitTimeout`.
    """
    deadline_s = base.clock() + timeout_s
    known: wire.PurgeDetail | None = None
    path = f"/v1/purges/{quote(purge_id, safe='')}"
    while True:
        left_s = deadline_s - base.clock()
        poll_s = min(left_s, POLL_S if seen is None else SEEN_S)
        asked = {"wait": _seconds(poll_s)} if poll_s >= 0.1 else {}
        try:
            response = yield from ask(base, Request("GET", path, asked, longer_s=max(0.0, poll_s)), deadline_s)
            known = decoded(base, response, wire.PurgeDetail)
        except Unreachable:
            if base.clock() + AGAIN_S > deadline_s:
                raise
            yield Pause(AGAIN_S)
            continue
        except Unavailable as unknown:
            raise WaitTimeout(purge_id, timeout_s, known, unknown.problem.detail or unknown.problem.title) from None
        if known.state == "completed":
            return known
        if seen is not None:
            seen(known)
        if base.clock() >= deadline_s or not asked:
            raise WaitTimeout(purge_id, timeout_s, known)


def get(base: Base, path: str, query: dict[str, str], kind: type[T], deadline_s: float) -> Flow[T]:
    """A plain GET."""
    response = yield from ask(base, Request("GET", path, query), deadline_s)
    return decoded(base, response, kind)


def call(base: Base, method: str, path: str, body: dict[str, Any] | None, deadline_s: float) -> Flow[dict[str, Any]]:
    """Any call; empty without an answer."""
    response = yield from ask(base, Request(method, path, body=body), deadline_s)
    return {} if response.status == 204 else decoded(base, response, dict[str, Any])


def remove_edge(base: Base, name: str, deadline_s: float) -> Flow[None]:
    """It is gone for good."""
    response = yield from ask(base, Request("DELETE", f"/v1/edges/{quote(name, safe='')}"), deadline_s)
    if response.status != 204:
        decoded(base, response, dict)


def ask(base: Base, request: Request, deadline_s: float, attempts: int = 1) -> Flow[Response]:
    """One request, again as long as the service asks to come later. Raises :class:`Unreachable`."""
    while True:
        response = yield request
        assert response is not None
        failure = response.failure or instead(response.status, response.retry_after_s)
        if failure:
            attempts -= 1
            if attempts <= 0:
                raise base.unreachable(failure)
            continue
        later_s = response.retry_after_s if response.status in (429, 503) else None
        if later_s is None or base.clock() + later_s > deadline_s:
            return response
        yield Pause(max(later_s, AGAIN_S))


def instead(status: int, retry_after_s: float | None) -> str:
    """What a proxy says in the place of a service that is away; else empty. The service itself always says when to come back."""
    away = status in (502, 504) or (status == 503 and retry_after_s is None)
    return f"a proxy answers {status} in its place" if away else ""


def retry_after_s(text: str) -> float | None:
    """The seconds of a header ``Retry-After``; None where it has none."""
    return float(text) if text.isascii() and text.isdigit() else None


def decoded(base: Base, response: Response, kind: type[T]) -> T:
    """The answer. Raises :class:`ClientError`."""
    try:
        if 200 <= response.status < 300:
            return msgspec.json.decode(response.body, type=kind)
        problem = _problem(response)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise foreign(base, response.status) from None
    raise refused(problem)


def _problem(response: Response) -> wire.ProblemDetails:
    """RFC 9457, or as ImageKit's calls say it, and the service of a path that it does not know."""
    try:
        return msgspec.json.decode(response.body, type=wire.ProblemDetails)
    except msgspec.ValidationError:
        contract = msgspec.json.decode(response.body, type=_Contract)
        return wire.ProblemDetails("about:blank", contract.message, response.status, hint=contract.help)


def foreign(base: Base, status: int) -> ClientError:
    """Somebody else answered."""
    message = f"{base.url} answered {status}, but not as the purge API does"
    return NotTheService(message, status)


@dataclass(frozen=True, slots=True)
class Event:
    """``data``: JSON. ``id``: go on after it with ``last_event_id``; empty for events about edges."""

    id: str
    name: str
    data: Any


@dataclass(slots=True)
class EventReader:
    """Lines of a stream → events. ``last_id``: where to go on after a lost connection."""

    last_id: str = ""
    ended: bool = False
    """The service said that there is nothing more to come."""
    _id: str | None = None
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def line(self, line: str) -> Event | None:
        """The event that this line ends, if it does."""
        if line:
            self._field(line)
            return None
        self.last_id = self.last_id if self._id is None else self._id
        event = Event(self._id or "", self._name, msgspec.json.decode("\n".join(self._data))) if self._data else None
        self._id, self._name, self._data = None, "", []
        return event

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)


def check(url: str, key: str) -> None:
    """Can requests be made of them? Raises :class:`ClientError`: what was mistyped would else be a service that does not answer."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ClientError(f"{url!r} is not a URL of a purge API", "expected something like http://127.0.0.1:8080")
    if not (key.isascii() and key.isprintable()) or set(key) & set(": "):
        raise ClientError(
            "the private key holds a character that no key has: a line break, a space, a colon, or one that is not ASCII",
            "check where it comes from; the line break at the end of a file may have come along",
        )


def check_stream(base: Base, status: int, kind: str) -> None:
    """Raises :class:`NotTheService` where a success is no stream of events: reading on would tell nothing for ever."""
    if status != 204 and not kind.startswith("text/event-stream"):
        raise foreign(base, status)


def _seconds(s: float) -> str:
    """As the parameter ``wait`` has it: tenths below 1 s, whole seconds above."""
    return f"{int(s)}s" if s >= 1 else f"0.{int(s * 10)}s"


def trusted(url: str) -> ssl.SSLContext | bool:
    """The system's authorities, or those that SSL_CERT_FILE names; read only where they are needed."""
    return ssl.create_default_context() if url.lower().startswith("https:") else True
