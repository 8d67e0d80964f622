"""The area of versions: read-only directories of commits.

A directory has one inode for each root name and path, since a directory can have but one place; files are one inode
for each content and attributes, and share their pages in the kernel. Under `BRANCH@head` directories are looked up
anew each time, so they follow the branch; a changed file is another inode there.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from anabranch.fuse.areas import FOREVER, NEVER, ROOT, VERSION_BITS, Area, Found, Item
from anabranch.ids import ObjectId
from anabranch.store.records import hash_name
from anabranch.versions import manifests, xattrs
from anabranch.versions.contents import Contents
from anabranch.versions.objects import LINK_ROW, Entry, EntryKind, LinkRow, Tag
from anabranch.versions.trees import Version
from anabranch.versions.walks import Descent
from anabranch.worktree.inodes import DIRECTORY_SIZE, Attributes, Inode
from anabranch.worktree.tree import failure

FindVersion = Callable[[], Version]


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory: how to find its version, the name of the version's root, and the path in it."""

    version: FindVersion
    root_name: bytes
    path: tuple[bytes, ...]
    follows: bool

    def below(self, name: bytes) -> "_Place":
        return _Place(self.version, self.root_name, (*self.path, name), self.follows)


@dataclass(frozen=True, slots=True)
class _File:
    """Anything but a directory: its entry, and how many names it has."""

    entry: Entry
    names: int


def _number(seed: int, data: bytes) -> Inode:
    return Inode(VERSION_BITS | hash_name(data, seed) >> 2)


def _directory_number(place: _Place, entry: Entry) -> Inode:
    """Two tags of one commit have directories of their own, and so has a name that moved to another commit."""
    fixed = b"" if place.follows else entry.tree
    return _number(0, b"\0".join((place.root_name, *place.path)) + b"\0" + fixed)


class VersionsArea(Area):
    """All versions that somebody looks at."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._nodes: dict[Inode, _Place | _File] = {}
        self._fresh: dict[Inode, _Place | _File] = {}

    def remembered(self, ino: Inode) -> None:
        self._nodes[ino] = self._fresh[ino]
        self._fresh.clear()

    def _keep(self, ino: Inode, node: _Place | _File) -> None:
        """An answer may make its inode known: until then the node waits here."""
        if ino not in self._nodes:
            self._fresh[ino] = node

    def forgotten(self, ino: Inode) -> None:
        self._nodes.pop(ino, None)

    def root(self, root_name: bytes, version: FindVersion, *, name_timeout: float, follows: bool = False) -> Found:
        """The root directory of a version under the name that it was asked for."""
        place = _Place(version, root_name, (), follows)
        return self._directory(place, version().root)._replace(name_timeout=name_timeout)

    def path(self, ino: Inode) -> bytes | None:
        node = self._nodes.get(ino)
        return b"/".join((node.root_name, *node.path)) if isinstance(node, _Place) else None

    def absence(self, parent: Inode) -> float:
        return NEVER if self._place(parent).follows else FOREVER

    def lookup(self, parent: Inode, name: bytes) -> Found:
        place = self._place(parent)
        version, directory = self._resolve(place)
        entry = version.trees.lookup(directory.tree, name)
        if entry is None:
            raise failure(errno.ENOENT)
        return self._child(place, version, name, entry)

    def getattr(self, ino: Inode) -> Found:
        node = self._get(ino)
        return self._file(node) if isinstance(node, _File) else self._directory(node, self._resolve(node)[1])

    def entries(self, ino: Inode) -> Iterable[Item]:
        place = self._place(ino)
        version, directory = self._resolve(place)
        return version.trees.entries(directory.tree)

    def above(self, ino: Inode) -> Inode:
        place = self._place(ino)
        if not place.path:
            return ROOT
        above = replace(place, path=place.path[:-1])
        return _directory_number(above, self._resolve(above)[1])

    def listed(self, ino: Inode, item: Item) -> Found | None:
        name, entry = item
        assert isinstance(entry, Entry)
        place = self._place(ino)
        if place.follows:  # the listing may be of an older commit
            try:
                return self.lookup(ino, name)
            except FileNotFoundError:
                return None
        return self._child(place, place.version(), name, entry)

    def readlink(self, ino: Inode) -> bytes:
        node = self._get(ino)
        if not isinstance(node, _File) or node.entry.kind != EntryKind.SYMLINK:
            raise failure(errno.EINVAL)
        return node.entry.content

    def xattrs(self, ino: Inode) -> Mapping[bytes, bytes]:
        node = self._get(ino)
        return self._contents.xattrs(xattrs.of(node.entry if isinstance(node, _File) else self._resolve(node)[1]))

    def read(self, ino: Inode, offset: int, length: int) -> bytes:
        node = self._get(ino)
        if not isinstance(node, _File):
            raise failure(errno.EISDIR)
        return self._contents.read(manifests.of(node.entry), offset, length)

    def missing(self, ino: Inode, offset: int, length: int) -> list[ObjectId]:
        node = self._get(ino)
        return self._contents.missing(manifests.of(node.entry), offset, length) if isinstance(node, _File) else []

    def _child(self, place: _Place, version: Version, name: bytes, entry: Entry) -> Found:
        resolved, names = version.resolve(entry)
        if resolved.kind == EntryKind.DIRECTORY:
            return self._directory(place.below(name), resolved)
        found = self._file(_File(resolved, names))
        return found._replace(name_timeout=NEVER) if place.follows else found

    def _directory(self, place: _Place, entry: Entry) -> Found:
        ino = _directory_number(place, entry)
        self._keep(ino, place)
        attributes = _attributes(ino, entry, 2 + entry.tag(Tag.SUBDIRECTORIES))
        timeout = NEVER if place.follows else FOREVER
        return Found(self, attributes, timeout, timeout)

    def _file(self, file: _File) -> Found:
        ino = _number(1, LINK_ROW.encode(LinkRow(file.entry, file.names)))
        self._keep(ino, file)
        room = self._contents.room(manifests.of(file.entry)) if file.entry.kind == EntryKind.FILE else 0
        return Found(self, _attributes(ino, file.entry, file.names), room=room)

    def _get(self, ino: Inode) -> _Place | _File:
        node = self._nodes.get(ino)
        if node is None:
            raise failure(errno.ESTALE)
        return node

    def _place(self, ino: Inode) -> _Place:
        node = self._get(ino)
        if isinstance(node, _File):
            raise failure(errno.ENOTDIR)
        return node

    def _resolve(self, place: _Place) -> tuple[Version, Entry]:
        version, descent = place.version(), Descent()
        entry = version.root
        for name in place.path:
            descent.enter(name, [entry.tree])
            found = version.trees.lookup(entry.tree, name)
            if found is None or found.kind != EntryKind.DIRECTORY:
                raise failure(errno.ENOENT)
            entry = found
        descent.enter(b"/".join(place.path), [entry.tree])
        return version, entry


def _attributes(ino: Inode, entry: Entry, links: int) -> Attributes:
    """Attributes of a version's inode; its mtime stands for the ctime that trees do not hold."""
    kind = entry.kind
    size = DIRECTORY_SIZE if kind == EntryKind.DIRECTORY else entry.size
    return Attributes(
        ino, kind, entry.mode, entry.uid, entry.gid, size, entry.mtime_ns, entry.mtime_ns, links, entry.tag(Tag.DEVICE)
    )
