"""The description of ``/v1/webhooks``."""

from __future__ import annotations

from agezero.http.faults import Fault
from agezero.http.native.openapi import problems
from agezero.http.openapi_keys import ADMIN_FAULTS, BODY_FAULTS
from agezero.http.openapi_parts import Json, empty_response, json_response, operation, path_parameter, request_body
from agezero.http.webhooks import (
    DELIVERIES_PATH,
    ROTATE_PATH,
    TEST_PATH,
    WEBHOOK_PATH,
    WEBHOOKS_PATH,
    Deliveries,
    DeliveryView,
    MadeWebhook,
    NewSecret,
    WebhookList,
    WebhookRequest,
    WebhookView,
)

_ANSWERS = (WebhookList, WebhookView, MadeWebhook, NewSecret, Deliveries, DeliveryView)
WEBHOOK_STRUCTS = (WebhookRequest, *_ANSWERS)
WEBHOOK_CLOSED = tuple(struct.__name__ for struct in WEBHOOK_STRUCTS)
_WEBHOOK = {
    "id": "wh_5d1c4a22e54d",
    "url": "https://ci.example.com/hooks/agezero",
    "events": ["purge.completed", "purge.blocked"],
    "created_at": "2026-01-01T00:00:00.000Z",
    "stopped": "",
}
_SECRET = "whsec_" + "x" * 32
_DELIVERY = {
    "id": "msg_0f8fad5bd9cb469fa16570867728950e",
    "event": "purge.completed",
    "state": "delivered",
    "created_at": "2026-01-01T00:00:00.000Z",
    "attempts": 1,
    "last_at": "2026-01-01T00:00:00.100Z",
    "next_at": None,
    "status": 204,
    "said": "",
}


def webhook_paths() -> Json:
    """By path."""
    by_id = path_parameter("webhookId", "As GET /v1/webhooks gives it.", "wh_5d1c4a22e54d")
    unknown = (Fault.NO_SUCH_WEBHOOK, *ADMIN_FAULTS)
    rotated = json_response("The new secret. It is shown only now.", "NewSecret", {"secret": _SECRET})
    overlap = request_body("RollRequest", {"overlap": "24h"})
    tested = json_response("What came of it.", "DeliveryView", {**_DELIVERY, "event": "webhook.test"})
    found = json_response("The newest 50, newest first.", "Deliveries", {"deliveries": [_DELIVERY]})
    deleted = empty_response("It is told nothing more.")
    return {
        WEBHOOKS_PATH: {"get": _list(), "post": _create()},
        WEBHOOK_PATH: {
            "parameters": [by_id],
            "delete": operation("deleteWebhook", "Tell it nothing more.", {"204": deleted, **problems(unknown)}),
        },
        ROTATE_PATH: {
            "parameters": [by_id],
            "post": operation(
                "rotateWebhook",
                "Make a new secret; messages are signed with the old one too until the overlap is over.",
                {"200": rotated, **problems((*BODY_FAULTS, *unknown))},
                overlap,
            ),
        },
        TEST_PATH: {
            "parameters": [by_id],
            "post": operation("testWebhook", "Send a message now, once, and say what came of it.", {"200": tested, **problems(unknown)}),
        },
        DELIVERIES_PATH: {
            "parameters": [by_id],
            "get": operation("deliveries", "What became of the messages.", {"200": found, **problems(unknown)}),
        },
    }


def _list() -> Json:
    listed = json_response("They.", "WebhookList", {"webhooks": [_WEBHOOK]})
    return operation("webhooks", "All webhooks.", {"200": listed, **problems(ADMIN_FAULTS)})


def _create() -> Json:
    made = json_response("Made. Its secret is shown only now.", "MadeWebhook", {"secret": _SECRET, "webhook": _WEBHOOK})
    made["headers"]["Location"] = {"description": "The new webhook.", "schema": {"type": "string"}}
    faults = problems((Fault.TARGET_REFUSED, Fault.TOO_MANY_WEBHOOKS, *BODY_FAULTS, *ADMIN_FAULTS))
    wanted = request_body("WebhookRequest", {"url": _WEBHOOK["url"], "events": _WEBHOOK["events"]})
    return operation("createWebhook", "Tell a program of events.", {"201": made, **faults}, wanted)
