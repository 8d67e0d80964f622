"""What the kernel could not write back: bytes that programs have written, that were refused, and that are nowhere else.

The kernel tells it once, to a close(2) or fsync(2), and then shows the bytes as if they were kept until it drops the
file. So they are remembered here until they were written again, or cut off, or the kernel has let go of the file and
shows what there is: until then, each fsync of the file fails, and while it is open, no commit is made of it.
One thread.
"""

import errno
import logging
from collections.abc import Iterator

from anabranch.errors import AnabranchError
from anabranch.worktree.inodes import Inode
from anabranch.worktree.ranges import Ranges

log = logging.getLogger(__name__)


class Refused:
    """By inode: the bytes, and why."""

    def __init__(self) -> None:
        self._files: dict[Inode, tuple[Ranges, OSError]] = {}

    def __iter__(self) -> Iterator[tuple[Inode, OSError]]:
        """The files, and why."""
        return ((ino, error) for ino, (_, error) in self._files.items())

    def __contains__(self, ino: Inode) -> bool:
        """Whether bytes of a file are missing."""
        return ino in self._files

    def note(self, ino: Inode, offset: int, length: int, error: OSError | AnabranchError, path: str) -> None:
        """A write was refused."""
        reason = error if isinstance(error, OSError) else OSError(error.errno or errno.EIO, error.message)
        if ino not in self._files:
            log.warning("%s: bytes that were written could not be kept: %s", path, reason.strerror or reason)
        ranges, _ = self._files.setdefault(ino, (Ranges(), reason))
        ranges.add(offset, offset + length)

    def written(self, ino: Inode, offset: int, length: int) -> None:
        """Bytes have come."""
        if ino in self._files:
            ranges, _ = self._files[ino]
            ranges.remove(offset, offset + length)
            self._drop_empty(ino)

    def truncated(self, ino: Inode, size: int) -> None:
        """A file was cut off, or made longer."""
        if ino in self._files:
            self._files[ino][0].cut(size)
            self._drop_empty(ino)

    def forget(self, ino: Inode) -> None:
        """The kernel has let go of a file."""
        self._files.pop(ino, None)

    def check(self, ino: Inode) -> None:
        """Raises OSError as long as bytes of a file are missing."""
        if ino in self._files:
            _, error = self._files[ino]
            raise OSError(error.errno, error.strerror)

    def _drop_empty(self, ino: Inode) -> None:
        if not self._files[ino][0].total:
            del self._files[ino]
