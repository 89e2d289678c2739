"""``agezero purge`` and ``agezero status``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.options import DEFAULT_URL, Json, PrivateKey, ServiceUrl, Timeout, required_key
from agezero.cli.output import CommandFailed, Exit, data, json_lines, note, painted, warning

if TYPE_CHECKING:
    from agezero.cli.client import Client
    from agezero.cli.progress import Display
    from agezero.cli.targets import Target
    from agezero.wire import Accepted, PurgeDetail

Wait = Annotated[bool, typer.Option("--wait", help="Return once it is proven that nothing stored before is served any more.")]
Several = list[str] | None


def purge(  # noqa: PLR0913, PLR0917 (each is a flag)
    urls: Annotated[Several, typer.Argument(metavar="URL", help="What to purge; a * at the end purges all that begins so.")] = None,
    prefix: Annotated[Several, typer.Option(metavar="URL", help="All that begins so, without a *; repeatable.")] = None,
    tag: Annotated[Several, typer.Option(metavar="TAG", help="All that its origin gave this tag; repeatable.")] = None,
    host: Annotated[Several, typer.Option(metavar="HOST", help="All of a host; repeatable.")] = None,
    asset: Annotated[Several, typer.Option(metavar="URL", help="A file and all its transformations; repeatable.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All there is. Asks before it does so.")] = False,
    from_file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Lines with a URL, or prefix, tag, host or asset and what it names; - is stdin; repeatable."),
    ] = None,
    soft: Annotated[bool, typer.Option("--soft", help="It may be served stale while it is fetched anew, by caches that can do that.")] = False,
    reason: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, for people.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be purged, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --everything.")] = False,
    wait: Wait = False,
    timeout: Timeout = 60,
    json: Json = False,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
) -> None:
    """Purge from all caches and print the request's id.

    All that is named goes in one request, more than 1,000 in several. With --wait it is printed when it is Completed: when no cache serves
    what it stored before. What is refused keeps nothing else from being purged.

    Examples:
        agezero purge https://cdn.example.com/photos/cat.jpg
        agezero purge --wait --timeout 2m 'https://cdn.example.com/photos/2024/*' --tag release-42
        agezero purge --asset https://cdn.example.com/photos/cat.jpg --dry-run
        git diff --name-only HEAD~1 | sed 's|^|https://www.example.com/|' | agezero purge --wait --from-file -
        agezero purge --everything --yes --soft --note 'new design'
    """
    from agezero.cli import targets as named
    from agezero.cli.client import Client
    from agezero.cli.submit import Order, Submitter, refused

    deadline_s = time.monotonic() + timeout
    lists = {"urls": urls, "prefixes": prefix, "tags": tag, "hosts": host, "assets": asset}
    targets = [named.Target(kind, text) for kind, texts in lists.items() for text in texts or ()]
    targets += [target for file in from_file or () for target in named.read(file)]
    _check(targets, everything, from_file)
    if everything:
        targets.append(named.EVERYTHING)
        if not (yes or dry_run):
            _confirm()
    with Client(url, required_key(key), deadline_s) as client:
        submitter = Submitter(client, Order("soft" if soft else "hard", reason, dry_run))
        ids: list[str] = []
        for accepted in submitter.send(targets):
            ids.append(accepted.id or "")
            _tell(accepted, wait, json)
        if wait and not dry_run:
            _wait_for(client, ids, json)
    if submitter.refused:
        raise refused(submitter.refused, len(targets))


def status(  # noqa: PLR0913, PLR0917 (each is a flag)
    request_id: Annotated[str, typer.Argument(metavar="ID", help="What the purge was answered with.")],
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    wait: Wait = False,
    timeout: Timeout = 60,
    json: Json = False,
) -> None:
    """Print a purge's status: Pending or Completed.

    Examples:
        agezero status 5f2b1c9a0d4e7836a1b2c3d4
        agezero status 5f2b1c9a0d4e7836a1b2c3d4 --wait --timeout 5m
        agezero status 5f2b1c9a0d4e7836a1b2c3d4 --json | jq '.edges[] | select(.state == "pending")'
    """
    from agezero.cli.client import Client
    from agezero.cli.progress import display, told

    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        if wait:
            with display() as shown:
                client.wait(request_id, lambda detail: shown.show(*told(detail)))
        detail = client.status(request_id)
        if json:
            json_lines([detail])
        else:
            data(detail.state.capitalize())


def _check(targets: Sequence[Target], everything: bool, files: Sequence[Path] | None) -> None:
    if not targets and not everything:
        what = "nothing to purge is named" if not files else f"{', '.join(map(str, files))}: there is nothing in it"
        raise CommandFailed(Exit.FAILED if files else Exit.USAGE, what, "`agezero purge --help` shows how it is used")
    if any(0xD800 <= ord(character) <= 0xDFFF for target in targets for character in target.text):
        raise CommandFailed(Exit.USAGE, "what is to be purged is not valid UTF-8", "percent-encode other bytes, such as %E9")


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise CommandFailed(Exit.USAGE, "--everything empties every cache, and nobody is there to be asked", "add --yes if that is what you want")
    if not typer.confirm("Purge everything from every cache?", err=True):
        raise CommandFailed(Exit.FAILED, "nothing was purged")


def _tell(accepted: Accepted, wait: bool, json: bool) -> None:
    for text in accepted.warnings:
        warning(text)
    if json and not (wait and accepted.id):
        json_lines([accepted])
    elif accepted.id is None:
        for selector in accepted.selectors:
            data(f"{selector.kind} {selector.value}".rstrip())
    elif not wait:
        data(accepted.id)


def _wait_for(client: Client, ids: Sequence[str], json: bool) -> None:
    from agezero.cli.progress import display

    began_s = time.monotonic()
    with display() as shown:
        for index, purge_id in enumerate(ids):
            which = f"purge {index + 1:,} of {len(ids):,}: " if len(ids) > 1 else ""
            detail = _wait_for_one(client, ids[index:], json, shown, which)
            if json:
                json_lines([detail])
            else:
                data(f"{purge_id} Completed")
    note(f"{painted('proven', 'good')} {1000 * (time.monotonic() - began_s):.0f} ms after acceptance")


def _wait_for_one(client: Client, ids: Sequence[str], json: bool, shown: Display, which: str) -> PurgeDetail:
    """The first of ``ids``; the others are waited for afterwards."""
    from agezero.cli.progress import goes_on, told

    known: list[PurgeDetail] = []

    def seen(now: PurgeDetail) -> None:
        known[:] = [now]
        done, total, words = told(now)
        shown.show(done, total, which + words)

    try:
        return client.wait(ids[0], seen)
    except KeyboardInterrupt:
        note(goes_on(ids[0]))
        raise
    except CommandFailed as ended:
        _tell_pending(ids, known, json)
        if ended.code is not Exit.TIMEOUT:  # whose hint says so
            note(f"the purge is accepted; {goes_on(ids[0])}")
        raise


def _tell_pending(ids: Sequence[str], known: Sequence[PurgeDetail], json: bool) -> None:
    if json:
        json_lines([*known, *({"id": purge_id, "state": "pending"} for purge_id in ids[len(known) :])])
        return
    for purge_id in ids:
        data(f"{purge_id} Pending")
