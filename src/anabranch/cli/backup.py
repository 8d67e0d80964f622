"""ana backup: a copy of a repository that is in use."""

from pathlib import Path

import click

from anabranch.cli import completion
from anabranch.cli.context import Where, find
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import show, show_json
from anabranch.cli.progress import progress
from anabranch.daemon import lock as locks
from anabranch.daemon import mounts
from anabranch.daemon.client import PATIENCE
from anabranch.errors import DamagedError, UsageError
from anabranch.report_store import backed_up_json, backed_up_text
from anabranch.transfer.backup import BackedUp, Backup, make_place


@click.command(name="backup")
@click.argument("place", metavar="DEST", shell_complete=completion.files)
@repository_option
@json_option
def back_up(place: str, repository: Path | None, as_json: bool) -> None:
    """Make the folder DEST a copy of the repository as it is now, uncommitted changes included.

    The copy is a repository itself: -R DEST works on it. A second run copies only what is new. Programs may go on
    writing meanwhile; the copy is of one instant. What was changed in DEST and not committed there is given up.

    \b
    Example: ana backup -R /data/repo /disk/repo
    Exit code 4: something in the repository is damaged; it is named, and the rest is copied.
    """
    where = find(repository, None)
    done = _back_up(where, mounts.absolute(Path(place)).resolve())
    show_json(backed_up_json(done)) if as_json else show(backed_up_text(done))
    if done.damaged:
        raise DamagedError(f"{where.path} is damaged; what is intact was copied")


def _back_up(where: Where, place: Path) -> BackedUp:
    if mounts.around(place) is not None:
        raise UsageError(f"{place} is in a mounted repository", hint="choose a folder on another disk")
    with where.reading() as source:
        layout = make_place(source.layout, place)
        with locks.acquire(layout, patience=PATIENCE):
            backup = Backup(source, layout)
            with progress("copying", backup.size()) as bar:
                with where.service() as service, service.pinned() as go_on:
                    backup.take_snapshot(go_on, bar.advance)
                return backup.finish(bar.advance)
