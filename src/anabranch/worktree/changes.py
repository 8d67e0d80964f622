"""How a working tree differs from a version: from its base commit, as a commit of it would show, or from another.

`old` is the version that is compared with, `base` the one that the working tree stands on: clean entries belong to it.
Costs what differs between the two versions, and what is not committed.
"""

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter

from anabranch.ids import ID_SIZE
from anabranch.versions import manifests
from anabranch.versions.diff import Change, compare, in_order, is_nobodys, path_order, walk
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import INLINE_MAX, Entry, EntryKind, Form
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import Content, MemoryContent, StoredContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Node, entry_of
from anabranch.worktree.table import Table

Side = Node | Entry | None
"""What is at a path: changed, clean, or nothing. A hard link's clean entry is not yet resolved."""
Pair = tuple[bytes, Entry | None, Side]

_NOT_STORED = b"\xff" * ID_SIZE
"""In the place of a chunk's id: content that is not yet stored, and so differs from all that is."""


def changes(table: Table, base: Version, old: Version | None = None) -> Iterator[Change]:
    """The changes in order of their paths' parts. The working tree must not be changed meanwhile."""
    old = old or base
    yield from _root_change(table, base, old)
    for path, before, after in in_order(_differing_names(table, old), iter(_same_names(table, base, old))):
        change = compare(path, before and old.resolve(before)[0], side_entry(table, base, after))
        if change is not None:
            yield change


def is_clean(table: Table, base: Version) -> bool:
    """Whether nothing differs from the base commit, nor which names are those of one file."""
    if not _uncommitted(table):
        return True
    return not any(changes(table, base)) and not _is_regrouped(table, base)


def _is_regrouped(table: Table, base: Version) -> bool:
    """Whether other names than before are names of one file, where no path differs."""
    fresh = False
    for node in (table.nodes[ino] for ino in _uncommitted(table)):
        if node.link_id and not node.orphan:
            row = base.trees.link(base.links, node.link_id)
            fresh |= row is None
            if row is not None and row.names != node.links:
                return True
    dead = table.dead_links if table.frozen is None else table.dead_links | table.frozen.dead_links
    groups = {frozenset(base.trees.link_names(base.links, link_id)) for link_id in dead}
    new = {frozenset(names) for names in _linked_names(table, base).values()} if fresh else set()
    return any(len(group) > 1 for group in groups ^ new)


def _linked_names(table: Table, base: Version) -> dict[bytes, set[bytes]]:
    """The names of hard-linked files that the base does not know."""
    names: dict[bytes, set[bytes]] = {}
    directories = [(b"", table.nodes[table.root])]
    for prefix, directory in directories:  # grows while it is walked
        for name, ino in table.changes(directory).items():
            child = table.nodes.get(ino)
            if child is None:
                continue
            if is_directory(child):
                directories.append((prefix + name + b"/", child))
            elif child.link_id and base.trees.link(base.links, child.link_id) is None:
                names.setdefault(child.link_id, set()).add(prefix + name)
    return names


def _uncommitted(table: Table) -> set[Inode]:
    """Inodes that may differ from the base: what a commit under way has frozen is not committed yet."""
    return table.dirty if table.frozen is None else table.dirty | (table.frozen.nodes.keys() & table.nodes.keys())


def _root_change(table: Table, base: Version, old: Version) -> Iterator[Change]:
    if not is_nobodys(old):
        change = compare(b".", old.root, side_entry(table, base, table.nodes[table.root]))
        if change is not None:
            yield change


def _differing_names(table: Table, old: Version) -> Iterator[Pair]:
    """The paths whose own entries may differ."""

    def below(pair: Pair) -> Iterator[Pair] | None:
        path, before, after = pair
        look = is_directory(before) or is_directory(after)
        return child_pairs(path + b"/", table, old, before, after) if look else None

    return walk(child_pairs(b"", table, old, old.root, table.nodes[table.root]), below)


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


def is_directory(side: Side) -> bool:
    """Whether there is a directory."""
    return side is not None and side.kind == EntryKind.DIRECTORY


def _same_names(table: Table, base: Version, old: Version) -> list[Pair]:
    """The paths at which a hard link's name stayed, while the file that it leads to may differ."""
    pairs: list[Pair] = []
    for linked in changed_links(table, base, old):
        for path in old.trees.link_names(old.links, linked):
            side = side_at(table, path)
            if side_link_id(side) == linked:
                pairs.append((path, Entry(EntryKind.LINK, content=linked), side))
    return sorted(pairs, key=path_order)


def changed_links(table: Table, base: Version, old: Version) -> set[bytes]:
    """The hard-linked files of the old version that may hold something else now."""
    changed = {
        linked for linked, left, right in old.trees.diff_links(old.links, base.links)
        if left is not None and (right is None or left.entry != right.entry)
    }  # fmt: skip
    for node in (table.nodes[ino] for ino in _uncommitted(table)):
        row = old.trees.link(old.links, node.link_id) if node.link_id and not node.orphan else None
        if row is not None and row.entry != side_entry(table, base, node):
            changed.add(node.link_id)
    return changed


def side_at(table: Table, path: bytes) -> Side:
    """What is at a path; the empty path is the root's."""
    side: Side = table.nodes[table.root]
    for name in filter(None, path.split(b"/")):
        if side is None or not is_directory(side):
            return None
        side = table.side(side, name)
    return side


def side_link_id(side: Side) -> bytes:
    """The id that a name of a file with hard links holds; empty for everything else."""
    if isinstance(side, Node):
        return side.link_id
    return side.content if side is not None and side.kind is EntryKind.LINK else b""


def side_entry(table: Table, base: Version, side: Side) -> Entry | None:
    """What is there, as a commit would hold it; content that is not stored differs from all that is."""
    if isinstance(side, Entry) and side.kind is EntryKind.LINK:
        side = table.nodes.get(table.clean_number(table.root, b"", side), side)
    if side is None:
        return None
    if isinstance(side, Entry):
        return base.resolve(side)[0]
    if side.kind is EntryKind.DIRECTORY:
        return Entry(side.kind, side.mode, side.uid, side.gid, side.mtime_ns, content=side.base)
    return entry_of(side, _as_stored(side.content) if side.kind is EntryKind.FILE else None)


def _as_stored(content: Content) -> Stored:
    if isinstance(content, StoredContent):
        return content.stored
    if isinstance(content, MemoryContent) and content.size <= INLINE_MAX:
        return manifests.inline(bytes(content.data))
    return Stored(content.size, Form.CHUNK, _NOT_STORED)
