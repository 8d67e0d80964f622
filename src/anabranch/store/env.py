"""LMDB environments with named tables.

An environment is one file. Any number of threads and processes read it, each in transactions of its own. There is one
writer: `write()` holds a lock, so one thread of this process writes at a time, and the repository's lock
(daemon/lock.py) keeps other processes from writing. A write transaction begins and ends inside one
`with env.write()` block, so it never leaves the thread that began it; others wait meanwhile, so nothing is hashed or
compressed in it, and many rows go through `put_all`, which lets others in between. One process may have several
environments of one file (handles.py). Nothing survives fork. LMDB's default durability is kept: when `write()` returns,
the transaction survives a power cut.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice, pairwise
from pathlib import Path

import lmdb

from anabranch.errors import DamagedError
from anabranch.store import handles, private
from anabranch.store.handles import Handle
from anabranch.store.replace import WASTE_MIN, compact, free_bytes, gate, remove_new

MAP_SIZE = 1 << 40
"""Address space reserved for an environment, in bytes; the file itself grows only as needed."""

BATCH_BYTES = 4 * 1024 * 1024
"""At most so many bytes of rows (or one row) in a transaction of `set_all`,"""
BATCH_SECONDS = 0.05
"""which puts for at most so long before it lets other writers in."""

_VALUE_MAX = 64 * 1024 * 1024
"""Of a row: twice the longest record."""
_NEAR = 64
"""More rows with keys than a page holds."""
_FULL = 8 * 1024 * 1024
"""Free bytes below which a failed write means a full disk."""
_DAMAGE = (
    lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.PanicError,
    lmdb.NotFoundError, lmdb.IncompatibleError,
)  # fmt: skip
"""Of these, the last two mean that a table is not there or is another one; a key that is not there raises nothing."""


class View:
    """An open transaction: all of one moment."""

    def __init__(self, environment: "Environment", transaction: lmdb.Transaction) -> None:
        self._path = environment.path
        self._tables = environment.tables
        self._transaction = transaction

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, as this transaction sees it."""
        found = self._transaction.get(key, db=self._tables[table])
        return None if found is None else self._taken(found)

    def last(self, table: str, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key starts with a prefix (which must not end in 0xff)."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            found = cursor.prev() if cursor.set_range(prefix[:-1] + bytes([prefix[-1] + 1])) else cursor.last()
            return self._row(cursor) if found and bytes(cursor.key()).startswith(prefix) else None

    def following(self, table: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The row of a key, or if there is none the next one."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            return self._row(cursor) if cursor.set_range(key) else None

    def check_order(self, table: str, key: bytes) -> None:
        """For who found nothing at a key: one that was changed in its page hides others there from who looks for them.

        Raises DamagedError.
        """
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            found = cursor.set_range(key) or cursor.last()
            for _ in range(_NEAR):
                found = found and cursor.prev()
            if not found:
                cursor.first()
            keys = [bytes(near) for near in islice(cursor.iternext(values=False), 2 * _NEAR)]
        if any(first >= second for first, second in pairwise(keys)):
            raise DamagedError(f"{self._path} is damaged: rows of {table} are not in their order")

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in key order whose keys start with a prefix."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            found = cursor.set_range(prefix) if prefix else cursor.first()
            while found:
                row = self._row(cursor)
                if not row[0].startswith(prefix):
                    return
                yield row
                found = cursor.next()

    def scan_back(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """All rows, the last one first: what lies behind a damaged page is found so."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            found = cursor.last()
            while found:
                yield self._row(cursor)
                found = cursor.prev()

    def _row(self, cursor: lmdb.Cursor) -> tuple[bytes, bytes]:
        return bytes(cursor.key()), self._taken(cursor.value())

    def _taken(self, value: bytes | memoryview) -> bytes:
        """A value as bytes of our own: nobody writes one that is longer than a record, but a file may say so."""
        if len(value) > _VALUE_MAX:
            raise DamagedError(f"{self._path} has a row of {len(value)} bytes")
        return bytes(value)

    def count(self, table: str) -> int:
        """The number of rows of a table, as the table itself says."""
        return int(self._transaction.stat(self._tables[table])["entries"])


class Batch(View):
    """An open write transaction; all of it happens or none."""

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set a key's value."""
        self._transaction.put(key, value, db=self._tables[table])

    def delete(self, table: str, key: bytes) -> None:
        """Remove a key, if it is there."""
        self._transaction.delete(key, db=self._tables[table])

    def set(self, table: str, key: bytes, value: bytes | None) -> None:
        """Set a key's value, or remove the key when it is None."""
        if value is None:
            self.delete(table, key)
        else:
            self.put(table, key, value)

    def delete_prefix(self, table: str, prefix: bytes, limit: int) -> int:
        """Remove at most `limit` rows whose keys start with a prefix; returns how many."""
        removed = 0
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            found = cursor.set_range(prefix)
            while found and removed < limit and bytes(cursor.key()).startswith(prefix):
                cursor.delete()
                removed += 1
                found = bool(cursor.key())
        return removed


class Environment:
    """One LMDB file with its tables.

    With `create`, a writable one that is not there is made, and so are tables. With `whole`, a file that lacks pages
    is refused: for tables from which nothing is ever deleted.
    """

    def __init__(
        self,
        path: Path,
        tables: Sequence[str],
        *,
        writable: bool = True,
        create: bool = True,
        whole: bool = False,
        map_size: int = MAP_SIZE,
    ) -> None:
        self.path = path
        self._writable = writable
        self._whole = whole
        self._map_size = map_size
        self._lock = threading.Lock()
        self._replaced: list[Handle] = []
        self._open(tables, create=create and writable)

    def _open(self, tables: Iterable[str], *, create: bool) -> None:
        if not create:
            _check_there(self.path)
        try:
            with gate(self.path, alone=False) if self.path.exists() else nullcontext():
                handle = handles.acquire(self.path, self._map_size, writable=self._writable)
            try:
                self._check_length(handle)
                if self._writable:
                    with handle.using() as environment:
                        environment.reader_check()  # a killed reader's slot would keep pages from being used again
                    remove_new(self.path)
                handle.open_tables(list(tables), create=create)
            except BaseException:
                handle.close()
                raise
        except _DAMAGE as error:
            raise DamagedError(f"{self.path} is not a readable LMDB file: {error}") from error
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        self._handle = handle

    @property
    def tables(self) -> dict[str, lmdb._Database]:
        """The open tables by name."""
        return self._handle.tables

    def _look_again(self) -> None:
        """For readers: when another file has taken the place of ours, go over to it.

        Ours stays open until the end, for the threads that may be reading it.
        """
        with self._lock:
            if self._is_replaced():
                self._replaced.append(self._handle)
                self._open(list(self.tables), create=False)

    def _is_replaced(self) -> bool:
        try:
            return self.path.stat().st_ino != self._handle.identity[1]
        except FileNotFoundError:
            return False

    def _check_length(self, handle: Handle) -> None:
        """To read a page beyond the file's end would kill the process (SIGBUS); to read zeros there is damage.

        A sound file may lack pages: LMDB does not write one that a transaction took at the end and then freed.
        """
        with handle.using() as environment:
            end = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if self.path.stat().st_size >= end:
            return
        if self._whole:
            raise DamagedError(f"{self.path} is cut off")
        _lengthen(self.path, end)

    def close(self) -> None:
        """Close the file; no transaction may be open.

        LMDB's file never shrinks by itself: when the writer leaves one of which most is free, it is made smaller.
        """
        wasteful = self._writable and self._is_wasteful()
        with handles.alone():
            closed = [handle.close() for handle in (self._handle, *self._replaced)]
            if wasteful and all(closed):
                compact(self.path)

    def _is_wasteful(self) -> bool:
        try:
            with self._handle.using() as environment:
                free = free_bytes(environment, list(self.tables.values()))
            return free > max(WASTE_MIN, self.path.stat().st_size // 2)
        except (lmdb.Error, OSError):  # damaged: whoever reads it will be told
            return False

    def copy(self, path: Path) -> None:
        """Write what one transaction sees into a new file, without free pages. Raises DamagedError, OSError."""
        with self.standing() as copy:
            copy(path)

    def count(self, table: str) -> int:
        """The number of rows of a table."""
        with self.view() as view:
            return view.count(table)

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of one key, in a read transaction of its own."""
        with self.view() as view:
            return view.get(table, key)

    @contextmanager
    def view(self) -> Iterator[View]:
        """A read transaction over the tables."""
        with self.reading() as transaction:
            yield View(self, transaction)

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction; values are memoryviews that die with it."""
        if not self._writable and self._is_replaced():
            self._look_again()
        try:
            with self._handle.begin(write=False) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise translate(error, self.path) from error

    @contextmanager
    def standing(self) -> Iterator[Callable[[Path], None]]:
        """Inside, what is yielded copies everything, as it was at the beginning, into a new file without free pages.

        Meanwhile the writer finds no page free that this holds: not for long.
        """
        with self.reading() as transaction, self._handle.using() as environment:

            def copy(path: Path) -> None:
                descriptor = private.open_file(path, os.O_WRONLY | os.O_TRUNC)
                try:
                    environment.copyfd(descriptor, compact=True, txn=transaction)
                except lmdb.Error as error:
                    raise translate(error, path if "No space left" in str(error) else self.path) from error
                finally:
                    os.close(descriptor)

            yield copy

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in key order whose keys start with a prefix.

        The read transaction is open while the iterator is: do not keep it.
        """
        with self.view() as view:
            yield from view.scan(table, prefix)

    def following(self, table: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The row of a key, or if there is none the next one."""
        with self.view() as view:
            return view.following(table, key)

    def last(self, table: str, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key starts with a prefix."""
        with self.view() as view:
            return view.last(table, prefix)

    @contextmanager
    def write(self) -> Iterator[Batch]:
        """The one write transaction of this process; committed at the end, dropped on an exception."""
        if not self._writable:
            raise PermissionError(errno.EACCES, f"{self.path} is open for reading only")
        with self._lock:
            try:
                with self._handle.begin(write=True) as transaction:
                    yield Batch(self, transaction)
            except lmdb.Error as error:
                raise translate(error, self.path) from error

    def put_all(
        self, table: str, rows: Sequence[tuple[bytes, bytes]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Put many finished rows into a table; see `set_all`."""
        self.set_all([(table, key, value) for key, value in rows], clock=clock)

    def set_all(
        self,
        rows: Iterable[tuple[str, bytes, bytes | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put rows, or delete those whose value is None, in the order of their keys, in as many transactions as keep
        each one short. After an error a part of them, the first by table and key, is done.
        """
        todo = sorted(rows, key=lambda row: row[:2])
        done = 0
        while done < len(todo):
            with self.write() as batch:
                end, size = clock() + BATCH_SECONDS, _size(todo[done])
                while True:
                    batch.set(*todo[done])
                    done += 1
                    if done == len(todo) or clock() >= end:
                        break
                    size += _size(todo[done])
                    if size > BATCH_BYTES:
                        break


def _lengthen(path: Path, end: int) -> None:
    """Add zeros up to a length; never cut off, as truncate(2) would what another process has added meanwhile."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, end - 1, 1)
    finally:
        os.close(descriptor)


def _size(row: tuple[str, bytes, bytes | None]) -> int:
    return len(row[1]) + len(row[2] or b"")


def _check_there(path: Path) -> None:
    """LMDB would make a file that is not there, and fill an empty one."""
    try:
        if path.stat().st_size == 0:
            raise DamagedError(f"{path} is empty")
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None


def translate(error: lmdb.Error, path: Path) -> Exception:
    """What an LMDB error means to the caller: no space, damage, or an I/O error."""
    full = "Input/output error" in str(error) and _is_full(path)  # LMDB does not tell a short write from a bad one
    if full or isinstance(error, lmdb.MapFullError) or "No space left" in str(error):
        return OSError(errno.ENOSPC, f"the disk of {path.parent} is full; nothing of this was written")
    if isinstance(error, _DAMAGE):
        return DamagedError(f"{path} is damaged: {error}")
    if isinstance(error, lmdb.ReadonlyError | lmdb.LockError):
        return PermissionError(errno.EACCES, f"{path}: {error}")
    return OSError(errno.EIO, f"{path}: {error}")


def _is_full(path: Path) -> bool:
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize < _FULL
