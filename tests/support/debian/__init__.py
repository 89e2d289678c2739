"""A machine on which a tutorial can be followed to the letter: its own paths, ports and services; gone when its first process ends.

It is this machine in namespaces of its own: what is written to the usual folders goes to memory, the network is a loopback, and processes end
together. What this one lacks is in ``tools/``: ``sudo``; ``apt``, for which everything is installed and which starts services as Debian does;
``systemctl``, which reads Debian's units; a ``python3 -m venv`` whose ``pip`` needs no network; and an ``agezero up`` that gives the prompt back.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import agezero
from support.programs import SBIN
from support.service import AGEZERO

SCRIPT_S = 180
_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
_TOOLS = Path(__file__).with_name("tools")
_BEGIN = """
set -e
memory=$1
mount -t tmpfs machine "$memory"
for folder in /etc /var /run /opt; do
    mkdir -p "$memory$folder/upper" "$memory$folder/work"
done
cp -r {tools} "$memory/bin"
for folder in /etc /run /opt /var; do
    mount -t overlay machine -o "lowerdir=$folder,upperdir=$memory$folder/upper,workdir=$memory$folder/work" $folder
done
mount -t tmpfs machine /dev/shm
ip link set lo up
mkdir "$memory/home"
cd "$memory/home"
export PATH="$memory/bin:$PATH:{sbin}" USER=root HOME="$memory/home"
"""


@cache
def can_be_made() -> bool:
    """Root can, where nothing confines it, with a system whose Python can use what ours has installed."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    agrees = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    trial = f"ip link set lo up && mount -t tmpfs trial /mnt && /usr/bin/python3 -c '{agrees}'"
    return subprocess.run([*_NAMESPACES, "sh", "-c", trial], capture_output=True, check=False, timeout=60).returncode == 0


def followed(script: str, folder: Path) -> str:
    """What a shell said that was given ``script`` on a machine of its own. ``folder``: an empty one, for its memory."""
    begin = _BEGIN.format(tools=shlex.quote(str(_TOOLS)), sbin=SBIN)
    environment = {
        **os.environ,
        "AGEZERO": str(AGEZERO),
        "AGEZERO_PACKAGE": str(Path(agezero.__file__).parent),
        "AGEZERO_LIBRARIES": sysconfig.get_path("purelib"),
    }
    ran = subprocess.run(
        [*_NAMESPACES, "bash", "-c", f"{begin}set -x\n{script}", "bash", folder],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SCRIPT_S,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout
