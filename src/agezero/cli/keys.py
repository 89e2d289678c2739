"""``agezero keys``: the private keys in a data directory, or of a fleet. A running service notices a change within two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.application import Application
from agezero.cli.options import Json
from agezero.cli.output import CommandFailed, Exit, data, json_lines, note, table
from agezero.cli.service import ConfigFile, DataDir, LogUrl
from agezero.cli.times import seconds

if TYPE_CHECKING:
    from agezero.keys import KeyRing

application = Application(
    """Make, list, roll and revoke private keys.

    Examples:
        agezero keys create deploy --expires-in 7d
        agezero keys list
        agezero keys roll 3f9c21aa --overlap 24h
    """
)
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `agezero keys list` prints it.")]


@application.command()
def create(  # noqa: PLR0913, PLR0917 (each is a flag)
    name: Annotated[str, typer.Argument(help="What it is for.")],
    permission: Annotated[str, typer.Option(metavar="WHAT", help="read: statuses; purge: also purges; admin: also edges, keys, webhooks.")] = "purge",
    read_only: Annotated[bool, typer.Option("--read-only", help="The same as --permission read.")] = False,
    endpoint: Annotated[list[str] | None, typer.Option(metavar="URL", help="It may purge only here; repeatable.")] = None,
    expires_in: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 30s, 15m, 24h or 7d.")] = None,
    data_dir: DataDir = None,
    log: LogUrl = None,
    config: ConfigFile = None,
) -> None:
    """Make a key and print it, once.

    Examples:
        agezero keys create deploy --expires-in 7d
        agezero keys create blog --endpoint https://www.example.com/blog
        agezero keys create ops --permission admin
    """
    from agezero.keys import Permission

    try:
        granted = Permission.READ if read_only else Permission(permission)
    except ValueError:
        raise CommandFailed(Exit.USAGE, f"there is no permission {permission!r}", "expected read, purge or admin") from None
    expires_at = None if expires_in is None else int(time.time() + seconds(expires_in))
    with _keys(data_dir, log, config) as keys:
        text = keys.create(name, granted, endpoint or None, expires_at)
    note(f"made a key with the permission {granted}; keep it, it is not shown again")
    data(text)


@application.command("list")
def show(data_dir: DataDir = None, log: LogUrl = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the keys.

    Columns: id, permission, state, end, name, endpoints.

    Examples:
        agezero keys list
        agezero keys list --json | jq -r 'select(.permission == "admin") | .name'
    """
    from agezero.keys import END_MAX_S

    rows: list[list[str]] = []
    with _keys(data_dir, log, config) as keys:
        for key in keys.list():
            end = None if key.expires_at is None else datetime.fromtimestamp(min(key.expires_at, END_MAX_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            state, endpoints = key.state(time.time()), key.endpoints
            if json:
                row = {"id": key.id, "permission": key.permission, "state": state, "expires_at": end, "name": key.name, "endpoints": endpoints}
                json_lines([row])
            else:
                rows.append([key.id, key.permission, state, end or "-", " ".join(key.name.split()), " ".join(endpoints or ())])
    table(("id", "permission", "state", "end", "name", "endpoints"), rows)


@application.command()
def roll(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="How long the old key is valid beside the new one: now, 1h, 24h, 3d, 7d.")] = "24h",
    data_dir: DataDir = None,
    log: LogUrl = None,
    config: ConfigFile = None,
) -> None:
    """Make a key with the same rights and print it, once; end the old one after an overlap.

    Examples:
        agezero keys roll 3f9c21aa
        agezero keys roll 3f9c21aa --overlap now
    """
    overlap_s = 0 if overlap == "now" else seconds(overlap)
    with _keys(data_dir, log, config) as keys:
        new = keys.roll(key_id, overlap_s, time.time())
    if new is None:
        raise _missing(key_id)
    note(f"made the key {new.key.id}; the key {key_id} ends {f'in {overlap}' if overlap_s else 'now'}")
    data(new.text)


@application.command()
def revoke(
    key_id: KeyId,
    after: Annotated[str, typer.Option("--in", metavar="TIME", help="Let it end later, so that clients can change over: 1h, 24h, 7d.")] = "0s",
    data_dir: DataDir = None,
    log: LogUrl = None,
    config: ConfigFile = None,
) -> None:
    """End a key, now or later.

    Examples:
        agezero keys revoke 3f9c21aa
        agezero keys revoke 3f9c21aa --in 24h
    """
    delay_s = seconds(after)
    with _keys(data_dir, log, config) as keys:
        _found(keys.expire(key_id, int(time.time() + delay_s)) if delay_s else keys.revoke(key_id, time.time()), key_id)
    note(f"the key {key_id} ends in {after}" if delay_s else f"the key {key_id} is revoked")


@application.command()
def disable(key_id: KeyId, data_dir: DataDir = None, log: LogUrl = None, config: ConfigFile = None) -> None:
    """Refuse a key until it is enabled again.

    Examples:
        agezero keys disable 3f9c21aa
    """
    with _keys(data_dir, log, config) as keys:
        _found(keys.disable(key_id), key_id)
    note(f"the key {key_id} is disabled")


@application.command()
def enable(key_id: KeyId, data_dir: DataDir = None, log: LogUrl = None, config: ConfigFile = None) -> None:
    """Accept a disabled key again.

    Examples:
        agezero keys enable 3f9c21aa
    """
    with _keys(data_dir, log, config) as keys:
        _found(keys.disable(key_id, disabled=False), key_id)
    note(f"the key {key_id} is enabled")


@contextmanager
def _keys(data_dir: str | None, log: str | None, config: Path | None) -> Iterator[KeyRing]:
    from agezero.config import read_config

    settings = read_config(config, {"data": data_dir, "log.url": log})
    if settings.log.url:
        from agezero.app_fleet import fleet_keys

        with fleet_keys(settings) as shared:
            yield shared
        return
    from agezero.database import in_words, open_database
    from agezero.keys import KeyStore

    directory = settings.data_dir
    if not directory.is_dir():
        raise CommandFailed(Exit.FAILED, f"there is no data directory {directory}", "run `agezero up` once, or name the directory with --data")
    connection = open_database(directory)
    try:
        with in_words(directory):
            yield KeyStore(connection)
    finally:
        connection.close()


def _found(changed: bool, key_id: str) -> None:
    if not changed:
        raise _missing(key_id)


def _missing(key_id: str) -> CommandFailed:
    return CommandFailed(Exit.FAILED, f"there is no key {key_id!r}", "`agezero keys list` names the keys")
