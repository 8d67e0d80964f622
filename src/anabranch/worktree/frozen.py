"""What passes between a working tree and a commit of it: what was frozen, what is left out, what was built."""

from dataclasses import dataclass, field

from anabranch.ids import ObjectId
from anabranch.versions.manifests import Stored
from anabranch.worktree.inodes import Inode, Node


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a commit captures: every node changed since the base commit. Any thread may read it."""

    generation: int
    root: Inode
    base_commit: ObjectId
    nodes: dict[Inode, Node]
    dead_links: frozenset[bytes]
    partial: bool = False
    """Whether something was left out of it (selection.py)."""

    def path(self, node: Node) -> bytes:
        """Where one of its nodes is, for messages; of a file with hard links nobody knows, so its number."""
        if node.link_id:
            return b"inode %d" % node.ino
        names: list[bytes] = []
        while node.parent:
            names.append(node.name)
            node = self.nodes[node.parent]
        return b"/".join(reversed(names))


@dataclass(slots=True)
class LeftOut:
    """What a commit leaves uncommitted, of what was frozen."""

    names: list[tuple[Inode, bytes]] = field(default_factory=list)
    """In directories that the commit holds."""
    nodes: set[Inode] = field(default_factory=set)
    """Those of the names, and all that has changed below them."""
    also: set[Inode] = field(default_factory=set)
    """Nodes that the commit holds, and that are not as it holds them."""
    dead_links: set[bytes] = field(default_factory=set)
    links: set[bytes] = field(default_factory=set)
    """Files with hard links that have won or lost a name among `names`: they are not as the commit holds them."""

    def __bool__(self) -> bool:
        return bool(self.names or self.nodes or self.also)


@dataclass(frozen=True, slots=True)
class Built:
    """What a commit made of a frozen generation: its id, the link tree, trees and contents by inode, the rows of inode
    numbers to write with it, and what it left out.
    """

    commit: ObjectId
    links: ObjectId
    trees: dict[Inode, ObjectId]
    contents: dict[Inode, Stored]
    numbers: list[tuple[bytes, bytes | None]]
    left: LeftOut
