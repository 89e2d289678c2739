"""The names on NATS: streams, subjects, and how an edge's name becomes part of one. ``deploy/nats/`` gives permissions by them."""

from __future__ import annotations

LOG_STREAM = "agezero_purges"
LOG_SUBJECT = "agezero.purges"
FOLLOWED = "agezero.log"
"""Where the stream tells each entry once more, as a plain message, for agents. They make no consumers."""
BOARD_BUCKET = "agezero_edges"
BOARD_STREAM = f"KV_{BOARD_BUCKET}"
BOARD_SUBJECTS = f"$KV.{BOARD_BUCKET}."
"""Before a key of the board."""
ONCE_BUCKET = "agezero_once"
ONCE_STREAM = f"KV_{ONCE_BUCKET}"
ONCE_SUBJECTS = f"$KV.{ONCE_BUCKET}."
"""Before an idempotency key, hashed."""
SERVICE_BUCKET = "agezero_service"
SERVICE_STREAM = f"KV_{SERVICE_BUCKET}"
"""What only control nodes may know: the secret that seals ids, API keys as hashes."""
WEBHOOKS_STREAM = "KV_agezero_webhooks"
"""Webhooks and what has to be told to them: for control nodes too."""
CONTROL = "agezero.control."
"""Requests of agents: ``agezero.control.VERB.EDGE``. Control nodes share them."""
REPORTS = "agezero.report."
"""Watermarks: ``agezero.report.EDGE``, or ``agezero.report.HOST.+`` for several edges of a host. Every control node hears all."""
NEWS = "agezero.news"
"""Control nodes tell all agents what is released."""


def token(edge: str) -> str:
    """An edge's name within a subject. A dot divides it, so ``HOST.>`` is a host's; where that leaves a part empty it's a ``~``."""
    return edge if all(edge.split(".")) else edge.replace(".", "~")


def edge_of(token: str) -> str:
    """The opposite of :func:`token`."""
    return token.replace("~", ".")


ANSWERED = ("_INBOX", "_R_.")
"""Before every subject on which an answer is taken: an inbox, or the server's own name for one in another account.
A control node answers nowhere else, or agents could make it publish for them."""
API = "$JS.API"
AGENT_API = "agezero.api"
"""Before the two calls of JetStream's API that agents make, where their accounts import them: ``STREAM.INFO`` and ``DIRECT.GET`` of the log."""
