"""Every command: in the help, with examples that the parser takes, in docs/CLI.md; and completed by a real shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer._click.core import Command as AnyCommand

from agezero.cli.application import LIFE, Command, Group
from agezero.cli.main import application, run
from agezero.cli.output import Exit

ROOT = typer.main.get_command(application)
PAGE = (Path(__file__).parents[2] / "docs" / "CLI.md").read_text()
BIN = Path(sys.executable).parent
Capture = pytest.CaptureFixture[str]


def commands(command: AnyCommand, path: str = "agezero") -> Iterator[tuple[str, Command | Group]]:
    assert isinstance(command, Command | Group)
    yield path, command
    for name, below in command.commands.items() if isinstance(command, Group) else ():
        yield from commands(below, f"{path} {name}")


ALL = dict(commands(ROOT))
NAMES = [name for names in LIFE.values() for name in names if f"agezero {name}" in ALL]


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_examples_that_the_parser_takes(path: str, capsys: Capture) -> None:
    assert run([*path.split()[1:], "--help"]) == Exit.OK
    shown = capsys.readouterr().out.partition("\nExamples:\n")[2].splitlines()
    assert [line.strip() for line in shown] == list(ALL[path].examples)
    assert shown
    for example in shown:
        parse(example)


def test_every_example_of_the_page_is_taken_too() -> None:
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    assert sum(map(parse, lines)) >= 25


def parse(example: str) -> int:
    """Parse each agezero in a line of shell, and run none; how many there were."""
    found = 0
    for words in _simple_commands(example):
        if words[:1] == ["agezero"] and words[1:2] != ["COMMAND"]:
            found += 1
            context: typer.Context | None = None
            command: AnyCommand = ROOT
            arguments = words[1:]
            while True:
                context = command.make_context("agezero", list(arguments), parent=context)  # type: ignore[assignment]
                assert context is not None
                if not isinstance(command, Group) or not context._protected_args:
                    break
                _, below, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
                assert below is not None
                command = below
    return found


def _simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            yield words
            words = []
        else:
            words.append(token)


def test_the_help_is_in_the_order_of_a_users_life(capsys: Capture) -> None:
    run(["--help"])
    listed = re.findall(r"^  ([a-z][a-z-]*) ", capsys.readouterr().out.partition("Options:")[2].partition("Examples:")[0], re.MULTILINE)
    assert listed == NAMES


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_flag_is_documented(path: str) -> None:
    assert f"`{path}" in PAGE
    flags = {flag for param in ALL[path].params for flag in (*param.opts, *param.secondary_opts) if flag.startswith("--")}
    assert not [flag for flag in flags - {"--help"} if f"`{flag}" not in PAGE]


def completed(line: str, shell: str) -> list[str]:
    """What the program proposes at the end of a line, by the protocol of each shell's script."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    env = os.environ | asked | {"_AGEZERO_COMPLETE": f"complete_{shell}"}
    ran = subprocess.run([BIN / "agezero"], env=env, capture_output=True, text=True, check=True)
    return re.findall(r"^(?:_arguments '\*: :\(\()?\"?([\w-]+)", ran.stdout, re.MULTILINE)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_what_could_come_next(shell: str) -> None:
    assert completed("agezero completion ", shell) == ["bash", "zsh", "fish"]
    script = subprocess.run([BIN / "agezero", "completion", shell], capture_output=True, text=True, check=True).stdout
    assert f"_AGEZERO_COMPLETE=complete_{shell}" in script
    assert "agezero" in script


def test_completion_in_bash() -> None:
    script = """
eval "$(agezero completion bash)"
complete_line() {
    COMP_WORDS=($1); [[ $1 == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=(); _agezero_completion "${COMP_WORDS[0]}"; echo "${COMPREPLY[@]}"
}
complete -p agezero
complete_line "agezero "
complete_line "agezero purge --ev"
"""
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, check=True)
    registered, top, purge = ran.stdout.splitlines()
    assert "_agezero_completion agezero" in registered
    assert top.split() == NAMES
    assert purge.split() == ["--everything"]
    assert ran.stderr == ""


def test_no_completion_of_the_library_shows_through(capsys: Capture) -> None:
    run(["--help"])
    assert "--install-completion" not in capsys.readouterr().out
