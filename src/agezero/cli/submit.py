"""Sending what is to be purged. A selector that is refused is named and left out; it keeps no other from being purged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agezero import client as api
from agezero.cli.client import Client, failure
from agezero.cli.output import CommandFailed, Exit, error, note
from agezero.cli.progress import display
from agezero.cli.targets import EVERYTHING, Target, at, batches, body
from agezero.wire import Accepted, Mode

TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Order:
    """How to purge."""

    mode: Mode = "hard"
    note: str = ""
    dry_run: bool = False


class Submitter:
    """Sends targets in as few requests as can be. ``refused``: how many were. ``alone``: where there is but one, its refusal is raised."""

    def __init__(self, client: Client, order: Order, *, alone: bool = True) -> None:
        self._client = client
        self._order = order
        self.refused = 0
        self._alone = alone

    def send(self, targets: Sequence[Target]) -> Iterator[Accepted]:
        """What was accepted, request by request. Raises :class:`CommandFailed` where it is not single selectors that are refused."""
        self._alone = self._alone and len(targets) == 1
        if self._alone and targets[0].kind == "urls" and self._order == Order():
            yield self._client.purge_url(targets[0].text)
            return
        several = list(batches(targets))
        done = 0
        with display(lines=False) as shown:
            for batch in several:
                yield from self._send(batch)
                done += len(batch)
                shown.show(done, len(targets), f"{done:,} of {len(targets):,} selectors sent")
        if len(several) > 1:
            note(f"sent {len(targets):,} selectors in {len(several):,} requests")

    def _send(self, batch: Sequence[Target]) -> Iterator[Accepted]:
        try:
            accepted = self._purge(batch)
        except api.ClientError as wrong:
            if self._alone or not isinstance(wrong, api.Refused) or not (wrong.errors or wrong.status == TOO_LARGE):
                raise failure(wrong) from None
            yield from self._send_rest(batch, wrong)
        else:
            yield accepted

    def _purge(self, batch: Sequence[Target]) -> Accepted:
        order, lists = self._order, body(batch)
        return self._client.api.purge(
            urls=lists["urls"],
            prefixes=lists["prefixes"],
            tags=lists["tags"],
            hosts=lists["hosts"],
            assets=lists["assets"],
            everything=EVERYTHING in batch,
            mode=order.mode,
            note=order.note,
            dry_run=order.dry_run,
        ).accepted

    def _send_rest(self, batch: Sequence[Target], refusal: api.Refused) -> Iterator[Accepted]:
        named = {each: wrong.detail for wrong in refusal.errors if (each := at(batch, wrong.where))}
        if not named and len(batch) > 1:  # too many, once they are understood: an asset is several
            half = len(batch) // 2
            yield from self._send(batch[:half])
            yield from self._send(batch[half:])
            return
        for target, detail in (named or {batch[0]: str(refusal)}).items():
            error(f"{target.place + ': ' if target.place else ''}{target.text or target.kind}: {detail}")
        rest = [target for target in batch if named and target not in named]
        self.refused += len(batch) - len(rest)
        if rest:
            yield from self._send(rest)


def refused(count: int, total: int) -> CommandFailed:
    """What a command ends with after some were."""
    return CommandFailed(Exit.REFUSED, f"{count:,} of {total:,} selectors were refused", "the others are purged; mend these and purge them again")
