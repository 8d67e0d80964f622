"""Room on the disk: what is taken in must fit, and what must go on when the disk is full has a reserve.

Deleting, fsync of what was taken in, unmounting and mounting need some pages and rows, too. So data is refused while
there is still a margin, and a preallocated file is let go when even that is used up by others.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from anabranch.store import private

T = TypeVar("T")

MARGIN = 8 * 1024 * 1024
"""Free bytes that data must leave."""
RESERVE = 16 * 1024 * 1024
"""Bytes of the reserve file,"""
_PART = 2 * 1024 * 1024
"""and so many are let go at a time."""
ROW = 1024
"""About what a name costs in the journal and in the tables, in bytes."""


class Space:
    """The disk of a repository, and its reserve file."""

    def __init__(self, reserve: Path) -> None:
        self._reserve = reserve
        self._held = False
        self._granted = 0
        self.pending = 0
        """Bytes that were taken in and are in memory only."""
        self.restore()

    def has_room(self, size: int = 0) -> bool:
        """Whether so many bytes more may be taken in."""
        self.restore()  # at once, when somebody has made room
        return self._held and self.free() - self.pending - size >= MARGIN

    def check(self, size: int = 0) -> None:
        """Before so many bytes are taken in. Raises OSError(ENOSPC)."""
        if 0 < size <= self._granted:
            self._granted -= size
        elif not self.has_room(size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def granted(self, size: int, *, surely: bool = False) -> Iterator[None]:
        """Inside, so many bytes are taken in piece by piece, and no piece is refused. Raises OSError(ENOSPC), but not
        where it must be: what is taken back cannot be refused.
        """
        if size and not surely:  # taking away is never refused
            self.check(size)
        self._granted = size
        try:
            yield
        finally:
            self._granted = 0

    def free(self) -> int:
        """Free bytes of the disk."""
        disk = os.statvfs(self._reserve.parent)
        return disk.f_bavail * disk.f_frsize

    def insisting(self, call: Callable[[], T]) -> T:
        """Do what must go on when the disk is full: while it does not fit, let go of a part of the reserve.

        A part only: what is let go, others may take.
        """
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._let_go():
                    raise

    def _let_go(self) -> bool:
        """Give a part of the reserve back to the disk; False when nothing is left of it."""
        if (left := self._left()) == 0:
            return False
        self._held = False
        os.truncate(self._reserve, max(0, left - _PART))
        return True

    def _left(self) -> int:
        """How many bytes of the disk the reserve has."""
        try:
            return self._reserve.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def restore(self) -> None:
        """Make the reserve whole if a part was let go and there is room for it, and for something besides."""
        if self._held:
            return
        with contextlib.suppress(OSError):  # it is tried again
            missing = RESERVE - self._left()
            if missing > 0 and self.free() < missing + 2 * MARGIN:
                return
            descriptor = private.open_file(self._reserve, os.O_WRONLY)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE)  # a copy of a repository may have a hole in its place
                self._held = True
            finally:
                os.close(descriptor)
