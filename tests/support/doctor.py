"""``agezero doctor``, asked about a cache that a test runs: in this process, or as the command."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec

from agezero.config import Config
from agezero.config.edges import ExternalEdge
from agezero.doctor import examine
from agezero.edges.kinds import Finding
from support.caches.base import CacheEdge
from support.service import AGEZERO

COMMAND_S = 60


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as a cache's user has to; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="agezero-doctor-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        rmtree(folder)


def findings(edge: CacheEdge, data: Path, **changes: Any) -> list[Finding]:
    """What it finds wrong. ``changes``: in the settings of the edge, which has to have let go of its state."""
    options = msgspec.structs.replace(edge.described, **changes)
    found: list[Finding] = []
    healthy = asyncio.run(examine(Config(data=str(data), edges=(options,)), options, found.append))  # type: ignore[arg-type]
    wrong = [finding for finding in found if not finding.ok]
    assert healthy is not bool(wrong)
    assert all(finding.fix for finding in wrong), "each says what to do"
    return wrong


def toml(options: ExternalEdge) -> str:
    """An ``[[edges]]`` section. Text, numbers and lists are in TOML as in JSON."""
    members = {"driver": options.driver, **{name: value for name, value in msgspec.structs.asdict(options).items() if value is not None}}
    return "[[edges]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in members.items())


def command(options: ExternalEdge, data: Path, *flags: str) -> tuple[int, str]:
    """``agezero doctor`` as a person runs it: exit code, and all it said."""
    config = data.with_suffix(".toml")
    config.parent.mkdir(exist_ok=True)
    config.write_text(toml(options))
    ran = subprocess.run(
        [AGEZERO, "doctor", options.name, "--data", data, "--config", config, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=COMMAND_S,
        cwd=sys.prefix,
    )
    return ran.returncode, ran.stdout
