"""Area: one part of the mount that answers for its own inodes.

Branches, versions, the root and the control files are areas. The methods are synchronous and speak in OSError; what an
area does not override is what a read-only filesystem answers. FOREVER and NEVER say how long the kernel may trust an
answer: contents change through the kernel only, so nearly everything is for ever.
"""

import errno
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from anabranch.ids import ObjectId
from anabranch.versions.objects import Entry, EntryKind
from anabranch.worktree.inodes import Attributes, Inode
from anabranch.worktree.tree import AttributeChanges, failure

FOREVER = 365 * 86400.0
NEVER = 0.0

ROOT = Inode(1)
VERSION_BITS = 0b11 << 62
"""Numbers of version inodes; 0b10 on top are clean children of branches (worktree.inodes), 0b00 counted numbers."""
CONTROL_BITS = 0b01 << 62


class Found(NamedTuple):
    """An inode as the kernel is told it: attributes, seconds to trust the name, and the attributes, room."""

    area: "Area"
    attributes: Attributes
    name_timeout: float = FOREVER
    attribute_timeout: float = FOREVER
    room: int | None = None
    """About how many bytes it takes, without holes; None: all of its size."""


Item = tuple[bytes, Entry | Inode | None]
"""A name in a listing, and what helps its area to find the inode when the kernel takes it (`Area.listed`), or None."""


class Area:
    """A read-only part of the mount; areas override what they can do."""

    def remembered(self, ino: Inode) -> None:
        """The kernel knows the inode from now on."""

    def forgotten(self, ino: Inode) -> None:
        """The kernel does not know the inode any more."""

    def path(self, ino: Inode) -> bytes | None:
        """The path of a directory below the mount's root, for messages; None where it has none, or is none."""
        return None

    def absence(self, parent: Inode) -> float:
        """Seconds to trust that a name is not in a directory."""
        return NEVER

    def lookup(self, parent: Inode, name: bytes) -> Found:
        """The child of a name. Raises ENOENT."""
        raise NotImplementedError

    def getattr(self, ino: Inode) -> Found:
        """The inode of a number."""
        raise NotImplementedError

    def entries(self, ino: Inode) -> Iterable[Item]:
        """The names in a directory, but for `.` and `..`."""
        raise NotImplementedError

    def above(self, ino: Inode) -> Inode:
        """The directory that a directory is in; of the mount's root itself."""
        return ROOT

    def stamp(self, ino: Inode) -> object:
        """What must be the same for the help in a listing's items to hold still."""
        return None

    def listed(self, ino: Inode, item: Item) -> Found | None:
        """The inode of a name that `entries` gave; None if it is gone, or another one, by now."""
        raise NotImplementedError

    def readlink(self, ino: Inode) -> bytes:
        """The target of a symbolic link."""
        raise failure(errno.EINVAL)

    def read(self, ino: Inode, offset: int, length: int) -> bytes:
        """A range of a file. Raises NotLoaded."""
        raise failure(errno.EINVAL)

    def missing(self, ino: Inode, offset: int, length: int) -> list[ObjectId]:
        """The chunks of a range of a file that are not in memory."""
        return []

    def open(self, ino: Inode, *, writing: bool, truncate: bool, uid: int) -> None:
        """Check that a file may be opened so, and truncate it."""
        if writing or truncate:
            raise failure(errno.EROFS)

    def create(
        self, parent: Inode, name: bytes, kind: EntryKind, mode: int, uid: int, gid: int, *,
        device: int = 0, target: bytes = b"",
    ) -> Found:  # fmt: skip
        """Make anything with a new name."""
        raise failure(errno.EROFS)

    def link(self, ino: Inode, parent: Inode, name: bytes) -> Found:
        """Give a file of this area another name."""
        raise failure(errno.EROFS)

    def unlink(self, parent: Inode, name: bytes) -> None:
        """Remove a name of a file."""
        raise failure(errno.EROFS)

    def rmdir(self, parent: Inode, name: bytes, uid: int) -> None:
        """Remove an empty directory."""
        raise failure(errno.EROFS)

    def rename(self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int, uid: int) -> None:
        """Move a name inside the area."""
        raise failure(errno.EROFS)

    def setattr(self, ino: Inode, changes: AttributeChanges) -> Found:
        """Change attributes or size. Raises NotLoaded."""
        raise failure(errno.EROFS)

    def xattrs(self, ino: Inode) -> Mapping[bytes, bytes]:
        """The extended attributes of an inode, in order of their names."""
        return {}

    def set_xattr(self, ino: Inode, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or with None remove it."""
        raise failure(errno.EROFS)

    def flushed(self, ino: Inode) -> None:
        """A descriptor of a file was closed, and everything written through it has come."""

    def write(self, ino: Inode, offset: int, data: bytes) -> int:
        """Write into a file. Raises NotLoaded."""
        raise failure(errno.EROFS)
