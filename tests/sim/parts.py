"""What a run is made of; an ablation replaces exactly one part by one without its safeguard."""

from __future__ import annotations

from dataclasses import dataclass

from agezero.core.epochs import EpochTable
from agezero.core.follower import Follower
from agezero.core.ledger import Ledger


@dataclass(frozen=True)
class Parts:
    """The core's machines, and the safeguards that lie in the shells and caches."""

    ledger: type[Ledger] = Ledger
    follower: type[Follower] = Follower
    table: type[EpochTable] = EpochTable
    fill_fence: bool = True
    """A fill is stored under the key computed at arrival (table), or not at all once it was purged (native)."""
    lease_at_edge: bool = True
    """The cache looks at its lease for every request."""
    errors_bypass: bool = True
    """Where the data plane's own code fails, the cache is bypassed; without it, requests fall back to the plain key."""
    token_at_edge: bool = True
    """The cache refuses writes with a lower fencing token."""
    confirmed: bool = True
    """The driver answers when the cache has confirmed, not when it has been told."""
    boot_id: bool = True
    """The cache takes no lease before its table was loaded in this boot."""
    boot_on_record: bool = True
    """A new agent of a cache that keeps no table compares its boot id with the one on record before it trusts what lies in it."""
    young: bool = True
    """A hit on what was stored a moment ago asks again whether it was purged meanwhile."""
    settles: bool = True
    """A purge is given again a moment later, for what was just being stored."""
    own_mark: bool = True
    """An answer counts only with a mark that the cache's own configuration makes; without it, the origin's 200 does too."""
    table_outlives: bool = True
    """A mapped table outlives the process that reads it; without it, a helper begins anew with an empty memory."""
    tags_unite: bool = True
    """A record of tags holds those of all that can be met, not of what was stored last."""
    records_begin_new: bool = True
    """A record of tags begins only under an epoch that nothing stored before can have."""
    late_tags: bool = True
    """A response with a tag that was purged since it was asked for is not stored, and not given to who waits for it."""
    new_epoch: bool = True
    """A log restored from a backup takes a new epoch."""
    floor_known: bool = True
    """A read below the floor says so, and does not give what is left."""
    drift: float = 0.04
    """Greatest deviation of a clock's rate; the margin allows for 0.04 on both sides."""


HONEST = Parts()
