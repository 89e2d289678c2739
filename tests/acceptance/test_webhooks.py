"""Webhooks against a real receiver: signed, sent again, there after a kill -9, and never into a private network unless that is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.cli.main import run
from agezero.cli.output import Exit
from agezero.config import Config, Limits, Webhooks
from agezero.webhooks import messages, targets
from support.api import ENDPOINT, KEY, Api, running_api
from support.origin import running_origin
from support.ports import free_address
from support.receiver import Receiver, Told, running_receiver
from support.service import start, stop
from support.waiting import wait_for

CONFIG = Config(endpoints=(ENDPOINT,), webhooks=Webhooks(allow_private=True, blocked_after_s=0.3), limits=Limits(failed_attempts_per_min=0))
ALL = ["purge.completed", "purge.blocked", "edge.fenced", "edge.unfenced"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(messages, "DELAYS_S", (0.05, 0.05, 0.05))
    with running_api(CONFIG) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def made(client: httpx.Client, receiver: Receiver, *events: str) -> tuple[str, str]:
    """Id and secret."""
    answer = client.post("/v1/webhooks", json={"url": receiver.url, "events": events or ALL})
    assert answer.status_code == 201, answer.text
    return answer.json()["webhook"]["id"], answer.json()["secret"]


def purge(api: Api) -> str:
    return str(api.client.post("/v1/purges", json={"urls": [f"{ENDPOINT}/cat.jpg"]}).json()["id"])


def ids(told: list[Told]) -> list[str]:
    return [each["id"] for message in told if message.type == "purge.completed" for each in message.data["purges"]]


def deliveries(api: Api, webhook_id: str, count: int = 1) -> list[dict[str, object]]:
    """Once so many are over."""

    def over() -> list[dict[str, object]] | None:
        found: list[dict[str, object]] = api.client.get(f"/v1/webhooks/{webhook_id}/deliveries").json()["deliveries"]
        return found if len([each for each in found if each["state"] != "pending"]) >= count else None

    return wait_for(over, f"{count} deliveries are over")


def test_completed_purges_are_told_signed_and_in_order(api: Api, receiver: Receiver) -> None:
    purge(api)  # before there was a webhook: not told
    _, secret = made(api.client, receiver, "purge.completed")
    purged = [purge(api) for _ in range(20)]
    wait_for(lambda: ids(receiver.told) == purged, "all are told, once, in order")
    for told in receiver.told:
        told.verify(secret)
        assert told.headers["content-type"] == "application/json"
    with pytest.raises(Exception, match="No matching signature"):
        receiver.told[0].verify("whsec_" + "A" * 32)


def test_it_is_sent_again_after_errors_under_the_same_id(api: Api, receiver: Receiver) -> None:
    receiver.answers = [500, 302, 404]
    webhook_id, secret = made(api.client, receiver, "purge.completed")
    purge(api)
    told = receiver.wait(4)
    assert len({each.id for each in told}) == 1
    assert len({each.body for each in told}) == 1
    told[-1].verify(secret)
    (delivery,) = deliveries(api, webhook_id)
    assert (delivery["state"], delivery["attempts"], delivery["status"], delivery["next_at"]) == ("delivered", 4, 204, None)


def test_it_is_sent_again_after_a_timeout(api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "TIMEOUT_S", 0.2)
    receiver.answers = [0]
    made(api.client, receiver, "purge.completed")
    purge(api)
    first, second = receiver.wait(2)
    assert first.id == second.id


def test_one_that_is_never_heard_is_given_up_and_one_that_is_gone_is_left_alone(api: Api, receiver: Receiver) -> None:
    receiver.answer = 500
    webhook_id, _ = made(api.client, receiver, "purge.completed")
    purge(api)
    (delivery,) = deliveries(api, webhook_id)
    assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("failed", 4, 500)
    with running_receiver() as other:
        other.answer = 410
        gone, _ = made(api.client, other, "purge.completed")
        purge(api)
        assert deliveries(api, gone)[0]["attempts"] == 1
        stopped = wait_for(lambda: {each["id"]: each["stopped"] for each in api.client.get("/v1/webhooks").json()["webhooks"]}[gone], "it is stopped")
        assert "410" in stopped


def test_a_receiver_that_hangs_holds_up_no_other(api: Api, receiver: Receiver) -> None:
    with running_receiver() as hanging:
        hanging.answer = 0
        made(api.client, hanging, "purge.completed")
        made(api.client, receiver, "purge.completed")
        purge(api)
        hanging.wait(1)
        receiver.wait(1)


def test_what_is_held_up_is_told_with_who_holds_it_up_and_then_that_it_is_done(api: Api, receiver: Receiver) -> None:
    made(api.client, receiver, "purge.blocked", "purge.completed")
    api.within(api.edge.open.clear)
    purged = purge(api)
    (blocked,) = receiver.wait(1, "purge.blocked")
    assert (blocked.data["id"], blocked.data["pending_entries"]) == (purged, 1)
    assert [edge["name"] for edge in blocked.data["edges"]] == ["edge"]
    assert blocked.data["pending_s"] >= 0.3
    api.within(api.edge.open.set)
    receiver.wait(1, "purge.completed")
    assert len(receiver.wait(1, "purge.blocked")) == 1


def test_an_edge_that_loses_its_lease_and_takes_another_is_told(api: Api, receiver: Receiver) -> None:
    made(api.client, receiver, "edge.fenced", "edge.unfenced")
    control = api.control
    wait_for(api.native.webhooks.store.edges_told, "what is told from now on is a change")
    asyncio.run_coroutine_threadsafe(control.leave("edge", control.ledger.members["edge"].record.token), api.loop).result(30)
    (fenced,) = receiver.wait(1, "edge.fenced")
    assert fenced.data == {"edge": "edge"}
    asyncio.run_coroutine_threadsafe(control.renew("edge", control.ledger.members["edge"].record.token, api.log.head), api.loop).result(30)
    receiver.wait(1, "edge.unfenced")


def test_a_rotated_secret_and_a_test(api: Api, receiver: Receiver) -> None:
    webhook_id, old = made(api.client, receiver, "edge.fenced")
    new = api.client.post(f"/v1/webhooks/{webhook_id}/rotate", json={"overlap": "1h"}).json()["secret"]
    tested = api.client.post(f"/v1/webhooks/{webhook_id}/test").json()
    assert (tested["state"], tested["status"], tested["event"]) == ("delivered", 204, "webhook.test")
    for secret in (old, new):
        receiver.told[-1].verify(secret)
    receiver.answer = 503
    tested = api.client.post(f"/v1/webhooks/{webhook_id}/test").json()
    assert (tested["state"], tested["status"], tested["next_at"]) == ("failed", 503, None)
    assert [each["event"] for each in deliveries(api, webhook_id, 2)] == ["webhook.test", "webhook.test"]
    assert api.client.delete(f"/v1/webhooks/{webhook_id}").status_code == 204
    for method, path in (("POST", "/test"), ("GET", "/deliveries"), ("DELETE", "")):
        assert api.client.request(method, f"/v1/webhooks/{webhook_id}{path}").status_code == 404


def test_a_private_target_is_refused_unless_it_is_allowed(receiver: Receiver) -> None:
    with running_api(Config(endpoints=(ENDPOINT,))) as api:
        refused = api.client.post("/v1/webhooks", json={"url": receiver.url, "events": ALL})
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:agezero:problem:target-refused")
        assert "127.0.0.1 is not a public address" in refused.json()["detail"]
        named = api.client.post("/v1/webhooks", json={"url": receiver.url.replace("127.0.0.1", "localhost"), "events": ALL})
        assert named.status_code == 201  # a name is looked at each time it is connected to
        tested = api.client.post(f"/v1/webhooks/{named.json()['webhook']['id']}/test").json()
        assert (tested["state"], "is not a public address" in tested["said"]) == ("failed", True)
        assert not receiver.told


def test_the_command_line(api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("AGEZERO_URL", api.url)
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
    assert run(["webhooks", "create", receiver.url, "--event", "edge.fenced", "--event", "purge.completed"]) == Exit.OK
    secret = capsys.readouterr().out.strip()
    assert run(["webhooks", "list"]) == Exit.OK
    webhook_id, url, events = capsys.readouterr().out.split()
    assert (url, events) == (receiver.url, "edge.fenced,purge.completed")
    assert run(["webhooks", "test", webhook_id]) == Exit.OK
    receiver.told[-1].verify(secret)
    receiver.answer = 500
    assert run(["webhooks", "test", webhook_id]) == Exit.FAILED
    assert "not delivered: the target answered 500" in capsys.readouterr().err
    assert run(["webhooks", "rotate", webhook_id, "--overlap", "now"]) == Exit.OK
    assert capsys.readouterr().out.startswith("whsec_")
    assert run(["webhooks", "deliveries", webhook_id]) == Exit.OK
    assert [line.split()[1:3] for line in capsys.readouterr().out.splitlines()] == [["webhook.test", "failed"], ["webhook.test", "delivered"]]
    assert run(["webhooks", "delete", webhook_id]) == Exit.OK
    assert run(["webhooks", "delete", webhook_id]) == Exit.REFUSED
    assert run(["webhooks", "create", "nowhere", "--event", "edge.fenced"]) == Exit.REFUSED
    assert run(["webhooks", "list"]) == Exit.OK
    assert capsys.readouterr().out == ""


def test_what_was_not_told_before_a_kill_is_told_after_it_under_the_same_id(tmp_path: Path) -> None:
    """At least once: the receiver is there but never answers, the service is killed, another one tells it again."""
    key, api, edge = "private_key_of_the_tests", free_address(), free_address()
    settings = "[webhooks]\nallow_private = true\n"
    with running_origin() as origin, running_receiver() as receiver:
        flags = ["--origin", origin.url, "--api", api, "--edge", edge]
        process = start(tmp_path, settings, key, flags)
        try:
            with httpx.Client(base_url=f"http://{api}", auth=(key, ""), timeout=30) as client:
                wait_until_ready(client)
                _, secret = made(client, receiver, "purge.completed", "edge.fenced", "edge.unfenced")
                receiver.answer = 0
                purged = client.post("/v1/files/purge", json={"url": f"http://{edge}/a"}).json()["requestId"]
                (before,) = receiver.wait(1, "purge.completed")
                process.kill()
                process.wait()
                receiver.answer = 204
                receiver.go.set()
                process = start(tmp_path, settings, key, flags)
                wait_until_ready(client)
                second = client.post("/v1/files/purge", json={"url": f"http://{edge}/b"}).json()["requestId"]
                wait_for(lambda: second in ids(receiver.told), "the service that was started again goes on")
                again = receiver.wait(2, "purge.completed")[1]
                assert (again.id, again.body, ids([again])) == (before.id, before.body, [purged])
                again.verify(secret)
                assert ids(receiver.told).count(second) == 1
        finally:
            stop(process)


def wait_until_ready(client: httpx.Client) -> None:
    def ready() -> bool:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(ready, "the service is ready")
