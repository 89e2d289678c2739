"""``python -m bench.profile``: where the processor's time goes on the paths that the table measures; writes docs/benchmarks/PROFILE.md.

Python's part is looked at with py-spy, all of a process with perf, by library. Shares, not speeds: a busy machine
changes them little.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import accept, hits, report, status, wrk
from bench.edges import TUNED, Edge, Plain, children, edge, plain
from bench.harness import FULL, ROOT, NotMeasured
from bench.service import AUTHORIZATION, PURGES, Service, service

SECONDS = 6
PAGE = ROOT / "docs" / "benchmarks" / "PROFILE.md"
_ROWS = 25
_PER_S = 997
"""Samples; a prime, so that nothing periodic hides."""
_OUTER = ("Runner.run ", "Thread.run ")
_SPARE_S = 2
"""For the tools to attach, while the load goes on."""

Load = Callable[[float], object]
Share = tuple[str, ...]


def main() -> int:
    """0, or 1 where a tool is missing."""
    try:
        with tempfile.TemporaryDirectory(prefix="agezero-profile-") as folder:
            PAGE.write_text("\n".join(_page(Path(folder))), encoding="utf-8")
    except NotMeasured as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written to {PAGE}")
    return 0


def _page(folder: Path) -> Iterator[str]:
    machine = report.machine()
    yield "# Where the time goes\n"
    yield "Written by `make profile`; do not edit. What it means for each figure: [LIMITS.md](LIMITS.md).\n"
    yield f"{machine['date']}; {machine['processor']}; {machine['system']}; load before: {machine['load before the run']}."
    for title, load, pid in _service_paths(folder):
        yield f"\n## {title}\n"
        yield from _table(("share", "library"), _by_perf([pid], load, folder))
        yield "\nOf the time in which Python runs (it holds the interpreter), function by function: *in it* without, *below it* with what it calls.\n"
        yield from _table(("in it", "below it", "function"), _by_pyspy(pid, load, folder))
    yield "\n## A hit at the embedded edge\n"
    yield "Microseconds of processor time; nginx comes without symbols, so its own code and that of njs can be told apart only by the plain cache.\n"
    yield from _table(("cache", "a hit", "in the kernel", "in nginx and njs"), asyncio.run(_edge(folder)))


def _service_paths(folder: Path) -> Iterator[tuple[str, Load, int]]:
    with service(folder / "service") as ours:
        yield "A status request, 32 connections", _status_load(ours), ours.pid
        yield "A purge accepted, 64 connections", lambda seconds: accept.purge(ours.address, ours, seconds), ours.pid


def _status_load(ours: Service) -> Load:
    connection = ours.connect()
    request_id = ours.purge("/status", connection)
    ours.wait_completed(request_id, connection)
    return lambda seconds: wrk.load(f"http://{ours.address}{PURGES}/{request_id}", status.CONNECTIONS, seconds, AUTHORIZATION)


async def _edge(folder: Path) -> list[Share]:
    with plain(folder / "plain", TUNED) as tuned:
        async with (
            edge(folder / "keyless", tuned.origin, epoch_in_key=False) as keyless,
            edge(folder / "empty", tuned.origin) as empty,
            edge(folder / "full", tuned.origin) as full,
        ):
            await hits.fill_table(full, FULL.purges_in_table, hits.PREFIX_EVERY)
            sides: dict[str, Plain | Edge] = {
                "plain nginx, tuned, without Age and Cache-Status": tuned,
                "the edge's configuration with a plain cache key": keyless,
                "the edge, no purges": empty,
                f"the edge, {FULL.purges_in_table:,} purges, each tenth of a prefix": full,
            }
            for side in (keyless, empty, full):
                await asyncio.to_thread(hits.store, side.address)
            return [(name, *await asyncio.to_thread(_hit_us, side, folder)) for name, side in sides.items()]


def _hit_us(side: Plain | Edge, folder: Path) -> Share:
    used_us: list[float] = []
    shares = _by_perf(children(side.master), lambda seconds: hits.load(side, seconds, used_us), folder)
    kernel = sum(float(share.rstrip("%")) for share, library in shares if library.startswith("[")) / 100
    return tuple(f"{us:.1f}" for us in (used_us[0], used_us[0] * kernel, used_us[0] * (1 - kernel)))


def _by_perf(pids: Sequence[int], load: Load, folder: Path) -> list[Share]:
    samples = folder / "perf.data"
    record = ["record", "-q", "-e", "cpu-clock", "-F", str(_PER_S), "-p", ",".join(map(str, pids)), "-o", str(samples), "--", "sleep", str(SECONDS)]
    _under(load, [_tool("perf", "install linux-perf"), *record])
    told = _run([_tool("perf", ""), "report", "-q", "--stdio", "--no-children", "-i", str(samples), "--sort", "dso", "-t", ";"])
    return [tuple(field.strip() for field in line.split(";")) for line in told.splitlines() if line.count(";") == 1]


def _by_pyspy(pid: int, load: Load, folder: Path) -> list[Share]:
    stacks = folder / "stacks"
    tool = _tool("py-spy", "make .venv/.bench")
    _under(load, [tool, "record", "-p", str(pid), "-d", str(SECONDS), "-r", str(_PER_S), "-f", "raw", "--gil", "--function", "-o", str(stacks)])
    own, below = Counter[str](), Counter[str]()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = _inner(stack)
        own[frames[-1]] += int(count)
        below.update(dict.fromkeys(frames, int(count)))
    total = own.total()
    return [(f"{own[name] / total:.1%}", f"{count / total:.1%}", name) for name, count in below.most_common(_ROWS)]


def _inner(stack: str) -> list[str]:
    """The frames below the loop and below a thread's beginning, which all have in common."""
    frames = stack.split(";")
    begin = max((number for number, frame in enumerate(frames) if frame.startswith(_OUTER)), default=-1)
    return frames[begin + 1 :] or frames[-1:]


def _under(load: Load, command: Sequence[str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(load, SECONDS + _SPARE_S)
        _run(command)
        loaded.result()


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(
            f"{Path(command[0]).name} failed: {done.stderr.strip()[-500:]}\nhint: it may need root, or kernel.perf_event_paranoid below 2"
        )
    return done.stdout


def _tool(name: str, hint: str) -> str:
    own = Path(sys.executable).with_name(name)
    found = str(own) if own.exists() else shutil.which(name)
    if not found:
        raise NotMeasured(f"{name} is not installed\nhint: {hint}")
    return found


def _table(head: Share, rows: Sequence[Share]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    yield from (f"| {' | '.join(field.replace('|', '/').replace('<', '‹').replace('>', '›') for field in row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
