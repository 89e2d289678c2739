"""The OpenAPI 3.1 document of what is really served. Bodies come from the structs that encode them, errors from the table of faults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from agezero import __version__
from agezero.http.body import PurgeRequest
from agezero.http.edges import EDGE_PREFIX, EDGES_PATH, Edges
from agezero.http.faults import Fault, Problem
from agezero.http.imagekit import PURGE_PATH, STATUS_PREFIX, Submitted
from agezero.http.native import openapi as native
from agezero.http.pages import Health, Readiness

_EXAMPLE_ID = "5d1c4a22e54d6f93b2c1e0a7"
_KEYED = (Fault.NO_KEY, Fault.WRONG_KEY, Fault.EXPIRED_KEY, Fault.DISABLED, Fault.RATE_LIMITED, Fault.INTERNAL)
_PURGE_FAULTS = (Fault.NO_URL, Fault.INVALID_URL, Fault.NOT_PURGEABLE, Fault.INVALID_BODY, Fault.NOT_PERMITTED, Fault.BODY_TOO_LARGE)
_COMMON_HEADERS = ("x-ik-requestId", "X-RateLimit-Limit", "X-RateLimit-Reset", "X-RateLimit-Interval")

Json = dict[str, Any]


class StatusAnswer(msgspec.Struct, frozen=True):
    """Whether a purge is proven."""

    status: Literal["Pending", "Completed"]


def document() -> bytes:
    """The document as JSON."""
    structs = (PurgeRequest, Submitted, StatusAnswer, Edges, Problem, Health, Readiness, *native.STRUCTS)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for name in ("Submitted", "StatusAnswer", "Edges", "EdgeView", "Problem", "Health", "Readiness", *native.CLOSED):
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
        EDGE_PREFIX + "{name}": {"parameters": [_edge_name()], "delete": _remove_edge()},
        "/healthz": {"get": _page("Is the process alive?", {"200": _json("It is.", "Health", {"status": "alive"})})},
        "/readyz": {"get": _page("Can purges be accepted and proven?", _readiness())},
        "/metrics": {"get": _page("Metrics for Prometheus.", {"200": _response("Prometheus' text format.", "text/plain", {"type": "string"})})},
        "/openapi.json": {"get": _page("This document.", {"200": _response("OpenAPI 3.1.", "application/json", {"type": "object"})})},
    }


def _purge() -> Json:
    schema = {"$ref": "#/components/schemas/PurgeRequest"}
    example = {"url": "https://cdn.example.com/photos/cat.jpg"}
    media = {"schema": schema, "example": example}
    accepted = _json("Accepted: the purge is durable.", "Submitted", {"requestId": _EXAMPLE_ID})
    accepted["links"] = {"status": {"operationId": "status", "parameters": {"requestId": "$response.body#/requestId"}}}
    return {
        "operationId": "purge",
        "summary": "Purge a URL, or with a * at its end every URL that begins so.",
        "description": "Idempotent: sending a purge again is harmless. The body has at most 64 KiB.",
        "security": [{"privateKey": []}],
        "requestBody": {"required": True, "content": {"application/json": media, "application/x-www-form-urlencoded": media}},
        "responses": {
            "201": accepted,
            **_faults((*_PURGE_FAULTS, *_KEYED, Fault.LOG_UNAVAILABLE)),
        },
    }


def _status() -> Json:
    return {
        "operationId": "status",
        "summary": "The status of a purge.",
        "security": [{"privateKey": []}],
        "responses": {
            "200": _json("Pending until it is proven, then Completed for ever.", "StatusAnswer", {"status": "Completed"}),
            **_faults((Fault.UNKNOWN_REQUEST, *_KEYED, Fault.STATUS_UNKNOWN)),
        },
    }


def _edges() -> Json:
    edge = {"name": "edge", "state": "leased", "tier": 0, "watermark": 7, "lag": 0, "does": ["url", "prefix", "host", "everything"], "trouble": ""}
    return {
        "operationId": "edges",
        "summary": "The edges, and how far each has come.",
        "security": [{"privateKey": []}],
        "responses": {"200": _json("All edges, by tier and name.", "Edges", {"edges": [edge]}), **native.problems(_KEYED)},
    }


def _edge_name() -> Json:
    schema = {"type": "string", "minLength": 1}
    return {"name": "name", "in": "path", "required": True, "description": "The edge's name.", "schema": schema, "example": "edge"}


def _remove_edge() -> Json:
    common = {name: {"$ref": f"#/components/headers/{name}"} for name in _COMMON_HEADERS}
    return {
        "operationId": "removeEdge",
        "summary": "Say that an edge is gone for good: no purge waits for it.",
        "security": [{"privateKey": []}],
        "responses": {
            "204": {"description": "It is removed. One that fences itself counts until its lease is over.", "headers": common},
            **native.problems((Fault.NO_SUCH_EDGE, Fault.NOT_PERMITTED_EDGES, *_KEYED)),
        },
    }


def _page(summary: str, responses: Json) -> Json:
    return {"summary": summary, "security": [], "responses": {**responses, **_faults([Fault.INTERNAL])}}


def _readiness() -> Json:
    return {
        "200": _json("They can.", "Readiness", {"ready": True}),
        "503": _json("They can't, for the reason given.", "Readiness", {"ready": False, "reason": "no edge has reported yet"}),
    }


def _faults(faults: Iterable[Fault]) -> Json:
    """One response for each status, with an example for each fault."""
    responses: Json = {}
    for fault in faults:
        response = responses.setdefault(str(fault.status), _json(fault.phrase, "Problem"))
        examples = response["content"]["application/json"].setdefault("examples", {})
        examples[fault.name] = {"value": {"message": fault.message, "help": fault.advice}}
        extra = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(fault.status)
        if extra:
            response["headers"][extra] = {"$ref": f"#/components/headers/{extra}"}
    return responses


def _json(description: str, schema: str, example: Json | None = None) -> Json:
    response = _response(description, "application/json", {"$ref": f"#/components/schemas/{schema}"})
    if example is not None:
        response["content"]["application/json"]["example"] = example
    return response


def _response(description: str, media_type: str, schema: Json) -> Json:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _COMMON_HEADERS}
    return {"description": description, "headers": headers, "content": {media_type: {"schema": schema}}}


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
