"""The files in ``deploy/``, as they are, judged by the programs and the schemas that will read them. (NATS's own: ``test_nats_accounts.py``.)"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import msgspec
import pytest
import yaml

from support.programs import require

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "compose" / "compose.yaml"

# systemd


def verified(root: Path, *units: str) -> str:
    """What systemd says of units in a machine of their own, which has what they start."""
    command = ["systemd-analyze", "verify", "--man=no", f"--root={root}", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}, check=False)
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The units, the programs that they name, and this machine's targets."""
    require("systemd-analyze")
    for program in re.findall(r"^Exec\w+=(\S+)", "".join(unit.read_text() for unit in UNITS), re.M):
        path = tmp_path / program.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    for pattern in ("*.target", "*.slice"):
        for unit in Path("/lib/systemd/system").glob(pattern):
            shutil.copyfile(unit, tmp_path / "lib/systemd/system" / unit.name)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    for unit in UNITS:
        shutil.copyfile(unit, tmp_path / "etc/systemd/system" / unit.name)
    return tmp_path


def test_systemd_has_nothing_to_say_of_the_units(root: Path) -> None:
    assert verified(root, *(unit.name for unit in UNITS)) == ""


def test_systemd_does_say_something_of_a_misspelt_one(root: Path) -> None:
    wrong = root / "etc/systemd/system/agezero-agent.service"
    wrong.write_text(wrong.read_text().replace("ProtectHome", "ProtectHom").replace("/opt/agezero/bin/agezero", "/opt/agezero/bin/nothing"))
    assert "Unknown key 'ProtectHom'" in verified(root, wrong.name)
    assert "/opt/agezero/bin/nothing is not executable" in verified(root, wrong.name)


# Compose


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def test_the_compose_file_keeps_to_its_specification() -> None:
    spec = compose_spec.PyCompose.from_json(json.dumps(composed()))
    assert len(spec.service_names()) == len(composed()["services"])


def test_a_misspelt_compose_file_does_not() -> None:
    wrong = composed()
    wrong["services"]["agent"]["restrat"] = "always"
    with pytest.raises(ValueError, match="restrat"):
        compose_spec.PyCompose.from_json(json.dumps(wrong))


def test_every_file_and_volume_that_the_compose_file_names_is_there() -> None:
    spec = composed()
    for service in spec["services"].values():
        if build := service.get("build"):
            assert (COMPOSE.parent / build["context"] / build["dockerfile"]).is_file()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            made = source == "./certificates" or source in spec["volumes"]  # by certificates.sh, or by the engine
            assert made or (COMPOSE.parent / source).exists(), source


@pytest.mark.parametrize("file", sorted(COMPOSE.parent.glob("Containerfile*")), ids=lambda file: file.name)
def test_every_file_that_an_image_copies_is_there(file: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", file.read_text(), re.M)
    assert copied
    assert [source for source in copied if not (DEPLOY.parent / source).exists()] == []


def test_the_certificates_script_makes_what_the_servers_need(tmp_path: Path) -> None:
    require("openssl")
    script = shutil.copy(DEPLOY / "compose" / "certificates.sh", tmp_path)
    subprocess.run([script], check=True, capture_output=True)
    made = tmp_path / "certificates"
    verify = ["openssl", "verify", "-CAfile", str(made / "ca.pem"), "-verify_hostname", "nats-2", str(made / "server.pem")]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0


# Kubernetes


def documents() -> Iterator[dict[str, Any]]:
    for manifest in MANIFESTS:
        yield from yaml.safe_load_all(manifest.read_text())


def model_of(document: dict[str, Any]) -> Any:
    group, _, version = document["apiVersion"].rpartition("/")
    name = f"{group.split('.')[0] or 'core'}_{version}"
    return getattr(importlib.import_module(f"lightkube.models.{name}"), document["kind"])


def checked(document: dict[str, Any]) -> None:
    """By the published schema of Kubernetes, as lightkube's models have it: every value is of its type, none is missing, and every name is known."""
    understood = msgspec.to_builtins(msgspec.convert(document, model_of(document)))
    assert not list(unknown(document, understood, document["kind"]))


def unknown(given: Any, understood: Any, at: str) -> Iterator[str]:
    """What was given and is not understood."""
    if isinstance(given, dict):
        for name, value in given.items():
            yield from unknown(value, understood[name], f"{at}.{name}") if name in understood else [f"{at}.{name} is not known"]
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from unknown(value, understood[number], f"{at}[{number}]")


def test_the_manifests_keep_to_the_schema_of_kubernetes() -> None:
    for document in documents():
        checked(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pod: pod["containers"][0].update(imagePullPolice="Always"), "imagePullPolice is not known"),
        (lambda pod: pod["containers"][0].pop("name"), "required field `name`"),
        (lambda pod: pod.update(terminationGracePeriodSeconds="30"), "Expected `int"),
    ],
)
def test_wrong_manifests_do_not(change: Any, words: str) -> None:
    wrong = next(each for each in documents() if each["kind"] == "StatefulSet")
    change(wrong["spec"]["template"]["spec"])
    with pytest.raises((AssertionError, msgspec.ValidationError), match=words):
        checked(wrong)


def test_labels_ports_and_volumes_within_the_manifests_fit() -> None:
    for document in documents():
        if document["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        spec = document["spec"]
        pod = spec["template"]["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            ports = {port["name"] for port in container.get("ports", ())}
            probes = (value for name, value in container.items() if name.endswith("Probe"))
            assert {probe.get("httpGet", probe.get("tcpSocket"))["port"] for probe in probes} <= ports


def test_everything_that_the_kustomization_names_is_there() -> None:
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert {DEPLOY / each for each in kustomization["resources"]} == set(MANIFESTS)
    made: dict[str, set[str]] = {}
    for generator in kustomization["configMapGenerator"]:
        files = [(key or Path(path).name, path) for key, _, path in (each.rpartition("=") for each in generator["files"])]
        assert all((DEPLOY / path).is_file() for _, path in files)
        made[generator["name"]] = {key for key, _ in files}
    pods = [document["spec"]["template"]["spec"] for document in documents() if document["kind"] in {"Deployment", "StatefulSet"}]
    maps = [volume["configMap"] for pod in pods for volume in pod["volumes"] if "configMap" in volume]
    assert {each["name"] for each in maps} == made.keys()
    assert all({item["key"] for item in each.get("items", ())} <= made[each["name"]] for each in maps)


# What all of them have to say to the servers


def wanted() -> set[str]:
    """The variables in the servers' configuration."""
    files = [DEPLOY / "nats" / "server.conf", DEPLOY / "nats" / "accounts.conf", *(DEPLOY / "nats" / "hosts").glob("*.conf")]
    lines = (line for file in files for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
    return {name for line in lines for name in re.findall(r"\$(NATS_\w+)", line)}


def test_each_server_is_told_all_that_its_configuration_asks_for() -> None:
    for name in ("nats-1", "nats-2", "nats-3"):
        assert wanted() <= composed()["services"][name]["environment"].keys()
    servers = next(each for each in documents() if each["kind"] == "StatefulSet" and each["metadata"]["name"] == "nats")
    assert wanted() <= {each["name"] for each in servers["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert wanted() <= set(re.findall(r"^(NATS_\w+)=", (DEPLOY / "nats" / "server.env").read_text(), re.M))
