"""Varnish with agezero.vcl beside the same Varnish without it, and the driver beside a raw client of the same socket.

Three raw clients: one that sends what the driver sends (thirty-two URLs in a command), one that sends a command for each URL, and one that sends
the stock PURGE of every handbook. All write ahead, on as many connections as the driver has, and only count the ends of the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.edges.position import PositionFile
from agezero.edges.varnish import names
from agezero.edges.varnish.driver import VarnishDriver
from agezero.edges.varnish.vcl import URLS_MAX, vcl
from agezero.ports import Lease
from bench import wrk
from bench.edges import plain
from bench.harness import Figure, NotMeasured, Scale, Tick, at_least, at_most, beside, free_address, in_turn, percentile, process, wait_until

CONNECTIONS = 4
BATCH = 1000
WINDOW = 2
AHEAD = 32
ORIGIN_S = 0.2
UNRELATED_PER_S = 200
_LEASE_S = 3600.0
_OBJECT = "/photos/2026/summer/cat.jpg"
_STOCK = """
sub vcl_recv { if (req.method == "PURGE") { return (purge); } }
"""


@dataclass(slots=True)
class Varnish:
    """A running one. ``driver`` None: without agezero.vcl."""

    address: str
    control: Path
    driver: VarnishDriver | None
    seq: int = 0

    async def apply(self, selectors: Sequence[Selector]) -> None:
        """As an agent would: in batches, two at a time."""
        assert self.driver is not None
        batches = [selectors[begin : begin + BATCH] for begin in range(0, len(selectors), BATCH)]
        for begin in range(0, len(batches), WINDOW):
            await asyncio.gather(*(self.driver.apply([Purge(1, one) for one in batch]) for batch in batches[begin : begin + WINDOW]))


@contextmanager
def _program(folder: Path, origin: str, *, ours: bool) -> Iterator[tuple[str, Path]]:
    folder.mkdir(parents=True)
    program = shutil.which("varnishd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise NotMeasured("varnishd is not installed\nhint: install varnish and varnish-modules (Debian); .ci/run does so")
    work, address = Path(tempfile.mkdtemp(prefix="agezero-bench-")), free_address()
    control, (host, _, port) = work / "agezero.sock", origin.partition(":")
    (work / "agezero.vcl").write_text(vcl() if ours else "vcl 4.1;\n" + _STOCK)
    (work / "main.vcl").write_text(f'vcl 4.1;\nbackend default {{ .host = "{host}"; .port = "{port}"; }}\ninclude "{work}/agezero.vcl";\n')
    command: list[str | Path] = [program, "-F", "-n", work / "n", "-a", f"front={address}", "-a", f"agezero={control},mode=0600"]
    command += ["-f", work / "main.vcl", "-s", "malloc,512m", "-j", "none"]
    try:
        with process(command, folder / "output.log") as child:
            wait_until(lambda: _listens(control), child, folder / "output.log")
            yield address, control
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _listens(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(5)
        connection.connect(str(control))
        connection.sendall(b"PURGE / HTTP/1.1\r\nHost: agezero\r\n\r\n")
        return connection.recv(9).startswith(b"HTTP/1.1")
    return False


@asynccontextmanager
async def varnish(folder: Path, origin: str) -> AsyncIterator[Varnish]:
    """With agezero.vcl, leased."""
    with _program(folder, origin, ours=True) as (address, control), closing(PositionFile(folder / "position.json")) as state:
        driver = VarnishDriver(control, state, connections=CONNECTIONS)
        driver.take_over(1)
        await driver.restore(await driver.probe())
        await driver.install(Lease(1, time.monotonic(), _LEASE_S))
        try:
            yield Varnish(address, control, driver)
        finally:
            await driver.aclose()


def parts(scale: Scale) -> int:
    return 6 * scale.rounds + 4


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    return asyncio.run(_measure(scale, folder, tick))


async def _measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    figures: list[Figure] = []
    with plain(folder / "origin") as peer, _program(folder / "bare", peer.origin, ours=False) as (bare, bare_control):
        async with varnish(folder / "ours", peer.origin) as ours:
            figures += await _hits(scale, ours, bare, tick)
            figures += await _purges(scale, ours, bare_control, tick)
            figures.append(await _one(scale, ours))
            tick()
            figures += await _prefixes(scale, ours)
            tick()
    figures.append(await _kept(scale, folder / "slow"))
    tick()
    return figures


# Hits


async def _hits(scale: Scale, ours: Varnish, bare: str, tick: Tick) -> list[Figure]:
    for address in (ours.address, bare):
        await asyncio.to_thread(_store, address, _OBJECT)
    sides = {name: partial(wrk.load, f"http://{address}{_OBJECT}", 32, scale.seconds) for name, address in (("ours", ours.address), ("bare", bare))}
    samples = await asyncio.to_thread(in_turn, sides, scale.rounds, tick)
    return [beside("Varnish hits/s", samples, "ours", "bare", "the same Varnish without agezero.vcl", at_least(0.85))]


def _store(address: str, path: str) -> None:
    with closing(http.client.HTTPConnection(address)) as connection:
        for _ in range(2):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
    if len(answer.headers["X-Varnish"].split()) != 2:
        raise NotMeasured(f"{path} should be a hit at {address}")


# Purges per second


async def _purges(scale: Scale, ours: Varnish, bare_control: Path, tick: Tick) -> list[Figure]:
    assert ours.driver is not None
    count = max(BATCH, 10 * scale.purges_timed)
    boot = await ours.driver.probe()
    urls = [f"{ours.address}/albums/{number}.jpg" for number in range(count)]
    selectors = [Selector(Kind.URL, url) for url in urls]
    loop = asyncio.get_running_loop()

    def driven() -> float:
        began_s = time.perf_counter()
        asyncio.run_coroutine_threadsafe(ours.apply(selectors), loop).result()
        return count / (time.perf_counter() - began_s)

    sides: dict[str, Callable[[], float]] = {
        "driver": driven,
        "raw": partial(_raw, ours.control, _commands(urls, boot, URLS_MAX), count),
        "raw, one a command": partial(_raw, ours.control, _commands(urls, boot, 1), count),
        "stock PURGE": partial(_raw, bare_control, [f"PURGE /albums/{n}.jpg HTTP/1.1\r\nHost: {ours.address}\r\n\r\n" for n in range(count)], count),
    }
    samples = await asyncio.to_thread(in_turn, sides, scale.rounds, tick)
    rate = statistics.median(samples["driver"])
    return [
        beside("URL purges/s into Varnish", samples, "driver", "raw", "a raw client that sends the same commands"),
        beside(
            "URL purges/s into Varnish", samples, "driver", "raw, one a command", "a raw client that sends a command for each", at_least(0.6, 0.8)
        ),
        beside("URL purges/s into Varnish", samples, "driver", "stock PURGE", "a raw client of stock PURGEs"),
        Figure("URL purges/s into Varnish", rate, "/s", "", at_least(8000, 15_000), "", {"driver": samples["driver"]}),
    ]


def _commands(urls: Sequence[str], boot: str, most: int) -> list[str]:
    made = []
    for begin in range(0, len(urls), most):
        pairs = [names.url_names(url) for url in urls[begin : begin + most]]
        counters = "".join(f"AgeZero-{number}: {counter}\r\n" for number, (_, counter) in enumerate(pairs, 1))
        head = f"AGEZERO /urls HTTP/1.1\r\nHost: agezero\r\nAgeZero-Token: 1\r\nAgeZero-Boot: {boot}\r\n"
        made.append(f"{head}AgeZero-Keys: {' '.join(key for key, _ in pairs)}\r\n{counters}\r\n")
    return made


def _raw(control: Path, requests: Sequence[str], purges: int) -> float:
    threads = [threading.Thread(target=_write_ahead, args=(control, requests[number::CONNECTIONS])) for number in range(CONNECTIONS)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return purges / (time.perf_counter() - began_s)


def _write_ahead(control: Path, requests: Sequence[str]) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        for begin in range(0, len(requests), AHEAD):
            part = requests[begin : begin + AHEAD]
            connection.sendall("".join(part).encode())
            ends = 0
            while ends < len(part):
                ends += connection.recv(262_144).count(b"HTTP/1.1 200")


# One purge


async def _one(scale: Scale, ours: Varnish) -> Figure:
    assert ours.driver is not None
    boot, took_ms, raw_ms = await ours.driver.probe(), list[float](), list[float]()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(ours.control))
        for number in range(scale.purges_timed):
            url = f"{ours.address}/one/{number}.jpg"
            took_ms.append(await _timed_ms(ours.driver.apply([Purge(1, Selector(Kind.URL, url))])))
            began_s = time.perf_counter()
            connection.sendall(_commands([url], boot, 1)[0].encode())
            connection.recv(65536)
            raw_ms.append((time.perf_counter() - began_s) * 1000)
    over_ms = percentile(took_ms, 0.5) - percentile(raw_ms, 0.5)
    detail = f"driver {percentile(took_ms, 0.5):.2f} ms, raw {percentile(raw_ms, 0.5):.2f} ms"
    return Figure(
        "one purge confirmed by Varnish, p50", over_ms, "ms more", "the raw command", at_most(3), detail, {"driver": took_ms, "raw": raw_ms}
    )


async def _timed_ms(work: object) -> float:
    began_s = time.perf_counter()
    await work  # type: ignore[misc]
    return (time.perf_counter() - began_s) * 1000


# Prefixes


async def _prefixes(scale: Scale, ours: Varnish) -> list[Figure]:
    """Purges of a prefix with 1 % of the objects; then as many other prefixes as an attacker or a fool may purge, and hits beside what they were."""
    objects = 500 * scale.objects
    await asyncio.to_thread(_fill, ours.address, objects)
    took_ms = []
    for number in range(20):
        prefix = Selector(Kind.PREFIX, f"{ours.address}/p/{number}/")
        took_ms.append(await _timed_ms(ours.apply([prefix])))
        if await asyncio.to_thread(_is_hit, ours.address, f"/p/{number}/{number}"):
            raise NotMeasured(f"{prefix} was not purged")
    await asyncio.to_thread(_store, ours.address, _OBJECT)
    load = partial(wrk.load, f"http://{ours.address}{_OBJECT}", 32, scale.seconds)
    before = [await asyncio.to_thread(load) for _ in range(scale.rounds)]
    began_s, flood = time.perf_counter(), [Selector(Kind.PREFIX, f"{ours.address}/flood/{number}/") for number in range(scale.purges_in_table)]
    await ours.apply(flood)
    took_s = time.perf_counter() - began_s
    await asyncio.to_thread(_store, ours.address, _OBJECT)
    after = [await asyncio.to_thread(load) for _ in range(scale.rounds)]
    slowed = statistics.median(after) / statistics.median(before)
    told = f"{len(flood):,} purges in {took_s:.1f} s; {statistics.median(before):,.0f} hits/s before, {statistics.median(after):,.0f} after"
    return [
        Figure(f"purge of a prefix with 1 % of {objects:,} objects in Varnish, p50", percentile(took_ms, 0.5), "ms", "", at_most(20)),
        Figure(f"Varnish hits/s after {len(flood):,} purges of prefixes", slowed, "×", "before them", at_least(0.85), told),
    ]


def _fill(address: str, objects: int) -> None:
    with closing(http.client.HTTPConnection(address)) as connection:
        for number in range(objects):
            connection.request("GET", f"/p/{number % 100}/{number}")
            connection.getresponse().read()


def _is_hit(address: str, path: str) -> bool:
    with closing(http.client.HTTPConnection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return len(answer.headers["X-Varnish"].split()) == 2


# What a slow origin's fetches come to while others are purged


async def _kept(scale: Scale, folder: Path) -> Figure:
    async with _slow_origin() as origin, varnish(folder, origin) as ours:
        done = asyncio.Event()
        purging = asyncio.create_task(_purge_on(ours, done))
        fetches = 20 * scale.objects
        kept = await asyncio.gather(*(asyncio.to_thread(_kept_one, ours.address, begin, fetches) for begin in range(4)))
        done.set()
        purged = await purging
    what = f"fetches of {ORIGIN_S * 1000:.0f} ms stored at {UNRELATED_PER_S} unrelated purges/s"
    return Figure(what, sum(kept) / fetches, "of all", "", at_least(0.95), f"{sum(kept)} of {fetches}, {purged} purges")


def _kept_one(address: str, begin: int, fetches: int) -> int:
    """Ask for each path twice; count those of which the second is a hit."""
    kept = 0
    with closing(http.client.HTTPConnection(address)) as connection:
        for number in range(begin, fetches, 4):
            for _ in range(2):
                connection.request("GET", f"/slow/{number}")
                answer = connection.getresponse()
                answer.read()
            kept += len(answer.headers["X-Varnish"].split()) == 2
    return kept


async def _purge_on(ours: Varnish, done: asyncio.Event) -> int:
    began_s, purged = time.monotonic(), 0
    while not done.is_set():
        due = int((time.monotonic() - began_s) * UNRELATED_PER_S)
        await ours.apply([Selector(Kind.URL, f"{ours.address}/slow/other/{number}") for number in range(purged, due)])
        purged = max(purged, due)
        await asyncio.sleep(1 / UNRELATED_PER_S)
    return purged


@asynccontextmanager
async def _slow_origin() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /slow"):
                await asyncio.sleep(ORIGIN_S)
                writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 2\r\n\r\nok")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
