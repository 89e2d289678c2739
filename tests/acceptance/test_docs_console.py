"""What README.md and the other pages show in a console happens: each command is run as it stands there, and prints what stands below it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest

from agezero import wire
from agezero.config import Config, read_config
from support.api import ENDPOINT, running_api
from support.doc_console import Console, blocks, commands
from support.origin import running_origin
from support.ports import free_address
from support.programs import require
from support.receiver import Receiver, running_receiver
from support.service import Service, running_service, start, stop
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
README, API, OPERATING = ROOT / "README.md", ROOT / "docs" / "API.md", ROOT / "docs" / "OPERATING.md"
KEY = "private_key_of_the_tests"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One of its own: webhooks may go to this machine."""
    with running_service(tmp_path_factory.mktemp("console"), config="[webhooks]\nallow_private = true\n") as running:
        yield running


@pytest.mark.parametrize("page", [README, API, OPERATING], ids=lambda page: page.name)
def test_console_examples(page: Path, service: Service, receiver: Receiver, tmp_path: Path) -> None:
    require("curl", "sh")
    replaced = {
        "http://127.0.0.1:8080": service.url,
        "http://127.0.0.1:8081": service.edge,
        "https://cdn.example.com": service.edge,
        "https://ci.example.com/hooks/agezero": receiver.url,
        "private_your_key": service.key,
        "private_…:": f"{service.key}:",
    }
    console = Console(tmp_path, replaced, {"AGEZERO_URL": service.url, "AGEZERO_PRIVATE_KEY": service.key})
    found = [command for block in blocks(page, "console") for command in commands(block)]
    assert found
    for command in found:
        if " up " not in command.text:
            console.run(command)


def test_the_first_start_prints_what_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in blocks(README, "console") if "agezero up" in block]
    (command,) = commands(block)
    monkeypatch.delenv("AGEZERO_PRIVATE_KEY", raising=False)
    with running_origin() as origin:
        api, edge = free_address(), free_address()
        assert command.text == ".venv/bin/agezero up --origin http://127.0.0.1:3000"
        process = start(tmp_path, "", "", ["--origin", origin.url, "--api", api, "--edge", edge])
        try:
            wait_for(lambda: "\nready\n" in (tmp_path / "output.log").read_text(), "it is ready")
        finally:
            stop(process)
        said = re.sub(r"^(\{.*|\d{4}-.*)\n", "", (tmp_path / "output.log").read_text(), flags=re.MULTILINE)
    said = re.sub(r"private_\S+", "private_…", said)
    for here, there in ((api, "127.0.0.1:8080"), (edge, "127.0.0.1:8081"), (origin.url, "http://127.0.0.1:3000")):
        said = said.replace(here, there)
    assert said.strip() == command.prints


def _an_error(shown: Any) -> None:
    with running_api(Config(endpoints=("https://cdn.example.com",))) as api:
        assert api.client.post("/v1/files/purge", json={"url": "https://other.example.com/a.jpg"}).json() == shown


def _a_purge(shown: Any) -> None:
    """Every member that there is, of the type that there is, and no other."""
    assert msgspec.to_builtins(msgspec.convert(shown, wire.PurgeDetail)) == shown


def _made_key(shown: Any) -> None:
    with running_api(Config(endpoints=(ENDPOINT,))) as api:
        assert api.client.post("/v1/keys", json=shown).status_code == 201


SHOWN: dict[str, Callable[[Any], None]] = {"message": _an_error, "id": _a_purge, "name": _made_key}
"""The first member of a JSON example → what it has to be."""


def test_json_examples() -> None:
    for block in blocks(API, "json"):
        shown = json.loads(block)
        SHOWN[next(iter(shown))](shown)


def test_json_in_the_text_is_taken(service: Service, receiver: Receiver) -> None:
    """Bodies that stand in a line of a table."""
    page = API.read_text()
    bodies = [json.loads(text) for text in re.findall(r'`(\{"[^`]*\})`', page) if "…" not in text and "<" not in text]
    paths = {"url,events": "/v1/webhooks", "name,permission,endpoints,expires_in_s": "/v1/keys"}
    taken = []
    for body in bodies:
        path = paths.get(",".join(body))
        if path is not None:
            here = {"url": receiver.url} if "url" in body else {}
            answer = httpx.post(service.url + path, json={**body, **here}, auth=(service.key, ""))
            assert answer.status_code == 201, answer.text
            taken.append(path)
    assert sorted(taken) == ["/v1/keys", "/v1/webhooks"]


def test_the_webhook_example_is_like_a_message_and_is_verified_as_shown(service: Service, receiver: Receiver) -> None:
    (example,) = blocks(API, "http")
    (verifying,) = [block for block in blocks(API, "python") if "standardwebhooks" in block]
    head, _, body = example.partition("\n\n")
    names = {line.partition(":")[0] for line in head.splitlines()[1:]}
    made = httpx.post(f"{service.url}/v1/webhooks", json={"url": receiver.url, "events": ["purge.completed"]}, auth=(service.key, "")).json()
    before = len(receiver.told)
    httpx.post(f"{service.url}/v1/purges", json={"urls": [f"{service.edge}/hooked"]}, auth=(service.key, "")).raise_for_status()

    def mine() -> dict[str, Any] | None:
        for told in receiver.told[before:]:
            space: dict[str, Any] = {"body": told.body, "headers": told.headers}
            try:
                exec(verifying.replace("whsec_…", made["secret"]), space)
            except Exception:  # of another webhook
                continue
            assert names <= told.headers.keys()
            return dict(space["event"])
        return None

    event = wait_for(mine, "it is told")
    shown = json.loads(body)
    assert (event.keys(), event["data"].keys(), event["data"]["purges"][0].keys()) == (
        shown.keys(),
        shown["data"].keys(),
        shown["data"]["purges"][0].keys(),
    )


@pytest.mark.parametrize("block", blocks(OPERATING, "toml"))
def test_settings_examples(block: str, tmp_path: Path) -> None:
    path = tmp_path / "agezero.toml"
    path.write_text(block)
    read_config(path)


def test_every_example_of_the_api_page_is_run_by_some_test() -> None:
    """Here, or as a file by test_docs_examples; only the shell's variables are no example of something."""
    languages = set(re.findall(r"^```(\w+)$", API.read_text(), re.MULTILINE))
    files = re.findall(r"^<!-- example: \S+ -->\n```(\w+)$", API.read_text(), re.MULTILINE)
    other = {language: len(blocks(API, language)) - files.count(language) for language in languages}
    assert {language: count for language, count in other.items() if count} == {"sh": 1, "console": 1, "json": 2, "http": 1, "python": 1}


def test_the_members_of_the_tables_are_those_that_are_read() -> None:
    """`POST /v1/purges`: what may stand in its body stands in the tables, and the other way round."""
    from agezero.http.native.purges import NativePurge

    page = API.read_text()
    section = page[page.index("### Purge many things at once") : page.index("### Assets")]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(NativePurge.__struct_fields__)
    assert get_args(wire.Mode) == ("hard", "soft")
