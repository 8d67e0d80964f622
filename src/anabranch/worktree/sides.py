"""Two sides of a path: what a version holds there, and what a working tree has, for looking only.

Nothing is made a node that is none: a clean name is the entry of its tree.
"""

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter

from anabranch.errors import NotFoundError, UsageError
from anabranch.versions import manifests
from anabranch.versions.diff import NOT_STORED
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import INLINE_MAX, Entry, EntryKind, Form
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import Content, MemoryContent, StoredContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Node, entry_of
from anabranch.worktree.table import Table

Side = Node | Entry | None
"""What is at a path: changed, clean, or nothing. A hard link's clean entry is not yet resolved."""
Pair = tuple[bytes, Entry | None, Side]


def is_directory(side: Side) -> bool:
    """Whether there is a directory."""
    return side is not None and side.kind == EntryKind.DIRECTORY


def side_at(table: Table, path: bytes) -> Side:
    """What is at a path; the empty path is the root's."""
    side: Side = table.nodes[table.root]
    for name in filter(None, path.split(b"/")):
        if side is None or not is_directory(side):
            return None
        side = table.side(side, name)
    return side


def sides_in(table: Table, path: bytes) -> Iterator[tuple[bytes, Node | Entry]]:
    """What is in a directory, in order of names. Raises NotFoundError, UsageError."""
    directory, shown = side_at(table, path), path.decode(errors="replace") or "."
    if directory is None:
        raise NotFoundError(f"the branch has no {shown}")
    if not is_directory(directory):
        raise UsageError(f"{shown} is not a directory")
    return table.children(directory)


def changed_children(table: Table, side: Side) -> Iterator[tuple[bytes, Node]]:
    """What has changed in a directory and is there, in order of names."""
    if isinstance(side, Node) and is_directory(side):
        for name, ino in sorted(table.changes(side).items()):
            if ino != WHITEOUT:
                yield name, table.nodes[ino]


def side_link_id(side: Side) -> bytes:
    """The id that a name of a file with hard links holds; empty for everything else."""
    if isinstance(side, Node):
        return side.link_id
    return side.content if side is not None and side.kind is EntryKind.LINK else b""


def side_entry(table: Table, base: Version, side: Side) -> Entry | None:
    """What is there, as a commit would hold it; content that is not stored differs from all that is."""
    side = _resolved(table, base, side)
    if side is None or isinstance(side, Entry):
        return side
    if side.kind is EntryKind.DIRECTORY:
        return Entry(
            side.kind, side.mode, side.uid, side.gid, side.mtime_ns, content=side.base, extra=side.xattrs.tags() or None
        )
    return entry_of(side, _as_stored(side.content) if side.kind is EntryKind.FILE else None)


def side_content(table: Table, base: Version, side: Side) -> Content | None:
    """What a file holds; None of everything else."""
    side = _resolved(table, base, side)
    if side is None or side.kind is not EntryKind.FILE:
        return None
    return StoredContent(manifests.of(side)) if isinstance(side, Entry) else side.content


def _resolved(table: Table, base: Version, side: Side) -> Side:
    """The file behind a hard link's clean entry, which may have changed through another name."""
    if isinstance(side, Entry) and side.kind is EntryKind.LINK:
        side = table.nodes.get(table.clean_number(table.root, b"", side), side)
    return base.resolve(side)[0] if isinstance(side, Entry) else side


def child_pairs(prefix: bytes, table: Table, old: Version, before: Entry | None, after: Side) -> Iterator[Pair]:
    """The names in two directories that may differ: the trees' differences, but for names that are changed."""
    old_tree = before.tree if before is not None and is_directory(before) else EMPTY_TREE
    tree, changed = EMPTY_TREE, dict[bytes, Inode]()
    if isinstance(after, Node) and is_directory(after):
        tree, changed = after.base, table.changes(after)
    elif isinstance(after, Entry) and is_directory(after):
        tree = after.tree
    clean: Iterator[Pair] = (pair for pair in old.trees.diff(old_tree, tree) if pair[0] not in changed)
    live: Iterator[Pair] = (
        (name, old.trees.lookup(old_tree, name), None if child == WHITEOUT else table.nodes[child])
        for name, child in sorted(changed.items())
    )
    for name, left, right in merge(clean, live, key=itemgetter(0)):
        if left is not None or right is not None:
            yield prefix + name, left, right


def uncommitted(table: Table) -> set[Inode]:
    """The inodes that may differ from the base: what a commit under way has frozen is not committed yet."""
    return table.dirty if table.frozen is None else table.dirty | (table.frozen.nodes.keys() & table.nodes.keys())


def changed_links(table: Table, base: Version, old: Version) -> set[bytes]:
    """The hard-linked files of the old version that may hold something else now."""
    changed = {
        linked for linked, left, right in old.trees.diff_links(old.links, base.links)
        if left is not None and (right is None or left.entry != right.entry)
    }  # fmt: skip
    for node in (table.nodes[ino] for ino in uncommitted(table)):
        row = old.trees.link(old.links, node.link_id) if node.link_id and not node.orphan else None
        if row is not None and row.entry != side_entry(table, base, node):
            changed.add(node.link_id)
    return changed


def _as_stored(content: Content) -> Stored:
    if isinstance(content, StoredContent):
        return content.stored
    if isinstance(content, MemoryContent) and content.size <= INLINE_MAX:
        return manifests.inline(bytes(content.data))
    return Stored(content.size, Form.CHUNK, NOT_STORED)
