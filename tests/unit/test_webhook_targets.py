"""The door to webhooks' targets: what is let out, and where to."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import httpcore
import pytest

from agezero.webhooks import targets
from agezero.webhooks.targets import Answer, Door, TargetRefused, check_url, is_public
from support.receiver import running_receiver

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
PRIVATE = [
    "127.0.0.1",
    "127.255.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "192.0.0.192",
    "::ffff:192.0.0.192",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:db8::1",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_in_every_dress(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert not is_public(address)
    url = f"http://[{text}]/hook" if address.version == 6 else f"http://{text}/hook"
    with pytest.raises(TargetRefused, match="not a public address"):
        check_url(url, allow_private=False)
    assert check_url(url, allow_private=True).startswith("http://")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ci.example.com",
        "ftp://ci.example.com",
        "http://",
        "http://u:p@ci.example.com/",
        "https://ci.example.com/#x",
        "http://h:0/",
        "http://h:x/",
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(TargetRefused):
        check_url(text, allow_private=True)


def test_what_is_one() -> None:
    assert check_url("https://ci.example.com/hook?a=b", allow_private=False) == "https://ci.example.com/hook?a=b"
    assert check_url("https://bücher.example.com", allow_private=False) == "https://xn--bcher-kva.example.com"


def post(url: str, allow_private: bool = False) -> Answer:
    async def story() -> Answer:
        door = Door(allow_private)
        try:
            return await door.post(url, {"content-type": "application/json"}, b"{}")
        finally:
            await door.aclose()

    return asyncio.run(story())


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Each look-up gets the next answer."""
    left = list(answers)

    async def getaddrinfo(self: object, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:  # noqa: ARG001 (as the loop's)
        return [(2, 1, 6, "", (address, port)) for address in left.pop(0)]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)


def test_a_name_that_leads_into_this_machine_is_refused_when_it_is_connected_to() -> None:
    with running_receiver() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        answer = post(check_url(url, allow_private=False))
        assert (answer.status, "not a public address" in answer.said) == (0, True)
        assert not receiver.told
        assert post(url, allow_private=True).status == 204  # the twin: without the safeguard it gets there
        assert len(receiver.told) == 1


def test_one_private_address_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["93.184.215.14", "10.0.0.1"])
    assert post("http://ci.example.com/") == Answer(
        0, "10.0.0.1 is not a public address; webhooks.allow_private = true in agezero.toml would allow it"
    )


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that says 127.0.0.1 the second time (DNS rebinding) is not asked a second time."""
    connected: list[str] = []
    real: Callable[..., Awaitable[Any]] = httpcore.AnyIOBackend.connect_tcp

    async def connect(self: object, host: str, port: int, *_: Any) -> Any:
        connected.append(host)
        return await real(self, "127.0.0.1", port)

    with running_receiver() as receiver:
        resolving(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
        post(receiver.url.replace("127.0.0.1", "ci.example.com"))
    assert connected == ["93.184.215.14"]


def test_an_unknown_host_is_said() -> None:
    assert "is unknown" in post("http://nowhere.invalid/").said


def test_no_redirect_is_followed() -> None:
    with running_receiver() as receiver:
        receiver.answer, receiver.location = 302, receiver.url
        assert post(receiver.url, allow_private=True).status == 302
        assert len(receiver.told) == 1


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with running_receiver() as receiver:
        assert post(receiver.url, allow_private=True).status == 204


def test_a_receiver_that_hangs_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "TIMEOUT_S", 0.2)
    with running_receiver() as receiver:
        receiver.answer = 0
        assert post(receiver.url, allow_private=True) == Answer(0, "no answer within 0.2 s")
