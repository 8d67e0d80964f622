"""The inode and dentry tables of one working tree: live over frozen over the base tree.

Invariants:
- a node of the live generation that has a parent is named in the parent's `changes`, and so on up to the root, so a
  commit finds every change from the root down;
- nodes of a frozen generation are never written: `own` forks them, and whoever holds a Node across an `own` holds the
  old one: keep numbers, not nodes;
- a node stays in memory while the kernel knows it, while it is dirty, or while a child of it is in memory.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator, Set

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Trees
from anabranch.worktree.content import Content, OverlayContent, StoredContent
from anabranch.worktree.frozen import Built, Frozen, LeftOut
from anabranch.worktree.inodes import WHITEOUT, Inode, Kept, Node, clean_number, from_entry, from_link
from anabranch.worktree.numbers import Numbers, link_name


class Table:
    """Nodes by number and children by name."""

    def __init__(
        self, trees: Trees, numbers: Numbers, root: Node, *, base_commit: ObjectId, links: ObjectId, generation: int
    ) -> None:
        self._trees = trees
        self._numbers = numbers
        self.root = root.ino
        self.base_commit = base_commit
        self.links = links
        self.generation = generation
        self.nodes: dict[Inode, Node] = {root.ino: root}
        self.dirty: set[Inode] = set()
        self.frozen: Frozen | None = None
        self.known: set[Inode] = set()
        self.touched: set[Inode] = set()
        """Nodes whose rows are older than they are."""
        self.touched_names: set[tuple[Inode, bytes]] = set()
        self.doomed: dict[int, set[int]] = {}
        """Overlay files to delete once no row names them, and the segments whose ranges are kept."""
        self.arrivals: dict[Inode, int] = {}
        """When bytes came in whose own time (ns) the kernel still keeps: it sends that on close, or some time later."""
        self.stamped: dict[Inode, int] = {}
        """The time (ns) before that of arriving bytes took its place: it stands if the kernel has no other to send."""
        self.dead_links: set[bytes] = set()
        """Hard-linked files whose last name is gone: their ids leave the link tree at the next commit."""
        self.overlaid: set[Inode] = set()
        """Where files in overlays are looked for: all of them, and some that are none any more."""
        self.stacked: set[Inode] = set()
        """Where a commit that was not made may have left an overlay on another."""
        self._pins: Counter[Inode] = Counter()

    # --- looking ---

    def get(self, ino: Inode) -> Node:
        """The node of a number. Raises OSError(ESTALE) when nothing has it any more."""
        node = self.nodes.get(ino)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def child(self, parent: Node, name: bytes) -> Node | None:
        """The child of a name."""
        layer: Node | None = parent
        while layer is not None:
            ino = layer.changes.get(name)
            if ino is not None:
                return None if ino == WHITEOUT else self.nodes[ino]
            layer = layer.below
        if parent.base == EMPTY_TREE:
            return None
        entry = self._trees.lookup(parent.base, name)
        return None if entry is None else self._clean(parent, name, entry)

    def side(self, directory: Node | Entry, name: bytes) -> Node | Entry | None:
        """The child of a name for looking only: a node where it is changed, the entry where it is clean."""
        if isinstance(directory, Node):
            ino = self.changes(directory).get(name)
            if ino is not None:
                return None if ino == WHITEOUT else self.nodes[ino]
            tree = directory.base
        else:
            tree = directory.tree
        return None if tree == EMPTY_TREE else self._trees.lookup(tree, name)

    def listed(self, parent: Node, name: bytes, child: object) -> Node | None:
        """Like `child`, but cheaper with the clean entry that `children` gave while the directory had the same base."""
        unchanged = name not in parent.changes and (parent.below is None or name not in parent.below.changes)
        if isinstance(child, Entry) and unchanged:
            return self._clean(parent, name, child)
        return self.child(parent, name)

    def clean_number(self, parent: Inode, name: bytes, entry: Entry) -> Inode:
        """The number of a clean child, without making its node."""
        return self._kept(parent, name, entry).ino

    def children(self, parent: Node | Entry) -> Iterator[tuple[bytes, Node | Entry]]:
        """All children in order of their names: nodes where changed, entries where clean."""
        changes = self.changes(parent) if isinstance(parent, Node) else {}
        tree = parent.base if isinstance(parent, Node) else parent.tree
        base = self._trees.entries(tree) if tree != EMPTY_TREE else iter(())
        names = sorted(changes)
        index = 0
        for name, entry in base:
            while index < len(names) and names[index] < name:
                yield from self._changed(names[index], changes)
                index += 1
            if index < len(names) and names[index] == name:
                yield from self._changed(name, changes)
                index += 1
            else:
                yield name, entry
        for name in names[index:]:
            yield from self._changed(name, changes)

    def _changed(self, name: bytes, changes: dict[bytes, Inode]) -> Iterator[tuple[bytes, Node]]:
        if changes[name] != WHITEOUT:
            yield name, self.nodes[changes[name]]

    def changes(self, parent: Node) -> dict[bytes, Inode]:
        """What differs from the base, over all layers."""
        if parent.below is None:
            return parent.changes
        return {**self.changes(parent.below), **parent.changes}

    def is_empty(self, directory: Node) -> bool:
        """Whether a directory has no children."""
        return next(self.children(directory), None) is None

    def _kept(self, parent: Inode, name: bytes, entry: Entry) -> Kept:
        if entry.kind == EntryKind.LINK:
            parent, name = self.root, link_name(entry.content)
        return self._numbers.find(parent, name) or Kept(clean_number(parent, name))

    def clean_link(self, link_id: bytes) -> Node | None:
        """The file of a link id, unless it was changed or its last name is gone."""
        gone = link_id in self.dead_links or (self.frozen is not None and link_id in self.frozen.dead_links)
        if gone or self._trees.link(self.links, link_id) is None:
            return None
        node = self._clean(self.nodes[self.root], b"", Entry(EntryKind.LINK, content=link_id))
        return None if node.orphan else node

    def _clean(self, parent: Node, name: bytes, entry: Entry) -> Node:
        kept = self._kept(parent.ino, name, entry)
        node = self.nodes.get(kept.ino)
        if node is not None:
            return node
        if entry.kind == EntryKind.LINK:
            row = self._trees.link(self.links, entry.content)
            if row is None:
                raise DamagedError(f"hard link {entry.content.hex()} of {name!r} is missing")
            node = from_link(row, entry.content, kept)
        else:
            if entry.kind is EntryKind.DIRECTORY:
                self._check_outside(parent, entry)
            node = from_entry(entry, kept, parent.ino, name)
            self._pins[parent.ino] += 1
        self.nodes[node.ino] = node
        return node

    def _check_outside(self, parent: Node, directory: Entry) -> None:
        """Raises DamagedError on a clean directory inside a clean one of the same tree: it would have no end."""
        above: Node | None = parent
        while above is not None and above.ino not in self.dirty:
            if self.frozen is not None and above.ino in self.frozen.nodes:
                return
            if above.base == directory.tree != EMPTY_TREE:
                raise DamagedError(f"a directory is inside itself: {directory.tree.hex()}")
            above = self.nodes.get(above.parent)

    # --- changing ---

    def own(self, ino: Inode) -> Node:
        """The node, made part of the live generation together with the way to it, and so free to be written."""
        node = self.get(ino)
        self.touched.add(ino)
        if ino in self.dirty:
            return node
        frozen = self.frozen is not None and ino in self.frozen.nodes
        owned = self.nodes[ino] = node.fork(self.generation, frozen=frozen)
        self.dirty.add(ino)
        child = owned
        while child.parent and self.set_change(child.parent, child.name, child.ino):
            child = self.nodes[child.parent]
        return owned

    def set_change(self, parent: Inode, name: bytes, child: Inode) -> bool:
        """Note in a directory that a name differs from below; returns whether the directory had been clean."""
        was_clean = parent not in self.dirty
        if was_clean:
            frozen = self.frozen is not None and parent in self.frozen.nodes
            self.nodes[parent] = self.get(parent).fork(self.generation, frozen=frozen)
            self.dirty.add(parent)
            self.touched.add(parent)
        self.nodes[parent].changes[name] = child
        self.touched_names.add((parent, name))
        return was_clean

    def add(self, node: Node) -> None:
        """Take in a new node, not yet attached to a name."""
        self.nodes[node.ino] = node
        self.dirty.add(node.ino)
        self.touched.add(node.ino)

    def attach(self, parent: Inode, name: bytes, ino: Inode) -> None:
        """Give a node that is owned a name. The parent must be owned."""
        node = self.nodes[ino]
        if not node.link_id:
            if node.parent:
                self._unpin(node.parent)
            node.parent, node.name = parent, name
            self._pins[parent] += 1
        self.nodes[parent].changes[name] = ino
        self.touched_names.add((parent, name))

    def detach(self, parent: Inode, name: bytes) -> None:
        """Take a name away. The parent must be owned."""
        directory = self.nodes[parent]
        if directory.base == EMPTY_TREE and directory.below is None:
            directory.changes.pop(name, None)
        else:
            directory.changes[name] = WHITEOUT
        self.touched_names.add((parent, name))

    def make_link(self, ino: Inode, link_id: bytes) -> None:
        """An owned file gets a second name: from now on its names hold a link id, and it has no parent."""
        node = self.nodes[ino]
        parent, node.parent, node.name, node.link_id = node.parent, Inode(0), b"", link_id
        if link_id in self.dead_links:
            self.dead_links.discard(link_id)
            self.touched_names.add((self.root, link_name(link_id)))
        self._unpin(parent)

    def orphan(self, ino: Inode) -> None:
        """The last name of an owned node is gone: it lives on only while the kernel knows it."""
        node = self.nodes[ino]
        node.links = 0
        if node.parent:
            self._unpin(node.parent)
        node.parent = Inode(0)
        if node.link_id:
            self.dead_links.add(node.link_id)
            self.touched_names.add((self.root, link_name(node.link_id)))
        self.release(ino)

    def doom(self, content: Content) -> None:
        """The content is no longer needed: its overlay files go, except those that a commit still reads."""
        if isinstance(content, OverlayContent):
            self.doomed.update((overlay.number, overlay.segments) for overlay in content.overlays())

    # --- letting go ---

    def forget(self, ino: Inode) -> None:
        """The kernel does not know the number any more."""
        self.known.discard(ino)
        self.release(ino)

    def release(self, ino: Inode) -> None:
        """Drop a node from memory if nothing needs it, and then perhaps its parent."""
        while ino != self.root:
            node = self.nodes.get(ino)
            if node is None or ino in self.known or self._pins[ino] > 0:
                return
            if node.orphan:
                self.dirty.discard(ino)
                self.touched.add(ino)
                self.doom(node.content)
            elif ino in self.dirty or (self.frozen is not None and ino in self.frozen.nodes):
                return
            del self.nodes[ino]
            self._pins.pop(ino, None)
            if not node.parent:
                return
            self._pins[node.parent] -= 1
            ino = node.parent

    def _unpin(self, ino: Inode) -> None:
        self._pins[ino] -= 1
        self.release(ino)

    def adopt(self) -> None:
        """After loading rows: check that every name leads to a node, drop nodes without a name, count pins.

        Rows of a generation that a crash kept from becoming a commit may hold what was removed after it was frozen.
        """
        if self.nodes[self.root].kind is not EntryKind.DIRECTORY:
            raise DamagedError("the root of the working tree is no directory")
        named, walk = {self.root}, [self.root]
        for parent in walk:  # grows while it is walked: from the root down
            for name, child in self.nodes[parent].changes.items():
                if child == WHITEOUT:
                    continue
                self._check_hangs(parent, name, child)
                if child not in named:
                    named.add(child)
                    walk.append(child)
        linked = {ino for ino in self.dirty if self.nodes[ino].link_id not in {b"", *self.dead_links}}
        if len({self.nodes[ino].link_id for ino in linked}) < len(linked):
            raise DamagedError("the working tree has two files of one link id")
        for ino in self.dirty - named - linked:
            del self.nodes[ino]
            self.dirty.discard(ino)
            self.touched.add(ino)
        for ino in self.dirty:
            if parent := self.nodes[ino].parent:
                self._pins[parent] += 1
            self._note_overlays(self.nodes[ino])

    def _note_overlays(self, node: Node) -> None:
        if isinstance(node.content, OverlayContent):
            self.overlaid.add(node.ino)
            if isinstance(node.content.below, OverlayContent):
                self.stacked.add(node.ino)

    def _check_hangs(self, parent: Inode, name: bytes, child: Inode) -> None:
        """Raises DamagedError unless an inode of a row is where its own row says: so none is in itself, or twice."""
        node = self.nodes.get(child)
        if node is None:
            raise DamagedError(f"the working tree names inode {child}, which it does not hold")
        above = self.nodes[parent].kind is EntryKind.DIRECTORY
        if not above or (not node.link_id and (node.parent, node.name) != (parent, name)):
            raise DamagedError(f"inode {child} of the working tree hangs at a wrong place")

    # --- generations ---

    def stamp(self, inodes: Set[Inode]) -> None:
        """Bytes whose own time has not come are kept with the time at which they came."""
        for ino in self.arrivals.keys() & inodes & self.dirty:
            node = self.nodes[ino]
            self.stamped.setdefault(ino, node.mtime_ns)
            node.mtime_ns = max(node.mtime_ns, self.arrivals.pop(ino))

    def told_time(self, ino: Inode) -> int | None:
        """The kernel has sent the time of all bytes that came; returns the one that theirs stood in for."""
        self.arrivals.pop(ino, None)
        return self.stamped.pop(ino, None)

    def freeze(self) -> Frozen:
        """Set the live generation aside and open the next. One at a time."""
        assert self.frozen is None, "BUG: a generation is frozen already"
        self.stamp(self.dirty)
        self.stamped.clear()  # what is committed has these times
        nodes = {ino: self.nodes[ino] for ino in self.dirty if not self.nodes[ino].orphan}
        nodes.setdefault(self.root, self.nodes[self.root])
        self.frozen = Frozen(self.generation, self.root, self.base_commit, nodes, frozenset(self.dead_links))
        self.generation += 1
        self.dead_links = set()
        self.dirty = {ino for ino in self.dirty if self.nodes[ino].orphan}
        return self.frozen

    def thaw(self) -> None:
        """The commit did not happen: what was frozen is live again, under what came since."""
        frozen, self.frozen = self._ended(), None
        self._thaw_links(frozen.dead_links)
        for node in frozen.nodes.values():
            self._thaw(node)

    def put_back(self, left: LeftOut) -> None:
        """What a commit leaves out is live again, before it ends the frozen generation."""
        assert self.frozen is not None
        self._thaw_links(left.dead_links)
        for ino in left.nodes:
            self._thaw(self.frozen.nodes[ino])
        for ino in left.also:
            if ino in self.nodes and not self.nodes[ino].orphan:
                self.own(ino)
        for node in self._having(left.links):
            self.own(node.ino)
        for parent, name in left.names:
            if parent in self.nodes and not self.nodes[parent].orphan and name not in self.own(parent).changes:
                self.set_change(parent, name, self.frozen.nodes[parent].changes[name])

    def _having(self, links: Set[bytes]) -> list[Node]:
        """The files of some link ids, as far as there are any."""
        known = {node.link_id: node for node in self.nodes.values() if links and node.link_id and not node.orphan}
        found = (known.get(link_id) or self.clean_link(link_id) for link_id in sorted(links))
        return [node for node in found if node is not None]

    def _thaw_links(self, dead_links: Set[bytes]) -> None:
        self.dead_links |= dead_links
        self.touched_names.update((self.root, link_name(link_id)) for link_id in dead_links)

    def _thaw(self, node: Node) -> None:
        live, ino = self.nodes.get(node.ino), node.ino
        if live is None or live.orphan:
            return
        if live is node:
            live = self.nodes[ino] = node.fork(self.generation, frozen=False)
            live.changes = node.changes
            if not isinstance(live.content, StoredContent):
                live.content.generation = self.generation
        elif live.below is node:  # else it was put back before
            live.changes, live.below = {**node.changes, **live.changes}, None
        self.dirty.add(ino)
        self.touched.add(ino)
        self.touched_names.update((ino, name) for name in live.changes)
        self._note_overlays(live)

    def rebased(self, built: Built) -> list[Node]:
        """Live directories as they will be over the new commit, for the transaction that makes it."""
        assert self.frozen is not None
        directories = []
        for ino in self.dirty & self.frozen.nodes.keys():
            node = self.nodes[ino]
            if node.kind == EntryKind.DIRECTORY and ino in built.trees and not node.orphan:
                moved = node.fork(self.generation, frozen=False)
                moved.base = built.trees[ino]
                directories.append(moved)
        return directories

    def advance(self, built: Built) -> None:
        """The commit happened: what was frozen is the base now."""
        frozen, self.frozen = self._ended(), None
        self.base_commit, self.links = built.commit, built.links
        for ino, node in frozen.nodes.items():
            live = self.nodes.get(ino)
            if node.kind == EntryKind.FILE:
                self._settle(node, live, built.contents.get(ino))
            elif node.kind == EntryKind.DIRECTORY and live is not None and not live.orphan and ino in built.trees:
                live.base, live.below = built.trees[ino], None
                if live is node:
                    live.changes = {}
                else:
                    self.touched.add(ino)
            self.release(ino)

    def _settle(self, node: Node, live: Node | None, stored: Stored | None) -> None:
        """Put stored content in the place of frozen content."""
        if isinstance(node.content, StoredContent):
            node.content.added = 0
            return
        if stored is None:
            return
        old, settled = node.content, StoredContent(stored)
        if live is not None:
            if live.content is old:
                live.content = settled
            elif isinstance(live.content, OverlayContent) and live.content.below is old:
                live.content.below = settled
            if live is not node:
                self.touched.add(live.ino)
        self.doom(old)

    def _ended(self) -> Frozen:
        assert self.frozen is not None, "BUG: nothing is frozen"
        return self.frozen
