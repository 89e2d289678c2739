"""Every cache that has a driver, by the driver's name: how it is started in a test, and the programs that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from support.caches.base import CacheEdge
from support.programs import require


@dataclass(frozen=True, slots=True)
class CacheCase:
    """``running``: the function of ``support.caches`` that runs it. ``switches``: the name of a safeguard → the options that take it away."""

    module: str
    running: str
    programs: tuple[str, ...] = ()
    race: dict[str, Any] | None = None
    fence: dict[str, Any] | None = None

    def start(self, origin: str, data: Path, **options: Any) -> AbstractContextManager[CacheEdge]:
        """Skips the test where a program is missing."""
        return _started(self, origin, data, options)


@contextmanager
def _started(case: CacheCase, origin: str, data: Path, options: dict[str, Any]) -> Iterator[CacheEdge]:
    require(*case.programs)
    running: Callable[..., AbstractContextManager[CacheEdge]] = getattr(import_module(f"support.caches.{case.module}"), case.running)
    with running(origin, data, **options) as edge:
        yield edge


CACHES = {
    "embedded": CacheCase("embedded", "running_embedded", race={"without": "race"}, fence={"without": "fence"}),
    "squid": CacheCase("squid", "running_squid", ("squid",), race={"without": "race"}, fence={"without": "fence"}),
    "nginx": CacheCase(
        "nginx_lua",
        "running_nginx_lua",
        ("nginx", "modules/ndk_http_module.so", "modules/ngx_http_lua_module.so"),
        race={"without": "race"},
        fence={"without": "fence"},
    ),
    "nginx-njs": CacheCase("nginx_njs", "running_nginx_njs", race={"without": "race"}, fence={"without": "fence"}),
    "trafficserver": CacheCase(
        "trafficserver",
        "running_trafficserver",
        ("traffic_server", "trafficserver/modules/tslua.so"),
        race={"without": ("race",)},
        fence={"without": ("fence",)},
    ),
    "varnish": CacheCase(
        "varnish",
        "running_varnish",
        ("varnishd",),
        race={"without": ("counter", "young"), "settles": False},
        fence={"without": ("fence",)},
    ),
}
