"""``agezero log``: the purge log as a whole."""

from __future__ import annotations

from agezero.cli.application import Application
from agezero.cli.output import note
from agezero.cli.service import ConfigFile, DataDir, LogUrl

application = Application(no_args_is_help=True)


@application.callback()
def _log() -> None:
    """Move the purge log.

    Examples:
        agezero log migrate --data /var/lib/agezero --log nats://n1,nats://n2,nats://n3
    """


@application.command()
def migrate(log: LogUrl = None, data: DataDir = None, config: ConfigFile = None) -> None:
    """Move the log in a data directory to NATS JetStream, with all ids, keys and webhooks.

    Stop `agezero up` first; start it again with --log, or `agezero serve` and `agezero agent`.

    Examples:
        agezero log migrate --data /var/lib/agezero --log nats://n1,nats://n2,nats://n3
        agezero log migrate --config /etc/agezero.toml
    """
    import asyncio

    from agezero import logs, migrate
    from agezero.config import read_config

    logs.configure()
    moved = asyncio.run(migrate.migrate(read_config(config, {"data": data, "log.url": log})))
    note(f"moved {moved.entries} entries of the log, {moved.keys} keys, {moved.edges} edges and {moved.webhooks} webhooks; ids answer as before")
