"""All settings with their types, ranges and defaults. ``docs/OPERATING.md`` explains each; a test holds the two together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from agezero.config.edges import CANARY_PATH, AnyEdge
from agezero.config.types import NUMBER_MAX, Count, Positive, Seconds, Section
from agezero.core.endpoint import Endpoint, parse_endpoint
from agezero.core.wildcards import Wildcards


class Api(Section, frozen=True):
    """The purge API."""

    listen: str = "127.0.0.1:8080"
    tls_certificate: str = ""
    """A PEM file: the certificate, then those that certify it. With it and its key the API speaks TLS alone."""
    tls_key: str = ""
    """A PEM file: the certificate's private key, without a password."""


class Limits(Section, frozen=True):
    """Requests per second and key, failed attempts per minute and address; 0 is no limit."""

    purges_per_s: Count = 2000
    status_per_s: Count = 20_000
    failed_attempts_per_min: Count = 60


class Edge(Section, frozen=True):
    """The embedded edge."""

    name: str = "edge"
    """How the edge calls itself in ``Cache-Status`` (an sf-token, RFC 8941 §3.3.4)."""
    listen: str = "127.0.0.1:8081"
    """``HOST:PORT`` on which the edge serves."""
    tls_certificate: str = ""
    """As of the API."""
    tls_key: str = ""
    """As of the API."""
    origin: str = ""
    """Where the content comes from: ``http://HOST[:PORT]``, or ``https://NAME[:PORT]``, the certificate of which is verified."""
    origin_host: Literal["origin", "pass"] = "origin"
    """The Host that the origin sees: its own authority, or the one the client asked for."""
    cache_bytes_max: Positive = 10 << 30
    """Most disk space of the cache."""
    inactive_s: Positive = 7 * 86400
    """An object that nobody asked for in that time leaves the disk."""
    slots: Annotated[int, msgspec.Meta(ge=1 << 10, le=1 << 20)] = 1 << 18
    """Size of the purge table, a power of two."""
    workers: Positive = 2
    """Processes of nginx that serve."""
    body_bytes_max: Count = 100 << 20
    """Longest request body; 0: any."""
    connect_timeout_s: Seconds = 5
    """How long connecting to the origin may take."""
    read_timeout_s: Seconds = 60
    """How long the origin may be silent."""
    lock_timeout_s: Seconds = 10
    """How long a request waits for the same object being fetched for another; then it goes to the origin itself."""


class Log(Section, frozen=True):
    """The purge log."""

    url: str = ""
    """``nats://HOST[:PORT],…``, or ``tls://…``: NATS JetStream keeps it, for several control nodes; without it, SQLite in the data directory does."""
    retention_purges: Positive = 1_000_000
    bytes_max: Annotated[int, msgspec.Meta(ge=1 << 20, le=NUMBER_MAX)] = 1 << 30
    """In JetStream: a stream that has as many bytes takes no purges. It has effect when the stream is made."""


class Nats(Section, frozen=True):
    """As whom to go to the servers in ``log.url``: a user with a password, or an nkey, or a file of credentials."""

    user: str = ""
    password: str = ""
    nkey_file: str = ""
    """A file with the seed of an nkey."""
    creds_file: str = ""
    """A file of credentials, as ``nsc`` makes it."""
    ca_file: str = ""
    """A PEM file: who certifies the servers; without it, those whom this machine trusts."""
    tls_certificate: str = ""
    """A PEM file: our own certificate, where the servers ask for one."""
    tls_key: str = ""
    """A PEM file: its private key, without a password."""
    inbox: str = "_INBOX"
    """Before the subjects on which answers are taken: with a prefix of its own, an agent can't be overheard by another."""


class Logging(Section, frozen=True):
    """What is written to stderr, and how."""

    format: Literal["auto", "json", "text"] = "auto"
    """auto: text on a terminal, else JSON lines."""
    requests: Literal["none", "changes", "all"] = "none"
    """Which requests have a line of their own: those that may change something (POST, DELETE), or all."""


class Webhooks(Section, frozen=True):
    """What other programs are told."""

    allow_private: bool = False
    """May a webhook's target be in a private network, or this machine?"""
    blocked_after_s: Seconds = 30
    """How old a purge that is not complete must be for ``purge.blocked``."""


class Traces(Section, frozen=True):
    """Where spans are sent to."""

    otlp: str = ""
    """A collector's OTLP/HTTP endpoint, without ``/v1/traces``; empty: what ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, or none."""


class Lease(Section, frozen=True):
    """How long an edge may serve from its cache unheard of, and what is added for the drift of two clocks."""

    lease_s: Seconds = 5
    margin_s: Seconds = 1
    lease_max_s: Seconds = 60
    """No edge of the fleet has a longer lease: so long is waited where the records of its edges are lost. For all control nodes the same."""


class Config(Section, frozen=True):
    """All settings. Use :func:`read_config`: it also checks what a type can't say."""

    data: str = "./agezero-data"
    endpoints: tuple[str, ...] = ()
    wildcards: Wildcards = Wildcards.IMAGEKIT
    api: Api = Api()
    edge: Edge = Edge()
    edges: tuple[AnyEdge, ...] = ()
    limits: Limits = Limits()
    log: Log = Log()
    nats: Nats = Nats()
    lease: Lease = Lease()
    logging: Logging = Logging()
    webhooks: Webhooks = Webhooks()
    traces: Traces = Traces()

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return Path(self.data).expanduser()

    @property
    def nats_servers(self) -> tuple[str, ...]:
        """The servers in ``log.url``; none where SQLite keeps the log."""
        return tuple(filter(None, (part.strip() for part in self.log.url.split(","))))

    @property
    def served_endpoints(self) -> tuple[Endpoint, ...]:
        """What may be purged: ``endpoints``, or the edges' own URLs where none is given; and always the doctor's canary on their fronts."""
        fronts = [edge.front for edge in self.edges if edge.front]
        own = (f"http://{self.edge.listen}",) if self.edge.origin or not fronts else ()
        canaries = [front.rstrip("/") + CANARY_PATH for front in fronts] if self.endpoints else []
        return tuple(map(parse_endpoint, (*(self.endpoints or (*own, *fronts)), *canaries)))
