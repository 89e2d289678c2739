"""What the descriptions of all calls are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agezero.http.faults import Fault

COMMON_HEADERS = ("x-ik-requestId", "X-RateLimit-Limit", "X-RateLimit-Reset", "X-RateLimit-Interval")

Json = dict[str, Any]


def faults(kinds: Iterable[Fault]) -> Json:
    """One response for each status, with an example for each fault."""
    responses: Json = {}
    for fault in kinds:
        response = responses.setdefault(str(fault.status), json_response(fault.phrase, "Problem"))
        examples = response["content"]["application/json"].setdefault("examples", {})
        examples[fault.name] = {"value": {"message": fault.message, "help": fault.advice}}
        extra = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(fault.status)
        if extra:
            response["headers"][extra] = {"$ref": f"#/components/headers/{extra}"}
    return responses


def json_response(description: str, schema: str, example: Json | None = None) -> Json:
    """A response whose body is the struct ``schema``."""
    answer = response(description, "application/json", {"$ref": f"#/components/schemas/{schema}"})
    if example is not None:
        answer["content"]["application/json"]["example"] = example
    return answer


def response(description: str, media_type: str, schema: Json) -> Json:
    """A response with the contract's headers."""
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in COMMON_HEADERS}
    return {"description": description, "headers": headers, "content": {media_type: {"schema": schema}}}


def request_body(schema: str, example: Json) -> Json:
    """A JSON body, always required."""
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}}}


def empty_response(description: str) -> Json:
    """One without a body."""
    return {"description": description, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in COMMON_HEADERS}}


def path_parameter(name: str, description: str, example: str) -> Json:
    """A part of the path."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema, "example": example}


def operation(operation_id: str, summary: str, responses: Json, body: Json | None = None) -> Json:
    """A call that needs a key."""
    call: Json = {"operationId": operation_id, "summary": summary, "security": [{"privateKey": []}], "responses": responses}
    return call if body is None else {**call, "requestBody": body}
