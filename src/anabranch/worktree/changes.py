"""How a working tree differs from a version: from its base commit, as a commit of it would show, or from another.

`old` is the version that is compared with, `base` the one that the working tree stands on: clean entries belong to it.
"""

from collections.abc import Iterator

from anabranch.versions import manifests
from anabranch.versions.diff import Change, compare
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import INLINE_MAX, Entry, EntryKind, Form
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import Content, MemoryContent, StoredContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Node, entry_of
from anabranch.worktree.table import Table

Side = Node | Entry | None


def changes(table: Table, base: Version, old: Version | None = None) -> Iterator[Change]:
    """The changes in order of their paths' parts. The working tree must not be changed meanwhile."""
    old = old or base
    yield from _root_change(table, base, old)
    every_link = old.links != base.links or any(table.nodes[ino].link_id for ino in _uncommitted(table))
    stack = [_pairs(b"", table, base, old, old.root, table.nodes[table.root], every_link=every_link)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, before, after = found
        change = compare(path, before, _entry(table, base, after))
        if change is not None:
            yield change
        if _is_directory(before) or _is_directory(after):
            stack.append(_pairs(path + b"/", table, base, old, before, after, every_link=every_link))


def is_clean(table: Table, base: Version) -> bool:
    """Whether nothing differs from the base commit."""
    return not _uncommitted(table) or next(changes(table, base), None) is None


def _uncommitted(table: Table) -> set[Inode]:
    """Inodes that may differ from the base: what a commit under way has frozen is not committed yet."""
    return table.dirty if table.frozen is None else table.dirty | (table.frozen.nodes.keys() & table.nodes.keys())


def _root_change(table: Table, base: Version, old: Version) -> Iterator[Change]:
    if old.root.mtime_ns:  # the empty commit has no attributes of its own
        change = compare(b".", old.root, _entry(table, base, table.nodes[table.root]))
        if change is not None:
            yield change


def _is_directory(side: Side) -> bool:
    return side is not None and side.kind == EntryKind.DIRECTORY


def _pairs(
    path: bytes, table: Table, base: Version, old: Version, before: Entry | None, after: Side, *, every_link: bool
) -> Iterator[tuple[bytes, Entry | None, Side]]:
    """The names in two directories that may differ, those of the old one with hard links resolved.

    `every_link`: hard-linked files may differ though the names that lead to them do not, so every name is looked at.
    """
    old_tree = before.tree if before is not None and _is_directory(before) else EMPTY_TREE
    if isinstance(after, Node) and _is_directory(after) and after.base == old_tree and not every_link:
        changed = table.changes(after)
        for name in sorted(changed):
            left = old.trees.lookup(old_tree, name)
            right = None if changed[name] == WHITEOUT else table.nodes[changed[name]]
            if left is not None or right is not None:
                yield path + name, left and old.resolve(left)[0], right
        return
    if isinstance(after, Entry) and _is_directory(after) and not every_link:
        for name, left, entry in old.trees.diff(old_tree, after.tree):
            yield path + name, left and old.resolve(left)[0], entry
        return
    lefts, rights = dict(old.trees.entries(old_tree)), _children(table, base, after)
    for name in sorted(lefts.keys() | rights.keys()):
        left = lefts.get(name)
        yield path + name, left and old.resolve(left)[0], rights.get(name)


def _children(table: Table, base: Version, directory: Side) -> dict[bytes, Node | Entry]:
    if isinstance(directory, Node) and _is_directory(directory):
        return {name: _linked(table, name, child) for name, child in table.children(directory)}
    if isinstance(directory, Entry) and _is_directory(directory):
        return {name: _linked(table, name, child) for name, child in base.trees.entries(directory.tree)}
    return {}


def _linked(table: Table, name: bytes, child: Node | Entry) -> Node | Entry:
    """A clean name may lead to a hard-linked file that is not clean, in whatever directory."""
    if isinstance(child, Entry) and child.kind == EntryKind.LINK:
        return table.nodes.get(table.clean_number(table.root, name, child), child)
    return child


def _entry(table: Table, base: Version, side: Side) -> Entry | None:
    if side is None:
        return None
    if isinstance(side, Entry):
        return base.resolve(side)[0]
    if side.kind == EntryKind.DIRECTORY:
        return Entry(side.kind, side.mode, side.uid, side.gid, side.mtime_ns)
    return entry_of(side, _as_stored(side.content) if side.kind == EntryKind.FILE else None)


def _as_stored(content: Content) -> Stored:
    if isinstance(content, StoredContent):
        return content.stored
    if isinstance(content, MemoryContent) and content.size <= INLINE_MAX:
        return manifests.inline(bytes(content.data))
    return Stored(content.size, Form.EMPTY, b"not yet stored")
