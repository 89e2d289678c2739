"""The tests' own ports: two tests that are told the same port fail each other once in many runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.ports import BLOCK, free_port

PROCESSES, EACH = 4, BLOCK + BLOCK // 2
# From few blocks, so that two would choose the same if none were held.
GIVE_AND_STAY = f"""
from support import ports
ports._BLOCKS = ports._BLOCKS[:12]
print(*[ports.free_port() for _ in range({EACH})], flush=True)
input()
"""


def test_processes_that_live_at_the_same_time_are_given_different_ports() -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", GIVE_AND_STAY]
    running = [subprocess.Popen(command, cwd=tests, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    try:
        given = [port for process in running if process.stdout for port in process.stdout.readline().split()]
    finally:
        for process in running:
            process.communicate("\n")

    assert len(set(given)) == PROCESSES * EACH


def test_a_port_is_not_given_twice() -> None:
    ports = [free_port() for _ in range(EACH)]

    assert len(set(ports)) == EACH
