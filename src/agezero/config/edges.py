"""The settings of ``[[edges]]``: caches that run beside AgeZero. ``driver`` says which struct is meant."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agezero.config.types import Seconds, Section

CANARY_PATH = "/.well-known/agezero/"
"""What the shipped configurations send to ``edges.canary``."""
TIER_MAX = 100
Tier = Annotated[int, msgspec.Meta(ge=0, le=TIER_MAX)]
Slots = Annotated[int, msgspec.Meta(ge=1 << 10, le=1 << 20)]


class ExternalEdge(Section, frozen=True, tag_field="driver"):
    """What all of them have."""

    name: str
    """How the edge is called in metrics and details."""
    tier: Tier = 0
    """Edges of a tier get a purge once those of the tiers before have it: a shield is 0, the edges in front of it are 1."""
    lease_s: Seconds | None = None
    """How long it may serve from its cache unheard of; without it ``lease.lease_s``."""
    front: str = ""
    """``http://HOST:PORT`` on which the cache serves, for `agezero doctor`."""
    canary: str = "127.0.0.1:8479"
    """Where the shipped configuration sends ``/.well-known/agezero/``, so that `agezero doctor` can answer in the origin's place."""

    @property
    def driver(self) -> str:
        """The name of the driver."""
        return str(type(self).__struct_config__.tag)


class Varnish(ExternalEdge, frozen=True, tag="varnish"):
    """Varnish, driven through agezero.vcl."""

    control: str = "/run/agezero/varnish.sock"
    """The unix socket on which Varnish listens for the agent alone (``-a agezero=PATH``)."""
    connections: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    """How many connections the agent drives it by."""


class Mapped(ExternalEdge, frozen=True):
    """A cache that maps the agent's purge table."""

    table: str = ""
    """The purge table's file, which the cache's user must be able to read; without it ``<data>/edges/<name>/table``."""
    slots: Slots = 1 << 18
    """Size of the purge table, a power of two."""


class Nginx(Mapped, frozen=True, tag="nginx"):
    """An nginx of one's own with lua-nginx-module, or OpenResty."""

    control: str = "/run/agezero/nginx.sock"
    """The unix socket on which nginx answers the agent alone."""


class NginxNjs(ExternalEdge, frozen=True, tag="nginx-njs"):
    """An nginx of one's own with njs 0.8 or newer."""

    control: str = "/run/agezero/nginx.sock"
    """The unix socket on which nginx obeys the agent alone."""
    slots: Slots = 1 << 18
    """Size of the purge table, a power of two; it stands in nginx's configuration too."""


class TrafficServer(Mapped, frozen=True, tag="trafficserver"):
    """Apache Traffic Server, by ts_lua."""

    control: str = "127.0.0.1:8080"
    """Where it listens, by loopback: the port of its visitors will do."""
    hosts: tuple[str, ...] = ()
    """The hosts that its rules map, as visitors ask for them. The agent asks each rule for proof; without them, that of the host in ``front``."""


class Squid(Mapped, frozen=True, tag="squid"):
    """Squid, by its StoreID helper."""

    control: str = "127.0.0.1:8478"
    """Where it listens for the agent alone: a port of its own on the loopback."""


AnyEdge = Varnish | Nginx | NginxNjs | TrafficServer | Squid
DRIVERS: dict[str, type[ExternalEdge]] = {str(kind.__struct_config__.tag): kind for kind in (Varnish, Nginx, NginxNjs, TrafficServer, Squid)}

__all__ = ["CANARY_PATH", "DRIVERS", "AnyEdge", "ExternalEdge", "Mapped", "Nginx", "NginxNjs", "Squid", "TrafficServer", "Varnish"]
