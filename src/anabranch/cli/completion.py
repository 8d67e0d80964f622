"""What the shell is told when somebody presses Tab: names of branches, tags, versions, settings. Never an error.

The options name these functions, so every call of `ana` imports this module: what they need is imported in them.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from anabranch.errors import AnabranchError
from anabranch.ids import ref_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
    from click.shell_completion import CompletionItem

    from anabranch.repo import Repository

_NEWEST = 20
"""Versions of a branch that are offered after its `@`."""


def branches(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Branches."""
    return _matching(context, incomplete, tags=False)


def revisions(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Branches and tags; after the `@` of a branch, its newest versions."""
    name, at, _rest = incomplete.partition("@")
    if not at:
        return _matching(context, incomplete, tags=False) + _matching(context, incomplete, tags=True)
    return [text for text in _versions(context, name) if text.startswith(incomplete)]


def settings(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Keys of settings."""
    from anabranch.settings import KEYS

    return [key for key in KEYS if key.startswith(incomplete)]


def setting_values(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Branches, where the setting is one; on and off, where it is that."""
    from anabranch.settings import DEFAULT_BRANCH, OFF, ON, XATTR

    if context.params.get("key") == XATTR.name:
        return [value for value in (ON, OFF) if value.startswith(incomplete)]
    return branches(context, parameter, incomplete) if context.params.get("key") == DEFAULT_BRANCH.name else []


def files(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, by the shell itself."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def revisions_and_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Either."""
    from click.shell_completion import CompletionItem

    return [*map(CompletionItem, revisions(context, parameter, incomplete)), *files(context, parameter, incomplete)]


def _matching(context: click.Context, incomplete: str, *, tags: bool) -> list[str]:
    return _asked(
        context, lambda history: [ref.name for ref in history.refs.all(tags=tags) if ref.name.startswith(incomplete)]
    )


def _versions(context: click.Context, name: str) -> list[str]:
    def newest(history: Repository) -> list[str]:
        return [f"{name}@head", *(str(version) for version in islice(history.log(ref_name(name)), _NEWEST))]

    return _asked(context, newest)


def _asked(context: click.Context, question: Callable[[Repository], list[str]]) -> list[str]:
    from anabranch.cli.context import find

    try:
        with context, find(context.params.get("repository"), None).reading() as history:
            return question(history)
    except (AnabranchError, OSError):
        return []
