"""Drives ``imagekitio`` 4, the hand-written Python client."""

from __future__ import annotations

from typing import Any

from imagekitio import ImageKit  # type: ignore[import-not-found]  # in a venv of its own
from imagekitio.constants.url import URL  # type: ignore[import-not-found]  # in a venv of its own

from acceptance.clients.lines import Request, answer_lines, lower


def call(request: Request) -> Any:
    """One purge or status."""
    URL.API_BASE_URL = request["base"]
    client = ImageKit(private_key=request["key"], public_key="public_unused", url_endpoint="https://example.com")
    if request["call"] == "purge":
        return client.purge_file_cache(file_url=request["argument"]).request_id
    return client.get_purge_file_cache_status(purge_cache_id=request["argument"]).status


def describe(error: Any) -> dict[str, Any]:
    """What the client made of the error's body."""
    response = getattr(error, "response_metadata", None)
    if response is None:
        return {}
    return {"status": response.http_status_code, "headers": lower(response.headers), "message": error.message, "help": error.response_help}


answer_lines(call, describe)
