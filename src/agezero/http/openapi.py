"""The OpenAPI 3.1 document of what is really served. Bodies come from the structs that encode them, errors from the table of faults."""

from __future__ import annotations

from typing import Literal

import msgspec

from agezero import __version__
from agezero.http.body import PurgeRequest
from agezero.http.edges import DRAIN_SUFFIX, EDGE_PREFIX, EDGES_PATH, Edges
from agezero.http.faults import Fault, Problem
from agezero.http.imagekit import PURGE_PATH, STATUS_PREFIX, Submitted
from agezero.http.native import openapi as native
from agezero.http.native.openapi import KEYED
from agezero.http.openapi_keys import KEY_CLOSED, KEY_STRUCTS, key_paths
from agezero.http.openapi_parts import COMMON_HEADERS, Json, faults, json_response, response
from agezero.http.openapi_webhooks import WEBHOOK_CLOSED, WEBHOOK_STRUCTS, webhook_paths
from agezero.http.pages import Health, Readiness

_EXAMPLE_ID = "5d1c4a22e54d6f93b2c1e0a7"
_PURGE_FAULTS = (Fault.NO_URL, Fault.INVALID_URL, Fault.NOT_PURGEABLE, Fault.INVALID_BODY, Fault.NOT_PERMITTED, Fault.BODY_TOO_LARGE)


class StatusAnswer(msgspec.Struct, frozen=True):
    """Whether a purge is proven."""

    status: Literal["Pending", "Completed"]


def document() -> bytes:
    """The document as JSON."""
    structs = (PurgeRequest, Submitted, StatusAnswer, Edges, Problem, Health, Readiness, *native.STRUCTS, *KEY_STRUCTS, *WEBHOOK_STRUCTS)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for name in ("Submitted", "StatusAnswer", "Edges", "EdgeView", "Problem", "Health", "Readiness", *native.CLOSED, *KEY_CLOSED, *WEBHOOK_CLOSED):
        schemas[name]["additionalProperties"] = False
    schemas["Submitted"]["properties"]["requestId"]["pattern"] = "^[0-9a-f]{24}$"
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "AgeZero",
                "version": __version__,
                "summary": "Cache purging that proves itself.",
                "description": "ImageKit's purge API, and one that tells more. A purge is complete once no edge serves what it stored before.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "paths": _paths(),
            "components": {
                "schemas": schemas,
                "headers": _headers(),
                "securitySchemes": {
                    "privateKey": {"type": "http", "scheme": "basic", "description": "The user name is the private key; the password is ignored."}
                },
            },
        }
    )


def _paths() -> Json:
    parameter = {
        "name": "requestId",
        "in": "path",
        "required": True,
        "description": "What the purge was answered with.",
        "schema": {"type": "string", "minLength": 1},
        "example": _EXAMPLE_ID,
    }
    return {
        PURGE_PATH: {"post": _purge()},
        STATUS_PREFIX + "{requestId}": {"parameters": [parameter], "get": _status()},
        **native.paths(),
        EDGES_PATH: {"get": _edges()},
        EDGE_PREFIX + "{name}" + DRAIN_SUFFIX: {
            "parameters": [_edge_name()],
            "put": _change_edge("drainEdge", "Take an edge out of service: it gets no lease, so no purge waits for it.", "It gets no further lease."),
            "delete": _change_edge("resumeEdge", "Put an edge back into service.", "It gets leases again."),
        },
        EDGE_PREFIX + "{name}": {"parameters": [_edge_name()], "delete": _remove_edge()},
        **key_paths(),
        **webhook_paths(),
        "/healthz": {"get": _page("Is the process alive?", {"200": json_response("It is.", "Health", {"status": "alive"})})},
        "/readyz": {"get": _page("Can purges be accepted and proven?", _readiness())},
        "/metrics": {"get": _page("Metrics for Prometheus.", {"200": response("Prometheus' text format.", "text/plain", {"type": "string"})})},
        "/openapi.json": {"get": _page("This document.", {"200": response("OpenAPI 3.1.", "application/json", {"type": "object"})})},
    }


def _purge() -> Json:
    schema = {"$ref": "#/components/schemas/PurgeRequest"}
    example = {"url": "https://cdn.example.com/photos/cat.jpg"}
    media = {"schema": schema, "example": example}
    accepted = json_response("Accepted: the purge is durable.", "Submitted", {"requestId": _EXAMPLE_ID})
    accepted["links"] = {"status": {"operationId": "status", "parameters": {"requestId": "$response.body#/requestId"}}}
    return {
        "operationId": "purge",
        "summary": "Purge a URL, or with a * at its end every URL that begins so.",
        "description": "Idempotent: sending a purge again is harmless. The body has at most 64 KiB.",
        "security": [{"privateKey": []}],
        "parameters": [native.AGAIN],
        "requestBody": {"required": True, "content": {"application/json": media, "application/x-www-form-urlencoded": media}},
        "responses": {
            "201": accepted,
            **faults((*_PURGE_FAULTS, *KEYED, Fault.INVALID_PARAMETER, Fault.IDEMPOTENCY_CONFLICT, Fault.LOG_UNAVAILABLE)),
        },
    }


def _status() -> Json:
    return {
        "operationId": "status",
        "summary": "The status of a purge.",
        "security": [{"privateKey": []}],
        "responses": {
            "200": json_response("Pending until it is proven, then Completed for ever.", "StatusAnswer", {"status": "Completed"}),
            **faults((Fault.UNKNOWN_REQUEST, *KEYED, Fault.STATUS_UNKNOWN)),
        },
    }


def _edges() -> Json:
    edge = {"name": "edge", "state": "leased", "tier": 0, "watermark": 7, "lag": 0, "does": ["url", "prefix", "host", "everything"], "trouble": ""}
    return {
        "operationId": "edges",
        "summary": "The edges, and how far each has come.",
        "security": [{"privateKey": []}],
        "responses": {"200": json_response("All edges, by tier and name.", "Edges", {"edges": [edge]}), **native.problems(KEYED)},
    }


def _edge_name() -> Json:
    schema = {"type": "string", "minLength": 1}
    return {"name": "name", "in": "path", "required": True, "description": "The edge's name.", "schema": schema, "example": "edge"}


def _remove_edge() -> Json:
    summary = "Say that an edge is gone for good: no purge waits for it."
    return _change_edge("removeEdge", summary, "It is removed. One that fences itself counts until its lease is over.")


def _change_edge(operation_id: str, summary: str, done: str) -> Json:
    common = {name: {"$ref": f"#/components/headers/{name}"} for name in COMMON_HEADERS}
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [{"privateKey": []}],
        "responses": {
            "204": {"description": done, "headers": common},
            **native.problems((Fault.NO_SUCH_EDGE, Fault.NOT_ADMIN, *KEYED, Fault.RECORDS_UNAVAILABLE)),
        },
    }


def _page(summary: str, responses: Json) -> Json:
    return {"summary": summary, "security": [], "responses": {**responses, **faults([Fault.INTERNAL])}}


def _readiness() -> Json:
    return {
        "200": json_response("They can.", "Readiness", {"ready": True}),
        "503": json_response("They can't, for the reason given.", "Readiness", {"ready": False, "reason": "no edge has reported yet"}),
    }


def _headers() -> Json:
    def whole(description: str, **limits: int) -> Json:
        return {"description": description, "required": True, "schema": {"type": "integer", **limits}}

    return {
        "x-ik-requestId": {"description": "Names this response in the log.", "required": True, "schema": {"type": "string", "format": "uuid"}},
        "X-RateLimit-Limit": whole("Requests allowed to this key in an interval; 2147483647 where there is no limit.", minimum=1),
        "X-RateLimit-Reset": whole("Milliseconds until the running interval ends; 0 where none was begun.", minimum=0, maximum=1000),
        "X-RateLimit-Interval": whole("Length of the interval in milliseconds.", minimum=1),
        "Retry-After": whole("Seconds to wait.", minimum=1, maximum=60),
        "WWW-Authenticate": {"description": "RFC 9110 §11.6.1.", "required": True, "schema": {"type": "string"}},
    }
