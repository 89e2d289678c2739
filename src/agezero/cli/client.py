"""The client for commands: :mod:`agezero.client`, its errors as ways in which a command ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from agezero import client as api
from agezero.cli.output import CommandFailed, Exit
from agezero.wire import Edge

_URL_HINT = "is `agezero up` running there? --url or AGEZERO_URL gives the address"
_CODES: tuple[tuple[type[api.ClientError], Exit], ...] = (
    (api.Refused, Exit.REFUSED),
    (api.WaitTimeout, Exit.TIMEOUT),
    (api.Unreachable, Exit.UNREACHABLE),
    (api.NotTheService, Exit.UNREACHABLE),
    (api.ClientError, Exit.FAILED),
)


class Client:
    """Talks to the service at ``url``. All methods raise :class:`CommandFailed`; ``deadline_s`` is on the monotonic clock."""

    def __init__(self, url: str, key: str, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        with _in_words():
            self._api = api.Client(url, key, patience_s=self._left_s())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._api.close()

    def submit(self, url: str) -> str:
        """Purge ``url``; its id."""
        with _in_words():
            return self._api.purge(urls=[url]).id

    def status(self, purge_id: str) -> str:
        """``Pending`` or ``Completed``."""
        with _in_words():
            return self._api.status(purge_id).state.capitalize()

    def edges(self) -> Sequence[Edge]:
        """The fleet."""
        with _in_words():
            return self._api.edges()

    def remove_edge(self, name: str) -> None:
        """It is gone for good."""
        with _in_words():
            self._api.remove_edge(name)

    def wait(self, purge_id: str) -> None:
        """Return once the purge is completed."""
        with _in_words(f"it goes on; `agezero status {purge_id} --wait` waits for it"):
            self._api.wait(purge_id, self._left_s())

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())


@contextlib.contextmanager
def _in_words(hint: str = _URL_HINT) -> Iterator[None]:
    try:
        yield
    except api.ClientError as error:
        code = next(code for kind, code in _CODES if isinstance(error, kind))
        raise CommandFailed(code, str(error), error.hint if code is not Exit.TIMEOUT else hint) from None
