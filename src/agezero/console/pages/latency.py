"""How long it took from accepted to completed: half of the purges, and the slowest hundredth; all in all, and at each edge."""

from __future__ import annotations

from agezero.console.call import Handler, Request
from agezero.console.latency import RANGES_S, Latencies, latencies
from agezero.console.plot import plot
from agezero.console.render import span
from agezero.events import ControlEvents
from agezero.http.native.purges import sees, unknown
from agezero.http.parts import Parts
from agezero.http.reply import Reply
from agezero.journal import text_of
from agezero.ports import LogUnavailable
from agezero.progress import now_ms

RANGE = "1h"


def latency_page(parts: Parts) -> Handler:
    """Any key may look; one that is bound to endpoints at the purges under these."""
    journal = parts.native.journal
    events = ControlEvents(journal.control, journal.history)

    async def show(request: Request) -> Reply:
        chosen = request.query("range").one_of("range", *RANGES_S) or RANGE
        try:
            found = await latencies(journal, sees(request.visitor), RANGES_S[chosen], now_ms())
            blocked = await events.blocked()
        except LogUnavailable as error:
            raise unknown(error) from None
        series = {"All edges": found.whole, **found.edges}
        top_ms = max((each.p99 or 0 for points in series.values() for each in points), default=0)
        figures = [(name, plot(points, f"{name}: latency", _in_words(found), top_ms)) for name, points in series.items()]
        edges = list(found.edges)
        rows = [(text_of(each.until_ms), each, [found.edges[name][index] for name in edges]) for index, each in enumerate(found.whole) if each.count]
        values = {"figures": figures, "rows": rows, "found": found, "edges": edges, "ranges": list(RANGES_S), "chosen": chosen, "blocked": blocked}
        return request.page("latency.html", 200, **values)

    return show


def _in_words(found: Latencies) -> str:
    total = found.total
    return f"Median {span(total.p50)}, 99th percentile {span(total.p99)} of {total.count} purges. The table below has the numbers."
