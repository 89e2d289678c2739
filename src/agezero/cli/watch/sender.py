"""Sends what the outbox holds, for as long as it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from agezero.cli.client import Client
from agezero.cli.output import CommandFailed, Exit, error, note
from agezero.cli.submit import Order, Submitter
from agezero.cli.targets import Target
from agezero.cli.watch.outbox import Outbox
from agezero.wire import Accepted

ATTEMPT_S = 30.0
AGAIN_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""After how long a batch is sent again; the last counts for all that follow."""
LAST_S = 5.0
"""How long what is left is sent for once the watching ends."""

Tell = Callable[[Accepted, Sequence[Target]], None]


class Sender(threading.Thread):
    """Ends once the outbox is closed and empty, or :attr:`deadline_s`, on the monotonic clock, has come."""

    def __init__(self, outbox: Outbox, url: str, key: str, order: Order, tell: Tell) -> None:
        super().__init__(daemon=True)
        self._outbox = outbox
        self._connect: Callable[[], Client] = lambda: Client(url, key, min(time.monotonic() + ATTEMPT_S, self.deadline_s))
        self._order = order
        self._tell = tell
        self._hurry = threading.Event()
        self._failures = 0
        self.deadline_s = float("inf")
        self.refused = 0
        self.bug: Exception | None = None

    def run(self) -> None:
        """The thread. What should never happen is kept in :attr:`bug`."""
        try:
            self._run()
        except Exception as bug:
            self.bug = bug

    def _run(self) -> None:
        while batch := self._outbox.take():
            if self._sent(batch):
                self._outbox.done()
                continue
            self._outbox.back()
            if time.monotonic() > self.deadline_s:
                return
            self._hurry.wait(AGAIN_S[min(self._failures, len(AGAIN_S)) - 1])

    def finish(self) -> bool:
        """Send what is left, for a short while. False where something is left all the same."""
        self.deadline_s = time.monotonic() + LAST_S
        self._hurry.set()
        self._outbox.close()
        self.join(2 * LAST_S)
        return not self._outbox

    def _sent(self, batch: Sequence[Target]) -> bool:
        try:
            with self._connect() as client:
                submitter = Submitter(client, self._order, alone=False)
                for accepted in submitter.send(batch):
                    self._tell(accepted, batch)
                self.refused += submitter.refused
        except CommandFailed as failure:
            if not self._failures:
                error(failure.message, f"kept, and sent again until accepted. {failure.hint}")
            self._failures += 1
            if self._hurry.is_set():
                time.sleep(0.1)
            return False
        if self._failures:
            note("accepted again")
        self._failures = 0
        return True


def left(count: int, base: str) -> CommandFailed:
    """What the command ends with."""
    return CommandFailed(Exit.UNREACHABLE, f"{count:,} changes were not accepted", f"purge them later: agezero purge --prefix {base}")
