"""The area of one branch: its working tree, with the control directory beside it."""

import errno
from collections.abc import Iterable, Mapping

from anabranch.errors import AnabranchError
from anabranch.fuse.areas import FOREVER, ROOT, Area, Found, Item
from anabranch.fuse.control import ControlArea
from anabranch.ids import CONTROL_NAME, ObjectId
from anabranch.versions.objects import EntryKind
from anabranch.worktree.branch import Branch
from anabranch.worktree.inodes import Attributes, Inode, Node
from anabranch.worktree.tree import AttributeChanges, failure


class BranchArea(Area):
    """A branch, read and write."""

    def __init__(self, branch: Branch, control: ControlArea) -> None:
        self.branch = branch
        self.tree = branch.tree
        self.control = control
        self.gone = False
        """The branch was deleted: what the kernel still holds of it is nothing."""

    def _found(self, attributes: Attributes) -> Found:
        return Found(self, attributes, room=self.tree.room(attributes.ino))

    def _check(self, parent: Inode, name: bytes) -> None:
        """Names may not be made or removed in a deleted branch, nor the control directory's anywhere."""
        if self.gone:
            raise failure(errno.ENOENT)
        if parent == self.tree.root and name == CONTROL_NAME:
            raise failure(errno.EPERM)

    def remembered(self, ino: Inode) -> None:
        self.tree.table.known.add(ino)

    def forgotten(self, ino: Inode) -> None:
        self.tree.table.forget(ino)

    def path(self, ino: Inode) -> bytes | None:
        names: list[bytes] = []
        while ino != self.tree.root:
            node = self.tree.table.nodes.get(ino)
            if node is None or not node.parent:
                return None
            names.append(node.name)
            ino = node.parent
        return b"/".join((self.branch.name.encode(), *reversed(names)))

    def leads(self, parent: Inode, name: bytes, ino: Inode) -> bool:
        """Whether a name is this file's."""
        try:
            return self.tree.lookup(parent, name).ino == ino
        except (OSError, AnabranchError):
            return False

    def absence(self, parent: Inode) -> float:
        return FOREVER  # whatever makes a name without the kernel tells it

    def lookup(self, parent: Inode, name: bytes) -> Found:
        if parent == self.tree.root and name == CONTROL_NAME:
            return self.control.directory()
        return self._found(self.tree.lookup(parent, name))

    def root(self) -> Found:
        """The branch's root directory, under the mount's root."""
        return self._found(self.tree.getattr(self.tree.root))

    def getattr(self, ino: Inode) -> Found:
        return self._found(self.tree.getattr(ino))

    def entries(self, ino: Inode) -> Iterable[Item]:
        return ((name, child.ino if isinstance(child, Node) else child) for name, child in self.tree.entries(ino))

    def above(self, ino: Inode) -> Inode:
        return self.tree.table.get(ino).parent or ROOT

    def stamp(self, ino: Inode) -> object:
        return self.tree.table.get(ino).base

    def listed(self, ino: Inode, item: Item) -> Found | None:
        name, child = item
        node = self.tree.listed(ino, name, child)
        return None if node is None else self._found(node)

    def readlink(self, ino: Inode) -> bytes:
        return self.tree.readlink(ino)

    def read(self, ino: Inode, offset: int, length: int) -> bytes:
        return self.tree.read(ino, offset, length)

    def missing(self, ino: Inode, offset: int, length: int) -> list[ObjectId]:
        return self.tree.missing(ino, offset, length)

    def open(self, ino: Inode, *, writing: bool, truncate: bool, uid: int) -> None:
        if truncate:
            self.tree.empty(ino, uid)

    def create(
        self, parent: Inode, name: bytes, kind: EntryKind, mode: int, uid: int, gid: int, *,
        device: int = 0, target: bytes = b"",
    ) -> Found:  # fmt: skip
        self._check(parent, name)
        return self._found(self.tree.create(parent, name, kind, mode, uid, gid, device=device, target=target))

    def link(self, ino: Inode, parent: Inode, name: bytes) -> Found:
        self._check(parent, name)
        return self._found(self.tree.link(ino, parent, name))

    def unlink(self, parent: Inode, name: bytes) -> None:
        self._check(parent, name)
        self.tree.unlink(parent, name)

    def rmdir(self, parent: Inode, name: bytes, uid: int) -> None:
        self._check(parent, name)
        self.tree.rmdir(parent, name)

    def rename(
        self,
        parent: Inode,
        name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        uid: int,
    ) -> None:
        self._check(parent, name)
        self._check(new_parent, new_name)
        self.tree.rename(parent, name, new_parent, new_name, flags)

    def setattr(self, ino: Inode, changes: AttributeChanges) -> Found:
        return self._found(self.tree.setattr(ino, changes))

    def xattrs(self, ino: Inode) -> Mapping[bytes, bytes]:
        return self.tree.xattrs(ino)

    def set_xattr(self, ino: Inode, name: bytes, value: bytes | None) -> None:
        self.tree.set_xattr(ino, name, value)

    def flushed(self, ino: Inode) -> None:
        self.tree.flushed(ino)

    def write(self, ino: Inode, offset: int, data: bytes) -> int:
        return self.tree.write(ino, offset, data, by_kernel=True)
