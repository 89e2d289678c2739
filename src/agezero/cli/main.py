"""The command line. Nothing heavy is imported before a command needs it, so that ``agezero --help`` is quick."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from agezero import __version__
from agezero.cli import audit, caches, completion, edges, keys, log, purges, service, webhooks
from agezero.cli.application import Application
from agezero.cli.output import CommandFailed, Exit, error, unwritten
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
application.command()(service.serve)
application.command()(service.agent)
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
application.add_typer(log.application, name="log")
application.add_typer(webhooks.application, name="webhooks")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write says of a place that takes no more."""


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
    _open_streams()
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # said before; else Python says it again at its end, with an exit code of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _open_streams() -> None:
    """A stream that the shell has closed (``>&-``) is None in Python, and the next file that is opened, such as a database, gets its number.

    Nothing can be written to what takes its place, so that a lost answer is an error. Letters that stdout does not know are escaped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDONLY), mode, encoding="utf-8"))  # noqa: SIM115 (open for as long as the process)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. No traceback gets out, unless AGEZERO_DEBUG asks for it."""
    completion.prepare()
    try:
        return int(application(list(arguments), prog_name="agezero", standalone_mode=False) or Exit.OK)
    except TyperException as usage:
        context = getattr(usage, "ctx", None)
        error(usage.format_message(), f"`{context.command_path if context else 'agezero'} --help` shows how it is used")
        return Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:  # who read the output went away, as `head` does, and has nothing to be told
        return Exit.FAILED
    except Exception as failure:
        return _failed(failure, arguments)


def _failed(failure: Exception, arguments: Sequence[str]) -> int:
    told = failure if isinstance(failure, UserError) else _known(failure, arguments)
    if told is None:
        return _report(failure)
    error(told.message, told.hint)
    return told.code if isinstance(told, CommandFailed) else Exit.FAILED


def _known(bug: Exception, arguments: Sequence[str]) -> CommandFailed | None:
    """What is no bug, but can come from anywhere: an argument of other bytes than UTF-8, and output that can't be written."""
    if isinstance(bug, UnicodeEncodeError):
        wrong = [text for text in arguments if not text.isascii() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)]
        return CommandFailed(Exit.USAGE, f"the argument {os.fsencode(wrong[0])!r} is not valid UTF-8") if wrong else None
    if isinstance(bug, OSError) and bug.filename is None and (bug.errno in _FULL or sys.__stdout__ is None):
        return unwritten(bug)
    return None


def _report(bug: Exception) -> int:
    if os.environ.get("AGEZERO_DEBUG"):
        traceback.print_exception(bug)
    error(f"this is a bug in agezero: {type(bug).__name__}: {bug}", "run it again with AGEZERO_DEBUG=1 for the details, and report them")
    return Exit.BUG
