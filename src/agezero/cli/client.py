"""The client for commands: :mod:`agezero.client`, its errors as ways in which a command ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

from agezero import client as api
from agezero.cli.output import CommandFailed, Exit
from agezero.cli.progress import goes_on
from agezero.wire import Accepted, AuditRow, Edge, PurgeDetail

_URL_HINT = "is `agezero up` running there? --url or AGEZERO_URL gives the address"
_CODES: tuple[tuple[type[api.ClientError], Exit], ...] = (
    (api.Refused, Exit.REFUSED),
    (api.WaitTimeout, Exit.TIMEOUT),
    (api.Unreachable, Exit.UNREACHABLE),
    (api.NotTheService, Exit.UNREACHABLE),
    (api.ClientError, Exit.FAILED),
)
_PLAIN = "/v1/files/purge"
_PLAIN_POLL_S = 0.2


class Client:
    """Talks to the service at ``url``. All methods raise :class:`CommandFailed`; ``deadline_s`` is on the monotonic clock."""

    def __init__(self, url: str, key: str, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        with in_words():
            self.api = api.Client(url, key, patience_s=self.left_s())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.api.close()

    def purge_url(self, url: str) -> Accepted:
        """Purge one URL, hard. A service that knows ImageKit's call alone is asked by that."""
        with in_words():
            try:
                return self.api.purge(urls=[url]).accepted
            except (api.NotFound, api.NotTheService) as error:
                if error.status not in (404, 405):
                    raise
                with contextlib.suppress(api.NotFound, api.NotTheService):
                    return Accepted(self.api.call("POST", _PLAIN, {"url": url})["requestId"], "hard", (), ())
                raise

    def status(self, purge_id: str) -> PurgeDetail:
        """Everything about a purge; of a service that knows ImageKit's call alone, its state."""
        with in_words():
            try:
                return self.api.status(purge_id)
            except (api.NotFound, api.NotTheService) as error:
                with contextlib.suppress(api.ClientError):
                    return _plain(purge_id, self.api.call("GET", f"{_PLAIN}/{quote(purge_id, safe='')}")["status"])
                raise error from None

    def edges(self) -> Sequence[Edge]:
        """The fleet."""
        with in_words():
            return self.api.edges()

    def remove_edge(self, name: str) -> None:
        """It is gone for good."""
        with in_words():
            self.api.remove_edge(name)

    def audit(self) -> Iterator[AuditRow]:
        """Who did what, newest first."""
        with in_words():
            yield from self.api.audit(limit="200")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Any call of the native API, and its answer."""
        with in_words():
            return self.api.call(method, path, body)

    def wait(self, purge_id: str, seen: Callable[[PurgeDetail], object] | None = None) -> PurgeDetail:
        """Return once the purge is completed; ``seen`` is told meanwhile how far it is."""
        with in_words(goes_on(purge_id)):
            began_s = self.left_s()
            try:
                return self.api.wait(purge_id, began_s, seen)
            except (api.NotFound, api.NotTheService):
                detail = self.status(purge_id)
            while detail.state != "completed":
                if self.left_s() < _PLAIN_POLL_S:
                    raise api.WaitTimeout(purge_id, began_s, detail)
                time.sleep(_PLAIN_POLL_S)
                detail = self.status(purge_id)
            return detail

    def left_s(self) -> float:
        """Until the deadline."""
        return max(0.0, self._deadline_s - time.monotonic())


@contextlib.contextmanager
def in_words(hint: str = "") -> Iterator[None]:
    """The client's errors as :class:`CommandFailed`; ``hint``: for a wait that is too long."""
    try:
        yield
    except api.ClientError as error:
        raise failure(error, hint) from None


def failure(error: api.ClientError, hint: str = "") -> CommandFailed:
    """What a command ends with."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    hints = {Exit.TIMEOUT: hint, Exit.UNREACHABLE: _URL_HINT if isinstance(error, api.Unreachable) else error.hint}
    return CommandFailed(code, str(error), hints.get(code, error.hint))


def _plain(purge_id: str, status: str) -> PurgeDetail:
    state = "completed" if status == "Completed" else "pending"
    return PurgeDetail(purge_id, state, False, "hard", (), "", "", None, None, None, None, ())  # type: ignore[arg-type]
