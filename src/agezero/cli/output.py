"""What a person gets to see: errors with a hint, exit codes, tables, JSON lines. Colour only where somebody watches."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TextIO

from agezero.errors import UserError
from agezero.terminal import CONTROL, harmless


class Exit(IntEnum):
    """How a command ends. 130 is Ctrl-C, as in any shell."""

    OK = 0
    FAILED = 1
    """A setting, a file, an address: something here has to be put right."""
    USAGE = 2
    """The command line itself."""
    REFUSED = 3
    """The service said no."""
    UNREACHABLE = 4
    """No answer, or none that the purge API would give."""
    TIMEOUT = 5
    """Accepted, but not completed in time."""
    BUG = 70
    INTERRUPTED = 130


class CommandFailed(UserError):
    """A :class:`UserError` with an exit code of its own."""

    def __init__(self, code: Exit, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


_STYLES = {"bad": "\x1b[1;31m", "careful": "\x1b[33m", "good": "\x1b[32m", "aside": "\x1b[36m"}
_NO_STYLE = "\x1b[0m"
_CONTROL = re.compile(rf"(?!{'|'.join(map(re.escape, (*_STYLES.values(), _NO_STYLE)))}){CONTROL}")
"""But for the styles of our own."""


def unwritten(failure: OSError) -> CommandFailed:
    """What a command ends with whose answer nobody gets."""
    return CommandFailed(Exit.FAILED, f"the output could not be written: {failure.strerror}", "make room where it goes, or name another place")


def data(text: str) -> None:
    """One line of what was asked for. Raises ``BrokenPipeError`` where nobody reads it any more."""
    try:
        print(harmless(text, _CONTROL), flush=True)
    except BrokenPipeError:
        raise
    except OSError as failure:
        raise unwritten(failure) from None


def note(text: str) -> None:
    """One line about what goes on. Where nobody can read it, the command goes on all the same."""
    with contextlib.suppress(OSError):
        print(harmless(text, _CONTROL), file=sys.stderr, flush=True)


def error(message: str, hint: str = "") -> None:
    """``error: …``, and on a line of its own ``hint: …``."""
    note(f"{painted('error:', 'bad')} {message}")
    if hint:
        note(f"{painted('hint:', 'aside')} {hint}")


def warning(message: str) -> None:
    """``warning: …``."""
    note(f"{painted('warning:', 'careful')} {message}")


def painted(text: str, style: str, stream: TextIO | None = None) -> str:
    """In colour, where the stream (stderr) shows colours to a person who wants them: a terminal, not dumb, no ``NO_COLOR``."""
    return f"{_STYLES[style]}{text}{_NO_STYLE}" if lively(stream) and not os.environ.get("NO_COLOR") else text


def lively(stream: TextIO | None = None) -> bool:
    """Is there a terminal at the stream (stderr) that can do more than print lines?"""
    return (stream or sys.stderr).isatty() and os.environ.get("TERM", "dumb") != "dumb"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """In columns, two blanks between them; no line for no rows. Their names stand above them on a terminal alone: programs read rows."""
    kept = list(rows)
    if kept and lively(sys.stdout):
        kept.insert(0, [column.upper() for column in columns])
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    for row in kept:
        data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def json_lines(items: Iterable[object]) -> None:
    """One object a line; in ASCII, where the output takes no other letters, or a terminal would obey one of them."""
    import json

    import msgspec

    for item in items:
        text = msgspec.json.encode(item).decode()
        data(text if harmless(text) == text and _taken(text) else json.dumps(json.loads(text)))


def _taken(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
