"""Whoever watches a service sees what goes on: all its metrics, and a dashboard and alerts that name none but those, in Prometheus' own PromQL."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.machine import KEY, Machine, machine
from support.origin import running_origin
from support.programs import require
from support.receiver import running_receiver
from support.service import Service, running_service
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
OPERATING = ROOT / "docs" / "OPERATING.md"
RUNBOOK = ROOT / "docs" / "RUNBOOK.md"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "agezero.json"
ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")
FROM_PROMETHEUS = {"up", "ALERTS"}
SUFFIX = re.compile(r"_(bucket|count|sum)$")


@pytest.fixture
def page(service: Service) -> str:
    httpx.post(f"{service.url}/v1/purges", json={"urls": [f"{service.edge}/metrics"]}, auth=(service.key, "")).raise_for_status()
    return httpx.get(f"{service.url}/metrics").text


def served(page: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))


def samples(page: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def alerts() -> dict[str, str]:
    """Name → expression."""
    return dict(re.findall(r"- alert: (\w+)\n\s+expr: (.*)$", ALERTS.read_text(), re.MULTILINE))


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def variables() -> Iterator[str]:
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        yield str(variable.get("definition", ""))


def named(expression: str) -> set[str]:
    """The metrics in PromQL: all names that begin as those of metrics here do, outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b(agezero_\w+|process_\w+|up)\b", bare))


def test_every_metric_has_help_is_documented_and_the_other_way_round(page: str) -> None:
    text = OPERATING.read_text()
    documented = set(re.findall(r"`(agezero_\w+)", text[text.index("## Metrics") : text.index("### Alerts")]))
    assert {name for name in served(page) if name.startswith("agezero_")} == documented
    assert served(page) == set(re.findall(r"^# HELP (\S+) .+", page, re.MULTILINE))


def test_the_runbook_names_metrics_that_exist(page: str) -> None:
    text = RUNBOOK.read_text()
    named = set(re.findall(r"`(agezero_\w+)", text[text.index("## Metrics and alerts") :]))
    assert len(named) > 5
    assert named <= served(page)


def test_prometheus_finds_nothing_to_say_of_the_names(page: str) -> None:
    require("promtool")
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", alerts())
def test_an_alert_names_metrics_that_exist_and_is_explained(name: str, page: str) -> None:
    metrics = {SUFFIX.sub("", metric) if SUFFIX.sub("", metric) in served(page) else metric for metric in named(alerts()[name])}
    assert metrics
    assert metrics <= served(page) | FROM_PROMETHEUS
    row = re.search(rf"^\| `{name}` \| (.+) \| (.+) \|$", OPERATING.read_text(), re.MULTILINE)
    assert row is not None, f"docs/OPERATING.md has no row for {name}"


def test_no_alert_is_explained_that_is_not_there() -> None:
    assert set(re.findall(r"^\| `(AgeZero\w+)` \|", OPERATING.read_text(), re.MULTILINE)) == alerts().keys()


def test_the_dashboard_names_metrics_that_exist_and_leaves_little_out(page: str) -> None:
    shown = {metric for expression in [*(expression for _, expression in panels()), *variables()] for metric in named(expression)}
    shown = {SUFFIX.sub("", metric) if SUFFIX.sub("", metric) in served(page) else metric for metric in shown}
    assert shown <= served(page)
    left_out = {name for name in served(page) if name.startswith("agezero_")} - shown
    assert left_out == {
        "agezero_log_head_seq",
        "agezero_log_floor_seq",
        "agezero_completed_seq",
        "agezero_table_slots",
        "agezero_table_slots_used",
        "agezero_webhooks",
    }


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    shown = dashboard["panels"]
    assert len({panel["id"] for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["type"] == "row" or panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in shown]
    assert places == sorted(places)
    assert len(set(places)) == len(places)


def test_prometheus_reads_every_expression_and_the_alerts_fire(tmp_path: Path) -> None:
    require("promtool")
    rules = [{"record": f"panel:{number}", "expr": _filled(expression)} for number, (_, expression) in enumerate(panels())]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    for file in (ALERTS, ALERTS_TEST, ALERTS.with_name("prometheus.yml")):
        shutil.copy(file, tmp_path)
    for command in (["check", "rules", "panels.yml"], ["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _filled(expression: str) -> str:
    for variable, value in {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*", "$edge": ".*"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def test_an_edge_that_does_not_answer_shows_and_what_it_held_up_is_counted(tmp_path: Path) -> None:
    """Pending, lag, blocked, fenced; then the time it took, once. Over 10 s beside other tests: a driver's patience and a lease have to end."""

    async def story(origin: str) -> None:
        async with machine(tmp_path, origin, "[webhooks]\nblocked_after_s = 0.3\n[lease]\nlease_s = 1\nmargin_s = 0.5\n") as here:
            await asyncio.to_thread(_freezes, here)

    with running_origin() as origin:
        asyncio.run(story(origin.url))


def _freezes(here: Machine) -> None:
    url, body = f"http://{here.api}/v1/purges", {"urls": [f"http://{here.edge}/held", f"http://{here.edge}/up"]}
    before = _samples(here)
    with here.frozen(here.edge_processes()[1]):
        purge = httpx.post(url, json=body, auth=(KEY, "")).json()["id"]
        wait_for(lambda: _edge(here, "blocked"), "the edge is said to hold purges up")
        wait_for(lambda: _edge(here, "fenced"), "it is fenced")
        assert httpx.get(f"{url}/{purge}?wait=30s", auth=(KEY, "")).json()["state"] == "completed"
        fenced = _samples(here)
        assert (fenced["agezero_pending_entries"], fenced["agezero_pending_seconds"]) == (0, 0)
        assert _edge(here, "lag_seconds") > 0
    wait_for(lambda: not any(_edge(here, name) for name in ("lag_entries", "lag_seconds", "fenced", "blocked", "trouble")), "the edge is back")
    after = _samples(here)
    for histogram in ("agezero_completion_duration_seconds_count", 'agezero_edge_confirm_duration_seconds_count{edge="edge"}'):
        assert after[histogram] - before[histogram] == 2, "two selectors"
    assert after["agezero_completion_duration_seconds_sum"] > 0.3


def _edge(here: Machine, name: str) -> float:
    return _samples(here)[f'agezero_edge_{name}{{edge="edge"}}']


def _samples(here: Machine) -> dict[str, float]:
    return samples(httpx.get(f"http://{here.api}/metrics").text)


def test_what_keys_webhooks_and_readers_do_is_counted(tmp_path: Path) -> None:
    with (
        running_service(tmp_path, config="[limits]\npurges_per_s = 1\n[webhooks]\nallow_private = true\n") as service,
        running_receiver() as receiver,
    ):
        receiver.answer = 410
        with httpx.Client(base_url=service.url, auth=(service.key, ""), timeout=30) as client:

            def now() -> dict[str, float]:
                return samples(client.get("/metrics").text)

            assert now()['agezero_rate_limited_total{call="native-purge"}'] == 0, "it is there before the first one, or that would be no rise"
            client.post("/v1/keys", json={"name": "made"}).raise_for_status()
            client.post("/v1/webhooks", json={"url": receiver.url, "events": ["purge.completed"]}).raise_for_status()
            answers = [client.post("/v1/purges", json={"urls": [f"{service.edge}/{number}"]}).status_code for number in range(20)]
            assert now()['agezero_rate_limited_total{call="native-purge"}'] == answers.count(429) > 0
            assert httpx.get(f"{service.url}/v1/edges").status_code == 401
            assert now()['agezero_failed_attempts_total{why="no_key"}'] == 1
            wait_for(lambda: now().get('agezero_audit_rows_total{action="key.create"}') == 1, "the audit has its row")
            wait_for(lambda: now()["agezero_webhooks_stopped"] == 1, "the receiver is gone")
            assert (now()["agezero_webhooks"], now()['agezero_webhook_attempts_total{result="failed"}']) == (1, 1)
            with client.stream("GET", "/v1/events") as stream:
                lines = stream.iter_lines()  # kept: a reader that is let go of closes the stream
                next(lines)
                wait_for(lambda: now()["agezero_streams_open"] == 1, "the stream is counted")
            wait_for(lambda: now()["agezero_streams_open"] == 0, "the reader is gone")
            assert now()['agezero_database_size_bytes{file="wal"}'] > 0
