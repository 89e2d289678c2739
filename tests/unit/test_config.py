from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from agezero.config import Address, Config, Section, flag_of, line_of, parse_address, read_config, setting_names
from agezero.config.edges import DRIVERS
from agezero.core.endpoint import Endpoint
from agezero.core.wildcards import Wildcards
from agezero.errors import UserError

OPERATING = Path(__file__).parents[2] / "docs" / "OPERATING.md"


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(text: str) -> UserError:
    Path("agezero.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_config()
    return caught.value


def test_without_a_file_all_settings_have_their_defaults() -> None:
    config = read_config()
    assert config == Config()
    assert config.served_endpoints == (Endpoint("127.0.0.1:8081", ""),)
    assert (parse_address(config.api.listen), config.data_dir) == (Address("127.0.0.1", 8080), Path("agezero-data"))


def test_the_file_overrides_defaults_and_flags_override_the_file() -> None:
    Path("agezero.toml").write_text('wildcards = "any"\ndata = "from-file"\n[api]\nlisten = "127.0.0.1:1"\n[edge]\nlisten = "127.0.0.1:2"')
    config = read_config(None, {"api.listen": "[::1]:9", "endpoints": ("https://cdn.example.com",), "data": None, "edge.origin": None})
    assert (config.wildcards, config.data, config.api.listen, config.edge.listen) == (Wildcards.ANY, "from-file", "[::1]:9", "127.0.0.1:2")
    assert config.served_endpoints == (Endpoint("cdn.example.com", ""),)


def test_the_doctors_path_on_a_front_is_always_an_endpoint() -> None:
    edges = '[[edges]]\nname = "a"\ndriver = "varnish"\nfront = "http://127.0.0.1:6081/"'
    Path("agezero.toml").write_text(f'endpoints = ["https://cdn.example.com"]\n{edges}')
    assert read_config().served_endpoints == (Endpoint("cdn.example.com", ""), Endpoint("127.0.0.1:6081", "/.well-known/agezero"))
    Path("agezero.toml").write_text(edges)
    assert read_config().served_endpoints == (Endpoint("127.0.0.1:6081", ""),)


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(UserError, match=r"other\.toml") as caught:
        read_config(Path("other.toml"))
    assert "--config" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        ("\n[limits]\npurge_per_s = 3", 3, "no setting 'limits.purge_per_s'", "did you mean 'limits.purges_per_s'?"),
        ("purges_per_s = 3", 1, "no setting 'purges_per_s'", "did you mean 'limits.purges_per_s'?"),
        ("limit = 3", 1, "no setting 'limit'", ""),
        ("[limts]\npurges_per_s = 3", 1, "no setting 'limts'", ""),
        ("listen = 3", 1, "no setting 'listen'", "did you mean 'api.listen' or 'edge.listen'?"),
        ("frobnicate = 3", 1, "no setting 'frobnicate'", "docs/OPERATING.md lists every setting"),
        ('[limits]\n# a comment\npurges_per_s = "3"', 3, "expected `int`, got `str`", ""),
        ('[[edges]]\ndriver = "varnish"\nname = "v"\ntie = 1', 4, "no setting 'edges[0].tie'", "did you mean 'edges.tier'?"),
        ('[[edges]]\ndriver = "varnis"\nname = "v"', 2, "'edges[0].driver' is not valid: unknown value 'varnis'", "varnish, nginx"),
        ('[[edges]]\nname = "v"', 1, "edges[0].driver is missing", "expected one of: varnish"),
        ('[[edges]]\ndriver = "varnish"\nname = "v"\n[[edges]]\ndriver = "squid"\nname = "s"\ntier = "1"', 7, "expected `int`, got `str`", ""),
        ('[[edges]]\ndriver = "squid"\nname = "v"\n[[edges]]\ndriver = "squid"\nname = "v"', 3, "is the name of another edge too", ""),
        ('[[edges]]\ndriver = "squid"\nname = "s"\nslots = 1025', 4, "1025 is not a power of two", ""),
        ("[limits]\npurges_per_s = -1", 2, "expected `int` >= 0", ""),
        ("limits.purges_per_s = 1.5", 1, "expected `int`, got `float`", ""),
        ("limits = { purges_per_s = true }", 1, "expected `int`, got `bool`", ""),
        ("limits = 3", 1, "expected a section, got `int`", ""),
        ('wildcards = "some"', 1, "unknown value 'some'", "expected one of: imagekit, any"),
        ('[edge]\norigin_host = "x"', 2, "unknown value 'x'", "expected one of: origin, pass"),
        ('[logging]\nformat = "xml"', 2, "unknown value 'xml'", "expected one of: auto, json, text"),
        ('[logging]\nrequests = "some"', 2, "unknown value 'some'", "expected one of: none, changes, all"),
        ("[lease]\nlease_s = 0", 2, "> 0", ""),
        ("[lease]\nlease_s = inf\nlease_max_s = inf", 2, "<= 31622400", ""),
        ("[edge]\nread_timeout_s = inf", 2, "<= 31622400", ""),
        ("[edge]\ninactive_s = 999999999999999999999", 2, "<= 1000000000000000", ""),
        ('[[edges]]\ndriver = "squid"\nname = "s"\ncontrol = "/run/squid.sock"', 4, "'edges[0].control' is not valid: expected HOST:PORT", ""),
        ('[[edges]]\ndriver = "trafficserver"\nname = "t"\ncontrol = "8080"', 4, "'edges[0].control' is not valid: expected HOST:PORT", ""),
        ('[[edges]]\ndriver = "varnish"\nname = "v"\nconnections = 100000', 4, "<= 256", ""),
        ('[api]\nlisten = "8080"', 2, "expected HOST:PORT", ""),
        ('[api]\nlisten = "127.0.0.1:0"', 2, "1 to 65535", ""),
        ('[api]\nlisten = "127.0.0.1:65536"', 2, "1 to 65535", ""),
        ('[edge]\nlisten = "127.0.0.1:8080"', 2, "also the API's address", ""),
        ('[api]\ntls_key = "k.pem"', 1, "tls_certificate and tls_key belong together", ""),
        ('[edge]\nlisten = "0.0.0.0:80"', 1, "listens on every address", ""),
        ('[edge]\norigin = "ftp://example.com"', 2, "scheme is 'ftp'", ""),
        ('[edge]\norigin = "https://example.com/path"', 2, "has a path", ""),
        ('[edge]\nname = "two words"', 2, "expected a letter", ""),
        ("[edge]\nslots = 1025", 2, "the nearest are 1024 and 2048", ""),
        ('endpoints = ["https://a.example", "b.example"]', 1, "'b.example': expected an absolute URL", ""),
        ('endpoints = "https://a.example"', 1, "got `str`", ""),
        ('data = ""', 1, "names no directory", ""),
        ('[log]\nurl = "http://n1"', 2, "expected nats://HOST:PORT", ""),
        ('[log]\nurl = "nats://user:secret@n1"', 2, "//…@n1", ""),
        ('[log]\nurl = "nats://n1,tls://n2"', 2, "one of the two", ""),
        ('[nats]\nuser = "control"', 1, "log.url names no servers", ""),
        ('log.url = "nats://n1"\n[nats]\nuser = "u"\ncreds_file = "f"', 3, "user and creds_file are set", ""),
        ('log.url = "nats://n1"\n[nats]\npassword = "p"', 2, "no user", ""),
        ('log.url = "nats://n1"\n[nats]\nca_file = "ca.pem"', 3, "log.url is not tls://", ""),
        ('log.url = "tls://n1"\n[nats]\ntls_key = "k.pem"', 2, "belong together", ""),
        ('log.url = "nats://n1"\n[nats]\ninbox = "in.>"', 3, "expected _INBOX", ""),
        ("[lease]\nlease_s = 90", 2, "more than lease.lease_max_s = 60", ""),
        ("a = 1\n[api", 2, "not valid TOML", "a setting looks like"),
        ("a = 1\na = 2", 2, "not valid TOML", "a setting looks like"),
    ],
)
def test_an_error_names_the_line_what_was_expected_and_what_to_do(text: str, line: int, said: str, hint: str) -> None:
    error = refused(text)
    assert error.message.startswith(f"agezero.toml:{line}: ")
    assert said in error.message
    assert error.hint
    assert hint in error.hint


def test_a_file_that_is_not_utf_8() -> None:
    Path("agezero.toml").write_bytes(b"data = '\xff'")
    with pytest.raises(UserError, match="not UTF-8"):
        read_config()


def test_a_file_with_a_byte_order_mark() -> None:
    Path("agezero.toml").write_text('\ufeffdata = "there"')
    assert read_config().data == "there"


def test_an_error_in_a_flag_names_the_flag() -> None:
    Path("agezero.toml").write_text('[api]\nlisten = "127.0.0.1:1"')
    with pytest.raises(UserError, match=r"^--api: the setting 'api\.listen' is not valid"):
        read_config(None, {"api.listen": "nonsense"})


@pytest.mark.parametrize("name", ["api.listen", "edge.listen", "edge.origin", "endpoints", "data", "log.url"])
def test_every_flag_has_a_twin_in_the_file(name: str) -> None:
    assert flag_of(name).startswith("--")
    assert name in setting_names()


def test_lines_are_found_in_every_way_of_writing_a_name() -> None:
    text = 'a = 1\n"b" = 2\nc.d = 3\n[e]\n# f = 0\nf = 4\n[e.g]\nh = 5\n[ "i" ]\nj = { k = 6 }'
    assert [line_of(text, name) for name in ("a", "b", "c.d", "e.f", "e.g.h", "i.j.k", "e.missing", "missing")] == [1, 2, 3, 6, 8, 10, 4, 1]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|", OPERATING.read_text(), re.MULTILINE))
    assert set(setting_names()) - set(rows) == set()
    for name in setting_names():
        assert rows[name] in _defaults(name), name


def test_the_example_in_the_documentation_is_a_valid_file() -> None:
    example = re.search(r"```toml\n(.*?)```", OPERATING.read_text(), re.DOTALL)
    assert example is not None
    Path("agezero.toml").write_text(example[1])
    assert tomllib.loads(example[1])
    read_config()


def test_the_example_of_edges_is_valid() -> None:
    example = re.search(r"```toml\n(\[\[edges.*?)```", OPERATING.read_text(), re.DOTALL)
    assert example is not None
    Path("agezero.toml").write_text(example[1])
    assert [edge.driver for edge in read_config().edges] == ["varnish", "nginx"]


def _defaults(name: str) -> set[str]:
    """What the documentation may say: the default, where the drivers agree on one, or that there is none."""
    if name == "edges.driver":
        return {"–"}
    if not name.startswith("edges."):
        value: object = Config()
        for part in name.split("."):
            value = getattr(value, part)
        return {f"`{msgspec.json.encode(value).decode()}`"} if not isinstance(value, Section) else set()
    fields = [field for kind in DRIVERS.values() for field in msgspec.structs.fields(kind) if field.name == name.removeprefix("edges.")]
    found = {"–" if field.required else f"`{msgspec.json.encode(field.default).decode()}`" for field in fields}
    return found if len(found) == 1 else {"per driver"}
