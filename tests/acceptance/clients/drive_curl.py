"""Drives ``curl``: its own way to report an error is exit status 22, with ``--fail-with-body`` the body too."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from acceptance.clients.lines import Request, answer_lines, lower

CALL = ["curl", "-sS", "--fail-with-body", "--write-out", "\n%{http_code}\n%{header_json}"]


class CurlExit22(Exception):
    """curl's exit status for an HTTP error."""


def call(request: Request) -> str | None:
    """One purge or status."""
    url, flags = f"{request['base']}/v1/files/purge", []
    if request["key"]:
        flags += ["-u", f"{request['key']}:"]
    if request["call"] == "purge":
        body = {"url": request["argument"]} if "argument" in request else {}
        flags += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    else:
        url += f"/{request['argument']}"
    done = subprocess.run([*CALL, *flags, url], capture_output=True, text=True, check=False)
    body_text, status, headers = done.stdout.split("\n", 2)
    if done.returncode == 22:
        first = {name: values[0] for name, values in json.loads(headers).items()}
        raise CurlExit22({"status": int(status), "headers": lower(first)} | json.loads(body_text))
    done.check_returncode()
    (value,) = json.loads(body_text).values()
    return str(value)


def describe(error: Exception) -> dict[str, Any]:
    """What curl printed."""
    return dict(error.args[0]) if isinstance(error, CurlExit22) else {}


answer_lines(call, describe)
