"""What comes into a repository from outside as a whole: its meta environment, and the overlay files that this names.

They are gathered in the folder `incoming`, which is renamed to `arrived` when all of it is on disk: that is the one
step before which the repository is the old one, and after which it is the new one. What has arrived is then moved to
its place, by whoever owns the repository; a crash on the way leaves the rest to the next one who opens it for writing.
Readers look at the meta environment only, which goes over in one step. docs/format.md, "Backup".
"""

import os
import shutil
from pathlib import Path

from anabranch.store import private
from anabranch.store.layout import Layout, check_shape, sync_directory
from anabranch.store.replace import lock_file, new_file, remove_new, replace


def incoming(layout: Layout) -> Layout:
    """Where what is to come is gathered, laid out as a repository."""
    return Layout(layout.incoming)


def gather(layout: Layout) -> Layout:
    """Begin with nothing. For the owner alone."""
    _clear(layout)
    empty = incoming(layout)
    for folder in (empty.path, empty.overlays, empty.journal):
        private.make_directory(folder)
    return empty


def arrive(layout: Layout) -> None:
    """Let what was gathered be the repository, durably: all of it, or with an error none. For the owner alone."""
    gathered = incoming(layout)
    lock_file(gathered.meta).unlink(missing_ok=True)
    _sync(gathered.path)
    gathered.path.rename(layout.arrived)
    sync_directory(layout.path)
    settle(layout)


def settle(layout: Layout) -> None:
    """Put in its place what has arrived, and clear away what never did. For the owner alone, with nothing open.

    The record comes last: with it, a folder is a repository.
    """
    arrived = Layout(layout.arrived)
    if arrived.path.exists():
        check_shape(arrived.path)
        _take_folder(arrived.journal, layout.journal)
        _take_folder(arrived.overlays, layout.overlays)
        if arrived.meta.exists():
            remove_new(layout.meta)
            arrived.meta.rename(new_file(layout.meta))
        if new_file(layout.meta).exists():
            replace(layout.meta)
        if arrived.record.exists():
            arrived.record.rename(layout.record)
        sync_directory(layout.path)
        arrived.path.rmdir()
    _clear(layout)


def _take_folder(source: Path, place: Path) -> None:
    if source.exists():
        shutil.rmtree(place, ignore_errors=True)
        source.rename(place)


def _clear(layout: Layout) -> None:
    if (left := incoming(layout).path).exists():
        shutil.rmtree(left)


def _sync(top: Path) -> None:
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            with Path(folder, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))
