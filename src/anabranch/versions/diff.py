"""The differences of two versions, path by path, at a cost that follows the differences."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import merge
from itertools import groupby

from anabranch.ids import ID_SIZE
from anabranch.versions import xattrs
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Pair, Version, tree_of
from anabranch.versions.walks import AnyPair, walk

NOT_STORED = b"\xff" * ID_SIZE
"""In the place of a chunk's id: content that is not yet stored, and so differs from all that is."""


class ChangeKind(StrEnum):
    """How a path differs."""

    ADDED = "added"
    DELETED = "deleted"
    RENAMED = "renamed"
    """Told by renames.py only: here it is one path deleted and another one added."""
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
    old_path: bytes | None = None
    """Of what was renamed."""
    content: bytes = field(default=b"", compare=False, repr=False)
    """Of a file or symbolic link that is on one side only: what its content can be recognized by; empty if by nothing,
    as an empty file, or one that is not stored yet.
    """


def compare(path: bytes, old: Entry | None, new: Entry | None) -> Change | None:
    """The change between two entries with hard links resolved; None if there is none to speak of."""
    if old is None or new is None:
        one = new or old
        assert one is not None
        change = ChangeKind.ADDED if old is None else ChangeKind.DELETED
        return Change(path, change, one.kind, _size(old), _size(new), content=_recognizable(one))
    if old.kind != new.kind:
        return Change(path, ChangeKind.TYPE, new.kind, _size(old), _size(new))
    if new.kind is EntryKind.DIRECTORY:
        same = (old.mode, old.uid, old.gid, xattrs.of(old)) == (new.mode, new.uid, new.gid, xattrs.of(new))
        return None if same else Change(path, ChangeKind.ATTRIBUTES, EntryKind.DIRECTORY, None, None)
    if old == new:
        return None
    change = ChangeKind.ATTRIBUTES if old.same_content(new) else ChangeKind.MODIFIED
    return Change(path, change, new.kind, _size(old), _size(new))


def _size(entry: Entry | None) -> int | None:
    return None if entry is None or entry.kind is EntryKind.DIRECTORY else entry.size


def _recognizable(entry: Entry) -> bytes:
    if entry.kind is EntryKind.DIRECTORY or entry.content == NOT_STORED:
        return b""
    return entry.content


def diff(old: Version, new: Version, path: bytes = b"") -> Iterator[Change]:
    """The changes from one version to another at a path and below it, in order of their paths' parts.

    The time of a directory alone is no change; nor are the root's attributes against the empty commit, on either side:
    it has none of its own.
    """
    left, right = old.find(path), new.find(path)
    if path or not (is_nobodys(old) or is_nobodys(new)):
        change = compare(path or b".", left, right) if left or right else None
        if change is not None:
            yield change
    below = path + b"/" if path else b""
    names = differing_names(below, new, left, right)
    for name, before, after in in_order(names, iter(same_names(below, old, new))):
        change = compare(name, before and old.resolve(before)[0], after and new.resolve(after)[0])
        if change is not None:
            yield change


def is_regrouped(old: Version, new: Version) -> bool:
    """Whether other names than before are names of one file, though no path shows a difference."""
    changed = [link_id for link_id, _, _ in new.trees.diff_links(old.links, new.links)]
    groups = [
        sorted(names for link_id in changed if len(names := list(version.trees.link_names(version.links, link_id))) > 1)
        for version in (old, new)
    ]
    return groups[0] != groups[1]


def is_nobodys(version: Version) -> bool:
    """Whether a version is the empty commit, or nothing at all: its root directory has no attributes of its own."""
    return version.root.tree == EMPTY_TREE and not version.root.mtime_ns


def in_order(*pairs: Iterator[AnyPair]) -> Iterator[AnyPair]:
    """Pairs of several sources, each in order of their paths' parts, as one; what several have comes once."""
    for _, equal in groupby(merge(*pairs, key=path_order), key=path_order):
        yield next(equal)


def path_order(pair: tuple[bytes, object, object]) -> list[bytes]:
    """Sorts as a walk meets paths: a directory, what is in it, then its next sibling."""
    return pair[0].split(b"/")


def differing_names(prefix: bytes, new: Version, left: Entry | None, right: Entry | None) -> Iterator[Pair]:
    """The paths below two directories whose own entries differ; a hard link's entry is its link id alone."""

    def below(pair: Pair) -> Iterator[Pair] | None:
        path, before, after = pair
        return _names(path + b"/", new, before, after) if tree_of(before) != tree_of(after) else None

    return walk(_names(prefix, new, left, right), below)


def _names(prefix: bytes, version: Version, left: Entry | None, right: Entry | None) -> Iterator[Pair]:
    return ((prefix + name, old, new) for name, old, new in version.trees.diff(tree_of(left), tree_of(right)))


def same_names(prefix: bytes, old: Version, new: Version) -> list[Pair]:
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
        pairs += ((path, entry, entry) for path in stayed if path.startswith(prefix))
    return sorted(pairs, key=path_order)
