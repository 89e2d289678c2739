"""What a second application on the same port is made of, so that it keeps the rules of the first: keys, limits, failed attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from agezero.config import Config
from agezero.http.attempts import Attempts
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.native.routes import Native
from agezero.keys import KeyRing


@dataclass(frozen=True, slots=True)
class Parts:
    """Shared with the API, all of them."""

    config: Config
    native: Native
    keys: KeyRing
    metrics: HttpMetrics
    purge_limit: RateLimit
    status_limit: RateLimit
    attempts: Attempts


Mount = Callable[[Parts], ASGIApp]
