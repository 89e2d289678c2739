"""agezero.lua and agezero_url.lua in LuaJIT, in this process or in the nginx of Debian, so that they can be compared with the core."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from agezero.edges.lua import library

luajit: Any = import_module("lupa.luajit21")  # it brings no types


class Reader(Protocol):
    """What a table answers; None: bypass."""

    def epoch(self, authority: bytes, target: bytes) -> str | None: ...

    def nonce(self) -> str | None: ...

    def canonical(self, authority: bytes, target: bytes) -> str | None: ...


class LuaReader:
    """One Lua state of its own with the table at ``path`` open. ``mutation``: a text of its code and what stands in its place."""

    def __init__(self, path: Path, mutation: tuple[str, str] | None = None, *, compiled: bool = True) -> None:
        code = library()
        if mutation:
            (name,) = [name for name, text in code.items() if mutation[0] in text]
            code[name] = code[name].replace(*mutation)
        self._url_code, self._code = (text.encode() for text in code.values())
        self._lua: Any = luajit.LuaRuntime(encoding=None)
        self._lua.execute(b"jit.on()" if compiled else b"jit.off()")
        self._url: Any = self._lua.execute(self._url_code)
        self._table = self.open(path)

    def open(self, path: Path) -> Any:
        """The table, by code that is loaded anew, as each script of a server does."""
        return self._lua.execute(self._code, self._url)[b"open"](str(path).encode())

    def epoch(self, authority: bytes, target: bytes, record: str | None = None) -> str | None:
        """``record``: what is known of the tags."""
        recall = None if record is None else record.encode
        return _text(self._table[b"epoch"](self._table, authority, target, recall))

    def tag_hash(self, tag: str) -> int:
        return int(self._url[b"tag_hash"](tag.encode()))

    def nonce(self) -> str | None:
        return _text(self._table[b"nonce"](self._table))

    def canonical(self, authority: bytes, target: bytes) -> str | None:
        return _text(self._url[b"canonical"](authority, target))

    def look_again(self) -> None:
        """A second has passed since this reader last looked."""
        self._table[b"looked_ns"] = -1e18


def _text(answer: bytes | None) -> str | None:
    return None if answer is None else answer.decode("ascii")
