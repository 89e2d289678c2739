"""Where control nodes hear agents. Requests go to any one of them, reports to all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Protocol

import msgspec
import structlog

from agezero.core.ledger import Superseded
from agezero.core.shared import Gate, Missed, NotJoined
from agezero.jetstream.admission import check_join, check_room
from agezero.jetstream.link import Link, LinkFailed, Message
from agezero.jetstream.names import ANSWERED, CONTROL, NEWS, REPORTS, edge_of
from agezero.jetstream.reports import decode
from agezero.ports import BoardUnavailable, LeaseRefused

log = structlog.get_logger()

AT_ONCE_MAX = 2_000
"""Requests under way; beyond, an agent has to ask again."""
TROUBLE_MAX = 1_000
"""Characters of what an agent says is in its way."""


class Join(msgspec.Struct, frozen=True, omit_defaults=True):
    """``agezero.control.join.EDGE``.

    ``after``: the newest token of the edge that the agent knows of; the edge is taken over from that one, and from no other. A request may come
    late, from a control node that was paused: the agent has asked again by then, and would be superseded by itself. None: of an older agent.
    """

    tier: int
    fences: bool
    lease_s: float | None = None
    does: tuple[str, ...] = ()
    after: int | None = None


class Renew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``agezero.control.renew.EDGE``."""

    token: int
    watermark: int


class Leave(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``agezero.control.leave.EDGE``."""

    token: int


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Exactly one of the first three reasons is given where the request failed. ``token``: the newest one. ``released``: by tier."""

    refused: str = ""
    superseded: str = ""
    join_again: str = ""
    token: int = 0
    length_s: float = 0.0
    released: Mapping[int, int] = {}


class Desk(Protocol):
    """What a control node offers here."""

    async def join(  # noqa: D102, PLR0913, PLR0917
        self, name: str, tier: int, fences: bool, lease_s: float | None = None, does: tuple[str, ...] = (), after: int | None = None
    ) -> int: ...

    def siblings(self, name: str) -> int:
        """How many edges are on record whose names begin like ``name``, up to its first dot; 0 where it is on record itself."""
        ...

    def heard(self, name: str, token: int, watermark: int, trouble: str) -> None: ...  # noqa: D102

    async def renew(self, name: str, token: int, watermark: int) -> float: ...  # noqa: D102

    async def leave(self, name: str, token: int) -> None: ...  # noqa: D102

    def gate(self) -> Gate | None:
        """The newest gate that is known."""
        ...


class AgentDesk:
    """Hears agents for ``control``. Use it as :func:`at_desk`."""

    def __init__(self, link: Link, control: Desk) -> None:
        self._link = link
        self._control = control
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, message: Message) -> None:
        """A request: an answer goes out later."""
        if not message.reply.startswith(ANSWERED):  # it would be published with the rights of a control node
            log.warning("a request that wants its answer somewhere else than in an inbox", subject=message.subject, reply=message.reply)
            return
        if len(self._tasks) < AT_ONCE_MAX:
            self._spawn(self._answer(message))

    def reported(self, message: Message) -> None:
        """Reports of one edge, or of several of one host."""
        with contextlib.suppress(msgspec.MsgspecError):
            for edge, report in decode(message.subject, message.data):
                with contextlib.suppress(Superseded, NotJoined):  # the answer to its next request tells the agent
                    self._control.heard(edge, report.token, report.watermark, report.trouble[:TROUBLE_MAX])

    def tell(self, gate: Gate) -> None:
        """The news for agents in tiers."""
        if gate.released:
            self._spawn(self._publish(NEWS, Answer(released=gate.released)))

    async def _answer(self, message: Message) -> None:
        verb, _, edge = message.subject[len(CONTROL) :].partition(".")
        try:
            answer = await self._carried_out(verb, edge_of(edge), message.data)
        except Superseded as error:
            answer = Answer(superseded=str(error))
        except NotJoined as error:
            answer = Answer(join_again=str(error))
        except Missed as error:
            answer = Answer(refused=str(error), token=error.token)
        except (LeaseRefused, BoardUnavailable, msgspec.MsgspecError) as error:
            answer = Answer(refused=str(error))
        gate = self._control.gate()
        if gate is not None and gate.released:
            answer = msgspec.structs.replace(answer, released=gate.released)
        await self._publish(message.reply, answer)

    async def _publish(self, subject: str, answer: Answer) -> None:
        with contextlib.suppress(LinkFailed):  # whoever waits asks again
            await self._link.publish(subject, msgspec.json.encode(answer))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carried_out(self, verb: str, edge: str, data: bytes) -> Answer:
        match verb:
            case "join":
                join = msgspec.json.decode(data, type=Join)
                check_join(edge, join.tier, join.lease_s, join.does)
                check_room(edge, self._control.siblings(edge))
                return Answer(token=await self._control.join(edge, join.tier, join.fences, join.lease_s, join.does, join.after))
            case "renew":
                renew = msgspec.json.decode(data, type=Renew)
                return Answer(length_s=await self._control.renew(edge, renew.token, renew.watermark))
            case "leave":
                await self._control.leave(edge, msgspec.json.decode(data, type=Leave).token)
                return Answer()
            case _:
                return Answer(refused=f"this control node knows no request {verb!r}; it may be older than the agent")

    async def stop(self) -> None:
        """Give up what is under way: its agents ask again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def at_desk(link: Link, control: Desk) -> AsyncIterator[AgentDesk]:
    """Hear agents while the block lasts. Only once ``control`` is at work. Raises :class:`LinkFailed`."""
    desk = AgentDesk(link, control)
    ends = [await link.listen(f"{CONTROL}>", desk.asked, queue="control"), await link.listen(f"{REPORTS}>", desk.reported)]
    try:
        yield desk
    finally:
        for end in ends:
            end()
        await desk.stop()
