"""Open LMDB files, one a file and process: LMDB allows no second opening of a file in one process.

Whoever opens a file that this process has open already shares it, readers and the one writer alike. A file that was
opened for reading is opened anew for the writer, and so is one that LMDB has given up because it could not write its
root; the transactions of others are short, and are waited for. Nothing survives fork.

Lock order: an environment's own lock (env.py), `_lock` here, a handle's `_idle`.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from anabranch.errors import DamagedError, RefusedError
from anabranch.store import private
from anabranch.store.replace import lock_file

MAX_TABLES = 32
"""In a file."""
_READERS = 1022
_PATIENCE = 10.0
"""Seconds that a writer waits for this process's readers."""
_MEND_WITHIN = 0.1
"""Seconds that transactions have to end of a file that LMDB has given up."""

_open: dict[tuple[int, int], "Handle"] = {}
"""By device and inode."""
_lock = threading.RLock()
_forked = False
"""Whether this process may have inherited open files, which LMDB does not let it open again."""


class Handle:
    """One open file. `environment` and `tables` are to be used inside `using` only: the file may be opened anew."""

    def __init__(self, path: Path, map_size: int, *, writable: bool) -> None:
        self.path = path
        self._map_size = map_size
        self._idle = threading.Condition()
        self._active = 0
        self._ready = True
        """False once it was closed, and could not be opened anew."""
        self._patient = True
        """False once somebody has waited in vain for all transactions to end, until they have."""
        self.users = 0
        self.tables: dict[str, lmdb._Database] = {}
        self._open(writable=writable)
        place = path.stat()
        self.identity = place.st_dev, place.st_ino

    def _open(self, *, writable: bool) -> None:
        """LMDB would make both files with modes that the umask has a say in."""
        if writable:
            private.make_file(self.path)
        with contextlib.suppress(OSError):  # a disk that is read-only: LMDB reads without a lock there
            private.make_file(lock_file(self.path))
        self.environment = lmdb.open(
            str(self.path), map_size=self._map_size, subdir=False, max_dbs=MAX_TABLES, max_readers=_READERS,
            readonly=not writable,
        )  # fmt: skip
        self.writable = writable

    def open_tables(self, names: Sequence[str], *, create: bool) -> None:
        """Open tables, or with `create` make them. Never twice: LMDB waits for the writer then, and Python with it."""
        with _lock:
            for name in names:
                if name not in self.tables:
                    self.tables[name] = self.environment.open_db(name.encode(), create=create)

    def _open_anew(self, *, writable: bool) -> None:
        self._open(writable=writable)
        self.tables.update({name: self.environment.open_db(name.encode(), create=False) for name in self.tables})

    def make_writable(self) -> None:
        """Open the file anew, for the writer, where `_lock` is held. Raises RefusedError when a reader does not end."""
        with self._idle:
            if self.writable:
                return
            if not self._idle.wait_for(lambda: not self._active, _PATIENCE):
                raise RefusedError(f"{self.path} is still being read in this process", hint="end what reads it first")
            self.environment.close()
            try:
                self._open_anew(writable=True)
            except lmdb.Error:
                self._open_anew(writable=False)
                raise

    def _renew(self, broken: lmdb.Environment) -> None:
        """Open the file anew. Raises OSError(EIO) when a transaction does not end, DamagedError when the file has been
        replaced, lmdb.Error.
        """
        with _lock, self._idle:
            if self._ready and self.environment is not broken:  # another thread was quicker
                return
            if not self._idle.wait_for(lambda: not self._active, _MEND_WITHIN if self._patient else 0):
                self._patient = False
                raise OSError(errno.EIO, f"{self.path} could not be written, and is still being read")
            if _identity(self.path) != self.identity:
                raise DamagedError(f"{self.path} is not the file that was opened")
            self._ready = False
            self.environment.close()
            self._open_anew(writable=self.writable)
            self._ready = True

    @contextmanager
    def begin(self, *, write: bool) -> Iterator[lmdb.Transaction]:
        """A transaction: committed at the end, dropped on an exception. What one reads are memoryviews of the file.

        Once LMDB could not write the root of a file, it begins none, to read neither: then the file is opened anew.
        """
        while True:
            environment, transaction = self._enter(), None
            try:
                if self._ready:
                    transaction = environment.begin(write=write, buffers=True)
                    with transaction:
                        yield transaction
                    return
            except lmdb.PanicError:
                if transaction is not None:
                    raise
            finally:
                self._leave()
            self._renew(environment)

    @contextmanager
    def using(self) -> Iterator[lmdb.Environment]:
        """The open file, which stays open inside."""
        environment = self._enter()
        try:
            yield environment
        finally:
            self._leave()

    def _enter(self) -> lmdb.Environment:
        with self._idle:
            self._active += 1
            return self.environment

    def _leave(self) -> None:
        with self._idle:
            self._active -= 1
            if not self._active:
                self._patient = True
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
        else:
            if writable:
                handle.make_writable()
            with handle.begin(write=False):  # if LMDB has given it up, it is opened anew
                pass
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
