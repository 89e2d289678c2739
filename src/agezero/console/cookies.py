"""Two cookies: who is signed in, and, before that, from which form somebody signs in.

They are sent to the console alone (``Path``), are out of any script's reach (``HttpOnly``), and no other site has them sent (``SameSite=Strict``).
Under TLS they are ``Secure``, and so named that a browser takes them over nothing else (RFC 6265bis §4.1.3). ``Path`` keeps them from the
site itself where that is on the same host: a browser tells ports apart nowhere in cookies.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    """The cookie's value, empty without one.

    Of what other programs on this host have set, in whatever form, nothing keeps ours from being found: the standard library's parser takes
    no cookie at all where it dislikes one.
    """
    jar: dict[str, str] = {}
    for each, value in headers:
        if each == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                found, _, content = pair.partition("=")
                jar.setdefault(found.strip(), content.strip())
    return jar.get(_SECURE + name) or jar.get(name, "")


def write(scope: Scope, name: str, value: str, max_age_s: int) -> Header:
    """``Set-Cookie``."""
    guarded = secure(scope)
    attributes = f"Path={_PATH}; Max-Age={max_age_s}; HttpOnly; SameSite=Strict" + ("; Secure" if guarded else "")
    return (b"set-cookie", f"{_SECURE if guarded else ''}{name}={value}; {attributes}".encode())


def drop(name: str) -> tuple[Header, ...]:
    """Forget it, under both of its names."""
    gone = f"=; Path={_PATH}; Max-Age=0; HttpOnly; SameSite=Strict"
    return ((b"set-cookie", f"{name}{gone}".encode()), (b"set-cookie", f"{_SECURE}{name}{gone}; Secure".encode()))
