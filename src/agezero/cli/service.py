"""``agezero up`` and ``agezero demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings; without it ./agezero.toml, if there is one.")]
DataDir = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Data directory. [default: ./agezero-data]")]


def up(  # noqa: PLR0913, PLR0917 (each is a flag)
    origin: Annotated[str | None, typer.Option(metavar="URL", help="Where the edge fetches from, such as http://127.0.0.1:3000.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(metavar="URL", help="What may be purged; repeatable. [default: the edge's URL]")] = None,
    api: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the purge API listens. [default: 127.0.0.1:8080]")] = None,
    edge: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the edge listens. [default: 127.0.0.1:8081]")] = None,
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
    from agezero import app, logs
    from agezero.config import read_config

    flags = {"edge.origin": origin, "endpoints": tuple(endpoint or ()), "api.listen": api, "edge.listen": edge, "data": data}
    logs.configure()
    app.run(read_config(config, flags))


def demo(keep: Annotated[bool, typer.Option("--keep", help="Leave it running, to try it yourself.")] = False) -> None:
    """Watch a purge being proven on a real cache.

    Examples:
        agezero demo
        agezero demo --keep
    """
    from agezero.demo.run import run

    run(keep)
