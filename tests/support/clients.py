"""ImageKit's own clients, unmodified: installed on demand at pinned versions, each driven as a process of its own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.programs import require

TESTS = Path(__file__).parents[1]
PINS = TESTS / "acceptance" / "clients"
CACHE = TESTS.parent / ".clients"
INSTALL_S = 240


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client made of a response; ``error`` is the name of its own type, None for success."""

    value: str | None = None
    error: str | None = None
    status: int | None = None
    message: str | None = None
    help: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Client:
    """One client in one process; ``call`` speaks its language through ``acceptance/clients/lines``."""

    def __init__(self, name: str) -> None:
        self.name = name
        command, env = _COMMANDS[name]()
        self._process = subprocess.Popen(command, env=os.environ | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, base: str, key: str, call: str, retries: int = 0, **argument: Any) -> Answer:
        """``call``: purge or status; ``argument=…`` is what its user passes, left out: nothing. ``retries`` where the client has that option."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"base": base, "key": key, "call": call, "retries": retries, **argument})
        print(line, file=self._process.stdin, flush=True)
        return Answer(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """The driver ends when its input does."""
        self._process.communicate(timeout=30)


def python_of(name: str) -> Path:
    """The interpreter of a venv with the pinned client ``name`` in it."""
    pins = PINS / f"requirements-{name}.txt"

    def install(place: Path) -> None:
        venv.create(place, with_pip=True)
        _run([place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", pins], place)

    return _installed(name, pins, install) / "bin" / "python"


def node_modules() -> Path:
    """A ``node_modules`` folder with both Node clients in it."""
    require("node", "npm")
    pins = PINS / "package.json"

    def install(place: Path) -> None:
        place.mkdir()
        shutil.copy(pins, place)
        shutil.copy(PINS / ".npmrc", place)
        _run(["npm", "install", "--silent"], place)

    return _installed("npm", pins, install) / "node_modules"


def _installed(name: str, pins: Path, install: Callable[[Path], None]) -> Path:
    """The folder of what ``pins`` names, made once: it counts only with the mark that is written last."""
    place = CACHE / f"{name}-py{sys.version_info[0]}{sys.version_info[1]}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    CACHE.mkdir(exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            install(place)
            (place / "complete").touch()
    return place


def _run(command: list[str | Path], place: Path) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        hint = "hint: installing the clients needs the package registries; see CONTRIBUTING.md"
        pytest.fail(f"could not install a client into {place}\n{done.stderr[-2000:]}\n{hint}", pytrace=False)


Command = tuple[list[str | Path], dict[str, str]]


def _python(interpreter: Path | str, driver: str) -> Command:
    return [interpreter, "-m", f"acceptance.clients.{driver}"], {"PYTHONPATH": str(TESTS)}


def _node(driver: str) -> Command:
    return ["node", PINS / driver], {"NODE_PATH": str(node_modules())}


def _curl() -> Command:
    require("curl")
    return _python(sys.executable, "drive_curl")


_COMMANDS: dict[str, Callable[[], Command]] = {
    "imagekitio 5": lambda: _python(python_of("imagekitio5"), "drive_imagekitio5"),
    "imagekitio 4": lambda: _python(python_of("imagekitio4"), "drive_imagekitio4"),
    "imagekit 6": lambda: _node("drive_imagekit6.cjs"),
    "@imagekit/nodejs 7": lambda: _node("drive_nodejs7.cjs"),
    "curl": _curl,
}
NAMES = tuple(_COMMANDS)
