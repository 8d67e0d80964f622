"""The table of the commands: what is known of each before its module is imported.

`ana --help` and Tab read it alone; a command that is called imports the one module that it lives in.
"""

from importlib import import_module
from typing import Any

import click

COMMANDS = {
    "backup": ("backup", "Make the folder DEST a copy of the repository as it is now, uncommitted changes included."),
    "blame": ("blame", "Tell which version last changed PATH, or what is in it: name, time, author, message."),
    "branch": ("names", "List the branches, or make the branch NAME at the version FROM."),
    "cat": ("history", "Write a file of a version to standard output."),
    "cherry-pick": (
        "merging",
        "Bring the one change that REV made into a branch, by a new version, with its message and author.",
    ),
    "commit": ("work", "Make a version of everything on a branch, as it is at this instant."),
    "config": ("settings", "List the settings of a repository, print the one of KEY, or set it to VALUE."),
    "diff": ("work", "Show the paths that differ, with their sizes; at PATH and below it, if given."),
    "discard": ("work", "Give up what is not committed at each PATH, new files too; without PATH: all of the branch."),
    "doctor": (
        "doctor",
        "Look for what this machine lacks, and what is wrong with the repository, and say what to type.",
    ),
    "du": ("history", "Say how much is in a directory of a version: in each thing in it, and in all."),
    "export": (
        "exporting",
        "Write what a version holds into the new directory DEST; or as a tar file, when DEST ends with .tar or is -.",
    ),
    "fsck": ("fsck", "Look for damage, and name the files and versions that it hits."),
    "import": ("importing", "Make the content of SRC the path DEST of a branch."),
    "info": ("info", "Tell how much a repository holds, and how much of that had to be stored."),
    "init": ("mounting", "Make a repository in the folder REPO."),
    "log": ("history", "List the versions of a branch, newest first."),
    "ls": ("history", "List a directory, or a file, of a version."),
    "merge": ("merging", "Bring into a branch what SRC has changed since both parted: one version with two parents."),
    "mount": ("mounting", "Mount the repository REPO at the empty directory DIR."),
    "reindex": ("mending", "Rebuild the index of the chunks (index.mdb) from the volumes."),
    "reset": ("merging", "Let BRANCH be what the version REV is."),
    "restore": (
        "work",
        "Put back what the version REV holds at each PATH: everything there becomes as it was, what was not there"
        " goes.",
    ),
    "revert": ("merging", "Change back what VERSION changed, by a new version: what came after it stays."),
    "show": ("history", "Show a version: who made it, when, why, and what it changed."),
    "status": ("work", "Show what is not committed on a branch."),
    "tag": ("names", "List the tags, or name the version REV for good."),
    "umount": ("mounting", "Unmount DIR."),
}
"""Of each command its module in this package, and the first sentence of its help."""


class Later(click.Command):
    """A command of the table; the real one takes over as soon as it is called."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:  # noqa: ANN401  (click's own)
        """The context of the real command."""
        return self.load().make_context(*arguments, **extra)

    def load(self) -> click.Command:
        """The real command."""
        assert self.name is not None
        module = import_module(f"anabranch.cli.{COMMANDS[self.name][0]}")
        found = (value for value in vars(module).values() if isinstance(value, click.Command))
        return next(command for command in found if command.name == self.name)


def all_commands() -> list[click.Command]:
    """Every command, none of them imported."""
    return [Later(name, help=line) for name, (_, line) in COMMANDS.items()]
