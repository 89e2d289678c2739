"""The console examples of a page, run as they stand there.

An example is a block ``console``: lines that begin with ``$ `` are commands (a backslash at the end goes on in the next line), the rest is what they
print. What a user would have in its place (addresses, keys) is put in by ``replaced``; what is made anew each time (ids, secrets) stands for whatever
is printed there, and for the same from then on.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.service import AGEZERO
from support.waiting import wait_for

_MADE = re.compile(r"whsec_…|private_…|wh_[0-9a-f]{12}|[0-9a-f]{24}")
"""What is made anew each time."""
_WHATEVER = {"whsec_…": r"whsec_[A-Za-z0-9+/=]+", "private_…": r"private_[A-Za-z0-9_-]+", "wh_": r"wh_[0-9a-f]{12}"}
OTHERS = {"make", "pip", "pipx", "uvx", "docker", "git", "export"}
"""Programs that set up what the tests have already."""


@dataclass(frozen=True, slots=True)
class Command:
    text: str
    prints: str
    """Empty: the page doesn't say."""

    @property
    def program(self) -> str:
        return Path(self.text.split()[0]).name


def blocks(page: Path, language: str) -> list[str]:
    """The text of all fenced blocks in it."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[Command]:
    """In order."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        text, prints = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        yield Command(re.sub(r"\s*# .*", "", text.replace("\\\n", " ")), prints.strip())


@dataclass(slots=True)
class Console:
    """``replaced``: text of the page → text here. ``made``: filled while commands run."""

    folder: Path
    replaced: Mapping[str, str]
    environment: Mapping[str, str]
    made: dict[str, str] = field(default_factory=dict)

    def run(self, command: Command) -> None:
        """Once; what only looks is asked until it says what the page says, for it may take a moment. Raises ``AssertionError``."""
        if command.program in OTHERS:
            return
        text = self._here(command.text)
        looks = command.program == "curl" and not re.search(r"\s(-d|--json|-X|--data\S*)\s", text)
        printed = [""]

        def said() -> bool:
            printed[0] = self._printed(text)
            return self._fits(command.prints, printed[0])

        try:
            assert wait_for(said, text) if looks else said()
        except (TimeoutError, AssertionError):
            raise AssertionError(f"$ {text}\nprinted\n{printed[0]}\nand the page says\n{command.prints}") from None

    def _printed(self, text: str) -> str:
        path = f"{AGEZERO.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", text],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "NO_COLOR": "1", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if "curl" in text else subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"$ {text}\nended with {done.returncode}: {done.stdout}{done.stderr or ''}"
        return done.stdout.strip()

    def _here(self, text: str) -> str:
        for old, new in {**self.replaced, **self.made}.items():
            text = text.replace(old, new)
        return text

    def _fits(self, expected: str, printed: str) -> bool:
        """Does it, once what is made anew is taken over?"""
        if not expected:
            return True
        expected = self._here(expected)
        names = _MADE.findall(expected)
        pattern = "".join(
            f"({_WHATEVER.get(part) or _WHATEVER.get(part[:3]) or '[0-9a-f]{24}'})" if i % 2 else re.escape(part)
            for i, part in enumerate(re.split(f"({_MADE.pattern})", expected))
        )
        match = re.fullmatch(pattern, printed)
        if match is not None:
            self.made.update(zip(names, match.groups(), strict=True))
        return match is not None
