"""A snapshot on a screen of any size."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agezero.cli.top.snapshot import Snapshot, latency_ms
from agezero.terminal import harmless
from agezero.wire import Edge, Purge

STYLES = {"leased": "green", "fenced": "bold red", "completed": "green", "pending": "yellow"}
WORDS = {"url": "{}", "prefix": "{}*", "tag": "tag {}", "host": "host {}", "everything": "everything"}
LINES_AROUND = 7
"""Of the screen, beside the rows of the two tables."""
COLUMNS_BEFORE = 57
"""Of the column that says what is purged."""
EDGES_SHARE = 0.5


def view(now: Snapshot, before: Snapshot | None, title: str, size: tuple[int, int], trouble: str = "") -> RenderableType:
    """``size``: how many columns and lines the screen has. ``trouble``: why the snapshot is an old one, if it is."""
    columns, lines = size
    room = max(2, lines - LINES_AROUND)
    edges, hidden = _fitting(sorted(now.edges, key=_urgency), max(1, int(room * EDGES_SHARE)))
    purges = now.shown()[: max(1, room - len(edges))]
    parts: list[RenderableType] = [_line(title, "bold"), _line(trouble, "bold red") if trouble else _line(_summary(now, before)), Text()]
    parts.append(_edges(edges) if edges else _line("no edges: `agezero up` has none, or [[edges]] is empty"))
    parts += [_line(f"and {hidden} more edges", "dim")] if hidden else []
    parts += [Text(), _purges(purges, columns - COLUMNS_BEFORE) if purges else _line("no purges yet: agezero purge URL")]
    return Group(*parts)


def _fitting(edges: list[Edge], room: int) -> tuple[list[Edge], int]:
    return (edges, 0) if len(edges) <= room else (edges[:room], len(edges) - room)


def _urgency(edge: Edge) -> tuple[bool, int, str]:
    return (edge.state == "leased" and not edge.trouble, edge.tier, edge.name)


def _summary(now: Snapshot, before: Snapshot | None) -> str:
    fenced = sum(edge.state == "fenced" for edge in now.edges)
    oldest = f"{len(now.pending)}{'+' if len(now.pending) >= 20 else ''} pending"
    words = [f"{len(now.edges)} edges, {fenced} fenced", oldest]
    if (rate := now.per_second(before)) is not None:
        words.append(f"{rate:,.1f} purges/s")
    if latencies := now.latencies_ms():
        words.append("p50 {}, p99 {}".format(*map(_duration, latencies)))
    return " · ".join(words)


def _edges(edges: list[Edge]) -> Table:
    table = _table("EDGE", "STATE", "TIER>", "WATERMARK>", "LAG>", "TROUBLE*")
    for edge in edges:
        state = Text(edge.state, STYLES.get(edge.state, "yellow"))
        table.add_row(_text(edge.name), state, str(edge.tier), f"{edge.watermark:,}", f"{edge.lag:,}", _text(edge.trouble))
    return table


def _purges(purges: list[Purge], room: int) -> Table:
    table = _table("TIME", "PURGE", "STATE", "TOOK>", "WHAT*")
    for purge in purges:
        at = datetime.fromisoformat(purge.accepted_at).astimezone().strftime("%H:%M:%S")
        took = latency_ms(purge)
        table.add_row(at, purge.id, Text(purge.state, STYLES[purge.state]), "" if took is None else _duration(took), _text(_what(purge, room)))
    return table


def _what(purge: Purge, room: int) -> str:
    more = f"+{purge.selector_count - 1:,} " if purge.selector_count > 1 else ""
    note = f" ({' '.join(purge.note.split())})" if purge.note else ""
    named = "".join(WORDS[selector.kind].format(selector.value) for selector in purge.selectors[:1])
    left = max(8, room - len(more))
    if len(named) > left:  # the end of a URL tells more than its host
        named = "…" + named[1 - left :]
    return more + named + note


def _table(*columns: str) -> Table:
    """A name that ends in ``>`` is of a column of numbers, in ``*`` of the one that takes what room is left."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    for name in columns:
        wide = name.endswith("*")
        table.add_column(
            name.rstrip(">*"),
            justify="right" if name.endswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if wide else None,
            max_width=None if wide else 24,
        )
    return table


def _line(text: str, style: str = "") -> Text:
    return Text(harmless(text), style, no_wrap=True, overflow="ellipsis")


def _text(text: str) -> Text:
    return Text(harmless(text))


def _duration(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1_000 else f"{ms / 1_000:.1f} s" if ms < 60_000 else f"{ms / 60_000:.0f} min"
