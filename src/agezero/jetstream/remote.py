"""The control side as an agent sees it over NATS: whichever control node answers.

Reports are told to all control nodes and not acknowledged: each says all that the ones before it said, and every renewal says it again.
They go out at once, and then at most every ``report_s``, those of all edges of a host together (:mod:`agezero.jetstream.reports`).
Requests for leases have an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import structlog

from agezero.core.ledger import Superseded
from agezero.core.shared import NotJoined
from agezero.core.steps import HeadKnown
from agezero.jetstream.desk import Answer, Join, Leave, Renew
from agezero.jetstream.link import Link, LinkFailed, Message, Nobody
from agezero.jetstream.names import CONTROL, NEWS, token
from agezero.jetstream.reports import Outbox, Report, Reporter, encode, group_of
from agezero.ports import BoardUnavailable, LeaseRefused, PurgeLog

log = structlog.get_logger()

REPORT_S = 0.1
REQUEST_S = 3.0
JOIN_AGAIN_S = 0.5

_ANSWER = msgspec.json.Decoder(Answer)


@dataclass
class RemoteControl:
    """A :class:`agezero.ports.ControlSide` for all agents of this process. ``purge_log`` is theirs too. Use it as :func:`at_control`."""

    link: Link
    purge_log: PurgeLog
    report_s: float = REPORT_S
    released: dict[int, int] = field(default_factory=dict)
    sent: int = 0
    """Messages with reports that went out."""
    _watchers: list[tuple[int, Callable[[HeadKnown], None]]] = field(default_factory=list)
    _reporters: dict[str, Reporter] = field(default_factory=dict)
    _outboxes: dict[str, Outbox] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _epoch: str = ""

    def __post_init__(self) -> None:
        self._epoch = self.purge_log.epoch
        self.purge_log.subscribe(self._log_grown)

    async def join(self, name: str, tier: int, fences: bool, lease_s: float | None = None, does: tuple[str, ...] = ()) -> int:
        """See :class:`agezero.ports.ControlSide`. Asks until it is answered."""
        complained, after = "", 0
        while True:
            try:
                answer = await self._ask("join", name, Join(tier, fences, lease_s, does, after))
                if not answer.refused:
                    self._reporters[name] = self._outbox(name).enter(name)
                    return answer.token
                before, after, why = after, answer.token, answer.refused
                if after not in (0, before):
                    continue
            except LinkFailed as error:
                why = str(error)
            if why != complained:
                log.warning("the edge can't join yet", edge=name, because=why, again_s=JOIN_AGAIN_S)
            complained = why
            await asyncio.sleep(JOIN_AGAIN_S)

    def look(self, tier: int) -> HeadKnown:
        """See :class:`agezero.ports.ControlSide`. What isn't known to be released is not."""
        seen = self.purge_log
        return HeadKnown(seen.head, seen.floor, seen.epoch, None if tier == 0 else self.released.get(tier, 0))

    def watch(self, tier: int, changed: Callable[[HeadKnown], None]) -> None:
        """See :class:`agezero.ports.ControlSide`."""
        self._watchers.append((tier, changed))

    async def report(self, name: str, token: int, watermark: int, trouble: str) -> None:
        """See :class:`agezero.ports.ControlSide`. Goes out soon. Raises :class:`NotJoined` where the agent has to join again."""
        reporter = self._reporters[name]
        if reporter.superseded:
            raise Superseded(reporter.superseded)
        if reporter.unknown:
            raise NotJoined(reporter.unknown)
        reporter.say(Report(token, watermark, trouble))

    async def renew(self, name: str, token: int, watermark: int) -> float:
        """See :class:`agezero.ports.ControlSide`."""
        try:
            answer = await self._ask("renew", name, Renew(token, watermark))
        except LinkFailed as error:
            raise LeaseRefused(f"no control node answers: {error}") from None
        if answer.superseded:
            self._reporters[name].superseded = answer.superseded
            raise Superseded(answer.superseded)
        if answer.join_again:
            self._reporters[name].unknown = answer.join_again
            raise LeaseRefused(answer.join_again)
        if answer.refused or not answer.length_s:
            raise LeaseRefused(answer.refused or "the control node's answer is not understood")
        return answer.length_s

    async def leave(self, name: str, token: int) -> None:
        """See :class:`agezero.ports.ControlSide`. A courtesy: where nobody answers, the lease runs out."""
        with contextlib.suppress(LinkFailed):
            answer = await self._ask("leave", name, Leave(token))
            if answer.superseded:
                raise Superseded(answer.superseded)

    def news(self, message: Message) -> None:
        """A control node tells what is released."""
        with contextlib.suppress(msgspec.MsgspecError):
            self._learn(_ANSWER.decode(message.data))

    async def _ask(self, verb: str, name: str, request: msgspec.Struct) -> Answer:
        subject = f"{CONTROL}{verb}.{token(name)}"
        message = await self.link.ask(subject, msgspec.json.encode(request), timeout_s=REQUEST_S)
        try:
            answer = _ANSWER.decode(message.data)
        except msgspec.MsgspecError as error:
            raise LinkFailed(f"an answer that is not understood: {error}") from None
        self._learn(answer)
        return answer

    def _learn(self, answer: Answer) -> None:
        """Released is never taken back, so the highest that was heard is true."""
        risen = {tier: seq for tier, seq in answer.released.items() if seq > self.released.get(tier, 0)}
        self.released.update(risen)
        for tier, changed in self._watchers:
            if tier in risen:
                changed(self.look(tier))

    def _log_grown(self, head: int) -> None:  # noqa: ARG002
        if self._epoch != self.purge_log.epoch:
            self._epoch = self.purge_log.epoch
            for tier, changed in self._watchers:
                changed(self.look(tier))

    def _outbox(self, name: str) -> Outbox:
        return self._outboxes.setdefault(group_of(name), Outbox(self.report_s, self._send))

    def _send(self, reports: Mapping[str, Report]) -> None:
        self.sent += 1
        task = asyncio.create_task(self._publish(*encode(reports)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, subject: str, data: bytes) -> None:
        with contextlib.suppress(LinkFailed):  # the next one says it again
            await self.link.publish(subject, data)


@contextlib.asynccontextmanager
async def at_control(link: Link, purge_log: PurgeLog, report_s: float = REPORT_S) -> AsyncIterator[RemoteControl]:
    """The control side, while the block lasts. Raises :class:`LinkFailed`."""
    remote = RemoteControl(link, purge_log, report_s)
    end = await link.listen(NEWS, remote.news)
    try:
        yield remote
    finally:
        end()


__all__ = ["BoardUnavailable", "Nobody", "RemoteControl", "at_control"]
