"""What a follower is told (events) and what it has done (effects); the follower itself is :mod:`agezero.core.follower`.

A *step* numbers what is asked of the driver; each is answered once, by DriverDone, DriverFailed or (a probe) EdgeRestarted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agezero.core.purge import Purge

# Events


@dataclass(frozen=True, slots=True)
class HeadKnown:
    """The log as it is now. ``released``: the highest seq that this edge's tier may apply, None where nothing bounds it."""

    head: int
    floor: int
    epoch: str
    released: int | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """The answer to ``Read``: all entries that follow ``after``, in order, up to the last one given; possibly none."""

    after: int
    purges: Sequence[Purge]


@dataclass(frozen=True, slots=True)
class DriverDone:
    """The driver confirmed the step with this number."""

    step: int


@dataclass(frozen=True, slots=True)
class DriverFailed:
    """The driver did not confirm the step; ``refused``: it cannot do this, but may do something wider."""

    step: int
    error: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class EdgeRestarted:
    """The boot id of the cache, new or not: the answer to ``Probe``, or news from whoever supervises the cache."""

    boot_id: str


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """The answer to ``Renew``; the lease runs from ``asked_at_s`` on this agent's clock."""

    asked_at_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The answer to ``Renew`` when there is no lease: refused, or nobody answered."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = HeadKnown | Records | DriverDone | DriverFailed | EdgeRestarted | LeaseGranted | LeaseLost | Tick

# Effects


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the cache for its boot id. Answered by EdgeRestarted or DriverFailed."""

    step: int


@dataclass(frozen=True, slots=True)
class Read:
    """Read entries after ``after``, waiting until there is one. Answered by Records, or by HeadKnown where retention was faster."""

    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Have the driver apply these purges. Answered by DriverDone or DriverFailed."""

    step: int
    purges: tuple[Purge, ...]


@dataclass(frozen=True, slots=True)
class PurgeEverything:
    """Have the driver purge everything, as of ``seq`` of log ``epoch``. Answered by DriverDone or DriverFailed."""

    step: int
    seq: int
    epoch: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Have the driver load the saved table into a cache that lost it. Answered by DriverDone or DriverFailed."""

    step: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class SaveWatermark:
    """Make the position durable before anything that follows in the list."""

    watermark: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Report the watermark to the control side, and what keeps it from moving on, if anything."""

    watermark: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask the control side for a lease. Answered by LeaseGranted or LeaseLost."""

    watermark: int


@dataclass(frozen=True, slots=True)
class Install:
    """Give the data plane the lease. Answered by DriverDone or DriverFailed."""

    step: int
    asked_at_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Tick after a random time between the two: the spread keeps a fleet from retrying in step."""

    min_s: float
    max_s: float


Effect = Probe | Read | Apply | PurgeEverything | Restore | SaveWatermark | Acknowledge | Renew | Install | Sleep
