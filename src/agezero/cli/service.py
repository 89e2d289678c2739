"""``agezero up``, ``serve``, ``agent`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings; without it ./agezero.toml, if there is one.")]
LogUrl = Annotated[str | None, typer.Option("--log", metavar="URL", help="NATS servers that keep the log: nats://HOST:PORT,…")]
Endpoints = Annotated[list[str] | None, typer.Option("--endpoint", metavar="URL", help="What may be purged; repeatable.")]
DataDir = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Data directory. [default: ./agezero-data]")]


def up(  # noqa: PLR0913, PLR0917 (each is a flag)
    origin: Annotated[str | None, typer.Option(metavar="URL", help="Where the edge fetches from, such as http://127.0.0.1:3000.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(metavar="URL", help="What may be purged; repeatable. [default: the edge's URL]")] = None,
    api: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the purge API listens. [default: 127.0.0.1:8080]")] = None,
    edge: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the edge listens. [default: 127.0.0.1:8081]")] = None,
    log: LogUrl = None,
    data: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the purge service and a caching edge.

    The edge stands in front of the site that --origin names. Ctrl-C ends all of it.

    Examples:
        agezero up --origin http://127.0.0.1:3000
        agezero up --origin https://origin.example.com --endpoint https://www.example.com --edge 0.0.0.0:8081
        agezero up --config /etc/agezero.toml
    """
    from agezero import logs
    from agezero.config import read_config

    flags = {"edge.origin": origin, "endpoints": tuple(endpoint or ()), "api.listen": api, "edge.listen": edge, "data": data, "log.url": log}
    logs.configure()
    settings = read_config(config, flags)
    if settings.log.url:  # loaded only where it is needed
        from agezero import app_fleet

        app_fleet.up(settings)
    else:
        from agezero import app

        app.run(settings)


def serve(  # noqa: PLR0913, PLR0917 - one for each flag
    endpoint: Endpoints = None,
    api: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the purge API listens. [default: 127.0.0.1:8080]")] = None,
    log: LogUrl = None,
    data: DataDir = None,
    config: ConfigFile = None,
    new_fleet: Annotated[bool, typer.Option("--new-fleet", help="There never was an edge: don't wait for leases of before.")] = False,
) -> None:
    """Run a control node: the purge API without an edge.

    As many as you like, behind any load balancer; NATS JetStream holds what they share. Where that is new, nothing is Completed for as long as a
    lease may last (a minute): edges of before, of which nobody knows any more, may still serve. --new-fleet says that there are none.

    Examples:
        agezero serve --log nats://n1,nats://n2,nats://n3 --endpoint https://cdn.example.com --new-fleet
        agezero serve --log nats://n1,nats://n2,nats://n3 --endpoint https://cdn.example.com --api 0.0.0.0:8080
        agezero serve --config /etc/agezero.toml
    """
    from agezero import app_fleet, logs
    from agezero.config import read_config

    logs.configure()
    app_fleet.serve(read_config(config, {"endpoints": tuple(endpoint or ()), "api.listen": api, "data": data, "log.url": log}), new_fleet=new_fleet)


def agent(
    origin: Annotated[str | None, typer.Option(metavar="URL", help="Where the embedded edge fetches from; without it, [[edges]] alone.")] = None,
    edge: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the embedded edge listens. [default: 127.0.0.1:8081]")] = None,
    log: LogUrl = None,
    data: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the agents of this machine's caches.

    Purges come from NATS JetStream, proofs go to the control nodes.

    Examples:
        agezero agent --log nats://n1,nats://n2,nats://n3 --config /etc/agezero.toml
        agezero agent --log nats://n1 --origin http://127.0.0.1:3000
    """
    from agezero import app_fleet, logs
    from agezero.config import read_config

    logs.configure()
    app_fleet.agent(read_config(config, {"edge.origin": origin, "edge.listen": edge, "data": data, "log.url": log}))


def demo(keep: Annotated[bool, typer.Option("--keep", help="Leave it running, to try it yourself.")] = False) -> None:
    """Watch a purge being proven on a real cache.

    Examples:
        agezero demo
        agezero demo --keep
    """
    from agezero.demo.run import run

    run(keep)
