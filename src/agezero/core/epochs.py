"""The purge table: the newest purge that matches a request, in fixed space, and it never forgets.

An edge puts the answer, the *epoch*, into its cache key. A purge then is a table write: every variant of the object and every
fill in flight stay behind under the old key, where nobody looks again.

Theory
------
The table is an array of 2^k slots. A slot is addressed by a hash and holds the seq of the newest purge that touched it.
Applying a purge raises one slot; looking up a request takes the highest of the few slots its URL belongs to: its own,
one for each prefix of it that may have been purged, its host's, and the one for everything. Numbers only rise and nothing is evicted, so the
answer for a URL only rises, and after purge P it is at least P for all that P names. Two names that share a slot
purge each other too much, once; with n purges in m slots the chance for an object that belongs to k of them is about
1 - (1 - k/m)^n (``collateral``).

Which prefixes can be looked up? One that ends in "/" of the path is found at each "/" in one pass over the URL. Any other has its
own length, and a request must try each length that was ever purged; so their number is bounded, and when the list is full a
prefix is cut to the longest listed length, or to the "/" before: wider, never narrower. A purge
of everything takes the lengths off the list that it outdates.

A request does not tell its object's tags. Where it is known what has been stored for it, and with which tags, their slots are looked up too
(``newest_of``). Where it is not, the newest purge of any tag counts.

The same arithmetic stands in ``edges/nginx/edge.js``: 32 bits, products below 2^53, so that a double computes it exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from dataclasses import dataclass, field

from agezero.core.selector import Kind, Selector, authority_of

LENGTHS_MAX = 24
"""How many distinct lengths of prefixes that do not end in "/" can be told apart; each costs a request one slot look-up."""

_SEED = 0x2545F491
_FACTOR = 1000003
_MASK32 = 0xFFFFFFFF
_KINDS = {Kind.URL: 0x1B873593, Kind.PREFIX: 0x4CF5AD43, Kind.HOST: 0x38495AB5, Kind.TAG: 0x2C1B3C6D}


def hash_step(state: int, text: str) -> int:
    """Continue the rolling hash over ``text`` (ASCII). Start from :data:`_SEED`."""
    for byte in text.encode("ascii"):
        state = (state * _FACTOR ^ byte) & _MASK32
    return state


def slot_of(state: int, kind: Kind, slots: int) -> int:
    """The slot for a rolling hash ``state`` of something of this ``kind``; ``slots`` is a power of two."""
    mixed = state ^ _KINDS[kind]
    mixed = ((mixed ^ mixed >> 15) * _FACTOR) & _MASK32
    return (mixed ^ mixed >> 13) & (slots - 1)


def tag_slot(tag: str, slots: int) -> int:
    """The slot of purges of ``tag``."""
    return slot_of(hash_step(_SEED, tag), Kind.TAG, slots)


def collateral(purges: int, slots: int, looked_up: int = 1) -> float:
    """Chance that an unrelated object is purged too, once, by ``purges`` distinct purges in a table of ``slots``.

    ``looked_up``: how many slots a request for it looks at: one for its URL, one for its host and one for each "/" of its path once such a
    purge was ever made, and one for each listed length of other prefixes.
    """
    return float(1 - (1 - min(looked_up, slots) / slots) ** purges)


@dataclass(slots=True)
class Gates:
    """What has to be looked up at all; an entry too many only costs speed."""

    host: bool = False
    slash: bool = False
    lengths: dict[int, int] = field(default_factory=dict)  # length of a prefix -> the newest purge of that length


@dataclass(frozen=True, slots=True)
class Write:
    """One change of the table: ``slot`` (None: the one for everything) is raised to ``seq``."""

    slot: int | None
    seq: int


class EpochTable:
    """The table over any mutable sequence of 2^k integers: an array, or a file mapped into memory."""

    def __init__(self, slots: MutableSequence[int], everything: int = 0, gates: Gates | None = None, tags: int = 0) -> None:
        if len(slots) & (len(slots) - 1) or not slots:
            raise ValueError(f"the number of slots must be a power of two, not {len(slots)}")
        self.slots = slots
        self.everything = everything
        self.gates = gates or Gates()
        self.tags = tags
        """The newest purge of any tag."""
        self.used = sum(map(bool, slots))
        """How many slots a purge has touched."""

    def apply(self, seq: int, selector: Selector) -> Write:
        """Record that purge ``seq`` named ``selector``; returns the write for copies of the table to repeat (after taking over ``gates``)."""
        match selector.kind:
            case Kind.URL | Kind.HOST:
                self.gates.host |= selector.kind is Kind.HOST
                return self._raise(slot_of(hash_step(_SEED, selector.value), selector.kind, len(self.slots)), seq)
            case Kind.PREFIX:
                value = self._cut(selector.value, seq)
                return self._raise(slot_of(hash_step(_SEED, value), Kind.PREFIX, len(self.slots)), seq)
            case Kind.EVERYTHING:
                self.everything = max(self.everything, seq)
                self.gates.lengths = {n: newest for n, newest in self.gates.lengths.items() if newest > self.everything}
                return Write(None, self.everything)
            case Kind.TAG:
                self.tags = max(self.tags, seq)
                return self._raise(tag_slot(selector.value, len(self.slots)), seq)

    def newest(self, url: str) -> int:
        """The seq of the newest purge that may match the canonical ``url``, whatever its tags are, or of one that shares a slot; 0: none."""
        return max(self.tags, self.newest_of(url, ()))

    def newest_of(self, url: str, tags: Iterable[str]) -> int:
        """The same where it is known what tags all that is stored for ``url`` has."""
        size = len(self.slots)
        purged = (min(self.tags, self.slots[tag_slot(tag, size)]) for tag in tags)  # above: of something else in that slot
        return max(self.everything, *(self.slots[slot] for slot in self.places(url)), *purged)

    def places(self, url: str) -> Iterator[int]:
        """The slots to which the canonical ``url`` belongs; the same until the gates or the number of slots change."""
        size, gates = len(self.slots), self.gates
        path_end = len(url.partition("?")[0])
        cuts = {length for length in gates.lengths if length <= len(url)}
        if gates.slash:
            cuts.update(i + 1 for i in range(path_end) if url[i] == "/")
        state, done = _SEED, len(authority_of(url))
        state = hash_step(state, url[:done])
        if gates.host:
            yield slot_of(state, Kind.HOST, size)
        for cut in sorted(cuts):
            state, done = hash_step(state, url[done:cut]), max(done, cut)
            yield slot_of(state, Kind.PREFIX, size)
        yield slot_of(hash_step(state, url[done:]), Kind.URL, size)

    def _cut(self, prefix: str, seq: int) -> str:
        """The prefix itself where it can be looked up, else the nearest shorter one that can."""
        gates, length = self.gates, len(prefix)
        slash = prefix.partition("?")[0].rindex("/") + 1
        if length > slash and length not in gates.lengths and len(gates.lengths) == LENGTHS_MAX:
            length = max((n for n in gates.lengths if slash < n < length), default=slash)
        if length == slash:
            gates.slash = True
        else:
            gates.lengths[length] = max(seq, gates.lengths.get(length, 0))
        return prefix[:length]

    def _raise(self, slot: int, seq: int) -> Write:
        before = self.slots[slot]
        self.used += not before
        self.slots[slot] = seq = max(seq, before)
        return Write(slot, seq)
