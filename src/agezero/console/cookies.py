"""Two cookies: who is signed in, and, before that, from which form somebody signs in.

They are sent to the console alone (``Path``), are out of any script's reach (``HttpOnly``), and no other site has them sent (``SameSite=Strict``).
Under TLS they are ``Secure``, and so named that a browser takes them over nothing else (RFC 6265bis §4.1.3). ``Path`` keeps them from the
site itself where that is on the same host: a browser tells ports apart nowhere in cookies.
"""

from __future__ import annotations

from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.types import Scope

from agezero.http.native.parameters import header
from agezero.http.reply import Header

SESSION = "agezero-session"
FORM = "agezero-form"
_SECURE = "__Secure-"
_PATH = "/console"


def secure(scope: Scope) -> bool:
    """Does the browser speak TLS? It says so itself in Origin, where a proxy ends TLS; a lie only keeps its own cookie from coming back."""
    return scope.get("scheme") == "https" or (header(scope, b"origin") or "").startswith("https://")


def read(headers: Iterable[Header], name: str) -> str:
    """The cookie's value, empty without one."""
    jar: SimpleCookie = SimpleCookie()
    for each, value in headers:
        if each == b"cookie":
            try:
                jar.load(value.decode("latin-1"))
            except CookieError:
                continue
    found = jar.get(_SECURE + name) or jar.get(name)
    return found.value if found else ""


def write(scope: Scope, name: str, value: str, max_age_s: int) -> Header:
    """``Set-Cookie``."""
    guarded = secure(scope)
    attributes = f"Path={_PATH}; Max-Age={max_age_s}; HttpOnly; SameSite=Strict" + ("; Secure" if guarded else "")
    return (b"set-cookie", f"{_SECURE if guarded else ''}{name}={value}; {attributes}".encode())


def drop(name: str) -> tuple[Header, ...]:
    """Forget it, under both of its names."""
    gone = f"=; Path={_PATH}; Max-Age=0; HttpOnly; SameSite=Strict"
    return ((b"set-cookie", f"{name}{gone}".encode()), (b"set-cookie", f"{_SECURE}{name}{gone}; Secure".encode()))
