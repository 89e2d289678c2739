"""Streams as they have to be: made where they are absent, checked where they are present.

A stream that was deleted and made again is another one. It gets an id of its own in its metadata, and its first seq lies beyond any that the old
one can have given: it is taken from the clock, 65,536 a second, which no log sustains, and beyond whatever else is known to have been used.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from agezero.errors import UserError
from agezero.jetstream.link import NO_MESSAGE, NO_STREAM, STREAM_EXISTS, ApiError, Link, LinkFailed
from agezero.jetstream.names import AGENT_API, API, FOLLOWED, LOG_STREAM, LOG_SUBJECT

log = structlog.get_logger()

ID = "agezero.id"
"""The metadata that tells a stream from an older one of the same name."""
REPLICAS = 3
LARGEST_ENTRY_BYTES = 256 << 10
_NS_PER_S = 1_000_000_000
_AS_UNSET: tuple[object, ...] = (None, False, 0, "", {}, "default")
NOT_CLUSTERED = 10074
"""There is one server, by its own configuration. A cluster that lacks servers says something else, and gets no stream with one replica."""
NO_PEERS = 10005
"""That is what it says: fewer than three are up, or have found each other."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stream must be like. ``fixed``: fields whose value matters; ``why``: what a wrong one would do."""

    name: str
    fixed: Mapping[str, Any]
    why: Mapping[str, str]
    bytes_max: int
    duplicate_window_s: float = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """A stream as it is now."""

    id: str
    head: int
    floor: int
    replicas: int


_COMMON = {
    "storage": "file",
    "discard": "new",
    "max_age": 0,
    "max_msgs": -1,
    "max_consumers": -1,
    "retention": "limits",
    "deny_delete": True,
    "deny_purge": False,
    "sealed": False,
    "allow_direct": True,
    "no_ack": False,
}
_WHY = {
    "storage": "what is acknowledged would not survive a restart",
    "discard": "it would drop entries that edges still need",
    "max_age": "it would drop entries that edges still need",
    "max_msgs": "it would refuse or drop entries at a number that AgeZero does not know",
    "max_consumers": "agents could not all follow it",
    "retention": "entries would vanish once one edge has read them",
    "deny_delete": "single entries could be deleted, and edges would skip them",
    "deny_purge": "retention could not remove what is complete",
    "sealed": "it takes no entries",
    "allow_direct": "agents that are behind could not read it",
    "no_ack": "an entry could be lost after the client's 201",
    "subjects": "the seqs of purges would not be contiguous",
    "max_msgs_per_subject": "it would drop entries that edges still need",
    "republish": "agents follow what is told there",
    "allow_atomic": "purges of several selectors could be accepted in part",
}
_UNSET = {
    "persist_mode": "what is acknowledged would be in a server's memory alone, and not survive its restart",
    "subject_transform": "entries would be kept under another subject, where nobody looks for them",
    "discard_new_per_subject": "it would refuse what replaces an entry, where AgeZero counts on its being taken",
    "allow_msg_ttl": "entries could vanish before edges have them",
    "allow_rollup_hdrs": "an entry could remove all that came before it",
    "subject_delete_marker_ttl": "the server would put entries of its own there",
}
"""Fields that must be absent, or as without them, and what they would do."""
_WHY_BUCKET = {
    **_WHY,
    "subjects": "its records would not be kept",
    "max_msgs_per_subject": "older entries of a key would be read as well, or newer ones be missed",
    "max_age": "records would be forgotten too early, or never",
}


def log_shape(bytes_max: int, duplicate_window_s: float) -> Shape:
    """The stream of purges."""
    told = {"src": LOG_SUBJECT, "dest": FOLLOWED}
    fixed = {**_COMMON, "subjects": [LOG_SUBJECT], "max_msgs_per_subject": -1, "allow_atomic": True, "republish": told}
    return Shape(LOG_STREAM, fixed, _WHY, bytes_max, duplicate_window_s)


def bucket_shape(stream: str, bytes_max: int, max_age_s: float = 0, history: int = 1) -> Shape:
    """A bucket: the newest ``history`` entries of each key. A stream that tools for key-value buckets understand. ``max_age_s``: 0: for ever."""
    subjects = [f"$KV.{stream.removeprefix('KV_')}.>"]
    fixed = {**_COMMON, "subjects": subjects, "max_msgs_per_subject": history, "max_age": int(max_age_s * _NS_PER_S)}
    if max_age_s:
        fixed |= {"discard": "old", "deny_delete": False}  # what is forgotten too early is no loss, and nothing is refused for it
    return Shape(stream, fixed, _WHY_BUCKET, bytes_max)


@dataclass(frozen=True, slots=True)
class Last:
    """The newest entry of a subject."""

    seq: int
    data: bytes


async def last_of(link: Link, name: str, subject: str) -> Last | None:
    """By the stream's leader; None where there is none. Raises :class:`LinkFailed`, :class:`ApiError`."""
    try:
        found = await link.api(f"STREAM.MSG.GET.{name}", {"last_by_subj": subject})
    except ApiError as error:
        if error.number == NO_MESSAGE:
            return None
        raise
    message = found["message"]
    return Last(message["seq"], base64.b64decode(message.get("data", "")))


async def look(link: Link, name: str) -> Seen | None:
    """The stream as it is now; None where there is none. Raises :class:`LinkFailed`."""
    info = await _info(link, name)
    return None if info is None else _seen(info)


async def look_as_agent(link: Link) -> Seen | None:
    """The log, by the name under which this account has it, which ``link`` learns. Raises :class:`LinkFailed`."""
    try:
        link.api_prefix = AGENT_API
        return await look(link, LOG_STREAM)
    except LinkFailed:  # no such import: agents and control nodes share an account
        link.api_prefix = API
        return await look(link, LOG_STREAM)


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a stream that goes on with another log: its id, and where it begins."""

    id: str
    first: int


async def ensure(link: Link, shape: Shape, beyond: int = 0, origin: Origin | None = None) -> Seen:
    """Make the stream, or check the one that is there. Raises :class:`UserError`, :class:`LinkFailed`."""
    info = await _info(link, shape.name)
    if info is None:
        info = await _make(link, shape, origin or Origin(str(uuid.uuid4()), first_seq(beyond)))
    _check(shape, info["config"])
    _check_replicas(shape, info)
    return _seen(info)


def first_seq(beyond: int) -> int:
    """Where a new stream begins: beyond ``beyond`` and beyond any stream made before by a clock that was not far ahead."""
    return max(time.time_ns() * 65_536 // _NS_PER_S, beyond + (1 << 32) if beyond else 0)


async def _info(link: Link, name: str) -> dict[str, Any] | None:
    try:
        return await link.api(f"STREAM.INFO.{name}")
    except ApiError as error:
        if error.number == NO_STREAM:
            return None
        raise LinkFailed(str(error)) from None


async def _make(link: Link, shape: Shape, origin: Origin) -> dict[str, Any]:
    for replicas in (REPLICAS, 1):
        try:
            made = await link.api(f"STREAM.CREATE.{shape.name}", _config(shape, replicas, origin), timeout_s=10)
        except ApiError as error:
            if error.number == STREAM_EXISTS:  # another control node was faster
                return await _made(link, shape.name)
            if error.number == NOT_CLUSTERED and replicas > 1:
                continue
            if error.number == NO_PEERS:
                raise LinkFailed(f"{error}; to make a stream, all three servers have to be up") from None
            raise UserError(f"NATS does not make the stream {shape.name}: {error}", _room(error)) from None
        return made
    raise AssertionError("one of the two returns or raises")


async def _made(link: Link, name: str) -> dict[str, Any]:
    """By another control node. It exists for whoever wants to make it a moment before it does for whoever looks."""
    info = await _info(link, name)
    if info is None:
        raise LinkFailed(f"another control node is making the stream {name}")
    return info


def _config(shape: Shape, replicas: int, origin: Origin) -> dict[str, Any]:
    return {
        "name": shape.name,
        **shape.fixed,
        "num_replicas": replicas,
        "max_bytes": shape.bytes_max,
        "max_msg_size": LARGEST_ENTRY_BYTES,
        "duplicate_window": int(shape.duplicate_window_s * _NS_PER_S),
        "first_seq": origin.first,
        "metadata": {ID: origin.id},
    }


def _check(shape: Shape, config: Mapping[str, Any]) -> None:
    for field, expected in shape.fixed.items():
        found = config.get(field, type(expected)())
        if found != expected:
            _wrong(shape, field, found, f"expected {_text(expected)}; {shape.why[field]}")
    for field, why in _UNSET.items():
        if config.get(field) not in _AS_UNSET:
            _wrong(shape, field, config[field], f"expected it not to be set; {why}")
    if 0 <= (size := config.get("max_msg_size", -1)) < LARGEST_ENTRY_BYTES:
        _wrong(shape, "max_msg_size", size, f"expected {LARGEST_ENTRY_BYTES} or more, or -1; it would refuse entries that AgeZero takes")
    if config.get("mirror") or config.get("sources"):
        _wrong(shape, "mirror or sources", config.get("mirror") or config.get("sources"), "expected none; its seqs would be another stream's")
    if not config.get("metadata", {}).get(ID):
        _wrong(shape, f"metadata {ID!r}", None, "expected an id; without it a stream made again would be taken for the old one")
    if 0 <= config.get("max_bytes", -1) < shape.bytes_max:
        log.warning("the stream is smaller than the settings say", stream=shape.name, max_bytes=config["max_bytes"], expected=shape.bytes_max)


def _check_replicas(shape: Shape, info: Mapping[str, Any]) -> None:
    """In a cluster, which has a name. Of a single server, and of the log, :mod:`agezero.jetstream.log` says so for all."""
    if (info.get("cluster") or {}).get("name") and info["config"]["num_replicas"] < REPLICAS and shape.name != LOG_STREAM:
        hint = f"nats stream edit {shape.name} --replicas {REPLICAS}"
        log.warning("ONE server of the cluster keeps this: without it no control node can work", stream=shape.name, hint=hint)


def _wrong(shape: Shape, field: str, found: object, expected: str) -> None:
    hint = f"correct it with: nats stream edit {shape.name}; or, if it holds nothing of worth, delete it and start again"
    raise UserError(f"the stream {shape.name} has the wrong {field}: it is {_text(found)}; {expected}", hint)


def _text(value: object) -> str:
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _room(error: ApiError) -> str:
    if "storage" in str(error) or "resources" in str(error):
        return "give the servers more room (max_file_store), or set log.bytes_max lower"
    return "check that JetStream is enabled on the servers, and the permissions of this user"


def _seen(info: Mapping[str, Any]) -> Seen:
    state, config = info["state"], info["config"]
    floor = max(state["first_seq"] - 1, 0)
    return Seen(config.get("metadata", {}).get(ID, ""), max(state["last_seq"], floor), floor, config["num_replicas"])
