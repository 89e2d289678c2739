"""The drivers' end of the conversation with ``support/clients.py``: one JSON object a line, in and out.

In: ``base``, ``key``, ``call`` (purge or status), ``argument`` (left out: the caller gives none), ``retries``.
Out: ``value``, or ``error`` (the name of the client's own type), ``status``, ``message``, ``help``, ``headers``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

Request = dict[str, Any]


def answer_lines(call: Callable[[Request], Any], describe: Callable[[Exception], dict[str, Any]]) -> None:
    """Answer each line of stdin with what ``call`` returned, or with what ``describe`` makes of its exception."""
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"value": call(json.loads(line))}
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)} | describe(error)
        print(json.dumps(answer), flush=True)


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names in lower case."""
    return {name.lower(): value for name, value in headers.items()}
