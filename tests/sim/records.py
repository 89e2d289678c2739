"""What a table cache knows of the tags of what it has stored, as an nginx of one's own does (agezero_tags.lua, tags.js): the rules of PROTOCOL.md."""

from __future__ import annotations

from dataclasses import dataclass, field

from agezero.core.epochs import EpochTable, tag_slot
from sim.parts import Parts
from sim.world import World


def highest(table: EpochTable) -> int:
    """No number in it is greater."""
    return max(table.everything, table.tags, *table.slots)


@dataclass(slots=True)
class TagRecords:
    """A record of a URL is its floor and the tags of all that can be met at it. All of them are lost with the process.

    ``born``: nothing that was stored before these records began has a higher epoch; None: not known yet. (The numbers here are the log's, which a
    stored object may have when a table begins anew with one of them. So ``born`` is counted after that, and records begin with the next purge.)
    """

    world: World
    parts: Parts
    known: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    born: int | None = None

    def epoch(self, table: EpochTable, url: str) -> int:
        """Of a request for ``url``. Without a record, the newest purge of any tag counts."""
        if url not in self.known:
            return table.newest(url)
        floor, tags = self.known[url]
        return max(floor, table.newest_of(url, tags))

    def admit(self, table: EpochTable, url: str, number: int, tags: frozenset[str]) -> bool:
        """May a response that was asked for under the epoch ``number`` be stored? It is recorded first, and then its purges are looked at."""
        self._record(url, number, tags)
        late = any(min(table.tags, table.slots[tag_slot(tag, len(table.slots))]) > number for tag in tags)
        if late:
            self.world.mark("kept out: its tag was purged meanwhile")
        return not late or not self.parts.late_tags

    def _record(self, url: str, number: int, tags: frozenset[str]) -> None:
        if url not in self.known and not self._may_begin(number):
            self.world.mark("no record of tags could begin")
            return
        floor, known = self.known.get(url, (0, frozenset[str]()))
        if number < floor:
            return  # it is stored where nobody looks any more
        unites = number == floor and self.parts.tags_unite
        self.known[url] = (number, known | tags if unites else tags)

    def _may_begin(self, number: int) -> bool:
        return not self.parts.records_begin_new or (self.born is not None and number > self.born)
