"""Sign in with a key, sign out. A wrong key is a failed attempt like one at the API: the same count, the same limit, the same audit."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from base64 import b64encode
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from agezero.console.call import NotOurForm, Request, check_form, read_form, see_other, trouble
from agezero.console.cookies import FORM, SESSION, drop, read, write
from agezero.console.render import HTML, Render
from agezero.console.sessions import SESSION_S, Sessions
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Gate, Visitor, client_address
from agezero.http.parts import Parts
from agezero.http.reply import Header, Reply, send_reply

HOME = "/console"
FORM_S = 3600
"""How long a form to sign in is good for."""
_NONCE = re.compile(r"[0-9A-Za-z_-]{22}")
_NEXT = re.compile(r"/console(/[\w./~%-]*)?(\?[\w.~%&=+:-]*)?", re.ASCII)


class SignIn:
    """``/console/sign-in`` as an ASGI application: nobody is signed in yet."""

    def __init__(self, sessions: Sessions, parts: Parts, render: Render) -> None:
        self._sessions = sessions
        self._parts = parts
        self._render = render
        self._gate = Gate(parts.keys, parts.status_limit, parts.attempts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET and HEAD: the form; POST: try the key."""
        try:
            reply = self._form(scope) if scope["method"] in ("GET", "HEAD") else await self._try(scope, receive)
        except (Refused, NotOurForm) as error:
            reply = self._form(scope, error)
        self._parts.metrics.requests["console", reply.status] += 1
        await send_reply(send, reply, self._parts.status_limit.idle)

    def _form(self, scope: Scope, error: Refused | NotOurForm | None = None) -> Reply:
        nonce = _nonce(scope) or secrets.token_urlsafe(16)
        told = trouble(error) if error else None
        values = {"trouble": told, "form": self._sessions.form(nonce), "next": _next(scope), "path": scope["path"]}
        body = self._render("sign_in.html", values).encode()
        wait = [each for each in (error.headers if isinstance(error, Refused) else ()) if each[0] == b"retry-after"]
        return Reply(told.status if told else 200, body, (*HTML, write(scope, FORM, nonce, FORM_S), *wait))

    async def _try(self, scope: Scope, receive: Receive) -> Reply:
        fields = await read_form(scope, receive)
        nonce = _nonce(scope)
        if not nonce:
            raise NotOurForm
        check_form(scope, fields, self._sessions.form(nonce))
        visitor = self._recognise(fields.get("key", [""])[0].strip(), client_address(scope))
        token = self._sessions.begin(self._parts.keys, visitor.key, time.time())
        if token is None:
            raise Refused(Fault.WRONG_KEY)
        self._parts.native.audit.note("console.sign_in", visitor.key.id, client_address(scope))
        return see_other(_next(scope), write(scope, SESSION, token, SESSION_S), *drop(FORM))

    def _recognise(self, key: str, address: str) -> Visitor:
        """The very gate of the API, with the header that a client would send."""
        authorization: Header = (b"authorization", b"Basic " + b64encode(f"{key}:".encode(errors="replace")))
        return self._gate.recognise([authorization] if key else [], time.time(), address)


def _nonce(scope: Scope) -> str:
    """Of the form that was shown last; empty where there is none, or it is none of ours."""
    found = read(scope["headers"], FORM)
    return found if _NONCE.fullmatch(found) else ""


def _next(scope: Scope) -> str:
    wanted = parse_qs(scope["query_string"].decode("latin-1")).get("next", [HOME])[0]
    return wanted if _NEXT.fullmatch(wanted) else HOME


class SignOut:
    """``POST /console/sign-out``."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions = sessions
        self._audit = parts.native.audit

    async def __call__(self, request: Request) -> Reply:
        """Copies of the cookie are worth nothing from now on."""
        await asyncio.to_thread(self._sessions.end, request.session, time.time())
        self._audit.note("console.sign_out", request.visitor.key.id, request.address)
        return see_other("/console/sign-in", *drop(SESSION))
