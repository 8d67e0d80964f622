"""The differences of two versions, path by path, at a cost that follows the differences."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge
from itertools import groupby
from typing import TypeVar

from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Pair, Version


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
        return Change(path, change, one.kind, _size(old), _size(new))
    if old.kind != new.kind:
        return Change(path, ChangeKind.TYPE, new.kind, _size(old), _size(new))
    if new.kind is EntryKind.DIRECTORY:
        same = (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
        return None if same else Change(path, ChangeKind.ATTRIBUTES, EntryKind.DIRECTORY, None, None)
    if old == new:
        return None
    change = ChangeKind.ATTRIBUTES if old.same_content(new) else ChangeKind.MODIFIED
    return Change(path, change, new.kind, _size(old), _size(new))


def _size(entry: Entry | None) -> int | None:
    return None if entry is None or entry.kind is EntryKind.DIRECTORY else entry.size


def diff(old: Version, new: Version) -> Iterator[Change]:
    """The changes from one version to another, in order of their paths' parts.

    The time of a directory alone is no change; nor are the root's attributes against the empty commit, which has none
    of its own.
    """
    if old.root.tree != EMPTY_TREE or old.root.mtime_ns:
        change = compare(b".", old.root, new.root)
        if change is not None:
            yield change
    for path, before, after in in_order(_differing_names(old, new), iter(_same_names(old, new))):
        change = compare(path, before and old.resolve(before)[0], after and new.resolve(after)[0])
        if change is not None:
            yield change


AnyPair = TypeVar("AnyPair", bound=tuple[bytes, object, object])


def in_order(*pairs: Iterator[AnyPair]) -> Iterator[AnyPair]:
    """Pairs of several sources, each in order of their paths' parts, as one; what several have comes once."""
    for _, equal in groupby(merge(*pairs, key=path_order), key=path_order):
        yield next(equal)


def path_order(pair: tuple[bytes, object, object]) -> list[bytes]:
    """Sorts as a walk meets paths: a directory, what is in it, then its next sibling."""
    return pair[0].split(b"/")


def _differing_names(old: Version, new: Version) -> Iterator[Pair]:
    """The paths whose own entries differ; a hard link's entry is its link id alone."""
    stack = [_prefixed(b"", new.trees.diff(old.root.tree, new.root.tree))]
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            continue
        yield pair
        path, left, right = pair
        if _is_directory(left) or _is_directory(right):
            before, after = (entry.tree if entry and _is_directory(entry) else EMPTY_TREE for entry in (left, right))
            stack.append(_prefixed(path + b"/", new.trees.diff(before, after)))


def _prefixed(prefix: bytes, pairs: Iterator[Pair]) -> Iterator[Pair]:
    return ((prefix + name, before, after) for name, before, after in pairs)


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is EntryKind.DIRECTORY


def _same_names(old: Version, new: Version) -> list[Pair]:
    """The paths at which a hard link's entry is the same on both sides, while what it leads to differs."""
    changed = [
        link_id
        for link_id, left, right in new.trees.diff_links(old.links, new.links)
        if left is not None and right is not None and left.entry != right.entry
    ]
    pairs: list[Pair] = []
    for link_id in changed:
        entry = Entry(EntryKind.LINK, content=link_id)
        stayed = set(old.trees.link_names(old.links, link_id)) & set(new.trees.link_names(new.links, link_id))
        pairs += ((path, entry, entry) for path in stayed)
    return sorted(pairs, key=path_order)
