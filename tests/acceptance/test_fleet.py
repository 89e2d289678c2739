"""A fleet of real processes: two ``agezero serve``, two ``agezero agent`` with embedded edges, a NATS server."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from agezero.jetstream.names import LOG_STREAM
from support.console import post, signed_in
from support.fleet import KEY, Client, Fleet, Program, cached, fleet, read
from support.logs import linked
from support.nats import Server, Servers, nats_servers
from support.origin import Origin, running_origin
from support.receiver import Receiver, running_receiver
from support.waiting import wait_for


@dataclass(frozen=True, slots=True)
class Scene:
    fleet: Fleet
    servers: Servers
    origin: Origin
    left: Client
    right: Client
    a: Program
    b: Program

    def ready(self) -> None:
        for client in (self.left, self.right):
            client.ready()
            client.all_leased("a", "b")

    def change(self, content: str) -> None:
        self.origin.content = content


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Shared by all tests here: each leaves it complete."""
    with (
        nats_servers(tmp_path_factory.mktemp("nats")) as servers,
        running_origin() as origin,
        fleet(tmp_path_factory.mktemp("fleet"), servers) as made,
    ):
        left, right = Client(made.node("left")), Client(made.node("right"))
        yield Scene(made, servers, origin, left, right, made.agent("a", origin.url), made.agent("b", origin.url))


@pytest.fixture
def scene(running: Scene) -> Scene:
    running.ready()
    return running


def test_a_purge_taken_by_one_node_is_proven_at_both_and_on_both_edges(scene: Scene) -> None:
    scene.change("v1")
    assert [cached(edge, "/one") for edge in (scene.a, scene.b)] == ["v1 /one"] * 2
    scene.change("v2")
    purge_id = scene.left.purge("/one", "/two")
    scene.right.completed(purge_id)
    assert scene.left.status(purge_id) == "Completed", "a status does not go back from one node to the next"
    assert [read(edge, "/one")[0] for edge in (scene.a, scene.b)] == ["v2 /one"] * 2
    detail = scene.right.call("GET", f"/v1/purges/{purge_id}").json()
    assert [edge["state"] for edge in detail["edges"]] == ["confirmed", "confirmed"]
    assert [purge["id"] for purge in scene.right.call("GET", "/v1/purges?limit=1").json()["purges"]] == [purge_id]


def test_a_purge_that_a_node_has_not_read_yet_is_not_called_complete(scene: Scene) -> None:
    for n in range(20):
        answer = scene.right.call("GET", f"/v1/purges/{scene.left.purge(f'/fresh-{n}')}")
        assert answer.status_code in (200, 503)
        assert answer.status_code == 503 or answer.json()["retained"]


def test_an_idempotency_key_gives_one_id_at_both_nodes(scene: Scene) -> None:
    headers = {"Idempotency-Key": "deploy-42"}
    assert scene.left.purge("/once", **headers) == scene.right.purge("/once", **headers)
    asked = {"json": {"url": "http://cdn.example.com/imagekit"}, "headers": {"Idempotency-Key": "deploy-43"}}
    ids = {node.call("POST", "/v1/files/purge", **asked).raise_for_status().json()["requestId"] for node in (scene.left, scene.right, scene.left)}
    assert len(ids) == 1
    other = scene.right.call("POST", "/v1/purges", json={"hosts": ["cdn.example.com"]}, headers=headers)
    assert other.status_code == 422


def test_a_key_made_at_one_node_opens_the_other_until_it_is_revoked(scene: Scene) -> None:
    made = scene.left.call("POST", "/v1/keys", json={"name": "shared"}).raise_for_status().json()
    visitor = Client(scene.right.node, made["text"])
    wait_for(lambda: visitor.call("GET", "/v1/edges").status_code == 200, "the other node knows the key")
    assert scene.right.call("DELETE", f"/v1/keys/{made['key']['id']}").status_code == 204
    visitor = Client(scene.left.node, made["text"])
    wait_for(lambda: visitor.call("GET", "/v1/edges").status_code == 403, "and the first one that it is revoked")


def test_who_signs_in_to_the_console_of_one_node_is_signed_in_at_both_and_signs_out_of_both(scene: Scene) -> None:
    purge_id = scene.left.purge("/shown")
    scene.right.completed(purge_id)
    with signed_in(scene.left.node.url, KEY) as left, httpx.Client(base_url=scene.right.node.url, cookies=left.cookies) as right:
        assert right.get(f"/console/purges/{purge_id}").status_code == 200
        edges = right.get("/console/edges")
        assert all(f">{name}<" in edges.text for name in ("a", "b"))
        with httpx.Client(base_url=scene.left.node.url, cookies=left.cookies) as copy:
            assert post(right, "/console/sign-out", {}).status_code == 303
            wait_for(lambda: copy.get("/console/edges").status_code == 303, "a copy of the cookie is worth nothing at the other node")


def test_a_webhook_made_at_one_node_is_told_by_exactly_one_and_by_the_other_once_that_dies(scene: Scene) -> None:
    with running_receiver() as receiver:
        asked = {"url": receiver.url, "events": ["purge.completed"]}
        made = scene.left.call("POST", "/v1/webhooks", json=asked).raise_for_status().json()["webhook"]
        ids = [scene.left.purge(f"/told-{n}") for n in range(5)]
        wait_for(lambda: told_of(receiver) >= set(ids), "told of all")
        teller = next(client for client in (scene.left, scene.right) if sent_by(client) > 0)
        other = scene.right if teller is scene.left else scene.left
        assert sent_by(other) == 0
        teller.node.kill()
        after = other.purge("/told-by-the-other")
        wait_for(lambda: after in told_of(receiver), "the other one tells")
        teller.node.start()
        teller.ready()
        assert len(receiver.told) == len({told.id for told in receiver.told}), "no message came twice"
        everything = [each["id"] for told in receiver.told for each in told.data["purges"]]
        assert len(everything) == len(set(everything))
        assert teller.call("DELETE", f"/v1/webhooks/{made['id']}").status_code == 204
        wait_for(lambda: not other.call("GET", "/v1/webhooks").json()["webhooks"], "it is gone at the other node too")


def told_of(receiver: Receiver) -> set[str]:
    return {each["id"] for told in list(receiver.told) for each in told.data["purges"]}


def sent_by(client: Client) -> float:
    """Messages to webhooks that this node has delivered."""
    found = re.search(r'^agezero_webhook_attempts_total{result="delivered"} ([0-9.]+)', client.call("GET", "/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0


def test_a_node_dies_and_the_other_goes_on(scene: Scene) -> None:
    purge_id = scene.left.purge("/taken-by-the-dead")
    scene.left.node.kill()
    scene.right.completed(purge_id)
    scene.right.completed(scene.right.purge("/after-it"))
    scene.left.node.start()
    scene.left.ready()
    assert scene.left.status(purge_id) == "Completed"


def test_a_dead_agents_edge_bypasses_its_cache_and_comes_back_only_with_what_it_missed(scene: Scene) -> None:
    scene.change("v1")
    assert cached(scene.a, "/missed") == "v1 /missed"
    scene.a.kill()
    purge_id = scene.right.purge("/missed")
    scene.change("v2")
    scene.left.completed(purge_id)
    assert scene.left.states() == {"a": "fenced", "b": "leased"}
    assert read(scene.a, "/missed")[0] == "v2 /missed", "its nginx still runs, and serves nothing from its cache"
    scene.a.start()
    scene.right.all_leased("a", "b")
    assert cached(scene.a, "/missed") == "v2 /missed"


def test_everything_is_killed_at_once_and_no_accepted_purge_is_lost(scene: Scene) -> None:
    scene.change("v1")
    cached(scene.a, "/kept")
    cached(scene.a, "/gone")
    done = scene.left.purge("/done")
    scene.left.completed(done)
    scene.change("v2")
    accepted = [scene.left.purge(f"/{n}", "/gone") for n in range(20)]
    everything: list[Server | Program] = [*scene.servers.all, *scene.fleet.programs.values()]
    for victim in everything:
        victim.kill()
    for victim in everything:
        victim.start()
    scene.servers.ready()
    scene.ready()
    for purge_id in (done, *accepted):
        scene.left.completed(purge_id)
        assert scene.right.status(purge_id) == "Completed"
    assert read(scene.a, "/gone")[0] == "v2 /gone"
    assert read(scene.a, "/kept")[0] == "v1 /kept", "what was stored and not purged is still used"


def test_without_a_server_purges_are_refused_and_edges_fence(scene: Scene) -> None:
    scene.change("v1")
    cached(scene.b, "/cut-off")
    done = scene.left.purge("/done")
    scene.left.completed(done)
    scene.servers.all[0].kill()
    answer = scene.left.call("POST", "/v1/purges", json={"urls": ["http://cdn.example.com/refused"]})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:agezero:problem:log-unavailable")
    assert scene.left.status(done) == "Completed", "what was proven stays so"
    scene.change("v2")
    wait_for(lambda: read(scene.b, "/cut-off")[0] == "v2 /cut-off", "its lease is over")
    scene.servers.all[0].start()
    scene.servers.ready()
    scene.ready()
    scene.right.completed(scene.left.purge("/cut-off"))


def test_an_agent_started_before_any_server_serves_at_once(scene: Scene) -> None:
    scene.servers.all[0].kill()
    scene.a.kill()
    scene.a.start()
    scene.change("v3")
    wait_for(lambda: "waiting for the purge log" in scene.a.output, "it waits")
    assert read(scene.a, "/early")[0] == "v3 /early"
    scene.servers.all[0].start()
    scene.servers.ready()
    scene.ready()


def test_a_log_that_was_deleted_is_another_one_and_everything_is_purged_before_serving(scene: Scene) -> None:
    scene.change("v1")
    cached(scene.a, "/old")
    old = scene.left.purge("/something")
    scene.left.completed(old)

    async def delete() -> None:
        async with linked(scene.servers.urls) as admin:
            await admin.api(f"STREAM.DELETE.{LOG_STREAM}")

    scene.a.signal(signal.SIGSTOP)
    asyncio.run(delete())
    scene.change("v2")
    scene.left.node.kill()
    scene.left.node.start()
    scene.left.ready()
    purge_id = scene.left.purge("/new")
    scene.a.signal(signal.SIGCONT)
    scene.right.completed(purge_id)
    scene.ready()
    assert scene.right.status(old) == "Completed"
    assert [read(edge, "/old")[0] for edge in (scene.a, scene.b)] == ["v2 /old"] * 2
