"""What can go wrong, by who has to do something about it. ``str()`` says what was wrong, ``hint`` what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from agezero.wire import FieldError, ProblemDetails, PurgeDetail


class ClientError(Exception):
    """All of them."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unreachable(ClientError):
    """Nobody answered."""


class NotTheService(ClientError):
    """Somebody else answered, with this HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, "check the URL: it is the API's address, not the edge's or the website's")
        self.status = status


class Refused(ClientError):
    """The service said no: sending the same again changes nothing. ``errors`` names what is wrong where."""

    def __init__(self, problem: ProblemDetails) -> None:
        where = "".join(f"\n  {error.where or 'all'}: {error.detail}" for error in problem.errors[:10])
        detail = "" if problem.errors else problem.detail
        super().__init__(f"{problem.title} (HTTP {problem.status}){where}", " ".join(filter(None, (detail, problem.hint))))
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def errors(self) -> Sequence[FieldError]:
        """What is wrong where."""
        return self.problem.errors


class Denied(Refused):
    """The key is missing, not valid, or may not do this (401, 403)."""


class NotFound(Refused):
    """There is no such purge or edge, or none that this key may see (404)."""


class Unavailable(Refused):
    """Too often, or not possible for the moment (429, 503), for longer than there was time."""


class WaitTimeout(ClientError):
    """The purge is accepted and durable, but not complete in time. It goes on. ``detail``: what was known last, if anything.

    ``why``: what the service said where it could not tell the status.
    """

    def __init__(self, purge_id: str, timeout_s: float, detail: PurgeDetail | None, why: str = "") -> None:
        edges = [edge for edge in detail.edges if edge.state == "pending"] if detail else []
        awaited = ", ".join(f"{edge.name} ({edge.why})" for edge in edges)
        pending = f"the purge {purge_id} is still pending after {round(timeout_s, 1):g} s"
        super().__init__("; ".join(filter(None, (pending, awaited and f"awaited: {awaited}", why))))
        self.detail = detail


def refused(problem: ProblemDetails) -> Refused:
    """The error for what the service said."""
    kinds = {401: Denied, 403: Denied, 404: NotFound, 429: Unavailable, 503: Unavailable}
    return kinds.get(problem.status, Refused)(problem)
