"""The edge follows its origin wherever its name leads, and talks to nobody who can't show that he is it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from agezero.edges.nginx import origin as origins
from agezero.edges.nginx.origin import follows_dns, name_servers
from support.certificates import Authority
from support.dns import NameServer, name_server
from support.edge import is_hit, running_edge
from support.scripted import Reply, scripted_origin
from support.waiting import wait_for


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only one that is trusted."""
    made = Authority(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.bundle))
    return made


def https(url: str, host: str) -> str:
    return url.replace("http://127.0.0.1", f"https://{host}")


def test_an_origin_over_tls(authority: Authority, tmp_path: Path) -> None:
    asked_for: list[str | None] = []
    context = authority.server("DNS:localhost")
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    with scripted_origin(context) as origin, running_edge(https(origin.url, "localhost"), tmp_path) as edge:
        first = edge.get("/")
        assert (first.status_code, first.text) == (200, "v1")
        assert is_hit(edge.get("/"))
        assert origin.last("/").headers["Host"] == f"localhost:{origin.server_port}"
    assert asked_for == ["localhost"]


@pytest.mark.parametrize("name", ["DNS:localhost.example.com", "DNS:*.localhost"])
def test_an_origin_with_another_name_is_not_trusted(authority: Authority, tmp_path: Path, name: str) -> None:
    refused(authority.server(name), tmp_path)


def test_an_origin_of_another_authority_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    assert authority.bundle.exists()
    refused(Authority(tmp_path / "other").server("DNS:localhost"), tmp_path)


def refused(context: ssl.SSLContext, data: Path) -> None:
    with scripted_origin(context) as origin, running_edge(https(origin.url, "localhost"), data) as edge:
        assert edge.get("/").status_code == 502
        assert origin.asked == []


NAME = "origin.invalid"


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """The name server of this machine, as far as nginx knows."""
    with name_server() as server:
        (tmp_path / "resolv.conf").write_text(f"# ours\nsearch example.com\nnameserver {server.address}\n")
        monkeypatch.setattr(origins, "RESOLV_CONF", tmp_path / "resolv.conf")
        yield server


def test_an_origin_that_moves_is_followed(names: NameServer, tmp_path: Path) -> None:
    with scripted_origin() as old, scripted_origin(address=("127.0.0.2", old.server_port)) as new:
        private: dict[str, str | list[str]] = {"Cache-Control": "private"}
        old.answer("/", Reply(headers=private, body=b"old"))
        new.answer("/", Reply(headers=private, body=b"new"))
        names.addresses[NAME] = "127.0.0.1"
        with running_edge(f"http://{NAME}:{old.server_port}", tmp_path) as edge:
            wait_for(lambda: edge.get("/").text == "old", "the name to be known")
            names.addresses[NAME] = "127.0.0.2"
            wait_for(lambda: edge.get("/").text == "new", "the change to be noticed")


def test_a_name_that_nobody_knows_yet_is_a_warning(names: NameServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Some 11 s: nginx asks for an unknown name again when its own pause is over."""
    with scripted_origin() as origin, running_edge(f"http://{NAME}:{origin.server_port}", tmp_path) as edge:
        assert "the origin's host is unknown" in capfd.readouterr().out
        assert edge.get("/").status_code == 502
        names.addresses[NAME] = "127.0.0.1"
        wait_for(lambda: edge.get("/").status_code == 200, "the name to be known", deadline_s=60)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "localhost", "a.localhost", "printer.local", "no-such-host"])
def test_what_no_name_server_is_asked_for(host: str) -> None:
    assert not follows_dns(host)


def test_nor_for_a_name_of_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert follows_dns(NAME)
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost # loopback\n192.0.2.1 other {NAME}\n")
    monkeypatch.setattr(origins, "HOSTS", tmp_path / "hosts")
    assert not follows_dns(NAME)


def test_name_servers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n#nameserver 192.0.2.2\n nameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n")
    assert name_servers(path) == ["192.0.2.1", "[2001:db8::1]"]
    assert name_servers(tmp_path / "none") == []
