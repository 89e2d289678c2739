"""The command line. Nothing heavy is imported before a command needs it, so that ``agezero --help`` is quick."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from agezero import __version__
from agezero.cli import audit, caches, completion, edges, keys, purges, service, webhooks
from agezero.cli.application import Application
from agezero.cli.output import CommandFailed, Exit, error
from agezero.cli.top import command as top
from agezero.cli.watch import command as watch
from agezero.errors import UserError

application = Application(
    """AgeZero: cache purging that proves itself.

    Examples:
        agezero demo
        agezero up --origin http://127.0.0.1:3000
        agezero purge --wait https://cdn.example.com/photos/cat.jpg
        agezero COMMAND --help
    """
)
application.command()(service.up)
application.command()(service.demo)
application.command()(purges.purge)
application.command()(purges.status)
application.command()(watch.watch)
application.command()(top.top)
application.command()(caches.edge_config)
application.command()(caches.doctor)
application.command()(audit.audit)
application.command()(completion.completion)
application.add_typer(edges.application, name="edges")
application.add_typer(keys.application, name="keys")
application.add_typer(webhooks.application, name="webhooks")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"agezero {__version__}")
        raise typer.Exit


@application.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,  # noqa: ARG001
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """The entry point."""
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # said before; else Python says it again at its end, with an exit code of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. No traceback gets out, unless AGEZERO_DEBUG asks for it."""
    completion.prepare()
    try:
        return int(application(list(arguments), prog_name="agezero", standalone_mode=False) or Exit.OK)
    except UserError as failure:
        error(failure.message, failure.hint)
        return failure.code if isinstance(failure, CommandFailed) else Exit.FAILED
    except TyperException as usage:
        context = getattr(usage, "ctx", None)
        error(usage.format_message(), f"`{context.command_path if context else 'agezero'} --help` shows how it is used")
        return Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Exception as bug:
        return _report(bug)


def _report(bug: Exception) -> int:
    if os.environ.get("AGEZERO_DEBUG"):
        traceback.print_exception(bug)
    error(f"this is a bug in agezero: {type(bug).__name__}: {bug}", "run it again with AGEZERO_DEBUG=1 for the details, and report them")
    return Exit.BUG
