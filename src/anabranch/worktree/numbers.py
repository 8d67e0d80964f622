"""Inode numbers that the trees do not hold, and the counter of new ones: one for the whole repository.

The number of a clean child is a hash (`inodes.clean_number`); what was ever made, renamed or changed has a row here,
keyed by its parent's number and its name, with its ctime. Numbers are never used again.
"""

import struct
import threading

from anabranch.store.env import Environment
from anabranch.store.meta import NUMBERS, SETTINGS
from anabranch.store.records import seal, unseal
from anabranch.worktree.inodes import Inode

_BLOCK = 1 << 16
_FIRST = 16
"""Numbers below are the mount's own: 1 is its root."""
_KEY = struct.Struct(">Q")
_ROW = struct.Struct("<Qq")
_COUNTER = b"next inode"


def link_name(link_id: bytes) -> bytes:
    """What a hard-linked file is called beside its branch's root: no name of a file has a slash."""
    return b"/" + link_id


class Numbers:
    """Reads numbers, hands out new ones. Safe for use by several threads."""

    def __init__(self, meta: Environment) -> None:
        self._meta = meta
        self._lock = threading.Lock()
        row = meta.get(SETTINGS, _COUNTER)
        self._next = self._reserved = _FIRST if row is None else int.from_bytes(unseal(row, "inode counter"), "little")

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
            batch.put(SETTINGS, _COUNTER, seal(reserved.to_bytes(8, "little")))
        self._reserved = reserved

    def find(self, parent: Inode, name: bytes) -> tuple[Inode, int] | None:
        """The number and ctime (ns) of a child, if its number is not its hash or its ctime not its mtime."""
        row = self._meta.get(NUMBERS, _KEY.pack(parent) + name)
        if row is None:
            return None
        ino, ctime_ns = _ROW.unpack(unseal(row, f"number of {name!r} in {parent}"))
        return Inode(ino), ctime_ns


def number_row(parent: Inode, name: bytes, kept: tuple[Inode, int] | None) -> tuple[bytes, bytes | None]:
    """Key and value of the row that keeps a child's number and ctime (ns); value None when the name is gone."""
    return _KEY.pack(parent) + name, None if kept is None else seal(_ROW.pack(*kept))
