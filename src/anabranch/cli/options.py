"""The options that many commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from anabranch.cli import completion

F = TypeVar("F", bound=Callable[..., Any])


def repository_option(command: F) -> F:
    """-R, which every command has."""
    return click.option(
        "-R",
        "--repository",
        type=click.Path(path_type=Path, readable=False),
        metavar="REPO",
        help="The repository; default: where you are.",
    )(command)


def branch_option(command: F) -> F:
    """-b, of commands that work on a branch."""
    return click.option(
        "-b",
        "--branch",
        metavar="BRANCH",
        help="The branch; default: where you are.",
        shell_complete=completion.branches,
    )(command)


def json_option(command: F) -> F:
    """--json, of commands that read."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)
