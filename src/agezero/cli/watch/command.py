"""The command ``agezero watch``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.options import DEFAULT_URL, Json, PrivateKey, ServiceUrl, required_key
from agezero.cli.output import CommandFailed, Exit, data, json_lines, note
from agezero.cli.targets import Target
from agezero.cli.times import span

if TYPE_CHECKING:
    from agezero.cli.submit import Order
    from agezero.wire import Accepted

SHOWN = 3
CHECK_S = 5.0


def watch(  # noqa: PLR0913, PLR0917 (each is a flag)
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory that is served.")],
    prefix: Annotated[str, typer.Option(metavar="URL", help="Where it is served.")],
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave out files and directories of this name or path; repeatable. .git always is.")
    ] = None,
    queries: Annotated[bool, typer.Option("--queries", help="Purge a file also with any query, such as ?v=2.")] = False,
    purge_first: Annotated[bool, typer.Option("--purge-first", help="Begin with all of it, for what changed while nobody watched.")] = False,
    rescan: Annotated[
        float, typer.Option(metavar="TIME", parser=span, show_default=False, help="How often all files are compared. [default: 60s]")
    ] = 60,
    soft: Annotated[bool, typer.Option("--soft", help="It may be served stale while it is fetched anew, by caches that can do that.")] = False,
    reason: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, for people.")] = "",
    json: Json = False,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
) -> None:
    """Purge what changes on disk, until Ctrl-C.

    Files that are written, renamed or deleted are purged by the URL below --prefix; index.html also as its directory. What the service has not
    accepted yet is kept and sent again. Prints the id of each purge and what it is about.

    Examples:
        agezero watch ./public --prefix https://www.example.com/
        agezero watch /srv/media --prefix https://cdn.example.com/media --ignore '*.tmp' --purge-first
    """
    from agezero.cli.submit import Order
    from agezero.cli.watch.names import base_of

    base = base_of(prefix)
    if not directory.is_dir():
        raise CommandFailed(Exit.FAILED, f"there is no directory {directory}", "name the directory that is served at --prefix")
    order = Order("soft" if soft else "hard", reason)
    required_key(key)
    _check(url, key, base, order)
    _Watching(directory, base, (".git", *(ignore or ())), queries=queries, json=json).run(url, key, order, rescan, purge_first=purge_first)


class _Watching:
    def __init__(self, directory: Path, base: str, ignored: Sequence[str], *, queries: bool, json: bool) -> None:
        from agezero.cli.watch.outbox import Outbox
        from agezero.cli.watch.tree import Tree

        self._directory = directory.absolute()
        self._base = base
        self._ignored = ignored
        self._queries = queries
        self._json = json
        self._everything = Target("prefixes", base)
        self._outbox = Outbox(self._everything)
        self._tree = Tree(str(self._directory), self._skip)

    def run(self, url: str, key: str, order: Order, rescan_s: float, *, purge_first: bool) -> None:
        from agezero.cli.watch.events import looks
        from agezero.cli.watch.sender import Sender, left

        sender = Sender(self._outbox, url, key, order, self._tell)
        stop = _until_a_signal()
        self._tree.refresh()
        if purge_first:
            self._outbox.add([self._everything])
        sender.start()
        note(f"watching {len(self._tree.files):,} files in {self._directory}; what changes is purged below {self._base}")
        for paths in looks(str(self._directory), rescan_s, stop):
            self._found(paths)
            if not sender.is_alive():
                break
        self._found(("",))
        finished = sender.finish()
        if sender.bug:
            raise sender.bug
        if not finished:
            raise left(len(self._outbox), self._base)
        if sender.refused:
            raise CommandFailed(Exit.REFUSED, f"{sender.refused:,} changes were refused", "see above which ones, and why")

    def _found(self, paths: Sequence[str]) -> None:
        from agezero.cli.watch.names import targets

        changed = self._tree.look(paths)
        self._outbox.add(targets(self._base, sorted(changed), queries=self._queries))

    def _skip(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in self._ignored)

    def _tell(self, accepted: Accepted, batch: Sequence[Target]) -> None:
        if self._json:
            json_lines([accepted])
            return
        more = len(batch) - SHOWN
        names = [target.text.removeprefix(self._base) or "/" for target in batch[:SHOWN]]
        data(f"{accepted.id}  {', '.join(names)}" + (f" and {more:,} more" if more > 0 else ""))


def _check(url: str, key: str, base: str, order: Order) -> None:
    """A key or a prefix that is refused ends it at once; a service that is away may come."""
    import time

    from agezero.cli.client import Client
    from agezero.cli.output import error
    from agezero.cli.submit import Submitter

    try:
        with Client(url, key, time.monotonic() + CHECK_S) as client:
            list(Submitter(client, type(order)(order.mode, order.note, dry_run=True)).send([Target("prefixes", base)]))
    except CommandFailed as failure:
        if failure.code is not Exit.UNREACHABLE:
            raise
        error(failure.message, f"going on, it may come. {failure.hint}")


def _until_a_signal() -> threading.Event:
    """Set by Ctrl-C or SIGTERM; the second one ends the command at once."""
    stop = threading.Event()

    def told(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        note("ending; once more ends at once")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    return stop
