"""A working tree lies over another commit: what is as in that one is clean, everything else stays uncommitted.

In the thread of the tables, at one instant. Until it is written it can be taken back without reading anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from anabranch.ids import ObjectId
from anabranch.versions import manifests, xattrs
from anabranch.versions.diff import is_nobodys
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import Content, StoredContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Kept, Node
from anabranch.worktree.numbers import link_name, number_rows
from anabranch.worktree.sides import is_directory, side_entry
from anabranch.worktree.table import Table

NumberRows = dict[bytes, bytes | None]
"""Rows of numbers that names keep when they are clean, to be written with the move."""


@dataclass(slots=True)
class Rebased:
    """A change of the base, until it is written: it can be taken back without reading anything."""

    table: Table
    commit: ObjectId
    """The old one,"""
    links: ObjectId
    """and its link tree."""
    rows: NumberRows = field(default_factory=dict)
    directories: list[tuple[Node, dict[bytes, Inode], ObjectId]] = field(default_factory=list)
    """With the changes and the base tree that they had."""
    contents: list[tuple[Node, Content]] = field(default_factory=list)
    clean: set[Inode] = field(default_factory=set)
    dead_links: set[bytes] = field(default_factory=set)
    """Those that are no more."""

    def end(self) -> None:
        """It is written: what is clean need not stay in memory."""
        for ino in self.clean:
            self.table.release(ino)

    def undo(self) -> None:
        """The working tree lies over its old base, with all that is different in it."""
        table = self.table
        table.base_commit, table.links = self.commit, self.links
        for node, changes, base in self.directories:
            node.changes, node.base = changes, base
            table.touched.add(node.ino)
            table.touched_names.update((node.ino, name) for name in changes)
        for node, content in self.contents:
            node.content = content
        table.dirty |= self.clean
        table.touched |= self.clean
        table.dead_links |= self.dead_links
        table.touched_names.update((table.root, link_name(link_id)) for link_id in self.dead_links)


def rebase(table: Table, commit: ObjectId, new: Version) -> Rebased:
    """Let a working tree lie over another commit, at which everything is that differs from its old one.

    When it fails, nothing has happened.
    """
    assert table.frozen is None, "BUG: a commit is being made"
    rebased = Rebased(table, table.base_commit, table.links)
    try:
        _Rebasing(rebased, commit, new).run()
    except BaseException:
        rebased.undo()
        raise
    return rebased


class _Rebasing:
    """One change of the base."""

    def __init__(self, rebased: Rebased, commit: ObjectId, new: Version) -> None:
        self._rebased = rebased
        self._table = rebased.table
        self._commit = commit
        self._new = new
        self._clean = rebased.clean
        self._rows = rebased.rows

    def run(self) -> None:
        """Directories from the bottom up, since one is clean only when all in it are; then files with hard links."""
        assert self._covers(self._table.nodes[self._table.root], self._new.root), "BUG: not everything was moved"
        order = [(self._table.root, self._new.root)]
        for ino, entry in order:  # grows while it is walked: parents before children
            order += self._directories(ino, entry)
        for ino, entry in reversed(order):
            if ino in self._table.dirty:
                self._directory(ino, entry)
        self._links()
        self._table.base_commit, self._table.links = self._commit, self._new.links
        for ino in self._clean:
            self._table.dirty.discard(ino)
            self._table.touched.add(ino)

    def _directories(self, ino: Inode, entry: Entry) -> Iterator[tuple[Inode, Entry]]:
        """The changed directories in one that can lie over one of the new base."""
        for name, child in self._table.nodes[ino].changes.items():
            if child != WHITEOUT and self._table.nodes[child].kind is EntryKind.DIRECTORY:
                there = self._there(entry, name)
                if there is not None and is_directory(there) and self._covers(self._table.nodes[child], there):
                    yield child, there

    def _covers(self, node: Node, there: Entry) -> bool:
        """Whether all is among the changes of a directory on which its base and another tree differ. One that took the
        place of what the base has there goes on lying over its own.
        """
        return all(name in node.changes for name, _, _ in self._new.trees.diff(node.base, there.tree))

    def _there(self, directory: Entry, name: bytes) -> Entry | None:
        return None if directory.tree == EMPTY_TREE else self._new.trees.lookup(directory.tree, name)

    def _directory(self, ino: Inode, entry: Entry) -> None:
        node, left = self._table.nodes[ino], dict[bytes, Inode]()
        self._rebased.directories.append((node, node.changes, node.base))
        self._table.touched.add(ino)
        for name, child in node.changes.items():
            there = self._there(entry, name)
            if not self._is_as(child, there):
                left[name] = child
                continue
            self._table.touched_names.add((ino, name))
            linked = child != WHITEOUT and self._table.nodes[child].link_id
            if not linked:
                self._keep_number(ino, name, child)
            if child != WHITEOUT and there is not None and not linked:
                self._settle(self._table.nodes[child], there)
        node.changes, node.base = left, entry.tree
        if not left and self._is_dressed_as(node, entry):
            self._clean.add(ino)

    def _is_as(self, child: Inode, there: Entry | None) -> bool:
        if child == WHITEOUT or there is None:
            return child == WHITEOUT and there is None
        node = self._table.nodes[child]
        if node.kind is EntryKind.DIRECTORY:
            return child in self._clean
        if node.link_id or there.kind is EntryKind.LINK:
            return there.kind is EntryKind.LINK and there.content == node.link_id
        return side_entry(self._table, self._new, node) == there

    def _is_dressed_as(self, node: Node, entry: Entry) -> bool:
        if node.ino == self._table.root and is_nobodys(self._new):
            return True
        return (node.mode, node.uid, node.gid, node.mtime_ns) == (
            entry.mode, entry.uid, entry.gid, entry.mtime_ns,
        ) and node.xattrs.tags() == xattrs.of(entry).tags()  # fmt: skip

    def _settle(self, node: Node, there: Entry) -> None:
        """A file is as in the new base, where its content is stored."""
        if node.kind is EntryKind.FILE:
            self._rebased.contents.append((node, node.content))
            node.content = StoredContent(manifests.of(there))
        self._clean.add(node.ino)

    def _keep_number(self, parent: Inode, name: bytes, child: Inode) -> None:
        node = self._table.nodes.get(child)
        kept = None if node is None else Kept(node.ino, node.ctime_ns, node.atime_ns)
        self._rows.update(number_rows(parent, name, kept))

    def _links(self) -> None:
        root, trees = self._table.root, self._new.trees
        named = {child for ino in self._table.dirty - self._clean for child in self._table.nodes[ino].changes.values()}
        for ino in self._table.dirty - named:
            node = self._table.nodes[ino]
            row = trees.link(self._new.links, node.link_id) if node.link_id and not node.orphan else None
            if row is None:
                continue
            if row.names == node.links and side_entry(self._table, self._new, node) == row.entry:
                self._keep_number(root, link_name(node.link_id), ino)
                self._settle(node, row.entry)
        for link_id in list(self._table.dead_links):
            if trees.link(self._new.links, link_id) is None:
                self._rebased.dead_links.add(link_id)
                self._table.dead_links.discard(link_id)
                self._table.touched_names.add((root, link_name(link_id)))
                self._rows.update(number_rows(root, link_name(link_id), None))
