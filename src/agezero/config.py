"""The settings: defaults, then agezero.toml, then flags; all checked before anything starts.

The structs below are the whole truth about names, types, ranges and defaults. ``docs/OPERATING.md`` explains each; a test holds the two together.
Names of settings are written with dots: ``limits.purges_per_s`` is ``purges_per_s`` in the section ``[limits]``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from agezero.core.canonical import InvalidUrl, canonical_authority, split_url
from agezero.core.endpoint import Endpoint, parse_endpoint
from agezero.core.wildcards import Wildcards
from agezero.errors import UserError

FILE = "agezero.toml"
DOCS = "docs/OPERATING.md lists every setting"

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of settings that tolerates no unknown name."""


class Api(Section, frozen=True):
    """The purge API."""

    listen: str = "127.0.0.1:8080"


class Limits(Section, frozen=True):
    """Requests per second and key; 0 is no limit."""

    purges_per_s: Count = 2000
    status_per_s: Count = 20_000


class Edge(Section, frozen=True):
    """The embedded edge."""

    name: str = "edge"
    """How the edge calls itself in ``Cache-Status`` (an sf-token, RFC 8941 §3.3.4)."""
    listen: str = "127.0.0.1:8081"
    """``HOST:PORT`` on which the edge serves."""
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

    retention_purges: Positive = 1_000_000


class Lease(Section, frozen=True):
    """How long an edge may serve from its cache unheard of, and what is added for the drift of two clocks."""

    lease_s: Seconds = 5
    margin_s: Seconds = 1


class Config(Section, frozen=True):
    """All settings. Use :func:`read_config`: it also checks what a type can't say."""

    data: str = "./agezero-data"
    endpoints: tuple[str, ...] = ()
    wildcards: Wildcards = Wildcards.IMAGEKIT
    api: Api = Api()
    edge: Edge = Edge()
    limits: Limits = Limits()
    log: Log = Log()
    lease: Lease = Lease()

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return Path(self.data).expanduser()

    @property
    def served_endpoints(self) -> tuple[Endpoint, ...]:
        """What may be purged: ``endpoints``, or the edge's own URL where none is given."""
        return tuple(map(parse_endpoint, self.endpoints or (f"http://{self.edge.listen}",)))


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


Flags = Mapping[str, object]
"""What the command line set: names with dots → values."""


def read_config(path: Path | None = None, flags: Flags | None = None) -> Config:
    """Settings from ``path`` (None: ``agezero.toml`` here, if there is one) and ``flags``. Raises :class:`UserError`."""
    flags = {name: value for name, value in (flags or {}).items() if value not in (None, (), [])}
    text, source = _read(path)
    raw = _parse(text, source)
    _convert(raw, lambda name: f"{source}:{line_of(text, name)}")
    for name, value in flags.items():
        *sections, last = name.split(".")
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value

    def where(name: str) -> str:
        return flag_of(name) if name in flags else f"{source}:{line_of(text, name)}"

    config = _convert(raw, where)
    _check(config, where)
    return config


def parse_address(text: str) -> Address:
    """``127.0.0.1:8080`` or ``[::1]:8080`` → host and port. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+)):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("expected HOST:PORT with a port from 1 to 65535, such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2], int(match[3]))


def setting_names(section: type[Section] = Config) -> Iterator[str]:
    """Every setting's name, with dots."""
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from (f"{field.name}.{inner}" for inner in setting_names(field.type))
        else:
            yield field.name


def line_of(text: str, name: str) -> int:
    """The line of a setting in TOML text: where its key stands, else where its section does, else the first."""
    wanted = name.split(".")
    section: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = _parts(header[1])
            found = section
        elif assignment := re.match(r"\s*([^=#\[\]{}]+?)\s*=", line):
            found = section + _parts(assignment[1])
        else:
            continue
        if found == wanted[: len(found)] and len(found) > depth:
            best, depth = number, len(found)
    return best


def flag_of(name: str) -> str:
    """The flag of ``agezero up`` that sets ``name``."""
    return {"api.listen": "--api", "edge.listen": "--edge", "edge.origin": "--origin", "endpoints": "--endpoint", "data": "--data"}[name]


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _read(path: Path | None) -> tuple[str, str]:
    if path is None and not Path(FILE).exists():
        return "", FILE
    path = path or Path(FILE)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read the settings in {path}: {error.strerror}", "check the path given with --config") from None


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = re.search(r"\(at line (\d+), column \d+\)$", message)
        number = line[1] if line else text.count("\n") + 1
        raise UserError(f"{source}:{number}: not valid TOML: {message}", 'a setting looks like: listen = "127.0.0.1:8080"') from None


def _convert(raw: dict[str, Any], where: Callable[[str], str]) -> Config:
    """Type check. msgspec names the place as ``$.limits`` and an unknown name in the text before it."""
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        name = re.sub(r"\[.*", "", place.rstrip("`")).lstrip(".")
        if unknown := re.match(r"Object contains unknown field `(.*)`", text):
            name = f"{name}.{unknown[1]}".lstrip(".")
            raise UserError(f"{where(name)}: there is no setting {name!r}", _nearest(name)) from None
        text = text.replace("Expected", "expected").replace("`object`", "a section").replace("Invalid enum value", "unknown value")
        raise UserError(f"{where(name)}: the setting {name!r} is not valid: {text}", _allowed(name)) from None


def _nearest(name: str) -> str:
    """The most similar setting; one of the same last name in another section is nearest."""
    names = list(setting_names())
    last = name.rpartition(".")[2]
    twins = [known for known in names if known.rpartition(".")[2] == last]
    close = twins or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not close:
        by_last = {known.rpartition(".")[2]: known for known in names}
        close = [by_last[match] for match in difflib.get_close_matches(last, by_last, n=1, cutoff=0.5)]
    return f"did you mean {' or '.join(map(repr, close))}?" if close else DOCS


def _allowed(name: str) -> str:
    choices: dict[str, list[str]] = {"wildcards": list(Wildcards), "edge.origin_host": ["origin", "pass"]}
    return f"expected one of: {', '.join(choices[name])}" if name in choices else DOCS


def _check(config: Config, where: Callable[[str], str]) -> None:
    """What a type can't say. Each check raises ValueError."""
    checks: list[tuple[str, Callable[[], object]]] = [
        ("api.listen", lambda: parse_address(config.api.listen)),
        ("edge.listen", lambda: parse_address(config.edge.listen)),
        ("edge.listen", lambda: _check_distinct(config)),
        ("edge.origin", lambda: _check_origin(config.edge.origin)),
        ("edge.name", lambda: _check_name(config.edge.name)),
        ("edge.slots", lambda: _check_power_of_two(config.edge.slots)),
        ("endpoints", lambda: _check_endpoints(config)),
        ("data", lambda: _check_data(config.data)),
    ]
    for name, check in checks:
        try:
            check()
        except (ValueError, InvalidUrl) as error:
            raise UserError(f"{where(name)}: the setting {name!r} is not valid: {error}", DOCS) from None


def _check_distinct(config: Config) -> None:
    if parse_address(config.edge.listen) == parse_address(config.api.listen):
        raise ValueError(f"{config.edge.listen} is also the API's address; expected another one")


def _check_origin(text: str) -> None:
    if not text:
        return
    authority, target = split_url(text)
    canonical_authority(authority)
    if target not in ("", "/"):
        raise ValueError(f"{text!r} has a path or a query; expected scheme and host alone, such as http://127.0.0.1:3000")


def _check_name(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,62}", text):
        raise ValueError(f"{text!r}; expected a letter, then at most 62 letters, digits, dots, dashes or underscores")


def _check_power_of_two(number: int) -> None:
    if number & (number - 1):
        raise ValueError(f"{number} is not a power of two; the nearest are {1 << number.bit_length() - 1} and {1 << number.bit_length()}")


def _check_endpoints(config: Config) -> None:
    for text in config.endpoints:
        try:
            parse_endpoint(text)
        except InvalidUrl as error:
            raise ValueError(f"{text!r}: {error}") from None
    if not config.endpoints and parse_address(config.edge.listen).host in ("0.0.0.0", "::", "*"):  # noqa: S104 (compared, not bound)
        raise ValueError("the edge listens on every address, so its own URL can't be the endpoint; give the URL that visitors use")


def _check_data(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError("it names no directory; expected a path such as ./agezero-data")
