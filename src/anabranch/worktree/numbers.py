"""Inode numbers that the trees do not hold, and the counter of new ones: one for the whole repository.

The number of a clean child is a hash (`inodes.clean_number`); what was ever made, renamed or changed has a row here,
keyed by its parent's number and its name, with its ctime; and a second one, if a program set its access time. Numbers
are never used again.
"""

import struct
import threading
from collections.abc import Iterator

from anabranch.store.env import Environment
from anabranch.store.meta import NUMBERS, SETTINGS
from anabranch.store.records import seal, unseal, unseal_counter, unseal_fixed
from anabranch.worktree.inodes import Inode, Kept

_BLOCK = 1 << 16
FIRST = 16
"""Numbers below are the mount's own: 1 is its root."""
_KEY = struct.Struct(">Q")
_ROW = struct.Struct("<Qq")
_ACCESSED = struct.Struct("<Qqq")
INODE_COUNTER = b"next inode"


def link_name(link_id: bytes) -> bytes:
    """What a hard-linked file is called beside its branch's root: no name of a file has a slash."""
    return b"/" + link_id


class Numbers:
    """Reads numbers, hands out new ones. Safe for use by several threads."""

    def __init__(self, meta: Environment) -> None:
        self._meta = meta
        self._lock = threading.Lock()
        row = meta.get(SETTINGS, INODE_COUNTER)
        counter = FIRST if row is None else unseal_counter(row, 8, "inode counter", INODE_COUNTER)
        self._next = self._reserved = counter

    def fresh(self) -> Inode:
        """A number that no inode ever had. A block of numbers is reserved on disk first."""
        with self._lock:
            self._reserve(1)
            self._next += 1
            return Inode(self._next - 1)

    def reserve(self, count: int) -> None:
        """Make sure that so many fresh numbers can be had without an error. Raises OSError."""
        with self._lock:
            self._reserve(count)

    def _reserve(self, count: int) -> None:
        if self._reserved - self._next >= count:
            return
        reserved = self._next + max(count, _BLOCK)
        with self._meta.write() as batch:
            batch.put(SETTINGS, INODE_COUNTER, seal(reserved.to_bytes(8, "little"), INODE_COUNTER))
        self._reserved = reserved

    def find(self, parent: Inode, name: bytes) -> Kept | None:
        """What is kept of a child, if its number is not its hash or its ctime not its mtime."""
        key = _KEY.pack(parent) + name
        row = self._meta.get(NUMBERS, key)
        if row is None:
            return None
        ino, ctime_ns = unseal_fixed(_ROW, row, f"number of {name!r} in {parent}", key)
        key = _accessed(key)
        row = self._meta.get(NUMBERS, key)
        if row is not None:
            *whose, atime_ns = unseal_fixed(_ACCESSED, row, f"access time of {name!r} in {parent}", key)
            if whose == [ino, ctime_ns]:
                return Kept(Inode(ino), ctime_ns, atime_ns)
        return Kept(Inode(ino), ctime_ns)


def number_in(key: bytes, row: bytes) -> Inode:
    """The number that a row of this table is about. Raises DamagedError."""
    return Inode(int.from_bytes(unseal(row, f"number {key!r}", key)[:8], "little"))


def _accessed(key: bytes) -> bytes:
    """The key of a child's access time: no name ends with a slash, and no link id is as long."""
    return key + b"/"


def number_rows(parent: Inode, name: bytes, kept: Kept | None) -> Iterator[tuple[bytes, bytes | None]]:
    """Keys and values of the rows that keep what trees do not hold of a child; value None when the name is gone.

    An access time that is older than its inode's ctime counts for nothing, and need not be deleted.
    """
    key = _KEY.pack(parent) + name
    yield key, None if kept is None else seal(_ROW.pack(kept.ino, kept.ctime_ns), key)
    if kept is None:
        yield _accessed(key), None
    elif kept.atime_ns is not None:
        yield _accessed(key), seal(_ACCESSED.pack(*kept), _accessed(key))
