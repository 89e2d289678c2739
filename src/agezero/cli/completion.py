"""``agezero completion``: what makes a shell complete commands, options and their values."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from agezero.cli.output import data

VARIABLE = "_AGEZERO_COMPLETE"
"""Set by a shell that asks what could come next; the answer is the parser's own."""

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print a script with which a shell completes agezero's commands.

    Examples:
        source <(agezero completion bash)                                                # now, in bash
        agezero completion bash > ~/.local/share/bash-completion/completions/agezero     # always
        agezero completion zsh > "${fpath[1]}/_agezero"
        agezero completion fish > ~/.config/fish/completions/agezero.fish
    """
    from typer._completion_shared import get_completion_script

    data(get_completion_script(prog_name="agezero", complete_var=VARIABLE, shell=shell))


def prepare() -> None:
    """Let the parser answer a shell, if it is one that asks."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
