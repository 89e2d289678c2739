"""What a run must have reached to count as tested: each fault, each outcome, each row of the follower's transition table."""

from __future__ import annotations

from agezero.core.follower import State
from agezero.core.steps import DriverDone, DriverFailed, EdgeRestarted, HeadKnown, LeaseGranted, LeaseLost, Records, Tick

FAULTS = frozenset(
    {
        "message lost",
        "message doubled",
        "message delayed",
        "message cut off",
        "agent crashed",
        "agent paused",
        "agent left",
        "agent replaced while it lives",
        "agent's disk lost",
        "machine crashed",
        "cache restarted with its disk",
        "cache restarted without its disk",
        "deleted object came back with the disk",
        "applied, then timed out",
        "driver refused",
        "the cache's own code failed",
        "the origin answered a command",
        "edge removed by hand",
        "append refused",
        "commit with an unknown outcome",
        "record not saved",
        "log restored from a backup",
        "acknowledged entries lost with a backup",
        "control crashed",
        "crash while a record was being saved",
        *(f"agent crashed before {effect}" for effect in ("Read", "Apply", "SaveWatermark", "Acknowledge", "Renew", "Install", "Probe", "Restore")),
    }
)
OUTCOMES = frozenset(
    {
        "hit",
        "bypass",
        "collapsed miss",
        "fill fenced off",
        "lease granted",
        "lease refused",
        "lease expired",
        "superseded",
        "cache refused an old token",
        "cache refused a lease before its table",
        "read below the floor",
        "log trimmed",
        "status not known yet",
        "supervisor tells of a restart",
        "cache restarted and kept its mapped table",
        "a new agent trusted what lies in the cache",
        "stored just after its purge",
        "looked again at a young object",
        "driver refused a lease over an unsettled purge",
        "kept out: its tag was purged meanwhile",
        "no record of tags could begin",
    }
)
UNREACHED = frozenset(f"{State.JOINING} + {event.__name__}" for event in (Records, DriverDone, LeaseGranted, LeaseLost, Tick))
"""No shell tells these to a follower that has asked for nothing yet; the table is total all the same."""
TRANSITIONS = (
    frozenset(
        f"{state} + {event.__name__}"
        for state in State
        for event in (HeadKnown, Records, DriverDone, DriverFailed, EdgeRestarted, LeaseGranted, LeaseLost, Tick)
    )
    - UNREACHED
)
REQUIRED = FAULTS | OUTCOMES | TRANSITIONS
