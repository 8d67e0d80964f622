"""WorkingTree: the filesystem operations on one branch, on inode numbers and names.

Synchronous; errors are OSError as the system call would give them, and `NotLoaded` is raised before any effect when
stored chunks are needed that are not in memory. Permissions are the kernel's business, and so is keeping a directory
out of its own subtree.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anabranch.ids import ObjectId
from anabranch.versions import xattrs
from anabranch.versions.objects import Entry, EntryKind, fresh_link_id
from anabranch.versions.xattrs import Values, Xattrs
from anabranch.worktree.content import MEMORY_MAX, Content, MemoryContent, OverlayContent, Sources, StoredContent
from anabranch.worktree.inodes import DIRECTORY_SIZE, Attributes, Inode, Node, now_ns
from anabranch.worktree.numbers import Numbers
from anabranch.worktree.space import ROW, Space
from anabranch.worktree.table import Table

NAME_MAX = 255
FILE_MAX = 16 << 40
"""The largest file, in bytes, as on ext4; sums of sizes must stay within 64 bits."""
TIME_MAX = (1 << 63) - 1
"""Times that 64 bits cannot hold (before 1678, after 2262) are cut off there, as ext4 does with its own."""
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class AttributeChanges:
    """What setattr(2)-like calls change; None leaves a field as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    late: bool = False
    """The times come from the kernel's own write-back, perhaps long after the bytes: they make no clean file dirty."""


def failure(code: int) -> OSError:
    """The error of a system call."""
    return OSError(code, os.strerror(code))


def _kept_time(time_ns: int) -> int:
    return max(-TIME_MAX, min(time_ns, TIME_MAX))


class WorkingTree:
    """The mutable state of one branch."""

    def __init__(self, table: Table, numbers: Numbers, sources: Sources, space: Space) -> None:
        self.table = table
        self._space = space
        self.sources = sources
        self._numbers = numbers
        self._newest = 0
        """The newest time (ns) that the kernel has sent of its own: its clock may be ahead of the one that we read."""

    @property
    def root(self) -> Inode:
        """The number of the branch's root directory."""
        return self.table.root

    def _now(self) -> int:
        return max(now_ns(), self._newest)

    # --- looking ---

    def lookup(self, parent: Inode, name: bytes) -> Attributes:
        """The attributes of a child. Raises ENOENT, ENOTDIR, ENAMETOOLONG."""
        return self._child(self._directory(parent), name)

    def getattr(self, ino: Inode) -> Attributes:
        """The attributes of an inode."""
        return self.table.get(ino)

    def room(self, ino: Inode) -> int:
        """About how many bytes an inode takes: holes take none."""
        node = self.table.get(ino)
        if node.kind == EntryKind.FILE:
            return node.content.room(self.sources)
        return node.size if node.kind == EntryKind.DIRECTORY else 0

    def readlink(self, ino: Inode) -> bytes:
        """The target of a symbolic link."""
        node = self.table.get(ino)
        if node.kind != EntryKind.SYMLINK:
            raise failure(errno.EINVAL)
        return node.target

    def entries(self, ino: Inode) -> Iterator[tuple[bytes, Node | Entry]]:
        """The children of a directory in order of their names."""
        return self.table.children(self._directory(ino))

    def listed(self, parent: Inode, name: bytes, child: object) -> Attributes | None:
        """The child of a name that `entries` gave, if there still is one; see Table.listed."""
        return self.table.listed(self._directory(parent), name, child)

    def read(self, ino: Inode, offset: int, length: int) -> bytes:
        """A range of a file, cut off at its end. Raises NotLoaded."""
        return self.table.get(ino).content.read(self.sources, offset, length)

    def missing(self, ino: Inode, offset: int, length: int) -> list[ObjectId]:
        """The stored chunks of a range that are not in memory."""
        content = self.table.get(ino).content
        stored = content.stored if isinstance(content, StoredContent) else None
        return self.sources.contents.missing(stored, offset, length) if stored else []

    # --- making and removing names ---

    @contextmanager
    def room_for(self, names: int, inodes: int, *, surely: bool = False) -> Iterator[None]:
        """Inside, so many names and new inodes can be made without an error. Raises OSError(ENOSPC), see Space."""
        self._numbers.reserve(inodes)
        with self._space.granted(names * ROW, surely=surely):
            yield

    def create(
        self, parent: Inode, name: bytes, kind: EntryKind, mode: int, uid: int, gid: int, *,
        device: int = 0, target: bytes = b"",
    ) -> Attributes:  # fmt: skip
        """Make a file, directory, symbolic link or special file. Raises EEXIST and what `lookup` raises."""
        directory = self._directory(parent)
        self._check_free(directory, name)
        self._space.check(ROW)
        if directory.mode & stat.S_ISGID:  # as BSD and ext4 do: the group comes from the directory
            gid = directory.gid
            if kind == EntryKind.DIRECTORY:
                mode |= stat.S_ISGID
        now = self._now()
        is_directory = kind == EntryKind.DIRECTORY
        size = DIRECTORY_SIZE if is_directory else len(target)
        links = 2 if is_directory else 1
        node = Node(
            self._numbers.fresh(), kind, mode & 0o7777, uid, gid, size, now, now, links, device,
            generation=self.table.generation, target=target,
        )  # fmt: skip
        directory = self.table.own(parent)
        self.table.add(node)
        self._space.pending += ROW
        self.table.attach(parent, name, node.ino)
        self._stamp(directory, now, 1 if is_directory else 0)
        return node

    def link(self, ino: Inode, parent: Inode, name: bytes) -> Attributes:
        """Give a file another name."""
        if self.table.get(ino).kind == EntryKind.DIRECTORY:
            raise failure(errno.EPERM)
        self._check_free(self._directory(parent), name)
        if self.table.get(ino).orphan:
            raise failure(errno.ENOENT)
        self._space.check(ROW)
        node = self.table.own(ino)
        directory = self.table.own(parent)
        if not node.link_id:
            self.table.make_link(ino, fresh_link_id())
        node.links += 1
        self._space.pending += ROW
        node.ctime_ns = self._now()
        self.table.attach(parent, name, ino)
        self._stamp(directory, node.ctime_ns, 0)
        return node

    def unlink(self, parent: Inode, name: bytes) -> Inode:
        """Remove a name of anything but a directory; returns the number it had."""
        node = self._child(self._directory(parent), name)
        if node.kind == EntryKind.DIRECTORY:
            raise failure(errno.EISDIR)
        self._remove(parent, name, node.ino)
        return node.ino

    def rmdir(self, parent: Inode, name: bytes) -> Inode:
        """Remove an empty directory; returns its number."""
        node = self._child(self._directory(parent), name)
        if node.kind != EntryKind.DIRECTORY:
            raise failure(errno.ENOTDIR)
        if not self.table.is_empty(node):
            raise failure(errno.ENOTEMPTY)
        self._remove(parent, name, node.ino)
        return node.ino

    def rename(self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int = 0) -> None:
        """Move a name, over another one if there is one."""
        node = self._child(self._directory(parent), name)
        target = self._find(self._directory(new_parent), new_name)
        if flags & RENAME_EXCHANGE:
            if target is None:
                raise failure(errno.ENOENT)
            self._exchange(parent, name, node.ino, new_parent, new_name, target.ino)
            return
        if target is not None:
            if flags & RENAME_NOREPLACE:
                raise failure(errno.EEXIST)
            if target.ino == node.ino:  # two names of one file: POSIX wants nothing done
                return
            self._check_replaceable(node, target)
            self._remove(new_parent, new_name, target.ino)
        self._move(parent, name, node.ino, new_parent, new_name)

    def _check_replaceable(self, node: Node, target: Node) -> None:
        is_directory = node.kind == EntryKind.DIRECTORY
        if target.kind == EntryKind.DIRECTORY:
            if not is_directory:
                raise failure(errno.EISDIR)
            if not self.table.is_empty(target):
                raise failure(errno.ENOTEMPTY)
        elif is_directory:
            raise failure(errno.ENOTDIR)

    def _move(self, parent: Inode, name: bytes, ino: Inode, new_parent: Inode, new_name: bytes) -> None:
        now = self._now()
        node = self.table.own(ino)
        subdirectory = 1 if node.kind == EntryKind.DIRECTORY else 0
        self.table.own(parent)
        self.table.own(new_parent)
        self.table.detach(parent, name)
        self.table.attach(new_parent, new_name, ino)
        self._stamp(self.table.own(parent), now, -subdirectory)
        self._stamp(self.table.own(new_parent), now, subdirectory)
        node.ctime_ns = now

    def _exchange(self, parent: Inode, name: bytes, ino: Inode, other: Inode, other_name: bytes, theirs: Inode) -> None:
        if ino == theirs:
            return
        now = self._now()
        mine, target = self.table.own(ino), self.table.own(theirs)
        moved = (mine.kind == EntryKind.DIRECTORY) - (target.kind == EntryKind.DIRECTORY)
        self.table.own(parent)
        self.table.own(other)
        self.table.attach(other, other_name, ino)
        self.table.attach(parent, name, theirs)
        self._stamp(self.table.own(parent), now, -moved)
        self._stamp(self.table.own(other), now, moved)
        mine.ctime_ns = target.ctime_ns = now

    def _remove(self, parent: Inode, name: bytes, ino: Inode) -> None:
        now = self._now()
        node = self.table.own(ino)
        directory = self.table.own(parent)
        self.table.detach(parent, name)
        self._stamp(directory, now, -1 if node.kind == EntryKind.DIRECTORY else 0)
        node.ctime_ns = now
        if node.kind == EntryKind.DIRECTORY or node.links == 1:
            self.table.orphan(ino)
        else:
            node.links -= 1

    # --- attributes and content ---

    def setattr(self, ino: Inode, changes: AttributeChanges) -> Attributes:
        """Change attributes and size. Raises NotLoaded before any effect."""
        if changes.late and changes.mtime_ns is not None:
            self._newest = max(self._newest, min(changes.mtime_ns, time.time_ns()))
        if changes.late and ino not in self.table.dirty:
            return self.table.get(ino)
        if changes.late and (changes.ctime_ns or TIME_MAX) < self.table.get(ino).ctime_ns:
            return self.table.get(ino)  # they were on their way while newer ones were set
        same_size = changes == AttributeChanges(size=self.table.get(ino).size)
        if changes.size is not None:
            self._truncate(ino, changes.size)
        node = self.table.own(ino)
        if same_size:  # the kernel keeps the times that it has, and so do we
            return node
        now = self._now()
        if changes.mode is not None:
            node.mode = changes.mode & 0o7777
        if changes.uid is not None or changes.gid is not None:
            node.uid = node.uid if changes.uid is None else changes.uid
            node.gid = node.gid if changes.gid is None else changes.gid
        if changes.atime_ns is not None:
            node.atime_ns = _kept_time(changes.atime_ns)
        if changes.mtime_ns is not None:
            node.mtime_ns = _kept_time(changes.mtime_ns)
            self.table.told_time(ino)
        elif changes.size is not None:
            node.mtime_ns = now
        node.ctime_ns = changes.ctime_ns if changes.ctime_ns is not None else now
        return node

    def empty(self, ino: Inode, uid: int) -> None:
        """What opening with O_TRUNC does: all else that clears set-uid and set-gid bits the kernel does by itself."""
        mode = self.table.get(ino).mode
        if uid != 0:
            mode &= ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                mode &= ~stat.S_ISGID
        self.setattr(ino, AttributeChanges(size=0, mode=mode))

    def xattrs(self, ino: Inode) -> Values:
        """The extended attributes of an inode."""
        return self.sources.contents.xattrs(self.table.get(ino).xattrs)

    def set_xattr(self, ino: Inode, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or with None remove it. Raises ENODATA, ENOSPC."""
        made = xattrs.changed(self.xattrs(ino), name, value)
        if value is not None:
            self._space.check(ROW + len(made.map))
        self.dress(ino, made)

    def dress(self, ino: Inode, made: Xattrs) -> None:
        """Give an inode extended attributes in the place of those that it has."""
        node = self.table.own(ino)
        node.xattrs, node.ctime_ns = made, self._now()
        self._space.pending += len(made.map)

    def write(self, ino: Inode, offset: int, data: bytes, *, by_kernel: bool = False) -> int:
        """Write at an offset; returns how much, which is all. Raises NotLoaded before any effect.

        `by_kernel`: the bytes come from its write-back cache, and the time at which they were written comes apart.
        """
        cost = max(len(data), self._in_memory(ino, offset + len(data)))
        self._space.check(cost)
        content = self._writable(ino, offset + len(data))
        node = self.table.own(ino)
        if isinstance(content, OverlayContent):
            content.write(self.sources.overlays, offset, data)
        else:
            content.write(offset, data)
            self._space.pending += cost
        node.size = content.size
        if by_kernel:
            self.table.arrivals[ino] = self._now()
        else:
            node.mtime_ns = node.ctime_ns = self._now()
        return len(data)

    def flushed(self, ino: Inode) -> None:
        """A descriptor was closed: the kernel has sent the times of all that was written, if they changed."""
        before = self.table.told_time(ino)
        if before is not None and ino in self.table.dirty:
            self.table.own(ino).mtime_ns = before

    def _truncate(self, ino: Inode, size: int) -> None:
        node = self.table.get(ino)
        if node.kind == EntryKind.DIRECTORY:
            raise failure(errno.EISDIR)
        if node.kind != EntryKind.FILE:
            raise failure(errno.EINVAL)
        if size == 0:  # a fresh content: the old bytes must outlive a crash before the row is written
            node = self.table.own(ino)
            self.table.doom(node.content)
            node.content = MemoryContent(b"", self.table.generation)
        else:
            cost = self._in_memory(ino, size)
            if size > node.size:
                self._space.check(cost)
            self._writable(ino, size).truncate(size)
            self._space.pending += cost
            node = self.table.own(ino)
        node.size = size

    def _in_memory(self, ino: Inode, end: int) -> int:
        """About how many bytes a change up to `end` adds to what is in memory, and in no row: for small files only."""
        content = self.table.get(ino).content
        size = max(end, content.size)
        if size > MEMORY_MAX:
            return 0
        held = isinstance(content, MemoryContent) and ino in self.table.touched
        return size - content.size if held else size

    def _writable(self, ino: Inode, end: int) -> MemoryContent | OverlayContent:
        """The content of a file, made fit to be written up to `end`: in the live generation, in memory if small."""
        node = self.table.get(ino)
        if end > FILE_MAX:
            raise failure(errno.EFBIG)
        if node.kind != EntryKind.FILE:
            raise failure(errno.EISDIR if node.kind == EntryKind.DIRECTORY else errno.EINVAL)
        old = node.content
        small = max(end, old.size) <= MEMORY_MAX
        if not isinstance(old, StoredContent) and old.generation == self.table.generation:
            if small or isinstance(old, OverlayContent):
                return old
            fresh: Content = self._overlay(old)
        elif small:
            fresh = MemoryContent(old.read(self.sources, 0, old.size), self.table.generation)
            self.table.doom(old)
        elif isinstance(old, MemoryContent):
            fresh = self._overlay(old)
        else:
            number = self.sources.overlays.create()
            fresh = OverlayContent(number, self.table.generation, size=old.size, below=old, below_size=old.size)
        self.table.own(ino).content = fresh
        if isinstance(fresh, OverlayContent):
            self.table.overlaid.add(ino)
        assert not isinstance(fresh, StoredContent)
        return fresh

    def _overlay(self, old: MemoryContent) -> OverlayContent:
        """Move content that grows too large for memory into an overlay file."""
        overlays = self.sources.overlays
        content = OverlayContent(overlays.create(), self.table.generation, size=0)
        try:
            if old.size:
                content.write(overlays, 0, bytes(old.data))
        except OSError:
            overlays.remove(content.number)
            raise
        return content

    def flatten(self) -> None:
        """Before a freeze, when nothing is frozen: make one of overlays that lie on each other. Each commit that is not
        made would add one else, and in the end they could not be kept. Raises OSError.
        """
        for ino in sorted(self.table.stacked):
            node = self.table.nodes.get(ino)
            if node is not None and ino in self.table.dirty and isinstance(node.content, OverlayContent):
                self._flatten(node, node.content)
            self.table.stacked.discard(ino)

    def _flatten(self, node: Node, above: OverlayContent) -> None:
        while isinstance(below := above.below, OverlayContent):
            below.become(above, self.sources.overlays)
            self.table.doomed[above.number] = above.segments
            self.table.touched.add(node.ino)
            node.content = above = below

    # --- helpers ---

    def _directory(self, ino: Inode) -> Node:
        node = self.table.get(ino)
        if node.kind != EntryKind.DIRECTORY:
            raise failure(errno.ENOTDIR)
        return node

    def _find(self, directory: Node, name: bytes) -> Node | None:
        if len(name) > NAME_MAX:
            raise failure(errno.ENAMETOOLONG)
        return self.table.child(directory, name)

    def _child(self, directory: Node, name: bytes) -> Node:
        node = self._find(directory, name)
        if node is None:
            raise failure(errno.ENOENT)
        return node

    def _check_free(self, directory: Node, name: bytes) -> None:
        if directory.orphan:
            raise failure(errno.ENOENT)
        if self._find(directory, name) is not None:
            raise failure(errno.EEXIST)

    @staticmethod
    def _stamp(directory: Node, now: int, subdirectories: int) -> None:
        directory.mtime_ns = directory.ctime_ns = now
        directory.links += subdirectories
