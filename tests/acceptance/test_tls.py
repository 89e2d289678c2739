"""Visitors and clients get TLS, and notice nothing of a certificate that is renewed while their requests are under way."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from agezero.cli.main import run
from agezero.cli.output import Exit
from support.certificates import Authority
from support.origin import Origin, running_origin
from support.ports import free_address
from support.scripted import Gate, Reply, scripted_origin
from support.service import start, stop
from support.waiting import wait_for

KEY = "private_key_of_the_tests"


@dataclass(frozen=True, slots=True)
class Secure:
    authority: Authority
    folder: Path
    api: str
    edge: str
    client: httpx.Client

    def renew(self) -> None:
        self.authority.server("IP:127.0.0.1")

    def output(self) -> str:
        return (self.folder / "output.log").read_text()


def trusted(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.bundle))


def serial(url: str) -> str:
    host, _, port = url.removeprefix("https://").partition(":")
    certificate = ssl.get_server_certificate((host, int(port)))
    return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=certificate, check=True, capture_output=True, text=True).stdout


@contextmanager
def secure_service(folder: Path, origin: str) -> Iterator[Secure]:
    authority = Authority(folder / "ca")
    authority.server("IP:127.0.0.1")
    pair = f'tls_certificate = "{folder}/ca/server.pem"\ntls_key = "{folder}/ca/server.key"\n'
    api, edge = free_address(), free_address()
    config = f'[api]\nlisten = "{api}"\n{pair}[edge]\norigin = "{origin}"\nlisten = "{edge}"\n{pair}'
    process = start(folder, config, KEY, [])
    try:
        with httpx.Client(verify=trusted(authority), http2=True, timeout=30) as client:
            secure = Secure(authority, folder, f"https://{api}", f"https://{edge}", client)

            def ready() -> bool:
                assert process.poll() is None, secure.output()
                try:
                    return client.get(f"{secure.api}/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            wait_for(ready, "the API is ready over TLS")
            yield secure
    finally:
        stop(process)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with running_origin() as running:
        yield running


def purge(secure: Secure, path: str) -> None:
    answer = secure.client.post(f"{secure.api}/v1/files/purge", json={"url": secure.edge + path}, auth=(KEY, ""))
    assert answer.status_code == 201
    status = f"{secure.api}/v1/files/purge/{answer.json()['requestId']}"
    wait_for(lambda: secure.client.get(status, auth=(KEY, "")).json()["status"] == "Completed", "the purge is completed")


def hit(response: httpx.Response) -> bool:
    return "; hit" in response.headers["cache-status"]


def test_both_speak_tls_and_http_2_and_take_up_a_new_certificate(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure_service(tmp_path, origin.url) as secure:
        assert f"API  {secure.api}" in secure.output()
        get = secure.client.get
        for url in (secure.api + "/healthz", secure.edge + "/kept", secure.edge + "/gone"):
            assert (get(url).status_code, get(url).http_version) == (200, "HTTP/2")
        assert hit(get(secure.edge + "/kept"))
        purge(secure, "/gone")
        origin.content = "v2"
        before = {url: serial(url) for url in (secure.api, secure.edge)}
        secure.renew()
        wait_for(lambda: all(serial(url) != old for url, old in before.items()), "both show the new certificate")
        with httpx.Client(verify=trusted(secure.authority)) as other:
            assert hit(other.get(secure.edge + "/kept"))  # the table and the lease are as they were
            assert other.get(secure.edge + "/gone").text == "v2 /gone"
            assert hit(other.get(secure.edge + "/gone"))
            assert other.get(f"{secure.api}/v1/edges", auth=(KEY, "")).json()["edges"][0]["state"] == "leased"
        monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority.bundle))
        monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
        assert run(["purge", "--wait", "--url", secure.api, f"{secure.edge}/kept"]) == Exit.OK
        assert httpx.get(f"{secure.edge}/kept", verify=trusted(secure.authority)).text == "v2 /kept"


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_what_is_being_fetched_goes_on_over_a_renewal(http: str, tmp_path: Path) -> None:
    """curl, because Python's h2 takes the announcement that a connection ends (GOAWAY) for its end."""
    with scripted_origin() as scripted, secure_service(tmp_path, scripted.url) as secure:
        gate = Gate()
        scripted.answer("/slow", Reply(before_head=gate))
        command = ("curl", "-sS", http, "--cacert", secure.authority.bundle, "-w", "%{http_code}", f"{secure.edge}/slow")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as fetching:
            assert gate.reached.wait(30)
            old = serial(secure.edge)
            secure.renew()
            wait_for(lambda: serial(secure.edge) != old, "the edge shows the new certificate")
            gate.open.set()
            said, _ = fetching.communicate(timeout=30)
        assert said.endswith("200"), said


def test_a_broken_certificate_is_not_taken_up(origin: Origin, tmp_path: Path) -> None:
    with secure_service(tmp_path, origin.url) as secure:
        old = serial(secure.edge), serial(secure.api)
        (tmp_path / "ca" / "server.pem").write_text("nothing")
        wait_for(lambda: secure.output().count("the new certificate is not used") == 2, "it is said")
        assert (serial(secure.edge), serial(secure.api)) == old
        secure.renew()
        wait_for(lambda: serial(secure.edge) != old[0] and serial(secure.api) != old[1], "a good one is")


def test_a_certificate_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    process = start(tmp_path, '[api]\ntls_certificate = "/nowhere/c.pem"\ntls_key = "/nowhere/k.pem"\n', KEY, ["--origin", "http://127.0.0.1:9"])
    assert process.wait(30) == Exit.FAILED
    said = (tmp_path / "output.log").read_text()
    assert "error: the file /nowhere/c.pem (api.tls_certificate) cannot be read: no such file or directory\nhint: " in said
