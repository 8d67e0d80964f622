"""What of a frozen generation goes into a commit, and what it leaves out: ignored names, and all but some paths.

Any thread may divide: frozen nodes are never written, and those that are in the commit in part are copied.
"""

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from anabranch.errors import NotFoundError, RefusedError
from anabranch.ids import ObjectId
from anabranch.versions import xattrs
from anabranch.versions.diff import is_nobodys
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import Sources
from anabranch.worktree.frozen import Frozen, LeftOut
from anabranch.worktree.ignore import NAME, Rules, patterns
from anabranch.worktree.inodes import WHITEOUT, Inode, Node


def divide(
    frozen: Frozen, base: Version, sources: Sources, paths: Collection[bytes] | None = None
) -> tuple[Frozen, LeftOut]:
    """What a commit holds of what was frozen, and what it leaves out; of `paths`, all that is not at or below them.

    Raises NotFoundError for a path that neither the base nor the generation has, RefusedError for a part of a
    directory that was renamed.
    """
    if paths is None and not any(_has_rules(frozen, base, node) for node in frozen.nodes.values()):
        return frozen, LeftOut()
    return _Division(frozen, base, sources, paths).run()


def _has_rules(frozen: Frozen, base: Version, node: Node) -> bool:
    return node.kind is EntryKind.DIRECTORY and _child(frozen, base, node, NAME) is not None


def _child(frozen: Frozen, base: Version, directory: Node, name: bytes) -> Node | Entry | None:
    ino = directory.changes.get(name)
    if ino is not None:
        return None if ino == WHITEOUT else frozen.nodes[ino]
    return _lookup(base, directory.base, name)


def _lookup(base: Version, tree: ObjectId, name: bytes) -> Entry | None:
    return None if tree == EMPTY_TREE else base.trees.lookup(tree, name)


@dataclass(frozen=True, slots=True)
class _Place:
    """A changed directory that a commit holds at least in part."""

    path: bytes
    node: Node
    was: Entry | None
    """The directory that the base commit has there."""
    rules: Rules
    whole: bool = True
    """Whether all of it is asked for."""


@dataclass(slots=True)
class _Division:
    frozen: Frozen
    base: Version
    sources: Sources
    paths: Collection[bytes] | None
    kept: dict[Inode, Node] = field(default_factory=dict)
    left: LeftOut = field(default_factory=LeftOut)
    above: set[bytes] = field(default_factory=set)
    """The directories that lead to the paths."""
    moved: set[bytes] = field(default_factory=set)
    """Files with hard links that have names in directories which the commit has in another place."""

    def run(self) -> tuple[Frozen, LeftOut]:
        self._check_paths()
        root = self.frozen.nodes[self.frozen.root]
        whole = self.paths is None or b"" in self.paths
        places = [_Place(b"", root, self.base.root, self._rules(Rules(), b"", root), whole=whole)]
        for place in places:  # grows while it is walked: parents before children
            places += self._directory(place)
        self._linked()
        dead = self.frozen.dead_links
        if self.left:
            self.left.dead_links |= dead
        return replace(self.frozen, nodes=self.kept, partial=bool(self.left)), self.left

    def _check_paths(self) -> None:
        for path in sorted(self.paths or ()):
            if self.base.named(path) is None and not self._exists(path):
                name = path.decode(errors="replace")
                raise NotFoundError(
                    f"neither the branch nor its last commit has {name}", hint="'ana status' lists what has changed"
                )
            while path := path.rpartition(b"/")[0]:
                self.above.add(path)

    def _exists(self, path: bytes) -> bool:
        side: Node | Entry | None = self.frozen.nodes[self.frozen.root]
        for name in path.split(b"/"):
            if side is None or side.kind is not EntryKind.DIRECTORY:
                return False
            if isinstance(side, Node):
                side = _child(self.frozen, self.base, side, name)
            else:
                side = _lookup(self.base, side.tree, name)
        return side is not None

    def _rules(self, above: Rules, path: bytes, node: Node) -> Rules:
        return above.within(path, patterns(_child(self.frozen, self.base, node, NAME), self.sources))

    def _directory(self, place: _Place) -> Iterator[_Place]:
        """Divide the changes of a directory; yields those below that are to be divided in turn."""
        node, kept = place.node, dict[bytes, Inode]()
        is_moved = node.base != (place.was.tree if place.was else EMPTY_TREE)
        if is_moved:
            self.moved |= self._links_in(node.base)
        if is_moved and not place.whole:
            shown = place.path.decode(errors="replace")
            raise RefusedError(f"{shown} was renamed, and can be committed only whole", hint=f"ana commit {shown}")
        for name, child in node.changes.items():
            path = place.path + b"/" + name if place.path else name
            was = _lookup(self.base, place.was.tree, name) if place.was else None
            asked = place.whole or path in (self.paths or ())
            below = None if child == WHITEOUT else self.frozen.nodes[child]
            is_directory = below is not None and below.kind is EntryKind.DIRECTORY
            matches = place.rules.ignores(path, directory=is_directory)
            is_new = below is not None and was is None and _lookup(self.base, node.base, name) is None
            if (is_new and matches) or not (asked or (is_directory and path in self.above)):
                self._leave(node, name, child)
                continue
            kept[name] = child
            if below is not None and is_directory:
                before = was if was is not None and was.kind is EntryKind.DIRECTORY else None
                yield _Place(path, below, before, self._rules(place.rules.below(matches), path, below), asked)
            elif below is not None:
                self.kept[child] = below
        self._keep(place, kept)

    def _keep(self, place: _Place, changes: dict[bytes, Inode]) -> None:
        node = place.node
        if len(changes) != len(node.changes):
            node = copy.copy(node)
            node.changes = changes
        was = place.was
        if not place.whole and was is not None and not is_nobodys(self.base):
            dress, held = (was.mode, was.uid, was.gid, was.mtime_ns), xattrs.of(was)
            if dress != (node.mode, node.uid, node.gid, node.mtime_ns) or held.tags() != node.xattrs.tags():
                node = copy.copy(node)
                node.mode, node.uid, node.gid, node.mtime_ns = dress
                node.xattrs = held
                self.left.also.add(node.ino)
        self.kept[node.ino] = node

    def _leave(self, directory: Node, name: bytes, child: Inode) -> None:
        """Leave a name out, with all that has changed below it."""
        self.left.names.append((directory.ino, name))
        entry = _lookup(self.base, directory.base, name)
        if entry is not None and entry.kind is EntryKind.LINK:
            self.left.links.add(entry.content)
        elif entry is not None and entry.kind is EntryKind.DIRECTORY:
            self.left.links |= self._links_in(entry.tree)
        below = [child] if child != WHITEOUT else []
        for ino in below:  # grows while it is walked
            node = self.frozen.nodes[ino]
            self.left.nodes.add(ino)
            self.left.links |= self._links_in(node.base)
            below += (each for each in node.changes.values() if each != WHITEOUT)

    def _links_in(self, tree: ObjectId) -> set[bytes]:
        """The files with hard links that have a name in a directory as it was, or below it."""
        if tree == EMPTY_TREE or not self.base.trees.totals(tree).links:
            return set()
        return {link_id for link_id, _ in self.base.trees.moved_links(EMPTY_TREE, tree)}

    def _linked(self) -> None:
        """Files with hard links have no place of their own: they are where their names are."""
        for ino, node in self.frozen.nodes.items():
            if not node.link_id:
                continue
            names = list(self.base.trees.link_names(self.base.links, node.link_id))
            asked = self.paths is None or node.link_id in self.moved or any(map(self._is_below, names))
            if names and asked:
                self.kept[ino] = node
            elif ino not in self.kept:
                self.left.nodes.add(ino)
        self.left.also |= self.left.nodes & self.kept.keys()
        self.left.nodes -= self.kept.keys()

    def _is_below(self, path: bytes) -> bool:
        while path and path not in (self.paths or ()):
            path = path.rpartition(b"/")[0]
        return path in (self.paths or ())
