"""What a person gets to see: errors with a hint, exit codes, a spinner."""

from __future__ import annotations

import contextlib
import sys
from enum import IntEnum

from agezero.errors import UserError


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


def data(text: str) -> None:
    """One line of what was asked for."""
    try:
        print(text, flush=True)
    except OSError as failure:
        raise CommandFailed(Exit.FAILED, f"the output could not be written: {failure.strerror}", "make room where it goes") from None


def note(text: str) -> None:
    """One line about what goes on. Where nobody can read it, the command goes on all the same."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def error(message: str, hint: str = "") -> None:
    """``error: …``, and on a line of its own ``hint: …``."""
    note(f"error: {message}")
    if hint:
        note(f"hint: {hint}")


def spinner(text: str) -> contextlib.AbstractContextManager[object]:
    """A sign of life while something takes time, where somebody watches. Rich obeys NO_COLOR."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)
