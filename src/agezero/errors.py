"""The one exception that is meant for a person: what was wrong, and what to do next."""

from __future__ import annotations


class UserError(Exception):
    """Ends a command with ``message`` and, on a line of its own, ``hint: …``; never with a traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
