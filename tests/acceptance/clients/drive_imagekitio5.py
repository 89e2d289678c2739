"""Drives ``imagekitio`` 5, the generated Python client."""

from __future__ import annotations

from typing import Any

from imagekitio import APIStatusError, ImageKit, not_given  # type: ignore[import-not-found]  # in a venv of its own

from acceptance.clients.lines import Request, answer_lines, lower


def call(request: Request) -> Any:
    """One purge or status."""
    client = ImageKit(private_key=request["key"], base_url=request["base"], max_retries=request["retries"])
    argument = request.get("argument", not_given)
    invalidation = client.cache.invalidation
    return invalidation.create(url=argument).request_id if request["call"] == "purge" else invalidation.get(argument).status


def describe(error: Any) -> dict[str, Any]:
    """What the client made of the error's body."""
    if not isinstance(error, APIStatusError):
        return {}
    return {"status": error.status_code, "headers": lower(error.response.headers), **error.body}


answer_lines(call, describe)
