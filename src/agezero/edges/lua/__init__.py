"""The reader of the mapped purge table in LuaJIT, for nginx, OpenResty and Traffic Server."""

from __future__ import annotations

from importlib import resources

LIBRARY = ("agezero_url.lua", "agezero.lua")
"""The second is given what the first returns."""


def library() -> dict[str, str]:
    """Name and content of each of its files; a cache's own script loads them from the folder in which it lies itself."""
    return {name: resources.files(__package__).joinpath(name).read_text() for name in LIBRARY}
