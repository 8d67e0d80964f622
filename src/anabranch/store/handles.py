"""Open LMDB files, one a file and process: LMDB allows no second opening of a file in one process.

Whoever opens a file that this process has open already shares it, readers and the one writer alike. A file that was
opened for reading is opened anew for the writer; its readers' transactions are short, and are waited for. Nothing
survives fork.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from anabranch.errors import RefusedError

MAX_TABLES = 32
"""In a file."""
_READERS = 1022
_PATIENCE = 10.0
"""Seconds that a writer waits for this process's readers."""

_open: dict[tuple[int, int], "Handle"] = {}
"""By device and inode."""
_lock = threading.RLock()
_forked = False
"""Whether this process may have inherited open files, which LMDB does not let it open again."""


class Handle:
    """One open file. `environment` and `tables` are to be used inside `using` only, unless it is writable."""

    def __init__(self, path: Path, map_size: int, *, writable: bool) -> None:
        self.path = path
        self._map_size = map_size
        self._idle = threading.Condition()
        self._active = 0
        self.users = 0
        self.tables: dict[str, lmdb._Database] = {}
        self._open(writable=writable)
        place = path.stat()
        self.identity = place.st_dev, place.st_ino

    def _open(self, *, writable: bool) -> None:
        self.environment = lmdb.open(
            str(self.path), map_size=self._map_size, subdir=False, max_dbs=MAX_TABLES, max_readers=_READERS,
            readonly=not writable,
        )  # fmt: skip
        self.writable = writable

    def open_tables(self, names: Sequence[str], *, create: bool) -> None:
        """Open tables, or with `create` make them."""
        with _lock:
            for name in names:
                self.tables[name] = self.environment.open_db(name.encode(), create=create)

    def make_writable(self) -> None:
        """Open the file anew, for the writer. Raises RefusedError when a reader of this process does not end."""
        with self._idle:
            if self.writable:
                return
            if not self._idle.wait_for(lambda: not self._active, _PATIENCE):
                raise RefusedError(f"{self.path} is still being read in this process", hint="end what reads it first")
            self.environment.close()
            try:
                self._open(writable=True)
            except lmdb.Error:
                self._open(writable=False)
                raise
            finally:
                self.open_tables(list(self.tables), create=False)

    @contextmanager
    def using(self) -> Iterator[lmdb.Environment]:
        """The open file, which stays open inside."""
        if self.writable:  # for good: nothing to be waited for
            yield self.environment
            return
        with self._idle:
            self._active += 1
        try:
            yield self.environment
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    def close(self) -> bool:
        """Let go; returns whether nobody else in this process has it open, and so it is closed."""
        with _lock:
            self.users -= 1
            if self.users:
                return False
            _open.pop(self.identity, None)
            self.environment.close()
            return True


def acquire(path: Path, map_size: int, *, writable: bool) -> Handle:
    """Open a file, or share it. Raises lmdb.Error, RefusedError."""
    with _lock:
        handle = _open.get(_identity(path))
        if handle is None:
            handle = _fresh(path, map_size, writable=writable)
            _open[handle.identity] = handle
        elif writable:
            handle.make_writable()
        handle.users += 1
        return handle


def _fresh(path: Path, map_size: int, *, writable: bool) -> Handle:
    try:
        return Handle(path, map_size, writable=writable)
    except lmdb.Error as error:
        if not _forked or "already open in this process" not in str(error):
            raise
        raise RefusedError(
            f"{path} was opened before this process was forked", hint="open it in the new process only, or spawn that"
        ) from error


def _identity(path: Path) -> tuple[int, int]:
    try:
        place = path.stat()
    except OSError:
        return 0, 0
    return place.st_dev, place.st_ino


@contextmanager
def alone() -> Iterator[None]:
    """Inside, no other thread of this process opens or closes a file."""
    with _lock:
        yield


def _after_fork() -> None:
    global _lock, _forked
    _lock, _forked = threading.RLock(), True  # another thread may have held the lock
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
