"""Parts of pages as server-sent events (the HTML standard §9.2): each event replaces the element that waits for its name."""

from __future__ import annotations


def fragments(event_id: str, **parts: str) -> bytes:
    """One event for each part; the id stands with the last, so that who lost the connection between two is told both again."""
    events = [f"event: {name}\n{_data(html)}\n" for name, html in parts.items()]
    if event_id:
        events[-1] = f"id: {event_id}\n{events[-1]}"
    return "\n".join(events).encode() + b"\n"


def _data(html: str) -> str:
    return "\n".join(f"data: {line.strip()}" for line in html.splitlines() if line.strip()) or "data:"
