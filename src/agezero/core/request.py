"""What a request to purge names, understood: canonical selectors within what its key may purge, and what it takes beyond that.

Everything is looked at before anything is refused, so that a person sees all that is wrong at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agezero.core.assets import asset_selectors
from agezero.core.canonical import InvalidUrl, canonical_authority, split_url
from agezero.core.endpoint import Endpoint
from agezero.core.selector import EVERYTHING, Kind, Selector, canonical_prefix, parse_url, widen
from agezero.core.wildcards import Wildcards, broken_rule

SELECTORS_MAX = 1_000
TAG_BYTES_MAX = 1_024
HARD = "hard"

ASSET_WARNING = (
    "path transformations of other files in the same folders are purged too: /tr:… stands before the file's name, so no prefix singles it out"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """As it was asked for, in text."""

    urls: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    tags: Sequence[str] = ()
    hosts: Sequence[str] = ()
    assets: Sequence[str] = ()
    everything: bool = False

    def __len__(self) -> int:
        return len(self.urls) + len(self.prefixes) + len(self.tags) + len(self.hosts) + len(self.assets) + self.everything


@dataclass(frozen=True, slots=True)
class Wrong:
    """``where``: as in ``urls/3``, counted from 0. ``allowed``: it makes sense, but not to this key or service."""

    where: str
    why: str
    allowed: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be purged. ``endpoints``: the service's; ``key``: the key's own, None where it has none."""

    endpoints: Sequence[Endpoint]
    key: Sequence[Endpoint] | None
    wildcards: Wildcards

    def refusal(self, selector: Selector) -> str:
        """Empty where the selector may be purged, else why not."""
        match selector.kind:
            case Kind.URL | Kind.PREFIX:
                return self._outside(lambda endpoint: endpoint.covers(selector), selector)
            case Kind.HOST:
                ours = any(endpoint.authority == selector.value for endpoint in self.endpoints)
                mine = self.key is None or Endpoint(selector.value, "") in self.key
                return "" if ours and mine else f"the host {selector.value!r} is not {_whose(not ours)} as a whole"
            case Kind.TAG | Kind.EVERYTHING:
                return "" if self.key is None else f"a key that is bound to endpoints may not purge {_plural(selector.kind)}: they know no endpoint"

    def _outside(self, covers: Callable[[Endpoint], bool], selector: Selector) -> str:
        for endpoints, whose in ((self.endpoints, "this service"), (self.key, "this key")):
            if endpoints is not None and not any(map(covers, endpoints)):
                return f"the {selector.kind} {selector.value!r} is not under an endpoint of {whose} ({', '.join(map(str, endpoints)) or 'none'})"
        return ""


@dataclass(slots=True)
class Understood:
    """``selectors``: canonical, in the order asked for, none twice."""

    selectors: tuple[Selector, ...] = ()
    warnings: list[str] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)


def understand(asked: Asked, bounds: Bounds) -> Understood:
    """Never raises: what is wrong is in the answer."""
    result = Understood()
    found: dict[Selector, None] = {}
    for where, text, expand in _each(asked, bounds):
        try:
            selectors = list(expand(text))
        except InvalidUrl as error:
            result.wrong.append(Wrong(where, str(error)))
            continue
        refusal = next(filter(None, map(bounds.refusal, selectors)), "")
        if refusal:
            result.wrong.append(Wrong(where, refusal, allowed=False))
        found.update(dict.fromkeys(selectors))
    result.selectors = tuple(found)
    if asked.assets:
        result.warnings.append(ASSET_WARNING)
    result.wrong.extend(_too_many_or_none(asked, result))
    return result


def does_not_do(selectors: Iterable[Selector], soft: bool, does: Iterable[str]) -> tuple[str, ...]:
    """What an edge that does exactly these makes of the selectors instead, in words: ``everything``, ``hosts``, ``hard``."""
    kinds = set(does)
    changed = {wider.kind for kind, wider in ((each.kind, _within(each, kinds)) for each in selectors) if wider.kind is not kind}
    words = tuple(_plural(kind) for kind in Kind if kind in changed)
    return (*words, *([HARD] if soft and "soft" not in kinds else []))


def _within(selector: Selector, kinds: set[str]) -> Selector:
    while selector.kind.value not in kinds and selector.kind is not Kind.EVERYTHING:
        selector = widen(selector)
    return selector


def _each(asked: Asked, bounds: Bounds) -> Iterator[tuple[str, str, Callable[[str], Iterable[Selector]]]]:
    def asset(text: str) -> Iterable[Selector]:
        file = parse_url(text)
        if file.kind is not Kind.URL:
            raise InvalidUrl("an asset is one file; leave the * off, its transformations are included")
        return asset_selectors(file, bounds.endpoints)

    def url(text: str) -> Iterable[Selector]:
        selector = parse_url(text)
        if rule := broken_rule(selector, bounds.wildcards):
            raise InvalidUrl(rule)
        yield selector

    lists: tuple[tuple[str, Sequence[str], Callable[[str], Iterable[Selector]]], ...] = (
        ("urls", asked.urls, url),
        ("prefixes", asked.prefixes, _prefix),
        ("tags", asked.tags, _tag),
        ("hosts", asked.hosts, _host),
        ("assets", asked.assets, asset),
        ("everything", [""] if asked.everything else [], lambda _: [EVERYTHING]),
    )
    for name, texts, expand in lists:
        for number, text in enumerate(texts):
            yield name if name == "everything" else f"{name}/{number}", text, expand


def _prefix(text: str) -> Iterable[Selector]:
    authority, target = split_url(text.strip(" "))
    if "*" in authority + target:
        raise InvalidUrl("a prefix needs no *; it names all that begins so")
    yield Selector(Kind.PREFIX, canonical_authority(authority) + canonical_prefix(target))


def _tag(text: str) -> Iterable[Selector]:
    if not text.isprintable() or not text.isascii() or not text or set(text) & set(" ,") or len(text) > TAG_BYTES_MAX:
        raise InvalidUrl(f"a tag is 1 to {TAG_BYTES_MAX} printable ASCII characters without space or comma")
    yield Selector(Kind.TAG, text)


def _host(text: str) -> Iterable[Selector]:
    if "/" in text:
        raise InvalidUrl("a host is a name with or without a port, such as cdn.example.com; for a URL there are urls and prefixes")
    yield Selector(Kind.HOST, canonical_authority(text))


def _too_many_or_none(asked: Asked, result: Understood) -> Iterator[Wrong]:
    if not len(asked):
        yield Wrong("", "nothing to purge is named; expected urls, prefixes, tags, hosts, assets or everything")
    if max(len(asked), len(result.selectors)) > SELECTORS_MAX:
        count = f"{len(asked)} were asked for, {len(result.selectors)} as understood"
        yield Wrong("", f"too many selectors: {count}; expected at most {SELECTORS_MAX} in one purge")


def _whose(service: bool) -> str:
    return "served here" if service else "this key's"


def _plural(kind: Kind) -> str:
    return {Kind.PREFIX: "prefixes", Kind.EVERYTHING: "everything"}.get(kind, f"{kind.value}s")
