"""The console's pages by path."""

from __future__ import annotations

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from agezero.console.assets import PREFIX, asset_reply, read_assets
from agezero.console.call import Handler, Needs, Page
from agezero.console.gate import SessionGate
from agezero.console.pages.audit import show_audit
from agezero.console.pages.edges import EdgeEvents, edges_page, remove_page
from agezero.console.pages.keys import KeyPages
from agezero.console.pages.latency import latency_page
from agezero.console.pages.purge import PurgePages
from agezero.console.pages.purges import PurgeEvents, PurgesPages
from agezero.console.pages.sign_in import SignIn, SignOut
from agezero.console.pages.webhooks import WebhookPages
from agezero.console.render import renderer
from agezero.console.sessions import Sessions
from agezero.http.faults import Fault, Refused
from agezero.http.native.audit import ReadAudit
from agezero.http.native.streams import Opener, Stream
from agezero.http.pages import ByMethod
from agezero.http.parts import Parts
from agezero.http.reply import Reply, send_reply


def build_console(sessions: Sessions, parts: Parts) -> ASGIApp:
    """All of it."""
    assets = read_assets()
    render = renderer(assets)
    gate = SessionGate(sessions, parts.keys, parts.status_limit)

    def page(needs: Needs, handler: Handler) -> Page:
        return Page(needs, handler, gate, parts.status_limit, parts.metrics, render)

    def stream(opener: Opener) -> Stream:
        return Stream("console-events", opener, gate, parts.status_limit, parts.metrics)

    def route(path: str, **methods: ASGIApp) -> Route:
        return Route("/console" + path, ByMethod(parts.status_limit, parts.metrics, methods))

    purge, purges = PurgePages(parts), PurgesPages(parts)
    keys, webhooks = KeyPages(parts), WebhookPages(parts)
    routes = [
        Route("/console/sign-in", SignIn(sessions, parts, render)),
        route("/sign-out", POST=page(Needs.READ, SignOut(sessions, parts))),
        route("", GET=page(Needs.READ, purge.show), POST=page(Needs.PURGE, purge.send)),
        route("/preview", POST=page(Needs.PURGE, purge.preview)),
        route("/purges", GET=page(Needs.READ, purges.listing)),
        route("/purges/{id}", GET=page(Needs.READ, purges.detail)),
        route("/purges/{id}/events", GET=stream(PurgeEvents(parts, render, gate))),
        route("/edges", GET=page(Needs.READ, edges_page(parts))),
        route("/edges/remove", POST=page(Needs.ADMIN, remove_page(parts))),
        route("/latency", GET=page(Needs.READ, latency_page(parts))),
        route("/keys", GET=page(Needs.ADMIN, keys.show), POST=page(Needs.ADMIN, keys.create)),
        route("/keys/{id}/roll", POST=page(Needs.ADMIN, keys.roll)),
        route("/keys/{id}/revoke", POST=page(Needs.ADMIN, keys.revoke)),
        route("/webhooks", GET=page(Needs.ADMIN, webhooks.show), POST=page(Needs.ADMIN, webhooks.create)),
        route("/webhooks/{id}/test", POST=page(Needs.ADMIN, webhooks.test)),
        route("/webhooks/{id}/rotate", POST=page(Needs.ADMIN, webhooks.rotate)),
        route("/webhooks/{id}/delete", POST=page(Needs.ADMIN, webhooks.remove)),
        route("/audit", GET=page(Needs.ADMIN, show_audit(parts))),
        route("/audit/export", GET=stream(ReadAudit(parts.native.audit))),
        route("/edges/events", GET=stream(EdgeEvents(parts, render, gate))),
    ]
    missing = page(Needs.READ, _missing)

    async def static(scope: Scope, receive: Receive, send: Send) -> None:
        reply = asset_reply(assets, scope["path"][len(PREFIX) :], scope["query_string"].decode("latin-1"))
        if reply is None:
            await missing(scope, receive, send)
        else:
            await send_reply(send, reply, parts.status_limit.idle)

    return Router([Route(PREFIX + "{name}", _Application(static)), *routes], redirect_slashes=False, default=missing)


class _Application:
    """A function as an application: to Starlette, a function is an endpoint of another kind."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


async def _missing(_: object) -> Reply:
    raise Refused(Fault.NO_SUCH_PATH)
