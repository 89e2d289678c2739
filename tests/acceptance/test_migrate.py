"""`agezero log migrate`: from SQLite to JetStream, and everything goes on: ids, keys, idempotency keys, what is in the cache."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest

from agezero import migrate as moving
from agezero.config import Config, Log
from agezero.console.ended import EndedEverywhere, EndedHere
from agezero.core.ledger import Record
from agezero.core.shared import Gate, Held, Write
from agezero.database import open_database
from agezero.errors import UserError
from agezero.fleet_nats import linked, shared_documents
from agezero.jetstream.board import open_board
from agezero.jetstream.link import Access
from agezero.jetstream.names import BOARD_STREAM, BOARD_SUBJECTS, WEBHOOKS_STREAM, token
from agezero.jetstream.once import Once
from agezero.jetstream.stream import last_of
from agezero.keys import Denial, Key, KeyStore, Permission
from agezero.log.sqlite import SqliteLog
from agezero.ports import Accepted, Submission
from agezero.registry import SqliteRegistry
from agezero.shared_keys import SharedKeys
from agezero.webhooks.messages import message
from agezero.webhooks.shared import SharedStore
from agezero.webhooks.store import Store
from support.nats import Servers, emptied, nats_servers
from support.origin import running_origin
from support.ports import free_address
from support.service import AGEZERO, Service, start, stop, wait_until_ready
from support.waiting import wait_for

KEY = "private_key_of_the_tests"
CONFIG = "[lease]\nlease_s = 1\nmargin_s = 0.3\nlease_max_s = 1\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with nats_servers(tmp_path_factory.mktemp("nats")) as started:
        yield started


def migrate(data: Path, servers: Servers) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [AGEZERO, "log", "migrate", "--data", data / "store", "--log", servers.urls[0], "--config", data / "agezero.toml"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"NO_COLOR": "1"})


def test_ids_keys_and_the_cache_go_on(tmp_path: Path, servers: Servers) -> None:
    api, edge = free_address(), free_address()
    with running_origin() as origin, httpx.Client(base_url=f"http://{api}", auth=(KEY, ""), timeout=10) as client:
        flags = ["--origin", origin.url, "--api", api, "--edge", edge]
        here = Service(f"http://{api}", f"http://{edge}", KEY, origin, tmp_path, start(tmp_path, CONFIG, KEY, flags))
        try:
            wait_until_ready(here.url, here.process, tmp_path)
            wait_for(lambda: "hit" in httpx.get(f"{here.edge}/kept").headers["cache-status"], "cached")
            again = {"Idempotency-Key": "deploy-1"}
            first = purge(client, here, "/a", "/b", headers=again)
            purge(client, here, "/c")
            wait_for(lambda: status(client, first) == "Completed", "completed")
            made = client.post("/v1/keys", json={"name": "other"}).json()["text"]
            here.process.kill()  # its edge is on record as leased
            here.process.wait()
            stopped = migrate(tmp_path, servers)
            assert stopped.returncode == 0, stopped.stderr
            assert "moved 3 entries of the log, 1 keys, 1 edges and 0 webhooks" in stopped.stderr
            assert "was moved to nats://" in migrate(tmp_path, servers).stderr
            refused = start(tmp_path, CONFIG, KEY, flags)
            assert refused.wait(30) == 1
            assert "was moved to nats://" in here.output

            process = start(tmp_path, CONFIG, KEY, [*flags, "--log", servers.urls[0]])
            try:
                wait_until_ready(here.url, process, tmp_path)
                assert status(client, first) == "Completed"
                assert purge(client, here, "/a", "/b", headers=again) == first
                assert httpx.get(f"{here.url}/v1/edges", auth=(made, "")).status_code == 200
                listed = client.get("/v1/purges").json()["purges"]
                assert [len(each["selectors"]) for each in listed] == [1, 2]
                assert listed[1]["id"] == first
                wait_for(lambda: client.get("/v1/edges").json()["edges"][0]["state"] == "leased", "leased")
                kept = httpx.get(f"{here.edge}/kept")
                assert "hit" in kept.headers["cache-status"], "the log is the same, so the edge goes on with its cache"
                new = purge(client, here, "/kept")
                wait_for(lambda: status(client, new) == "Completed", "completed")
                assert "hit" not in httpx.get(f"{here.edge}/kept").headers["cache-status"]
                listed_keys = subprocess.run(
                    [AGEZERO, "keys", "list", "--log", servers.urls[0]], capture_output=True, text=True, timeout=30, check=True, cwd=tmp_path
                )
                assert "other" in listed_keys.stdout
            finally:
                stop(process)
        finally:
            stop(here.process)


def test_a_log_that_can_not_go_on_there_is_refused(tmp_path: Path, servers: Servers) -> None:
    """After the test above there is a fleet."""
    (tmp_path / "store").mkdir()
    (tmp_path / "agezero.toml").write_text(CONFIG)
    assert "there is no purge log in" in migrate(tmp_path, servers).stderr
    with closing(open_database(tmp_path / "store")) as connection:
        SqliteLog(connection)
        assert "seals its ids with another secret" in migrate(tmp_path, servers).stderr
        emptied(servers)
        SqliteRegistry(connection)
        record = Record("plain", fences=False, fenced=False)
        asyncio.run(SqliteRegistry(connection).save(record))
        connection.execute("UPDATE sqlite_sequence SET seq = 7 WHERE name = 'purge'")
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('purge', 7)")
    assert "the edge plain can't fence itself, and has not applied the whole log" in migrate(tmp_path, servers).stderr


def test_begun_again_after_the_service_was_used_what_is_here_now_holds(tmp_path: Path, servers: Servers) -> None:
    config, now_ms = settings(tmp_path, emptied(servers)), time.time_ns() // 1_000_000
    with closing(open_database(config.data_dir)) as connection:
        SqliteLog(connection)
        keys, hooks, registry, ended = KeyStore(connection), Store(connection), SqliteRegistry(connection), EndedHere(connection)
        texts = {name: keys.create(name, Permission.ADMIN) for name in ("kept", "disabled", "revoked")}
        ids = {key.name: key.id for key in keys.list()}
        hook, gone = (hooks.add(f"https://ci.example.com/{name}", ["purge.completed"], 0, now_ms) for name in ("kept", "gone"))
        assert hook
        assert gone
        messages = [message(hook, "purge.completed", {}, now_ms) for _ in range(3)]
        hooks.tell(messages)
        asyncio.run(registry.save(Record("plain", fences=False, fenced=True, token=3)))
        claimed(connection, 5, now_ms)
        with broken_off_before_the_mark():
            asyncio.run(moving.migrate(config))

        keys.revoke(ids["revoked"], now_ms // 1000)
        keys.disable(ids["disabled"])
        texts["new"] = keys.create("new", Permission.READ)
        hooks.remove(gone.id)
        hooks.rotate(hook.id, 60_000, now_ms)
        for each in messages[:2]:
            hooks.finish(replace(each, state="delivered", next_ms=None))
        asyncio.run(registry.save(Record("plain", fences=False, fenced=False, token=7)))
        claimed(connection, 9, now_ms)
        ended.add("n" * 22, now_ms // 1000 + 60, now_ms / 1000)
        moved = asyncio.run(moving.migrate(config))
        assert (moved.keys, moved.edges, moved.webhooks) == (3, 1, 1)

        async def check() -> None:
            access, loop = Access(servers=servers.urls), asyncio.get_running_loop()
            async with linked(access) as link, shared_documents(link) as documents, shared_documents(link, WEBHOOKS_STREAM) as shared:
                fleet_keys = SharedKeys(documents, loop)
                known = {name: fleet_keys.verify(text, now_ms / 1000) for name, text in texts.items()}
                assert known["revoked"] is Denial.UNKNOWN
                assert known["disabled"] is Denial.DISABLED
                assert all(isinstance(known[name], Key) for name in ("kept", "new"))
                assert await board_holds(servers, "plain") == Record("plain", fences=False, fenced=False, token=7)
                with closing(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)) as index:
                    told = SharedStore(shared, loop, index)
                    assert told.webhooks == hooks.webhooks
                    assert [each.id for each in told.due(now_ms, [], 9)] == [messages[2].id], "the others are delivered"
                assert "n" * 22 in EndedEverywhere(documents, loop)
                again = Submission((), "k", idempotency_key="again", fingerprint="same")
                assert await Once(link).append(again, never) == Accepted(9, 9, repeated=True)

        asyncio.run(check())


def test_nothing_is_moved_over_a_fleet_that_a_control_node_has_worked_with(tmp_path: Path, servers: Servers) -> None:
    """Its records are newer; and no token falls below one that is on the board."""
    config = settings(tmp_path, emptied(servers))
    with closing(open_database(config.data_dir)) as connection:
        SqliteLog(connection)
        registry = SqliteRegistry(connection)
        asyncio.run(registry.save(Record("edge", token=3)))
        with broken_off_before_the_mark():
            asyncio.run(moving.migrate(config))
        asyncio.run(registry.save(Record("edge", token=2, drained=True)))
        with broken_off_before_the_mark():
            asyncio.run(moving.migrate(config))
        assert asyncio.run(board_holds(servers, "edge")) == Record("edge", token=3, drained=True)

    async def worked() -> None:
        async with linked(Access(servers=servers.urls)) as link:
            await (await open_board(link)).write_unread(Write(Gate(0), 0))

    asyncio.run(worked())
    with pytest.raises(UserError, match="a control node has worked with the fleet in NATS already"):
        asyncio.run(moving.migrate(config))


def settings(tmp_path: Path, servers: Servers) -> Config:
    (tmp_path / "store").mkdir()
    return Config(data=str(tmp_path / "store"), log=Log(url=servers.urls[0]))


@contextmanager
def broken_off_before_the_mark() -> Iterator[None]:
    def move(*_: object) -> None:
        raise KeyError("broken off")

    with pytest.MonkeyPatch.context() as patch, pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        patch.setattr(moving, "move", move)
        yield


def claimed(connection: sqlite3.Connection, seq: int, now_ms: int) -> None:
    connection.execute("DELETE FROM submission")
    connection.execute("INSERT INTO submission VALUES (?, ?, 'k', ?, '', 'again', 'same')", (seq, seq, now_ms))


async def board_holds(servers: Servers, name: str) -> Record:
    async with linked(Access(servers=servers.urls)) as link:
        found = await last_of(link, BOARD_STREAM, f"{BOARD_SUBJECTS}edge.{token(name)}")
    assert found
    return msgspec.json.decode(found.data, type=Held).record


async def never(asked: Submission) -> Accepted:
    raise AssertionError(f"{asked} was accepted before")


def purge(client: httpx.Client, here: Service, *paths: str, headers: dict[str, str] | None = None) -> str:
    answer = client.post("/v1/purges", json={"urls": [here.edge + path for path in paths]}, headers=headers)
    return str(answer.raise_for_status().json()["id"])


def status(client: httpx.Client, purge_id: str) -> str:
    return str(client.get(f"/v1/files/purge/{purge_id}").json().get("status", ""))
