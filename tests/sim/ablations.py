"""Each safeguard, taken out alone: the simulator must notice. ``python -m sim.ablations`` prints the table."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from agezero.core.epochs import EpochTable, Write
from agezero.core.follower import Follower
from agezero.core.ledger import Effect, Ledger, Member, Record
from agezero.core.steps import HeadKnown, Records
from sim.parallel import each_seed
from sim.parts import Parts
from sim.simulation import Outcome, simulate

SEEDS = 1000
"""Within so many seeds every ablation is noticed."""


class NoLeaseWait(Ledger):
    def _lease_end(self, record: Record, now_s: float) -> float:  # noqa: ARG002
        return now_s


class NoTiers(Ledger):
    def released(self, tier: int) -> int | None:  # noqa: ARG002
        return None


class NoRecovery(Ledger):
    @property
    def recovered(self) -> bool:
        return True


class NoTokens(Ledger):
    def _member(self, name: str, token: int) -> Member:  # noqa: ARG002
        return self.members[name]


class NoCatchingUp(Ledger):
    def _caught_up(self, member: Member, watermark: int) -> bool:  # noqa: ARG002
        return True


class NoRecord(Ledger):
    def renew(self, name: str, token: int, watermark: int, now_s: float) -> list[Effect]:
        return super().renew(name, token, watermark, now_s)[-1:]


class NoGapCheck(Follower):
    def _gap(self, event: Records) -> bool:  # noqa: ARG002
        return False


class NoFloor(Follower):
    def _below_floor(self, log: HeadKnown) -> str:  # noqa: ARG002
        return ""


class NoLogEpoch(Follower):
    def _epoch_changed(self, log: HeadKnown) -> str:  # noqa: ARG002
        return ""


class NoBootId(Follower):
    def _cache_restarted(self) -> str:
        return ""


class NoDoubt(Follower):
    def _doubt(self) -> str:
        return ""


class Forgetful(EpochTable):
    """Keeps the three newest slots, as a cache of the table would."""

    def _raise(self, slot: int, seq: int) -> Write:
        write = super()._raise(slot, seq)
        filled = sorted((seq, slot) for slot, seq in enumerate(self.slots) if seq)
        for _, oldest in filled[:-3]:
            self.slots[oldest] = 0
        return write


@dataclass(frozen=True)
class Ablation:
    """``without``: the safeguard, in the words of PROTOCOL.md. ``invariant``: what does not hold without it."""

    name: str
    invariant: str
    without: str
    parts: Parts


ABLATIONS = (
    Ablation("fill-fence", "honest", "what was being fetched during a purge is not stored where it can be met", Parts(fill_fence=False)),
    Ablation("lease-at-edge", "honest", "the cache looks at its lease for every request", Parts(lease_at_edge=False)),
    Ablation("error-bypass", "honest", "where the data plane's own code fails, the cache is bypassed", Parts(errors_bypass=False)),
    Ablation("lease-wait", "honest", "the control side waits for lease and margin before it stops counting an edge", Parts(ledger=NoLeaseWait)),
    Ablation("confirm", "no loss", "a purge is acknowledged only when the cache has confirmed it", Parts(confirmed=False)),
    Ablation("gap-check", "monotone", "only the answer to the read under way is applied", Parts(follower=NoGapCheck)),
    Ablation(
        "fencing-token", "single applier", "an agent that was replaced is refused by ledger and cache", Parts(ledger=NoTokens, token_at_edge=False)
    ),
    Ablation("floor-reset", "no loss", "an edge below the log's floor purges everything", Parts(follower=NoFloor, floor_known=False)),
    Ablation(
        "boot-id",
        "honest",
        "a cache that restarted gets its table back, or loses everything, before its lease",
        Parts(follower=NoBootId, boot_id=False),
    ),
    Ablation(
        "boot-on-record",
        "honest",
        "a new agent trusts what lies in a cache only if its boot id is the one on record",
        Parts(boot_on_record=False),
    ),
    Ablation("second-look", "honest", "a hit on what was just stored looks again whether it was purged meanwhile", Parts(young=False)),
    Ablation("settled", "honest", "what was just being stored when it was purged is purged again before nobody looks any more", Parts(settles=False)),
    Ablation("own-mark", "no loss", "an answer counts only with a mark of our own: an origin's 200 is no confirmation", Parts(own_mark=False)),
    Ablation("durable-table", "honest", "a table that a cache maps outlives the process that reads it", Parts(table_outlives=False)),
    Ablation("tag-union", "honest", "a record of tags holds those of all that can be met for its object", Parts(tags_unite=False)),
    Ablation(
        "tag-record-new",
        "honest",
        "a record of tags begins only under an epoch that nothing stored before can have",
        Parts(records_begin_new=False),
    ),
    Ablation(
        "tag-late",
        "honest",
        "a response with a tag that was purged since it was asked for is given to nobody who waits for it",
        Parts(late_tags=False),
    ),
    Ablation(
        "log-epoch",
        "no loss",
        "a log restored from a backup begins a new epoch, at which every edge purges everything",
        Parts(follower=NoLogEpoch, new_epoch=False),
    ),
    Ablation("tier-order", "honest", "a shield has applied a purge before the edges in front of it do", Parts(ledger=NoTiers)),
    Ablation("no-forget", "honest", "the purge table never forgets and never goes back", Parts(table=Forgetful)),
    Ablation("monotone", "monotone", "no status is given after a restart before it is known what was complete", Parts(ledger=NoRecovery)),
    Ablation("catch-up", "honest", "an edge is leased only when it has applied all that was called complete", Parts(ledger=NoCatchingUp)),
    Ablation("record-first", "honest", "a lease is granted only when it is on record that the edge counts", Parts(ledger=NoRecord)),
    Ablation("doubt", "honest", "an agent that cannot trust its own table purges everything", Parts(follower=NoDoubt)),
    Ablation("drift-margin", "honest", "(assumption) clocks drift less over a lease than its margin", Parts(drift=0.25)),
)
BY_NAME = {ablation.name: ablation for ablation in ABLATIONS}


def first_violation(ablation: Ablation, seeds: int = SEEDS, processes: int | None = None) -> Outcome | None:
    """The run with the lowest seed in which the invariant shows the safeguard missing."""
    for outcome in each_seed(partial(simulate, parts=ablation.parts), range(seeds), processes):
        if outcome.violation is not None and outcome.violation.invariant == ablation.invariant:
            return outcome
    return None


def main() -> int:
    """Print the table; 1 when a safeguard was not missed."""
    parser = argparse.ArgumentParser(prog="python -m sim.ablations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    table = Table("without", "the safeguard", "invariant", "seed", title=f"Safeguards taken out one at a time, {seeds} seeds each")
    unnoticed = 0
    for ablation in ABLATIONS:
        found = first_violation(ablation, seeds)
        unnoticed += found is None
        table.add_row(ablation.name, ablation.without, ablation.invariant if found else "[red]none[/]", str(found.seed) if found else "-")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
