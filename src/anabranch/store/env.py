"""LMDB environments with named tables.

An environment is one file. Any number of threads and processes read it; writing is one transaction at a time, made
and ended inside one `with env.write()` block, so it never leaves the thread that began it. Nothing survives fork.
LMDB's default durability is kept: when `write()` returns, the transaction survives a power cut.
"""

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from anabranch.errors import DamagedError

MAP_SIZE = 1 << 40
"""Address space reserved for an environment, in bytes; the file itself grows only as needed."""

_FULL = 8 * 1024 * 1024
"""Free bytes below which a failed write means a full disk."""
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.PanicError)


class Batch:
    """An open write transaction; all of it happens or none."""

    def __init__(self, environment: "Environment", transaction: lmdb.Transaction) -> None:
        self._tables = environment.tables
        self._transaction = transaction

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of a key, as this transaction sees it."""
        found = self._transaction.get(key, db=self._tables[table])
        return None if found is None else bytes(found)

    def last(self, table: str, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key starts with a prefix, as this transaction sees it."""
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            return _last(cursor, prefix)

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
    """One LMDB file with its tables."""

    def __init__(self, path: Path, tables: Sequence[str], *, writable: bool = True, map_size: int = MAP_SIZE) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._env = lmdb.open(
                str(path), map_size=map_size, subdir=False, max_dbs=len(tables), max_readers=1022, readonly=not writable
            )
            if writable:
                self._env.reader_check()  # a killed reader's slot would keep pages from being used again
            self.tables = {name: self._env.open_db(name.encode(), create=writable) for name in tables}
        except _DAMAGE as error:
            raise DamagedError(f"{path} is not a readable LMDB file: {error}") from error
        except lmdb.Error as error:
            raise translate(error, path) from error

    def close(self) -> None:
        """Close the file; no transaction may be open."""
        self._env.close()

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value of one key, in a read transaction of its own."""
        with self.reading() as transaction:
            found = transaction.get(key, db=self.tables[table])
            return None if found is None else bytes(found)

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction; values are memoryviews that die with it."""
        try:
            with self._env.begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise translate(error, self.path) from error

    def scan(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in key order whose keys start with a prefix.

        The read transaction is open while the iterator is: do not keep it.
        """
        with self.reading() as transaction, transaction.cursor(db=self.tables[table]) as cursor:
            found = cursor.set_range(prefix) if prefix else cursor.first()
            while found:
                key = bytes(cursor.key())
                if not key.startswith(prefix):
                    return
                yield key, bytes(cursor.value())
                found = cursor.next()

    def last(self, table: str, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The last row whose key starts with a prefix."""
        with self.reading() as transaction, transaction.cursor(db=self.tables[table]) as cursor:
            return _last(cursor, prefix)

    @contextmanager
    def write(self) -> Iterator[Batch]:
        """The one write transaction of this process; committed at the end, dropped on an exception."""
        with self._lock:
            try:
                with self._env.begin(write=True) as transaction:
                    yield Batch(self, transaction)
            except lmdb.Error as error:
                raise translate(error, self.path) from error


def _last(cursor: lmdb.Cursor, prefix: bytes) -> tuple[bytes, bytes] | None:
    """The last row whose key starts with a prefix (which must not end in 0xff)."""
    found = cursor.prev() if cursor.set_range(prefix[:-1] + bytes([prefix[-1] + 1])) else cursor.last()
    if not found or not bytes(cursor.key()).startswith(prefix):
        return None
    return bytes(cursor.key()), bytes(cursor.value())


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
