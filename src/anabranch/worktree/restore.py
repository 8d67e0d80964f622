"""Putting back what a version holds: a change of a working tree that does not come through the kernel.

First a plan (restore_plan.py), then all of it in one go, in the thread of the tables. A file that changes becomes a new
one, with a new inode number: what the kernel has of the old one, dirty pages too, stays true, and whoever has it open
keeps it, unlinked. Directories keep their numbers. So the kernel has only to be told of names, and of attributes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from anabranch.versions import manifests, xattrs
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import StoredContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Node
from anabranch.worktree.restore_plan import Plan
from anabranch.worktree.sides import is_directory, side_entry
from anabranch.worktree.tree import AttributeChanges, WorkingTree


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to."""

    files: int
    """How many paths that are no directories were put back."""
    removed: int
    """How many names were taken away, each with all that was below."""


@dataclass(slots=True)
class Stale:
    """What the kernel may know and is no longer so."""

    names: set[tuple[Inode, bytes]] = field(default_factory=set)
    inodes: set[Inode] = field(default_factory=set)
    """Their attributes."""


def carry_out(
    tree: WorkingTree, base: Version, source: Version, planned: Plan, stale: Stale, *, surely: bool = False
) -> Restored:
    """Do what was planned, at one instant. What is stale since is added to `stale`, after an error too.

    Raises OSError(ENOSPC) before anything is done, unless it must `surely` be, and DamagedError in the middle, when the
    base commit is damaged.
    """
    with tree.room_for(planned.names, planned.nodes, surely=surely):
        _Restoring(tree, base, source, stale).run(planned)
    return Restored(planned.files, len(planned.removed))


class _Restoring:
    """One plan on its way."""

    def __init__(self, tree: WorkingTree, base: Version, source: Version, stale: Stale) -> None:
        self._tree = tree
        self._table = tree.table
        self._base = base
        self._source = source
        self._stale = stale
        self._directories: dict[bytes, Inode] = {b"": tree.root}

    def run(self, planned: Plan) -> None:
        """Everything, in the order in which one thing needs the other."""
        for path in planned.removed:
            self._remove(*self._place(path))
        for path, entry in planned.made:
            self._make(path, entry)
        for link_id, names in planned.linked.items():
            self._make_linked(link_id, names)
        for path, entry in planned.dressed.items():
            self._dress(self._directory(path), entry)
        for ino in self._directories.values():
            self._table.release(ino)

    def _directory(self, path: bytes) -> Inode:
        ino = self._directories.get(path)
        if ino is None:
            ino, known = self._tree.root, b""
            for name in path.split(b"/"):  # a loop: paths may be deeper than Python's stack
                known = known + b"/" + name if known else name
                if known not in self._directories:
                    self._directories[known] = self._tree.lookup(ino, name).ino
                ino = self._directories[known]
        return ino

    def _place(self, path: bytes) -> tuple[Inode, bytes]:
        above, _, name = path.rpartition(b"/")
        return self._directory(above), name

    # --- taking away ---

    def _remove(self, parent: Inode, name: bytes) -> None:
        """Take a name away, if it is there, with all that is below."""
        self._stale.names.add((parent, name))
        self._stale.inodes.add(parent)
        node = self._table.child(self._table.get(parent), name)
        if node is None:
            return
        if node.kind is not EntryKind.DIRECTORY:
            self._unlink(parent, name, node.ino)
            return
        directories = [(parent, name, node.ino)]
        files: list[tuple[Inode, bytes, Inode]] = []
        for _, _, ino in directories:  # grows while it is walked: parents before children
            for child_name, child in self._noticeable(ino):
                found = directories if child.kind is EntryKind.DIRECTORY else files
                found.append((ino, child_name, child.ino))
        for place in files:
            self._unlink(*place)
        for above, its_name, ino in reversed(directories):
            self._empty(ino)
            self._stale.inodes.add(ino)
            self._stale.names.add((above, its_name))
            self._tree.rmdir(above, its_name)

    def _unlink(self, parent: Inode, name: bytes, ino: Inode) -> None:
        self._stale.inodes.add(ino)
        self._stale.names.add((parent, name))
        self._tree.unlink(parent, name)

    def _empty(self, ino: Inode) -> None:
        """What is left in a directory was never looked at, and is part of its base tree: with that it goes."""
        node = self._table.own(ino)
        self._table.touched_names.update((ino, name) for name in node.changes)
        node.base, node.changes, node.below = EMPTY_TREE, {}, None

    def _noticeable(self, ino: Inode) -> list[tuple[bytes, Node]]:
        """The children of a directory that somebody could miss: those in memory, which the kernel may know, and those
        that are hard links, whose other names count them, or lead to some.
        """
        node, children = self._table.get(ino), dict[bytes, Node]()
        changed = self._table.changes(node)
        for name, child in changed.items():
            if child != WHITEOUT:
                children[name] = self._table.nodes[child]
        for child in self._hanging.get(ino, ()):
            if (known := self._table.nodes.get(child)) is not None and known.parent == ino:
                children[known.name] = known
        for name in self._linking_names(node):
            if name not in changed and (linked := self._table.child(node, name)) is not None:
                children[name] = linked
        return list(children.items())

    @cached_property
    def _hanging(self) -> dict[Inode, list[Inode]]:
        """The nodes in memory by their parents."""
        hanging: dict[Inode, list[Inode]] = {}
        for node in self._table.nodes.values():
            hanging.setdefault(node.parent, []).append(node.ino)
        return hanging

    def _linking_names(self, directory: Node) -> Iterator[bytes]:
        trees = self._source.trees
        if directory.base != EMPTY_TREE and trees.totals(directory.base).links:
            for name, entry in trees.entries(directory.base):
                if entry.kind is EntryKind.LINK or entry.tag(Tag.LINKS):
                    yield name

    # --- putting ---

    def _make(self, path: bytes, entry: Entry) -> Inode:
        """Put an entry of the version, with all that is below it, in the place of what is there."""
        parent, name = self._place(path)
        self._remove(parent, name)
        target = entry.content if entry.kind is EntryKind.SYMLINK else b""
        ino = self._tree.create(
            parent, name, entry.kind, entry.mode, entry.uid, entry.gid, device=entry.tag(Tag.DEVICE), target=target
        ).ino
        node = self._table.own(ino)
        if is_directory(entry):
            node.base, node.links = entry.tree, 2 + entry.tag(Tag.SUBDIRECTORIES)
            self._directories[path] = ino
        elif entry.kind is EntryKind.FILE:
            node.content, node.size = StoredContent(manifests.of(entry)), entry.size
        self._dress(ino, entry)
        return ino

    def _make_linked(self, link_id: bytes, names: list[bytes]) -> None:
        """Make some names those of one file: the one that has the link id, if it is as in the version, else a new one.
        That gets the link id, if all names are back and no other file has it.
        """
        row = self._source.trees.link(self._source.links, link_id)
        assert row is not None, f"BUG: names without a link row: {link_id.hex()}"
        node = self._linked(link_id)
        same = node is not None and side_entry(self._table, self._base, node) == row.entry
        for path in names:  # what is in the way goes first: the file may have its last name in there
            if not same or node is None or not self._is_at(path, node.ino):
                self._remove(*self._place(path))
        node = self._linked(link_id) if same else None
        if node is not None:
            ino = node.ino
        else:
            ino = self._make(names[0], row.entry)
            # Beside a commit the id may still be that of a frozen file, which a crash would bring back.
            if row.names == len(names) and self._table.frozen is None and self._linked(link_id) is None:
                self._table.make_link(ino, link_id)
        self._stale.inodes.add(ino)
        for path in names:
            if not self._is_at(path, ino):
                self._tree.link(ino, *self._place(path))

    def _is_at(self, path: bytes, ino: Inode) -> bool:
        parent, name = self._place(path)
        there = self._table.child(self._table.get(parent), name)
        return there is not None and there.ino == ino

    def _linked(self, link_id: bytes) -> Node | None:
        """The file that has a link id."""
        node = self._table.nodes.get(self._links.get(link_id, WHITEOUT))
        return self._table.clean_link(link_id) if node is None or node.orphan else node

    @cached_property
    def _links(self) -> dict[bytes, Inode]:
        """The files in memory by their link ids, as long as they have names."""
        return {node.link_id: node.ino for node in self._table.nodes.values() if node.link_id and not node.orphan}

    def _dress(self, ino: Inode, entry: Entry) -> None:
        node, dress = self._table.get(ino), xattrs.of(entry)
        if node.xattrs.tags() != dress.tags():
            self._stale.inodes.add(ino)
            self._tree.dress(ino, dress)
        if (node.mode, node.uid, node.gid, node.mtime_ns) != (entry.mode, entry.uid, entry.gid, entry.mtime_ns):
            self._stale.inodes.add(ino)
            self._tree.setattr(
                ino, AttributeChanges(mode=entry.mode, uid=entry.uid, gid=entry.gid, mtime_ns=entry.mtime_ns)
            )
