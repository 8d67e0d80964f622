"""Putting another file in the place of an environment's, and making one smaller so; readers may come and go meanwhile.

LMDB keeps the number of the last transaction in the lock file beside an environment, for as long as any process has it
open. A new file with the old one's lock file would be read at a state that it never had, so the old lock file goes with
it: it is set aside, the new file takes the old one's place, and then it is deleted. For that moment nobody may open the
environment: who opens it holds the gate (flock(2) on the file) shared, who replaces it holds it alone; after a crash in
between, who opens it next puts the lock file back, or deletes it. A reader that came before keeps the old file and its
lock file until it looks again (env.py). The writer must have closed the environment; the repository's lock keeps other
writers away.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from anabranch.store import private
from anabranch.store.layout import sync_directory

WASTE_MIN = 1024 * 1024
"""Free bytes below which a file is not worth making smaller."""


@contextmanager
def gate(path: Path, *, alone: bool) -> Iterator[None]:
    """Held while an environment that is there is being opened; `alone` while it is being replaced."""
    descriptor = _locked(path, alone=alone)
    try:
        _mend(path)
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, *, alone: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)  # it was replaced while we waited


def _mend(path: Path) -> None:
    """After a crash: the lock file that was set aside belongs to the old file, and with it back or away."""
    aside = _aside(path)
    with contextlib.suppress(OSError):
        if aside.exists():
            aside.rename(lock_file(path)) if new_file(path).exists() else aside.unlink()


def replace(path: Path) -> None:
    """Put the new, closed environment beside a closed one in its place. A crash leaves the old one or the new one."""
    new, lock, aside = new_file(path), lock_file(path), _aside(path)
    if not path.exists():  # so nobody can be opening it
        lock.unlink(missing_ok=True)
        private.make_file(path)
    with gate(path, alone=True):
        lock_file(new).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            lock.rename(aside)
        try:
            new.rename(path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                aside.rename(lock)
            raise
        sync_directory(path.parent)
        aside.unlink(missing_ok=True)


def compact(path: Path) -> None:
    """Copy what a closed environment holds into a file without free pages, and put that in its place.

    When there is no room for the copy, everything stays as it is.
    """
    new = new_file(path)
    try:
        with lmdb.open(str(path), subdir=False, readonly=True) as environment:
            copy = private.open_file(new, os.O_WRONLY | os.O_TRUNC)
            try:
                environment.copyfd(copy, compact=True)
                os.fsync(copy)
            finally:
                os.close(copy)
        replace(path)
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


def new_file(path: Path) -> Path:
    """What is to take an environment's place."""
    return path.with_name(f"{path.name}.new")


def remove_new(path: Path) -> None:
    """Delete what is to take an environment's place, or what a crash left of it. For the writer alone."""
    for file in (new_file(path), lock_file(new_file(path))):
        file.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}-lock.old")


def lock_file(path: Path) -> Path:
    """LMDB's lock file beside an environment."""
    return path.with_name(f"{path.name}-lock")
