"""Forms whose answer is shown once: sent again, by a reload or a second press, they do nothing more."""

from __future__ import annotations

from collections import OrderedDict

FORMS_MAX = 1_000


class Once:
    """Remembers the newest forms that were sent. In memory: what outlives a restart is no reload."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, None] = OrderedDict()

    def first(self, name: str) -> bool:
        """Is it sent for the first time? A form without a name always is."""
        if name in self._sent:
            return False
        if name:
            self._sent[name] = None
            while len(self._sent) > FORMS_MAX:
                self._sent.popitem(last=False)
        return True
