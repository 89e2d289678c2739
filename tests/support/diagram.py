"""Draws the follower for docs/PROTOCOL.md: its transition table, and the changes of state that random walks find.

The table says which handler an event meets in each state; what state it leaves behind depends on more than that, so it is observed.
Run ``python -m support.diagram`` in ``tests`` to bring the page up to date.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from pathlib import Path

from agezero.core.follower import _EVENTS, _TRANSITIONS, Follower, Limits, State
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind
from agezero.core.steps import (
    Apply,
    DriverDone,
    DriverFailed,
    EdgeRestarted,
    Effect,
    Event,
    HeadKnown,
    Install,
    LeaseGranted,
    LeaseLost,
    Probe,
    PurgeEverything,
    Read,
    Records,
    Renew,
    Restore,
    Tick,
)

PAGE = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"
WALKS, STEPS = 3000, 120
LEASE_S = 5.0

Changes = dict[tuple[State, State], set[str]]


def observe(walks: int = WALKS) -> Changes:
    """Every change of state that was seen, and the events that made it."""
    changes: Changes = defaultdict(set)
    for seed in range(walks):
        _walk(random.Random(seed), changes)
    return changes


def _walk(draw: random.Random, changes: Changes) -> None:
    follower = Follower(Position(0, "log-1"), frozenset({Kind.EVERYTHING}), draw.random() < 0.7, Limits())
    asked, now_s, born = follower.start(), 0.0, draw.randrange(3)
    for step in range(STEPS):
        now_s += draw.choice([0.0, 0.1, 1.0, LEASE_S])
        age = born + step // 20
        event = _answer(draw, asked, now_s, age) if asked and draw.random() < 0.8 else _news(draw, age)
        before = follower.state
        if before is State.FOLLOWING and follower._lease_over(now_s):
            changes[before, State.FENCED].add("lease over")
            before = State.FENCED
        asked += follower.handle(event, now_s)
        if follower.state is not before:
            changes[before, follower.state].add(type(event).__name__)


def _news(draw: random.Random, age: int) -> Event:
    """What comes unasked, in order: the log only grows, and is another one now and then; the cache restarts now and then."""
    head = HeadKnown(9 + age, age, f"log-{1 + age // 3}", draw.choice([None, None, 0, 9]))
    news: list[Event] = [head, head, EdgeRestarted(f"boot-{age}"), Tick()]
    return draw.choice(news)


def _answer(draw: random.Random, asked: list[Effect], now_s: float, age: int) -> Event:
    """To something that was asked."""
    effect, fails = asked.pop(draw.randrange(len(asked))), draw.random() < 0.2
    match effect:
        case Read(after):
            return Records(after, [Purge(after + 1, EVERYTHING)])
        case Renew():
            return LeaseLost("refused") if fails else LeaseGranted(now_s, LEASE_S)
        case Probe(step):
            return DriverFailed(step, "no answer") if fails else EdgeRestarted(f"boot-{age}")
        case Apply(step) | PurgeEverything(step) | Restore(step) | Install(step):
            return DriverFailed(step, "no answer") if fails else DriverDone(step)
        case _:
            return Tick()


def picture(changes: Changes) -> str:
    """A Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.JOINING}"]
    for before, after in sorted(changes):
        lines.append(f"    {before} --> {after}: {', '.join(sorted(changes[before, after]))}")
    return "\n".join([*lines, "```"])


def table() -> str:
    """The transition table as it stands in the code, by handler; a dash ignores the event."""
    states = list(State)
    rows = ["| event | " + " | ".join(states) + " |", "|---" * (len(states) + 1) + "|"]
    for event in _EVENTS:
        cells = [_TRANSITIONS[state][event].__name__.lstrip("_") for state in states]
        rows.append(f"| `{event.__name__}` | " + " | ".join("–" if cell == "ignore" else cell.replace("_", " ") for cell in cells) + " |")
    return "\n".join(rows)


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the marker comments of ``name`` replaced by ``content``."""
    marked, times = re.subn(
        f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", lambda marks: f"{marks[1]}\n{content}\n\n{marks[2]}", text, flags=re.DOTALL
    )
    assert times == 1, f"{PAGE} has no place marked for {name}"
    return marked


def drawn(text: str) -> str:
    """The page as it should be."""
    return between(between(text, "states", picture(observe())), "transitions", table())


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
