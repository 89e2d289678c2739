"""The description of ``/v1/keys``."""

from __future__ import annotations

from agezero.http.faults import Fault
from agezero.http.keys import KEY_PATH, KEYS_PATH, ROLL_PATH, KeyRequest, Keys, KeyView, MadeKey, RollRequest
from agezero.http.native.openapi import KEYED, problems
from agezero.http.openapi_parts import Json, empty_response, json_response, operation, path_parameter, request_body

KEY_STRUCTS = (KeyRequest, RollRequest, Keys, KeyView, MadeKey)
KEY_CLOSED = tuple(struct.__name__ for struct in KEY_STRUCTS)
BODY_FAULTS = (Fault.INVALID_BODY, Fault.INVALID_MEMBER, Fault.BODY_TOO_LARGE)
ADMIN_FAULTS = (Fault.NOT_ADMIN, *KEYED)
_KEY = {
    "id": "5d1c4a22",
    "name": "deploy",
    "permission": "purge",
    "state": "valid",
    "endpoints": ["https://cdn.example.com"],
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
}
_MADE = {"text": "private_" + "x" * 32, "key": _KEY}


def key_paths() -> Json:
    """By path."""
    parameter = path_parameter("keyId", "As GET /v1/keys gives it.", "5d1c4a22")
    made = json_response("Made. Its text is shown only now.", "MadeKey", _MADE)
    created = {**made, "headers": {**made["headers"], "Location": {"description": "The new key.", "schema": {"type": "string"}}}}
    wanted = request_body("KeyRequest", {"name": "deploy", "permission": "purge", "endpoints": ["https://cdn.example.com"], "expires_in_s": 86_400})
    listed = json_response("They.", "Keys", {"keys": [_KEY]})
    ended = empty_response("It has ended.")
    return {
        KEYS_PATH: {
            "get": operation("keys", "All keys that are not revoked.", {"200": listed, **problems(ADMIN_FAULTS)}),
            "post": operation(
                "createKey", "Make a key.", {"201": created, **problems((*BODY_FAULTS, *ADMIN_FAULTS, Fault.RECORDS_UNAVAILABLE))}, wanted
            ),
        },
        KEY_PATH: {
            "parameters": [parameter],
            "delete": operation(
                "revokeKey", "End a key now.", {"204": ended, **problems((Fault.NO_SUCH_KEY, *ADMIN_FAULTS, Fault.RECORDS_UNAVAILABLE))}
            ),
        },
        ROLL_PATH: {
            "parameters": [parameter],
            "post": operation(
                "rollKey",
                "Make a key with the same rights; the old one ends after the overlap.",
                {"201": created, **problems((Fault.NO_SUCH_KEY, Fault.KEY_NOT_VALID, *BODY_FAULTS, *ADMIN_FAULTS, Fault.RECORDS_UNAVAILABLE))},
                request_body("RollRequest", {"overlap": "24h"}),
            ),
        },
    }
