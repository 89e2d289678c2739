"""The GitHub Action, the GitLab job and the git hook, step by step in real shells, against a real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agezero.cli.output import Exit
from support.programs import require
from support.service import Service

HOME = Path(__file__).parents[2] / "integrations"
BIN = str(Path(sys.executable).parent)
ACTION = HOME / "github" / "action.yml"
JOB = HOME / "gitlab" / "purge.gitlab-ci.yml"
PAGE = (HOME.parent / "docs" / "INTEGRATIONS.md").read_text()


def yaml(file: Path) -> dict[str, Any]:
    return msgspec.yaml.decode(file.read_bytes(), type=dict[str, Any])


def purges(service: Service) -> list[dict[str, Any]]:
    """Newest first."""
    answer = httpx.get(f"{service.url}/v1/purges", auth=(service.key, ""), timeout=30)
    found: list[dict[str, Any]] = answer.json()["purges"]
    return found


def named(purge: dict[str, Any]) -> list[str]:
    return [f"{each['kind']} {each['value'].partition('/')[2] or each['value']}" for each in purge["selectors"]]


def shell(command: list[str], script: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AGEZERO")}
    full = plain | env | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run([*command, script], env=full, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


class Runner:
    """Runs a composite action as GitHub documents it: `bash --noprofile --norc -e -o pipefail`, inputs through expressions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.path = folder / "path"

    def run(self, given: dict[str, str]) -> tuple[int, str, str]:
        action = yaml(ACTION)
        inputs = {name: given.get(name, wanted.get("default", "")) for name, wanted in action["inputs"].items()}
        context = {f"inputs.{name}": value for name, value in inputs.items()} | {"github.repository": "o/site", "github.sha": "abc"}
        out = err = ""
        for file in (self.output, self.path):
            file.touch()
        for step in action["runs"]["steps"]:
            assert "${{" not in step["run"], "an input must not become part of a script"
            env = {name: _filled(_filled(value, context), context) for name, value in step.get("env", {}).items()}
            env |= {"GITHUB_ACTION_PATH": str(ACTION.parent), "GITHUB_OUTPUT": str(self.output), "GITHUB_PATH": str(self.path)}
            done = shell(["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c"], step["run"], env, self.folder)
            out, err = out + done.stdout, err + done.stderr
            if done.returncode:
                return done.returncode, out, err
        return 0, out, err


def _filled(text: str, context: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda match: context[match[1]], text)


def test_the_github_action_purges_and_waits(service: Service, tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    (tmp_path / "changed.txt").write_text(f"{service.edge}/action/c\n")
    given = {
        "url": service.url,
        "key": service.key,
        "urls": f"\n  {service.edge}/action/a \n{service.edge}/action/b?x=1&y='$(id)'\n",
        "prefixes": f"{service.edge}/action/p/",
        "tags": "release\n",
        "file": "changed.txt",
    }
    code, out, err = runner.run(given)
    assert code == 0, err
    purge = purges(service)[0]
    assert out == f"{purge['id']} Completed\n"
    assert runner.output.read_text() == f"ids<<END-OF-IDS\n{purge['id']}\nEND-OF-IDS\n"
    assert purge["note"] == "o/site@abc"
    assert named(purge) == ["url action/a", "url action/b?x=1&y='$(id)'", "url action/c", "prefix action/p/", "tag release"]
    assert runner.path.read_text() == "", "it is installed already"


def test_the_github_action_fails_with_the_commands_code(service: Service, tmp_path: Path) -> None:
    given = {"url": service.url, "key": service.key, "urls": "https://foreign.example.com/"}
    code, _, err = Runner(tmp_path).run(given)
    assert code == Exit.REFUSED
    assert "is not under an endpoint" in err
    assert Runner(tmp_path).run(given | {"urls": ""})[0] == Exit.FAILED


def test_the_gitlab_job_purges_and_waits(service: Service, tmp_path: Path) -> None:
    job = yaml(JOB)[".agezero-purge"]
    given = {"CI_PROJECT_PATH": "g/site", "CI_COMMIT_SHORT_SHA": "abc", "AGEZERO_URL": service.url, "AGEZERO_PRIVATE_KEY": service.key}
    given |= {
        "AGEZERO_PURGE_URLS": f"{service.edge}/job/a",
        "AGEZERO_PURGE_SOFT": "true",
        "AGEZERO_PURGE_HOSTS": service.edge.removeprefix("http://"),
    }
    variables = {name: re.sub(r"\$(\w+)", lambda match: given[match[1]], value) for name, value in job["variables"].items()} | given
    done = shell(["sh", "-e", "-c"], "\n".join([*job["before_script"], *job["script"]]), variables, tmp_path)
    assert done.returncode == 0, done.stderr
    purge = purges(service)[0]
    assert done.stdout == f"{purge['id']} Completed\n"
    assert (purge["mode"], purge["note"]) == ("soft", "g/site@abc")
    assert {kind.split()[0] for kind in named(purge)} == {"url", "host"}
    everything = {"AGEZERO_PURGE_URLS": "", "AGEZERO_PURGE_HOSTS": "", "AGEZERO_PURGE_EVERYTHING": "true", "AGEZERO_PURGE_WAIT": "false"}
    done = shell(["sh", "-e", "-c"], "\n".join(job["script"]), variables | everything, tmp_path)
    assert done.returncode == 0, done.stderr
    assert named(purges(service)[0]) == ["everything "]


def test_the_gitlab_job_holds_the_script_word_for_word() -> None:
    (script,) = yaml(JOB)[".agezero-purge"]["script"]
    assert (HOME / "purge.sh").read_text() == "#!/bin/sh\n" + script


def test_every_input_and_variable_is_documented() -> None:
    for name in (*yaml(ACTION)["inputs"], *yaml(ACTION)["outputs"], *yaml(JOB)[".agezero-purge"]["variables"]):
        assert f"`{name}`" in PAGE or name == "GIT_STRATEGY"
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        assert msgspec.yaml.decode(block)


def test_a_push_publishes_and_purges_what_changed(service: Service, tmp_path: Path) -> None:
    require("git")
    bare, work, site = tmp_path / "site.git", tmp_path / "work", tmp_path / "www"
    site.mkdir()
    env = {"AGEZERO_URL": service.url, "AGEZERO_PRIVATE_KEY": service.key, "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(tmp_path)}
    who = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def sh(script: str, folder: Path = work) -> str:
        done = shell(["sh", "-e", "-c"], script, env | who, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr

    sh(f"git init -q --bare -b main {bare}; git init -q -b main {work}; cp {HOME}/git/post-receive {bare}/hooks/", tmp_path)
    sh(f"git config agezero.directory {site}; git config agezero.prefix {service.edge}/git", bare)
    sh(f"mkdir d; echo 1 | tee a gone d/index.html 'b #?%' >kept; git add .; git commit -qm 1; git push -q {bare} main")
    assert named(purges(service)[0]) == ["prefix git/"]
    sh(f"echo 2 | tee a d/index.html 'b #?%'; git rm -q gone; git mv kept moved; git add .; git commit -qm 2; git push -q {bare} main")
    expected = ["a", "b%20%23%3F%25", "d/index.html", "d/", "gone", "kept", "moved"]
    assert sorted(named(purges(service)[0])) == sorted(f"url git/{path}" for path in expected)
    assert sorted(path.name for path in site.iterdir()) == ["a", "b #?%", "d", "moved"]
    before = purges(service)[0]
    sh(f"git checkout -qb other; echo 3 > a; git commit -qam 3; git push -q {bare} other")
    assert purges(service)[0] == before, "another branch is not published"


@pytest.mark.parametrize(("name", "value"), [("WAIT", "yes"), ("SOFT", "True"), ("EVERYTHING", "1")])
def test_a_word_that_is_neither_true_nor_false_does_not_pass_for_no(tmp_path: Path, name: str, value: str) -> None:
    done = shell([], str(HOME / "purge.sh"), {f"AGEZERO_PURGE_{name}": value, "AGEZERO_PURGE_URLS": "https://a.example/"}, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: AGEZERO_PURGE_{name} is '{value}'; expected true or false\n")


@pytest.mark.parametrize("script", ["purge.sh", "git/post-receive"])
def test_scripts_are_executable_and_plain_sh(script: str) -> None:
    file = HOME / script
    assert os.access(file, os.X_OK)
    assert file.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", file], check=True)
