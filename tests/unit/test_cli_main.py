"""The command line itself, as a process where that is the point."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agezero import __version__
from agezero.cli import main, purges
from agezero.cli.main import run
from agezero.cli.output import Exit

AGEZERO = Path(sys.executable).with_name("agezero")
HEAVY = ("asyncio", "granian", "httpx", "msgspec", "rich.console", "sqlite3", "starlette", "structlog")
PAGE = Path(__file__).parents[2] / "docs" / "CLI.md"
Capture = pytest.CaptureFixture[str]


def test_version() -> None:
    ran = subprocess.run([AGEZERO, "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"agezero {__version__}\n", "")


def test_help_names_every_command(capsys: Capture) -> None:
    assert run(["--help"]) == run([]) == Exit.OK
    said = capsys.readouterr().out
    for command in ("up", "serve", "agent", "demo", "purge", "status", "keys"):
        assert re.search(rf"^  {command}\b", said, re.MULTILINE)


@pytest.mark.parametrize("command", ["doctor", "edge-config"])
def test_the_embedded_edge_needs_neither(command: str, tmp_path: Path) -> None:
    (tmp_path / "agezero.toml").write_text('[edge]\nname = "paris"\n')
    ran = subprocess.run([AGEZERO, command, "paris", "--config", tmp_path / "agezero.toml"], capture_output=True, text=True, check=False)
    assert ran.returncode == Exit.FAILED
    assert "error: 'paris' is the embedded edge" in ran.stderr
    assert "hint: nothing is to be done for it" in ran.stderr


def test_help_imports_nothing_heavy() -> None:
    code = f"import agezero.cli.main as m, sys; m.run(['--help']); print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["kyes"], "`agezero --help`"),
        (["purge", "--hlep"], "`agezero purge --help`"),
        (["purge", "a", "--timeout", "soon"], "`agezero purge --help`"),
        (["purge"], "`agezero purge --help`"),
        (["audit", "--since", "soon"], "`agezero audit --help`"),
        (["keys"], "`agezero keys --help`"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], hint: str, capsys: Capture) -> None:
    assert run(arguments) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"error: .*\nhint: {hint} shows how it is used\n", said.err)


def test_a_wrong_setting_ends_up_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "agezero.toml"
    config.write_text("[limits]\npurge_per_s = 1\n")
    ran = subprocess.run([AGEZERO, "up", "--config", config, "--data", tmp_path / "data"], capture_output=True, text=True, check=False)
    assert ran.stderr == f"error: {config}:2: there is no setting 'limits.purge_per_s'\nhint: did you mean 'limits.purges_per_s'?\n"
    assert (ran.returncode, ran.stdout) == (Exit.FAILED, "")
    assert not (tmp_path / "data").exists()


def test_a_bug_is_one_line_and_how_to_learn_more(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def broken(_: str) -> str:
        raise ZeroDivisionError("a detail")

    monkeypatch.setattr(purges, "required_key", broken)
    assert run(["purge", "a"]) == Exit.BUG
    said = capsys.readouterr().err
    assert said.startswith("error: this is a bug in agezero: ZeroDivisionError: a detail\nhint: ")
    assert "Traceback" not in said
    monkeypatch.setenv("AGEZERO_DEBUG", "1")
    assert run(["purge", "a"]) == Exit.BUG
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(purges, "required_key", interrupted)
    assert run(["purge", "a"]) == Exit.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_goes_away_hears_nothing_more() -> None:
    with subprocess.Popen([AGEZERO, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == Exit.FAILED


@pytest.mark.parametrize(
    "arguments",
    [["status", "\udcff"], ["edges", "remove", "\udcff"], ["purge", "https://a/b", "--note", "\udcff"], ["keys", "create", "\udcff", "--data"]],
)
def test_an_argument_that_is_not_utf_8_is_named(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", "a" * 20)
    assert run(arguments + [str(tmp_path)] * (arguments[-1] == "--data")) == Exit.USAGE
    assert capsys.readouterr().err == "error: the argument b'\\xff' is not valid UTF-8\n"


def test_every_exit_code_is_documented() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert codes == set(Exit)


def test_no_private_key_gets_into_a_log() -> None:
    code = """
import logging, structlog
from agezero import logs
logs.configure()
log = structlog.get_logger()
log.info("purge", key="private_0123456789abcdef", given="the given-key-of-the-environment!", header="Basic cHJpdmF0ZV8wMTIzOg==")
logging.getLogger("library").warning("it said %s", "private_0123456789abcdef")
try:
    raise ValueError("private_0123456789abcdef")
except ValueError:
    log.exception("failed")
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"AGEZERO_PRIVATE_KEY": "given-key-of-the-environment!"},
    )
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["purge", "it said [private key]", "failed"]
    assert "Traceback" in lines[2]["exception"]
    for secret in ("0123456789", "given-key", "cHJpdmF0ZV8"):
        assert secret not in ran.stderr


def test_main_ends_with_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["agezero", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == Exit.USAGE


def test_one_machine_loads_nothing_of_nats() -> None:
    code = (
        "import sys, agezero.app, agezero.cli.main; sys.exit(', '.join(name for name in sys.modules if name.split('.')[0] in ('nats', 'nkeys')) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
