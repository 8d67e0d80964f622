"""The pages of docs/commands, made from what each command's --help says: python -m tests.commands.pages DIR."""

import sys
from pathlib import Path

import click

from anabranch.cli.commands import COMMANDS, Later
from anabranch.cli.main import ana

INDEX = "README.md"
_WIDTH = 78
"""Columns that click leaves to the text on a terminal of 80."""


def pages() -> dict[str, str]:
    """Every page by its name: the index, and one for each command."""
    return {INDEX: _index(), **{f"{name}.md": _page(name) for name in COMMANDS}}


def _index() -> str:
    rows = "".join(f"| [ana {name}]({name}.md) | {line} |\n" for name, (_, line) in COMMANDS.items())
    return (
        "# Commands\n\n"
        "The same as `ana --help` and `ana COMMAND --help`; `scripts/docs` makes these pages.\n"
        "What each prints for scripts is in [json.md](../json.md).\n\n"
        f"| command | what it does |\n| --- | --- |\n{rows}\n"
        "Every command works with and without a mount. The current directory says which repository and which branch\n"
        "are meant, or `-R REPO` and `-b BRANCH` do, which may stand before the command, too.\n\n"
        "| exit code | what it says |\n| --- | --- |\n"
        "| 0 | done |\n| 1 | nothing to commit, or not found |\n| 2 | wrong use |\n| 3 | conflict, or refused |\n"
        "| 4 | damaged, or an I/O error |\n| 130 | interrupted by Ctrl-C |\n"
    )


def _page(name: str) -> str:
    return f"# ana {name}\n\n```text\n{help_of(name)}\n```\n\n[All commands]({INDEX})\n"


def help_of(name: str) -> str:
    """What a command's --help says on a terminal of 80 columns."""
    above = click.Context(ana, info_name="ana", terminal_width=_WIDTH, **ana.context_settings)
    command = Later(name).load()
    return command.get_help(click.Context(command, info_name=name, parent=above))


if __name__ == "__main__":
    for page, text in pages().items():
        Path(sys.argv[1], page).write_text(text)
