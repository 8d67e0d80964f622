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

T = TypeVar("T")

MARGIN = 8 * 1024 * 1024
"""Free bytes that data must leave."""
RESERVE = 16 * 1024 * 1024
"""Bytes of the reserve file."""
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
    def granted(self, size: int) -> Iterator[None]:
        """Inside, so many bytes are taken in piece by piece, and no piece is refused. Raises OSError(ENOSPC)."""
        if size:  # taking away is never refused
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
        """Do what must go on when the disk is full: if it does not fit, let the reserve go and do it again."""
        try:
            return call()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._held:
                raise
        self._reserve.unlink(missing_ok=True)
        self._held = False
        return call()

    def restore(self) -> None:
        """Make the reserve anew if it was let go and there is room for it, and for something besides."""
        if self._held:
            return
        with contextlib.suppress(OSError):  # it is tried again
            there = self._reserve.exists()
            if not there and self.free() < RESERVE + 2 * MARGIN:
                return
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE)  # a copy of a repository may have a hole in its place
                self._held = True
            finally:
                os.close(descriptor)
