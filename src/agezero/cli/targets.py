"""What is to be purged: from arguments, options and files to requests that the service takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agezero.cli.output import CommandFailed, Exit

SELECTORS_MAX = 1_000
"""In one request, as docs/API.md has it."""
BYTES_MAX = 900_000
"""Of selectors in one request: its body has at most 1 MiB, and JSON escapes some characters."""

WORDS = {"url": "urls", "prefix": "prefixes", "tag": "tags", "host": "hosts", "asset": "assets"}
"""The first word of a line → the member of the request's body."""


@dataclass(frozen=True, slots=True)
class Target:
    """``kind``: a member of the request's body. ``place``: where it stands, for errors."""

    kind: str
    text: str
    place: str = ""


EVERYTHING = Target("everything", "")


def read(file: Path) -> list[Target]:
    """The targets in a file, ``-`` for stdin. Raises :class:`CommandFailed`."""
    name = "stdin" if str(file) == "-" else str(file)
    try:
        raw = sys.stdin.buffer.read() if name == "stdin" else file.read_bytes()
        return list(parse(raw.decode("utf-8-sig").split("\n"), name))
    except OSError as error:
        raise CommandFailed(Exit.FAILED, f"{name} can not be read: {error.strerror}", "--from-file takes a file, or - for stdin") from None
    except UnicodeDecodeError as error:
        raise CommandFailed(Exit.FAILED, f"{name} is not UTF-8: {error.reason} at byte {error.start}", "expected text, one URL a line") from None


def parse(lines: Iterable[str], name: str) -> Iterator[Target]:
    """A line is a URL, or a word of :data:`WORDS` and what it names. Empty lines and those that begin with ``#`` are left out."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            word, _, rest = text.partition(" ")
            kind = WORDS.get(word) if rest else None
            yield Target(kind or "urls", rest.strip() if kind else text, f"{name}:{number}")


def batches(targets: Iterable[Target]) -> Iterator[list[Target]]:
    """As few requests as the service takes."""
    batch: list[Target] = []
    size_bytes = 0
    for target in targets:
        added_bytes = len(target.text.encode(errors="surrogatepass")) + 4
        if batch and (len(batch) == SELECTORS_MAX or size_bytes + added_bytes > BYTES_MAX):
            yield batch
            batch, size_bytes = [], 0
        batch.append(target)
        size_bytes += added_bytes
    if batch:
        yield batch


def body(batch: Sequence[Target]) -> dict[str, list[str]]:
    """The lists of a request."""
    return {kind: [target.text for target in batch if target.kind == kind] for kind in WORDS.values()}


def at(batch: Sequence[Target], where: str) -> Target | None:
    """Which one an error such as ``urls/3`` speaks of; None where it is all of them."""
    kind, _, number = where.partition("/")
    same = [target for target in batch if target.kind == kind]
    index = int(number) if number.isdecimal() else 0
    return same[index] if index < len(same) and (number or kind == EVERYTHING.kind) else None
