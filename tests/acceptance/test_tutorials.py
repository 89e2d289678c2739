"""What docs/drivers/*.md tell a user to do works as it stands there, from the packages of Debian to a purge that is proven."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from agezero.config import read_config
from support.debian import can_be_made, followed
from support.docs import DRIVER_PAGES, tutorial
from support.programs import require

ORIGIN = Path(__file__).parents[1] / "support/debian/origin.py"
PROGRAMS = {
    "varnish": ("varnishd", "varnishadm"),
    "nginx": ("nginx", "modules/ngx_http_lua_module.so"),
    "trafficserver": ("traffic_manager", "trafficserver/modules/tslua.so"),
    "squid": ("squid",),
}
KEY = '"$(grep -o "private_[A-Za-z0-9_-]*" up.log | head -n 1)"'
PROOF = {
    "varnish": "http://127.0.0.1:6081/page.html",
    "nginx": "http://127.0.0.1/page.html",
    "trafficserver": "http://localhost:8080/page.html",
    "squid": "http://127.0.0.1/page.html",
}
"""What each purges at its end."""


def script_of(name: str) -> str:
    """All that the page says, as one script: its commands, and its files where they stand between them."""
    parts = [f"/usr/bin/python3 {shlex.quote(str(ORIGIN))} &"]
    for file, text in tutorial(DRIVER_PAGES / f"{name}.md"):
        if not file:
            parts.append(text.replace("private_…", KEY))
            continue
        parts.append(f"mkdir -p $(dirname {file})\ncat > {file} <<'END_OF_FILE'\n{text}END_OF_FILE")
    return "\n".join(parts)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_tutorial_works_as_it_stands(name: str, tmp_path: Path) -> None:
    """Only root may make a machine of its own; for others the settings are read, and no more. It takes some seconds: four services are started."""
    require("curl", "ip", "ss", *PROGRAMS[name])
    script = script_of(name)
    assert PROOF[name] in script
    if not can_be_made():
        _settings(script, tmp_path)
        return
    proof = f"""
served=$(curl -s {PROOF[name]})
again=$(curl -s {PROOF[name]})
test "$served" = "$again"
"""
    said = followed(script + textwrap.dedent(proof), tmp_path)
    assert re.search(r"^\w+ is as it should be$", said, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{24} Completed$", said, re.MULTILINE)


def _settings(script: str, folder: Path) -> None:
    text = re.search(r"agezero\.toml <<'(\w+)'\n(.*?)^\1$", script, re.DOTALL | re.MULTILINE)
    assert text
    (folder / "agezero.toml").write_text(text[2])
    assert read_config(folder / "agezero.toml").edges
