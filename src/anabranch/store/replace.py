"""Putting another file in the place of an environment's, and making one smaller so; readers may come and go meanwhile.

LMDB keeps the number of the last transaction in the lock file beside an environment, for as long as any process has it
open. A new file with the old one's lock file would be read at a state that it never had, so the old lock file goes with
it. For the moment in which the two are not of one piece, nobody may open the environment: who opens it holds the gate
(flock(2) on the folder) shared, who replaces it holds it alone. A reader that came before keeps the old file and the
old lock file, and ends with them. The writer must have closed it; the repository's lock keeps others away.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from anabranch.store.layout import sync_directory

WASTE_MIN = 1024 * 1024
"""Free bytes below which a file is not worth making smaller."""


@contextmanager
def gate(directory: Path, *, alone: bool) -> Iterator[None]:
    """Held while an environment in the directory is being opened; `alone` while one is being replaced."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, new: Path) -> None:
    """Put a closed environment in the place of another. A crash leaves the old one or the new one."""
    with gate(path.parent, alone=True):
        for file in (path, new):
            lock_file(file).unlink(missing_ok=True)
        new.rename(path)
        sync_directory(path.parent)


def compact(path: Path) -> None:
    """Copy what a closed environment holds into a file without free pages, and put that in its place.

    When there is no room for the copy, everything stays as it is.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        with lmdb.open(str(path), subdir=False, readonly=True) as environment:
            environment.copy(str(new), compact=True)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        replace(path, new)
    except (lmdb.Error, OSError):
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def free_bytes(environment: lmdb.Environment, tables: list[lmdb._Database]) -> int:
    """How much of an open environment's file holds nothing, and only waits to be written again."""
    with environment.begin() as transaction:
        stats = [environment.stat(), *(transaction.stat(table) for table in tables)]
    used = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
    meta_pages = 2
    return int((environment.info()["last_pgno"] + 1 - meta_pages - used) * stats[0]["psize"])


def lock_file(path: Path) -> Path:
    """LMDB's lock file beside an environment."""
    return path.with_name(f"{path.name}-lock")
