"""Whoever traces finds a purge whole, at a real receiver: from the client's own span to the last confirmation, over a restart too."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.serving import COLLECTOR_ENV
from support.collector import Collector, running_collector
from support.machine import KEY, machine
from support.origin import running_origin
from support.service import Service, running_service, stop

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ALL = ("accept", "log append", "apply", "confirm", "complete")
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@pytest.fixture(scope="module", autouse=True)
def _in_an_environment_of_our_own() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in COLLECTOR_ENV:
            patch.delenv(name, raising=False)
        for name, value in SOON.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("traced"), config=f'[traces]\notlp = "{collector.url}"\n') as running:
        yield running


def purge(service: Service, headers: dict[str, str] | None = None, native: bool = True) -> str:
    path, body = ("/v1/purges", {"urls": [f"{service.edge}/a", f"{service.edge}/b"]}) if native else ("/v1/files/purge", {"url": f"{service.edge}/a"})
    answer = httpx.post(service.url + path, json=body, auth=(service.key, ""), headers=headers or {}).raise_for_status().json()
    return str(answer["id" if native else "requestId"])


@pytest.mark.parametrize("native", [True, False])
def test_a_purge_is_one_trace(traced: Service, collector: Collector, native: bool) -> None:
    made = purge(traced, native=native)
    spans = collector.of(made, *ALL)
    accept = spans["accept"]
    assert (accept.parent, accept.service, accept.attributes["http.response.status_code"]) == ("", "agezero", 201)
    assert {span.parent for name, span in spans.items() if name != "accept"} == {accept.id}
    assert {span.trace for span in spans.values()} == {accept.trace}
    assert accept.begins <= spans["log append"].begins <= spans["log append"].ends <= accept.ends
    assert spans["log append"].begins <= spans["apply"].begins <= spans["apply"].ends <= spans["confirm"].begins <= spans["confirm"].ends
    assert spans["complete"].ends >= spans["apply"].ends
    assert {spans[name].attributes["agezero.edge"] for name in ("apply", "confirm")} == {"edge"}
    assert not any(span.failed for span in spans.values())
    assert collector.paths == {"/v1/traces"}


def test_the_trace_of_the_client_goes_on(traced: Service, collector: Collector) -> None:
    made = purge(traced, {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"})
    spans = collector.of(made, *ALL)
    assert (spans["accept"].trace, spans["accept"].parent) == (TRACE, SPAN)
    assert spans["apply"].trace == TRACE


def test_a_trace_that_is_not_sampled_is_left_alone_and_a_broken_one_is_none(traced: Service, collector: Collector) -> None:
    other = "5bf92f3577b34da6a3ce929d0e0e4736"
    purge(traced, {"traceparent": f"00-{other}-{SPAN}-00"})
    made = purge(traced, {"traceparent": "00-nonsense-01"})  # sent later: when it is here, the one before would be
    assert collector.of(made, *ALL)["accept"].parent == ""
    assert other not in {span.trace for span in collector.spans}


def test_a_refusal_is_traced_as_no_fault_of_the_service(traced: Service, collector: Collector) -> None:
    trace = "6bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-{SPAN}-01"}
    refused = httpx.post(f"{traced.url}/v1/purges", json={"urls": ["https://other.example.com/"]}, auth=(traced.key, ""), headers=headers)
    assert refused.status_code == 403
    collector.of(purge(traced), *ALL)
    (span,) = [span for span in collector.spans if span.trace == trace]
    assert (span.name, span.failed, span.attributes["http.response.status_code"]) == ("accept", False, 403)


def test_no_key_and_no_url_is_told_to_the_collector(traced: Service, collector: Collector) -> None:
    collector.of(purge(traced), *ALL)
    for secret in (traced.key, "Basic", "private_", traced.edge.removeprefix("http://") + "/a"):
        assert secret.encode() not in collector.raw


def test_a_trace_goes_on_after_a_restart(tmp_path: Path, collector: Collector) -> None:
    """The purge is durable and nothing more when the service is killed: who applies it later knows whose trace it is from the log."""

    async def story(origin: str) -> str:
        async with machine(tmp_path, origin, f'[traces]\notlp = "{collector.url}"\n') as here:
            with here.frozen(here.edge_processes()[1]):
                made = await asyncio.to_thread(_post, here.api, here.edge)
                await asyncio.to_thread(collector.of, made, "accept", "log append")
                here.kill()
            here.start()
            await here.ready()
            await asyncio.to_thread(collector.of, made, "apply", "confirm")
            return made

    with running_origin() as origin:
        spans = collector.of(asyncio.run(story(origin.url)), "accept", "log append", "apply", "confirm")
    assert {spans[name].parent for name in ("log append", "apply", "confirm")} == {spans["accept"].id}
    assert "complete" not in spans, "it is told by the one that accepted"


def _post(api: str, edge: str) -> str:
    return str(httpx.post(f"http://{api}/v1/purges", json={"urls": [f"http://{edge}/a"]}, auth=(KEY, "")).json()["id"])


def test_without_a_collector_nothing_is_loaded_and_the_log_carries_nothing(service: Service) -> None:
    """The twin of all above."""
    made = purge(service, {"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert httpx.get(f"{service.url}/v1/purges/{made}?wait=30s", auth=(service.key, "")).json()["state"] == "completed"
    program = "import sys, agezero.app, agezero.http.traced; sys.exit(any(name.startswith(('opentelemetry', 'google')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert "opentelemetry" not in Path(f"/proc/{service.process.pid}/maps").read_text()


def test_the_environment_names_the_collector_and_one_that_is_away_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "purges")
        with running_service(tmp_path) as service:
            assert collector.of(purge(service), *ALL)["accept"].service == "purges"
            collector.shutdown()
            collector.socket.close()
            for _ in range(5):
                made = purge(service)
            assert httpx.get(f"{service.url}/v1/purges/{made}?wait=30s", auth=(service.key, "")).json()["state"] == "completed"
            assert stop(service.process) == 0, "it ends in good order"
            assert "Traceback" not in service.output


def test_a_collector_without_the_extra_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "agezero.toml").write_text('[traces]\notlp = "http://127.0.0.1:4318"\n')
    program = (
        "import sys; sys.modules['opentelemetry'] = None; sys.argv[1:] = ['up', '--origin', 'http://127.0.0.1:1', '--data', 'store'];"
        "from agezero.cli.main import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "hint: pip install 'agezero[otel]'" in ended.stderr
    assert "Traceback" not in ended.stderr
