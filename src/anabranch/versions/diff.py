"""The differences of two versions, path by path, at a cost that follows the differences."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from anabranch.ids import ObjectId
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Version


class ChangeKind(StrEnum):
    """How a path differs."""

    ADDED = "added"
    DELETED = "deleted"
    MODIFIED = "modified"
    ATTRIBUTES = "attributes"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs; sizes in bytes, None where the path is not there."""

    path: bytes
    change: ChangeKind
    kind: EntryKind
    """Of the newer side, or of the only one."""
    old_size: int | None
    new_size: int | None


def compare(path: bytes, old: Entry | None, new: Entry | None) -> Change | None:
    """The change between two entries with hard links resolved; None if there is none to speak of."""
    if old is None or new is None:
        one = new or old
        assert one is not None
        change = ChangeKind.ADDED if old is None else ChangeKind.DELETED
        return Change(path, change, EntryKind(one.kind), _size(old), _size(new))
    if old.kind != new.kind:
        return Change(path, ChangeKind.TYPE, EntryKind(new.kind), _size(old), _size(new))
    if new.kind == EntryKind.DIRECTORY:
        same = (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
        return None if same else Change(path, ChangeKind.ATTRIBUTES, EntryKind.DIRECTORY, None, None)
    if old == new:
        return None
    change = ChangeKind.ATTRIBUTES if old.same_content(new) else ChangeKind.MODIFIED
    return Change(path, change, EntryKind(new.kind), _size(old), _size(new))


def _size(entry: Entry | None) -> int | None:
    return None if entry is None or entry.kind == EntryKind.DIRECTORY else entry.size


def diff(old: Version, new: Version) -> Iterator[Change]:
    """The changes from one version to another, in order of their paths' parts.

    The time of a directory alone is no change; nor are the root's attributes against the empty commit, which has none
    of its own.
    """
    if old.root.tree != EMPTY_TREE or old.root.mtime_ns:
        change = compare(b".", old.root, new.root)
        if change is not None:
            yield change
    changed_links = any(
        left and right and left.entry != right.entry for _, left, right in new.trees.diff_links(old.links, new.links)
    )
    stack = [_pairs(b"", old, new, old.root, new.root, every_link=changed_links)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        path, left, right = found
        change = compare(path, left, right)
        if change is not None:
            yield change
        if _is_directory(left) or _is_directory(right):
            stack.append(_pairs(path + b"/", old, new, left, right, every_link=changed_links))


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == EntryKind.DIRECTORY


def _pairs(
    path: bytes, old: Version, new: Version, left: Entry | None, right: Entry | None, *, every_link: bool
) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    """The names in two directories that may differ, hard links resolved.

    `every_link`: hard-linked files differ though the names that lead to them do not; to find them, every directory is
    read.
    """
    old_tree = left.tree if left is not None and _is_directory(left) else EMPTY_TREE
    new_tree = right.tree if right is not None and _is_directory(right) else EMPTY_TREE
    for name, before, after in (
        _with_links(new, old_tree, new_tree) if every_link else new.trees.diff(old_tree, new_tree)
    ):
        yield path + name, before and old.resolve(before)[0], after and new.resolve(after)[0]


def _with_links(version: Version, old: ObjectId, new: ObjectId) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
    before, after = dict(version.trees.entries(old)), dict(version.trees.entries(new))
    for name in sorted(before.keys() | after.keys()):
        left, right = before.get(name), after.get(name)
        if left != right or (right is not None and right.kind in (EntryKind.LINK, EntryKind.DIRECTORY)):
            yield name, left, right
