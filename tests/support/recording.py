"""The recording in the README: a real ``agezero up``, a visitor and ``agezero purge --wait``, as an SVG that plays.

``python -m support.recording``, or ``make recording``.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from io import StringIO
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from support.screenshots import IMAGES
from support.service import AGEZERO, Service, running_service

COLUMNS = 86
STEP_S = 0.9
"""Between a command and what it prints, and then the next one: to be read. How long it took is in the text."""
EDGE = "http://127.0.0.1:8081"
"""What a reader has by the README's own commands; the free ports of this run stand in its place."""
_PLAYS = """
    @media (prefers-reduced-motion: no-preference) {{
    @keyframes agezero-shown {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}
    .agezero-matrix text {{ animation: agezero-shown 1ms both }}
    {delays}
    }}
"""
_DELAY = '.agezero-matrix text[clip-path="url(#agezero-line-{line})"] {{ animation-delay: {after_s:.1f}s }}'


class Recording:
    """A terminal, and at which step each of its lines appears."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
        self.steps: list[int] = []
        self._step = 0

    def say(self, text: Text) -> None:
        for line in text.split("\n"):
            self.console.print(line, overflow="ellipsis", no_wrap=True)
            self.steps.append(self._step)

    def remark(self, text: str) -> None:
        self._step += 1
        self.say(Text(f"# {text}", style="bright_black"))

    def run(self, command: str, style: str = "") -> None:
        """In a shell. What it prints comes as one step."""
        self._step += 1
        self.say(Text.assemble(("$ ", "bold green"), (command, "bold")))
        env = os.environ | {"AGEZERO_URL": self.service.url, "AGEZERO_PRIVATE_KEY": self.service.key}
        env["PATH"] = f"{AGEZERO.parent}{os.pathsep}{env['PATH']}"
        real = command.replace(EDGE, self.service.edge)
        done = subprocess.run(["sh", "-c", real], env=env, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._step += 1
        self.say(Text(done.stdout.replace("\r", "").rstrip().replace(self.service.edge, EDGE), style=style))

    def svg(self) -> str:
        """It plays once and stays as it ends; where less motion is asked for, all of it is there at once."""
        text = self.console.export_svg(title="agezero purge --wait", unique_id="agezero")
        text = re.sub(r"@font-face {[^}]*}\s*", "", text)  # nothing is fetched from elsewhere
        delays = "\n    ".join(_DELAY.format(line=line, after_s=step * STEP_S) for line, step in enumerate(self.steps))
        text = text.replace("</style>", _PLAYS.format(delays=delays) + "    </style>", 1)
        return re.sub(r"[ \t]+\n", "\n", text)


def main() -> None:
    """Renew it."""
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder)) as service:
        recording = Recording(service)
        service.origin.content = "old"
        httpx.get(service.edge + "/logo.svg")
        look = f"curl -si {EDGE}/logo.svg | grep -iE '^cache-status|logo'"
        service.origin.content = "new"
        recording.remark("The origin has a new logo now. Visitors still get the old one from the cache.")
        recording.run(look, "cyan")
        recording.run(f"agezero purge --wait {EDGE}/logo.svg", "green")
        recording.remark("Proven: no edge can serve the old one any more.")
        recording.run(look, "cyan")
        (IMAGES / "purge.svg").write_text(recording.svg())


if __name__ == "__main__":
    main()
