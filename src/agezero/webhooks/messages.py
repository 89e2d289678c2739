"""Messages: their bodies, their signatures, and when one that was not heard is sent again."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from standardwebhooks import Webhook as Signer

from agezero import __version__
from agezero.events import Blocked, Completed, EventKind
from agezero.webhooks.store import Delivery, Secret, Webhook
from agezero.webhooks.targets import Answer

TEST = "webhook.test"
DELAYS_S = (5, 30, 120, 600, 3600, 3 * 3600, 6 * 3600)
"""Between the attempts: 8 of them, over some 10 hours."""
JITTER = 0.2
GONE = 410


def message(webhook: Webhook, event: str, data: object, now_ms: int) -> Delivery:
    """To be sent at once."""
    body = {"type": event, "timestamp": text_of(now_ms), "data": data}
    return Delivery(f"msg_{uuid.uuid4().hex}", webhook.id, event, msgspec.json.encode(body).decode(), now_ms, next_ms=now_ms)


def of_completed(purges: list[Completed]) -> object:
    """In the order in which they were accepted."""
    return {"purges": [{"id": purge.id, "seq": purge.seq} for purge in purges]}


def of_blocked(blocked: Blocked) -> object:
    """With the edges that hold it up, the longest behind first."""
    edges = [{"name": each.name, "watermark": each.watermark, "why": each.why} for each in blocked.blockers]
    return {"id": blocked.id, "seq": blocked.seq, "pending_s": round(blocked.pending_s, 1), "pending_entries": blocked.entries, "edges": edges}


def of_edge(name: str, fenced: bool) -> tuple[EventKind, object]:
    """The event, and what is told."""
    return EventKind.EDGE_FENCED if fenced else EventKind.EDGE_UNFENCED, {"edge": name}


def headers(webhook: Webhook, sent: Delivery, now_ms: int) -> dict[str, str]:
    """Signed with every secret that is valid now, so that a receiver may know either."""
    moment = datetime.fromtimestamp(now_ms // 1000, UTC)
    valid = [secret for secret in webhook.secrets if valid_at(secret, now_ms)]
    return {
        "content-type": "application/json",
        "user-agent": f"AgeZero/{__version__}",
        "webhook-id": sent.id,
        "webhook-timestamp": str(now_ms // 1000),
        "webhook-signature": " ".join(Signer(secret.text).sign(sent.id, moment, sent.body) for secret in valid),
    }


def valid_at(secret: Secret, now_ms: int) -> bool:
    """Does it sign?"""
    return secret.until_ms is None or now_ms < secret.until_ms


def after(sent: Delivery, answer: Answer, now_ms: int) -> Delivery:
    """What has become of a message by an attempt: heard with a 2xx, given up with a 410 or after the last attempt, else to be sent again."""
    tried = replace(sent, attempts=sent.attempts + 1, last_ms=now_ms, status=answer.status, said=answer.said)
    if 200 <= answer.status < 300:
        return replace(tried, state="delivered", next_ms=None)
    if answer.status == GONE or tried.attempts > len(DELAYS_S):
        return replace(tried, state="failed", next_ms=None)
    delay_s = DELAYS_S[tried.attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (spreads the load, hides nothing)
    return replace(tried, next_ms=now_ms + int(delay_s * 1000))


def text_of(ms: int) -> str:
    """Milliseconds since 1970 → RFC 3339, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
