"""The native API's part of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agezero import wire
from agezero.http.faults import Fault
from agezero.http.native.audit import AUDIT_PATH
from agezero.http.native.events import EVENTS_PATH
from agezero.http.native.evidence import EVIDENCE_SUFFIX, NAME, VALUE_CHARACTERS_MAX
from agezero.http.native.parameters import IDEMPOTENCY_CHARACTERS_MAX, LIMIT_DEFAULT, LIMIT_MAX, WAIT
from agezero.http.native.purges import EVENTS_SUFFIX, PURGE_PREFIX, PURGES_PATH, NativePurge
from agezero.http.native.streams import HEARTBEAT_S

Json = dict[str, Any]

ANSWERS = (wire.Accepted, wire.PurgeDetail, wire.Evidence, wire.Purges, wire.AuditPage, wire.ProblemDetails)
STRUCTS = (NativePurge, *ANSWERS)
CLOSED = (
    "Accepted",
    "PurgeDetail",
    "EdgeProgress",
    "Evidence",
    "Check",
    "Purges",
    "Purge",
    "Named",
    "AuditPage",
    "AuditRow",
    "ProblemDetails",
    "FieldError",
)
"""Schemas of answers, which have no further members."""

KEYED = (Fault.NO_KEY, Fault.WRONG_KEY, Fault.EXPIRED_KEY, Fault.DISABLED, Fault.TOO_MANY_ATTEMPTS, Fault.RATE_LIMITED, Fault.INTERNAL)
_READ = (Fault.INVALID_PARAMETER, *KEYED)
_SUBMIT = (
    Fault.INVALID_BODY,
    Fault.INVALID_PARAMETER,
    Fault.NOT_PERMITTED,
    Fault.SELECTOR_FORBIDDEN,
    Fault.PURGE_TOO_LARGE,
    Fault.SELECTOR_INVALID,
    Fault.IDEMPOTENCY_CONFLICT,
    Fault.LOG_UNAVAILABLE,
)
_HEADERS = ("x-ik-requestId", "X-RateLimit-Limit", "X-RateLimit-Reset", "X-RateLimit-Interval")
_ID = "5d1c4a22e54d6f93b2c1e0a7"


def paths() -> Json:
    """All of them."""
    by_id = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The purge's id.",
        "schema": {"type": "string", "minLength": 1},
        "example": _ID,
    }
    return {
        PURGES_PATH: {"post": _submit(), "get": _list()},
        PURGE_PREFIX + "{id}": {"parameters": [by_id], "get": _detail()},
        PURGE_PREFIX + "{id}" + EVENTS_SUFFIX: {"parameters": [by_id], "get": _purge_events()},
        PURGE_PREFIX + "{id}" + EVIDENCE_SUFFIX: {"parameters": [by_id], "get": _evidence()},
        EVENTS_PATH: {"get": _events()},
        AUDIT_PATH: {"get": _audit()},
    }


def problems(faults: Iterable[Fault]) -> Json:
    """One response for each status, with an example for each fault."""
    responses: Json = {}
    for fault in faults:
        response = responses.setdefault(str(fault.status), _response(fault.phrase, "application/problem+json", "ProblemDetails"))
        examples = response["content"]["application/problem+json"].setdefault("examples", {})
        examples[fault.name] = {"value": {"type": fault.type, "title": fault.message, "status": fault.status, "hint": fault.advice}}
        extra = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(fault.status)
        if extra:
            response["headers"][extra] = {"$ref": f"#/components/headers/{extra}"}
    return responses


AGAIN: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Within 24 hours, the same key and body is the same purge.",
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_CHARACTERS_MAX, "pattern": "^[!-~]+$"},
}


def _operation(name: str, summary: str, description: str, responses: Json, parameters: Iterable[Json] = ()) -> Json:
    operation: Json = {"operationId": name, "summary": summary, "description": description, "security": [{"privateKey": []}], "responses": responses}
    return {**operation, "parameters": list(parameters)} if parameters else operation


def _submit() -> Json:
    example = {"urls": ["https://cdn.example.com/photos/cat.jpg"], "tags": ["cats"], "mode": "hard", "note": "a new cat"}
    answer = _response("Accepted: all of it is durable.", "application/json", "Accepted")
    answer["headers"]["Location"] = {"description": "The purge.", "required": True, "schema": {"type": "string"}}
    answer["headers"]["Idempotency-Replayed"] = {"description": "true: it had been accepted before.", "schema": {"type": "string", "const": "true"}}
    answer["links"] = {"detail": {"operationId": "purgeDetail", "parameters": {"id": "$response.body#/id"}}}
    operation = _operation(
        "submitPurge",
        "Purge up to 1,000 selectors as one.",
        "The body has at most 1 MiB. All selectors are accepted, or none.",
        {
            "200": _response("What a dry run would have done.", "application/json", "Accepted"),
            "201": answer,
            **problems((*_SUBMIT, *KEYED)),
        },
        [AGAIN],
    )
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NativePurge"}, "example": example}}}
    return {**operation, "requestBody": body}


def _list() -> Json:
    text = {"type": "string", "minLength": 1, "pattern": "^[!-~]+$"}
    parameters = [
        _query("state", "Only these.", {"type": "string", "enum": ["pending", "completed"]}),
        _query("tag", "Only purges of this tag.", text),
        _query("url", "Only purges that name this URL.", {"type": "string", "format": "uri"}),
        _query("key", "Only purges by the key with this id.", text),
        _query("since", "Only purges accepted then or later.", {"type": "string", "format": "date-time"}),
        _limit(),
        _query("cursor", "Where the page before ended.", {"type": "string", "pattern": "^[0-9a-f]{24}$"}),
    ]
    answer = _response("A page, newest first.", "application/json", "Purges")
    what = "ImageKit's are among them. A key that is bound to endpoints sees what lies under these."
    return _operation("listPurges", "The purges.", what, {"200": answer, **problems((*_READ, Fault.STATUS_UNKNOWN))}, parameters)


def _detail() -> Json:
    wait = _query("wait", "Answer when it is complete, or after this time: 0.1s to 60s.", {"type": "string", "pattern": WAIT})
    answer = _response("Complete or not.", "application/json", "PurgeDetail")
    faults = problems((Fault.NO_SUCH_PURGE, *_READ, Fault.STATUS_UNKNOWN))
    return _operation("purgeDetail", "Everything about a purge.", "ImageKit's are found too.", {"200": answer, **faults}, [wait])


def _purge_events() -> Json:
    responses = {
        "200": _stream(),
        "204": {"description": "It is complete, and that was told already.", "headers": _common()},
        **problems((Fault.NO_SUCH_PURGE, *_READ, Fault.STATUS_UNKNOWN, Fault.TOO_MANY_STREAMS)),
    }
    what = "`progress` whenever a state changes, then `completed`, each with a PurgeDetail; then the stream ends."
    return _operation("purgeEvents", "What becomes of a purge, as server-sent events.", what, responses, [_resume()])


def _evidence() -> Json:
    parameters = [
        _query("header", "What to look at.", {"type": "string", "pattern": NAME}) | {"required": True, "example": "ETag"},
        _query("value", "What it must show.", {"type": "string", "minLength": 1, "maxLength": VALUE_CHARACTERS_MAX, "pattern": "^[!-~]+$"})
        | {"required": True, "example": '"v2"'},
        _query("wait", "Look when it is complete, or say after this time that it is not: 0.1s to 60s.", {"type": "string", "pattern": WAIT}),
    ]
    answer = _response("What each edge shows now.", "application/json", "Evidence")
    faults = problems((Fault.NO_SUCH_PURGE, *_READ, Fault.STATUS_UNKNOWN))
    what = "Fetches the purge's URLs, 20 at most, through every edge. Evidence beside the proof, not part of it."
    return _operation("purgeEvidence", "Do the edges show the new version?", what, {"200": answer, **faults}, parameters)


def _events() -> Json:
    what = (
        "`accepted` and `completed` with a Purge, `edge` with an Edge, and `missed` where the log no longer has what was asked for. A comment "
        f"or an id alone comes every {HEARTBEAT_S:g} s when there is nothing to tell."
    )
    responses = {"200": _stream(), **problems((*_READ, Fault.TOO_MANY_STREAMS))}
    return _operation("events", "All that happens, as server-sent events.", what, responses, [_resume()])


def _audit() -> Json:
    text = {"type": "string", "minLength": 1, "pattern": "^[!-~]+$"}
    parameters = [
        _query("action", "Only this, such as `purge`; `key.` is all that begins so.", text),
        _query("key", "Only what the key with this id did.", text),
        _query("address", "Only what came from there.", text),
        _limit(),
        _query("cursor", "Where the page before ended.", {"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}$"}),
        _query("format", "jsonl: all rows from the cursor on, an AuditRow a line.", {"type": "string", "enum": ["json", "jsonl"]}),
    ]
    answer = _response("Newest first.", "application/json", "AuditPage")
    answer["content"]["application/jsonl"] = {"schema": {"type": "string"}}
    faults = problems((Fault.NOT_PERMITTED_AUDIT, *_READ, Fault.TOO_MANY_STREAMS))
    return _operation("audit", "Who did what, from where, when.", "For keys with the permission admin.", {"200": answer, **faults}, parameters)


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _limit() -> Json:
    return _query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT})


def _resume() -> Json:
    return {"name": "Last-Event-ID", "in": "header", "description": "Go on after this event, also after a restart.", "schema": {"type": "string"}}


def _stream() -> Json:
    return {"description": "Events.", "headers": _common(), "content": {"text/event-stream": {"schema": {"type": "string"}}}}


def _common() -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}


def _response(description: str, media_type: str, schema: str) -> Json:
    return {"description": description, "headers": _common(), "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}
