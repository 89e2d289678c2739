"""The console as it is mounted: nothing of it is loaded before somebody asks for it, so that a service without people pays nothing."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from agezero.console.sessions import Sessions
from agezero.http.parts import Parts


class Console:
    """An ASGI application."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions = sessions
        self._parts = parts
        self._loading = asyncio.Lock()
        self._application: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the first one loads what answers it, off the event loop."""
        await (self._application or await self._loaded())(scope, receive, send)

    async def _loaded(self) -> ASGIApp:
        async with self._loading:
            if self._application is None:
                self._application = await asyncio.to_thread(self._load)
            return self._application

    def _load(self) -> ASGIApp:
        from agezero.console.application import build_console

        return build_console(self._sessions, self._parts)
