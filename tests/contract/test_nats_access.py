"""The ways in at NATS that the settings offer, with the real server: TLS, a password, an nkey, credentials; and what is said of a wrong one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]
import pytest

from agezero.config import Config, Log, Nats
from agezero.errors import UserError
from agezero.fleet_nats import linked
from agezero.jetstream.access import PASSWORD_ENV, access_of
from agezero.jetstream.link import Unreachable
from support.certificates import Authority
from support.nats import Servers, nats_servers


@pytest.fixture(scope="module")
def seed() -> bytes:
    return bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def secured(folder: Path, seed: bytes) -> Iterator[Servers]:
    """Asks for TLS and for a user. ``ca/ca.pem`` in ``folder`` certifies it."""
    Authority(folder / "ca").server("IP:127.0.0.1")
    public = nkeys.from_seed(seed).public_key.decode()
    extra = f"""
tls {{ cert_file: "{folder}/ca/server.pem", key_file: "{folder}/ca/server.key" }}
authorization {{ users: [ {{ user: control, password: "a password of the tests" }}, {{ nkey: {public} }} ] }}
"""
    with nats_servers(folder / "nats", extra=extra) as servers:
        yield servers


def settings(servers: Servers, **nats: str) -> Config:
    return Config(log=Log(url=servers.all[0].url.replace("nats://", "tls://")), nats=Nats(**nats))


def connect(config: Config) -> None:
    async def story() -> None:
        async with linked(access_of(config, "test")) as link:
            assert link.client.is_connected

    asyncio.run(story())


def test_a_password_over_tls_lets_in(secured: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = str(folder / "ca" / "ca.pem")
    connect(settings(secured, ca_file=ca, user="control", password="a password of the tests"))
    monkeypatch.setenv(PASSWORD_ENV, "a password of the tests")
    connect(settings(secured, ca_file=ca, user="control"))


def test_an_nkey_lets_in(secured: Servers, folder: Path, seed: bytes) -> None:
    (folder / "user.nk").write_bytes(seed)
    connect(settings(secured, ca_file=str(folder / "ca" / "ca.pem"), nkey_file=str(folder / "user.nk")))


def test_a_wrong_password_is_said_as_such_and_once(secured: Servers, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="NATS does not let us in") as error:
        connect(settings(secured, ca_file=str(folder / "ca" / "ca.pem"), user="control", password="wrong"))
    assert not isinstance(error.value, Unreachable), "an agent would wait for ever"
    assert "[nats], and AGEZERO_NATS_PASSWORD" in error.value.hint
    assert not caplog.records, "a connection that ends by TLS is nothing to warn of"


def test_a_server_that_nobody_certifies_is_not_spoken_to(secured: Servers) -> None:
    with pytest.raises(UserError, match="no TLS with NATS") as error:
        connect(settings(secured, user="control", password="a password of the tests"))
    assert "nats.ca_file" in error.value.hint


@pytest.mark.parametrize("setting", ["nkey_file", "creds_file", "ca_file"])
def test_a_file_that_is_not_there_is_named_by_its_setting(secured: Servers, setting: str) -> None:
    with pytest.raises(UserError, match=rf"nats\.{setting}: /nowhere/file can't be read: No such file"):
        connect(settings(secured, **{setting: "/nowhere/file"}))


@pytest.mark.parametrize(
    ("setting", "made", "words"),
    [
        ("nkey_file", lambda _: b"", "is empty; expected the seed of a user's nkey alone"),
        ("nkey_file", lambda _: b"garbage\n\xff", "holds no seed of a user; expected the seed"),
        ("nkey_file", lambda seed: seed[:20] + (b"A" if seed[20:21] != b"A" else b"B") + seed[21:], "holds a seed with a typing error"),
        ("nkey_file", lambda seed: b"SA" + seed[2:], "holds no seed of a user"),
        ("creds_file", lambda _: b"", "has no user's JWT; expected a user's JWT and seed"),
        ("creds_file", lambda seed: seed, "has no user's JWT"),
        ("creds_file", lambda seed: credentials(b"e30.e30.e30", seed).partition(b"**")[0], "has no seed"),
        ("creds_file", lambda _: credentials(b"e30.e30.e30", b"garbage"), "holds no seed of a user"),
    ],
)
def test_a_file_that_holds_no_key_is_named_by_its_setting(
    folder: Path, seed: bytes, setting: str, made: Callable[[bytes], bytes], words: str
) -> None:
    """No server is asked: the client would look for ever for a JWT that isn't there."""
    path = folder / "wrong"
    path.write_bytes(made(seed))
    config = Config(log=Log(url="nats://127.0.0.1:1"), nats=Nats(**{setting: str(path)}))
    with pytest.raises(UserError) as error:
        connect(config)
    assert error.value.message.startswith(f"nats.{setting}: {path} {words}")
    assert error.value.hint.startswith("make ")


def test_credentials_let_in_where_the_servers_know_their_account(folder: Path) -> None:
    """In operator mode, with claims as nsc signs them. Those of an account that the operator never signed don't."""
    operator, system, account, user, other = (key(prefix) for prefix in (OPERATOR, ACCOUNT, ACCOUNT, USER, ACCOUNT))
    limits = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": True}
    known = (f"{each.public_key.decode()}: {claims(operator, each, 'account', {'limits': limits}).decode()}" for each in (system, account))
    extra = f"""
operator: {claims(operator, operator, "operator", {}).decode()}
system_account: {system.public_key.decode()}
resolver: MEMORY
resolver_preload: {{ {", ".join(known)} }}
"""
    path = folder / "user.creds"
    with nats_servers(folder / "operator", extra=extra) as servers:
        config = Config(log=Log(url=servers.all[0].url), nats=Nats(creds_file=str(path)))
        for issuer in (account, other):
            path.write_bytes(credentials(claims(issuer, user, "user", {"subs": -1, "data": -1, "payload": -1}), bytes(user.seed)))
            if issuer is account:
                connect(config)
            else:
                with pytest.raises(UserError, match="NATS does not let us in"):
                    connect(config)


OPERATOR, ACCOUNT, USER = nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER


def key(prefix: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def claims(issuer: Any, subject: Any, kind: str, what: dict[str, Any]) -> bytes:
    """A JWT, as NATS has them: signed with ed25519, version 2."""
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = {
        "jti": "test",
        "iat": 1_700_000_000,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "nats": {**what, "type": kind, "version": 2},
    }
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body))
    return signed + b"." + base64.urlsafe_b64encode(issuer.sign(signed)).rstrip(b"=")


def credentials(jwt: bytes, seed: bytes) -> bytes:
    """A file as nsc writes it."""
    return b"""-----BEGIN NATS USER JWT-----
%s
------END NATS USER JWT------

************************* IMPORTANT *************************
Keep the seed secret.

-----BEGIN USER NKEY SEED-----
%s
------END USER NKEY SEED------
""" % (jwt, seed)
