"""What pages are made of beside HTML, from this package: read once, named by what is in it, so that a browser may keep it for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from agezero.http.reply import Header, Reply

PREFIX = "/console/static/"
TYPES = {
    "console.css": b"text/css; charset=utf-8",
    "console.js": b"text/javascript; charset=utf-8",
    "htmx.min.js": b"text/javascript; charset=utf-8",
    "htmx-ext-sse.min.js": b"text/javascript; charset=utf-8",
    "favicon.svg": b"image/svg+xml",
}
_FOR_EVER: Header = (b"cache-control", b"public, max-age=31536000, immutable")
_FOR_NOW: Header = (b"cache-control", b"no-cache")


@dataclass(frozen=True, slots=True)
class Asset:
    """``version``: begins the digest of ``body``."""

    body: bytes
    type: bytes
    version: str


def read_assets() -> Mapping[str, Asset]:
    """By name."""
    folder = files("agezero.console") / "static"
    bodies = {name: (folder / name).read_bytes() for name in TYPES}
    return {name: Asset(body, TYPES[name], sha256(body).hexdigest()[:12]) for name, body in bodies.items()}


def asset_reply(assets: Mapping[str, Asset], name: str, query: str) -> Reply | None:
    """None where there is none. Only what is asked for by its version is kept for ever."""
    asset = assets.get(name)
    if asset is None:
        return None
    lasting = _FOR_EVER if query == f"v={asset.version}" else _FOR_NOW
    return Reply(200, asset.body, ((b"content-type", asset.type), lasting, (b"x-content-type-options", b"nosniff")))
