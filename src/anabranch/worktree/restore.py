"""Putting back what a version holds: a change of a working tree that does not come through the kernel.

First a plan, read from both sides without touching either; then all of it in one go, in the thread of the tables.
A file that changes becomes a new one, with a new inode number: what the kernel has of the old one, dirty pages too,
stays true, and whoever has it open keeps it, unlinked. Directories keep their numbers. So the kernel has only to be
told of names, and of attributes (`Stale`).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import msgspec

from anabranch.errors import RefusedError
from anabranch.versions import manifests
from anabranch.versions.diff import is_nobodys, walk
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.changes import (
    Pair,
    changed_links,
    child_pairs,
    is_directory,
    side_at,
    side_entry,
    side_link_id,
)
from anabranch.worktree.content import StoredContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Node
from anabranch.worktree.space import ROW, Space
from anabranch.worktree.table import Table
from anabranch.worktree.tree import AttributeChanges, WorkingTree


@dataclass(slots=True)
class Plan:
    """What is to be done at which paths, from the top of the branch."""

    removed: list[bytes] = field(default_factory=list)
    made: list[tuple[bytes, Entry]] = field(default_factory=list)
    """What is there goes first. A directory comes with all that is below it, or empty and before what is in it."""
    linked: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Names that become one file again, by its link id in the version."""
    dressed: dict[bytes, Entry] = field(default_factory=dict)
    """Directories that get back their attributes and times, after everything else."""

    @property
    def steps(self) -> int:
        """How many names it puts or takes away itself."""
        return len(self.removed) + len(self.made) + sum(map(len, self.linked.values()))

    @property
    def files(self) -> int:
        """How many paths that are no directories it puts back."""
        made = sum(entry.tag(Tag.FILES) if is_directory(entry) else 1 for _, entry in self.made)
        return made + sum(map(len, self.linked.values()))


@dataclass(slots=True)
class Stale:
    """What the kernel may know and is no longer so."""

    names: set[tuple[Inode, bytes]] = field(default_factory=set)
    inodes: set[Inode] = field(default_factory=set)
    """Their attributes."""


def plan(table: Table, base: Version, source: Version, paths: Collection[bytes]) -> Plan:
    """How the working tree becomes, at some paths, what a version is there. Costs what differs.

    Raises NotFoundError where the version has nothing, RefusedError where a file is in the way of a path.
    """
    made, asked = Plan(), {path: _named(source, path) for path in sorted(set(paths))}
    tops = {path for path in asked if not path or not _is_in(_above(path), asked)}
    changed = changed_links(table, base, source)
    broken = set(changed)
    for path in sorted(tops):
        top: Pair = path, asked[path], side_at(table, path)
        made.made += _missing_above(table, source, path)
        for pair in walk(iter([top]), lambda each: _below(table, source, each)):
            _note(made, broken, table, base, pair)
    for link_id in sorted(broken):
        names = [name for name in source.trees.link_names(source.links, link_id) if _is_in(name, tops)]
        if link_id not in changed:
            names = [name for name in names if side_link_id(side_at(table, name)) != link_id]
        if names:
            made.linked[link_id] = names
            above = {_above(name) for name in names}
            made.dressed |= {path: source.at(path) for path in above if _is_in(path, tops)}
    if is_nobodys(source):
        made.dressed.pop(b"", None)
    return made


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _is_in(path: bytes, tops: Collection[bytes]) -> bool:
    """Whether a path, or one above it, is among some."""
    while path and path not in tops:
        path = _above(path)
    return path in tops


def _named(source: Version, path: bytes) -> Entry:
    """The entry of a path itself: of a hard link not the file behind it. Raises NotFoundError."""
    entry = source.at(path)
    return source.trees.lookup(source.at(_above(path)).tree, path.rpartition(b"/")[2]) or entry if path else entry


def _missing_above(table: Table, source: Version, path: bytes) -> Iterator[tuple[bytes, Entry]]:
    """The directories above a path that the working tree lacks, without what else is in them."""
    parts = path.split(b"/")
    for above in (b"/".join(parts[:length]) for length in range(1, len(parts))):
        side = side_at(table, above)
        if side is None:
            yield above, _bare(source.at(above))
        elif not is_directory(side):
            name = above.decode(errors="replace")
            raise RefusedError(
                f"{name} is a directory in the version, and none in the working tree", hint=f"restore {name} itself"
            )


def _bare(directory: Entry) -> Entry:
    return msgspec.structs.replace(directory, size=0, content=EMPTY_TREE, extra=None)


def _below(table: Table, source: Version, pair: Pair) -> Iterator[Pair] | None:
    path, before, after = pair
    if before is None or not is_directory(before):
        return None
    prefix = path + b"/" if path else b""
    if is_directory(after):
        return child_pairs(prefix, table, source, before, after)
    if before.tag(Tag.LINKS):
        return ((prefix + name, entry, None) for name, entry in source.trees.entries(before.tree))
    return None


def _note(made: Plan, broken: set[bytes], table: Table, base: Version, pair: Pair) -> None:
    path, before, after = pair
    if before is None:
        made.removed.append(path)
    elif before.kind is EntryKind.LINK:
        if side_link_id(after) != before.content:
            broken.add(before.content)
    elif not is_directory(before):
        if side_link_id(after) or side_entry(table, base, after) != before:
            made.made.append((path, before))
    elif is_directory(after):
        made.dressed[path] = before
    elif before.tag(Tag.LINKS):  # somewhere below: link ids of a version mean nothing in a working tree
        made.made.append((path, _bare(before)))
        made.dressed[path] = before
    else:
        made.made.append((path, before))


def carry_out(tree: WorkingTree, space: Space, base: Version, source: Version, planned: Plan) -> Stale:
    """Do what was planned, at one instant. Raises OSError(ENOSPC) before anything is done."""
    space.check(ROW * planned.steps)
    return _Restoring(tree, base, source).run(planned)


class _Restoring:
    """One plan on its way."""

    def __init__(self, tree: WorkingTree, base: Version, source: Version) -> None:
        self._tree = tree
        self._base = base
        self._table = tree.table
        self._source = source
        self._stale = Stale()
        self._directories: dict[bytes, Inode] = {b"": tree.root}
        self._hanging: dict[Inode, list[Inode]] = {}
        """The nodes in memory by their parents."""
        self._links: dict[bytes, Inode] = {}
        """The files in memory by their link ids."""
        for node in self._table.nodes.values():
            self._hanging.setdefault(node.parent, []).append(node.ino)
            if node.link_id and not node.orphan:
                self._links[node.link_id] = node.ino

    def run(self, planned: Plan) -> Stale:
        """Everything, in the order in which one thing needs the other."""
        for path in planned.removed:
            self._remove(*self._place(path))
        for path, entry in planned.made:
            self._make(path, entry)
        for link_id, names in planned.linked.items():
            self._make_linked(link_id, names)
        for path, entry in planned.dressed.items():
            self._dress(self._directory(path), entry)
        return self._stale

    def _directory(self, path: bytes) -> Inode:
        ino = self._directories.get(path)
        if ino is None:
            ino = self._directories[path] = self._tree.lookup(*self._place(path)).ino
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
            self._unlink(parent, name, node)
            return
        order = [(parent, name, node.ino)]
        for _, _, ino in order:  # grows while it is walked: parents before children
            for child_name, child in self._noticeable(ino):
                if child.kind is EntryKind.DIRECTORY:
                    order.append((ino, child_name, child.ino))
        for above, child_name, ino in reversed(order):
            self._empty(ino)
            self._stale.inodes.add(ino)
            self._stale.names.add((above, child_name))
            self._tree.rmdir(above, child_name)

    def _unlink(self, parent: Inode, name: bytes, node: Node) -> None:
        self._stale.inodes.add(node.ino)
        self._stale.names.add((parent, name))
        self._tree.unlink(parent, name)

    def _empty(self, ino: Inode) -> None:
        """Take everything out of a directory whose subdirectories are gone already, where somebody could notice."""
        for name, child in self._noticeable(ino):
            self._unlink(ino, name, child)
        node = self._table.own(ino)
        self._table.touched_names.update((ino, name) for name in node.changes)
        node.base, node.changes, node.below = EMPTY_TREE, {}, None

    def _noticeable(self, ino: Inode) -> list[tuple[bytes, Node]]:
        """The children of a directory that are in memory, and those that are hard links or lead to some."""
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
        if node is not None and side_entry(self._table, self._base, node) == row.entry:
            ino = node.ino
        else:
            for path in names:
                self._remove(*self._place(path))
            ino = self._make(names[0], row.entry)
            # Beside a commit the id may still be that of a frozen file, which a crash would bring back.
            if row.names == len(names) and self._table.frozen is None and self._linked(link_id) is None:
                self._table.make_link(ino, link_id)
        for path in names:
            parent, name = self._place(path)
            there = self._table.child(self._table.get(parent), name)
            if there is None or there.ino != ino:
                self._remove(parent, name)
                self._tree.link(ino, parent, name)

    def _linked(self, link_id: bytes) -> Node | None:
        """The file that has a link id."""
        node = self._table.nodes.get(self._links.get(link_id, WHITEOUT))
        return self._table.clean_link(link_id) if node is None or node.orphan else node

    def _dress(self, ino: Inode, entry: Entry) -> None:
        node = self._table.get(ino)
        if (node.mode, node.uid, node.gid, node.mtime_ns) != (entry.mode, entry.uid, entry.gid, entry.mtime_ns):
            self._stale.inodes.add(ino)
            self._tree.setattr(
                ino, AttributeChanges(mode=entry.mode, uid=entry.uid, gid=entry.gid, mtime_ns=entry.mtime_ns)
            )
