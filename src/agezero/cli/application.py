"""What all commands have in common: examples in their help, shown as they are typed, and the order in which the help lists them.

A docstring ends in examples, one a line, below the line ``Examples:``. The tests parse each of them with the real parser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandFunctionType

if TYPE_CHECKING:
    from typer._click import Context
    from typer._click.formatting import HelpFormatter

_MARK = "\nExamples:\n"

LIFE = {
    "Begin": ("demo", "up", "serve", "agent"),
    "Purge": ("purge", "status", "watch"),
    "Look": ("top", "edges", "audit"),
    "Caches of your own": ("edge-config", "doctor"),
    "Administer": ("keys", "webhooks", "log", "completion"),
}
"""The sections of ``agezero --help``, in the order of a user's life; what is in none stands last."""


class _Exemplified:
    """Cuts the examples off the help, to print them unwrapped at its end."""

    help: str | None
    examples: Sequence[str]

    def cut_examples(self) -> None:
        text, _, below = (self.help or "").partition(_MARK)
        self.help = text.rstrip()
        self.examples = [line.strip() for line in below.splitlines() if line.strip()]

    def write_examples(self, formatter: HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"{'':{formatter.current_indent}}{line}\n" for line in self.examples))


class Command(_Exemplified, TyperCommand):
    """A command with examples."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cut_examples()

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 (a method of the library)
        """Last in the help."""
        self.write_examples(formatter)


class Group(_Exemplified, TyperGroup):
    """A group of commands with examples; the whole program is one, in sections."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cut_examples()

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002 (a method of the library)
        """Last in the help."""
        self.write_examples(formatter)

    def list_commands(self, ctx: Context) -> list[str]:
        """In the order of the help."""
        return super().list_commands(ctx) if ctx.parent else [name for _, names in self.sections() for name in names]

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """In sections, where this is the whole program."""
        if ctx.parent:
            super().format_commands(ctx, formatter)
            return
        for title, names in self.sections():
            with formatter.section(title):
                room = formatter.width - formatter.current_indent - 2 - max(map(len, self.commands))
                rows = [(name.ljust(max(map(len, self.commands))), self.commands[name].get_short_help_str(room)) for name in names]
                formatter.write_dl(rows)

    def sections(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Title and commands of each section that is not empty."""
        rest = [name for name in self.commands if not any(name in names for names in LIFE.values())]
        for title, names in (LIFE | {"More": rest}).items():
            there = [name for name in names if name in self.commands]
            if there:
                yield title, there


class Application(typer.Typer):
    """A :class:`typer.Typer` whose commands are these. ``text``: its help, where its callback has none."""

    def __init__(self, text: str | None = None, **options: Any) -> None:
        if text:
            options["help"] = text
        super().__init__(cls=Group, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """As in Typer."""
        return super().command(name, cls=Command, **options)
