"""The settings: what there is, with types and defaults (``settings``, ``edges``), and how they are read and checked (``reading``)."""

from agezero.config.checks import Address, parse_address
from agezero.config.names import flag_of, line_of, setting_names
from agezero.config.reading import FILE, Flags, read_config
from agezero.config.settings import Api, Config, Edge, Lease, Limits, Log, Logging, Nats, Traces, Webhooks
from agezero.config.types import Section

__all__ = [
    "FILE",
    "Address",
    "Api",
    "Config",
    "Edge",
    "Flags",
    "Lease",
    "Limits",
    "Log",
    "Logging",
    "Nats",
    "Section",
    "Traces",
    "Webhooks",
    "flag_of",
    "line_of",
    "parse_address",
    "read_config",
    "setting_names",
]
