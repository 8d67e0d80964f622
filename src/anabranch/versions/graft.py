"""Putting an entry at a path of a version's trees; and following directories that one side of a merge renamed."""

from collections.abc import Iterable, Iterator

import msgspec

from anabranch.ids import ObjectId
from anabranch.versions import xattrs
from anabranch.versions.diff import compare
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.trees import EMPTY_TREE, Pair, Trees
from anabranch.versions.walks import directories_above, walk

Rename = tuple[bytes, bytes]
"""The path of a directory before, and after."""


def graft(trees: Trees, root: Entry, path: bytes, entry: Entry | None, looks: Entry) -> Entry | None:
    """The root with another entry, or none, at a path. Directories that are missing above it look as in another root.

    None where something is in the way.
    """
    *above, last = path.split(b"/")
    way: list[tuple[Entry, bytes]] = []
    directory, like = root, looks
    for name in above:
        way.append((directory, name))
        found = trees.lookup(directory.tree, name)
        other = trees.lookup(like.tree, name) if like.kind is EntryKind.DIRECTORY else None
        like = other if other is not None else like
        if found is None:
            found = msgspec.structs.replace(like, size=0, content=EMPTY_TREE, extra=xattrs.of(like).tags() or None)
        if found.kind is not EntryKind.DIRECTORY:
            return None
        directory = found
    built = trees.directory(directory, trees.apply(directory.tree, [(last, entry)]))
    for directory, name in reversed(way):
        built = trees.directory(directory, trees.apply(directory.tree, [(name, built)]))
    return built


def at(trees: Trees, root: Entry, path: bytes) -> Entry | None:
    """What is at a path below a root, hard links as they are."""
    entry: Entry | None = root
    for name in path.split(b"/"):
        entry = trees.lookup(entry.tree, name) if entry is not None and entry.kind is EntryKind.DIRECTORY else None
    return entry


def followed(trees: Trees, base: Entry, renamer: Entry, other: Entry) -> tuple[Entry, Entry]:
    """Base and other side with the directories renamed that the renamer renamed, and the other side changed."""
    for old, new in _renames(trees, base, renamer, other):
        moved_base = _moved(trees, base, old, new, renamer)
        moved_other = _moved(trees, other, old, new, renamer)
        if moved_base is not None and moved_other is not None:
            base, other = moved_base, moved_other
    return base, other


def _moved(trees: Trees, root: Entry, old: bytes, new: bytes, looks: Entry) -> Entry | None:
    """The root with a directory at another path; None where something is in the way."""
    entry = at(trees, root, old)
    if at(trees, root, new) is not None:
        return None
    without = graft(trees, root, old, None, root)
    return None if without is None else graft(trees, without, new, entry, looks)


def _renames(trees: Trees, base: Entry, renamer: Entry, other: Entry) -> list[Rename]:
    """Directories that the renamer has at one new path, to the byte, and the other side has changed at the old one."""
    gone, come = _gone_and_come(trees, base, renamer)
    wanted: dict[ObjectId, list[bytes]] = {}
    for path, directory in gone:  # grows while it is walked
        now = at(trees, other, path)
        if now is None or now.kind is not EntryKind.DIRECTORY:
            continue
        if now.tree == directory.tree and compare(path, directory, now) is None:
            continue
        if directory.tree != EMPTY_TREE:
            wanted.setdefault(directory.tree, []).append(path)
        gone += _directories(trees, path, directory)
    places: dict[ObjectId, list[bytes]] = {tree: [] for tree in wanted}
    for path, directory in come if wanted else ():  # grows while it is walked
        if directory.tree in places:
            places[directory.tree].append(path)
        else:
            come += _directories(trees, path, directory)
    found = [(old[0], places[tree][0]) for tree, old in wanted.items() if len(old) == len(places[tree]) == 1]
    olds = {old for old, _ in found}
    return [(old, new) for old, new in found if olds.isdisjoint(directories_above(old))]


def _gone_and_come(trees: Trees, base: Entry, renamer: Entry) -> tuple[list[tuple[bytes, Entry]], ...]:
    """The directories that the renamer has no more, and those that it has made; of each the topmost."""
    gone: list[tuple[bytes, Entry]] = []
    come: list[tuple[bytes, Entry]] = []

    def names(prefix: bytes, old: Entry, new: Entry) -> Iterator[Pair]:
        return ((prefix + name, left, right) for name, left, right in trees.diff(old.tree, new.tree))

    def below(pair: Pair) -> Iterator[Pair] | None:
        path, left, right = pair
        both = left is not None and right is not None and left.kind == right.kind == EntryKind.DIRECTORY
        return names(path + b"/", left, right) if both and left and right else None

    for path, left, right in walk(names(b"", base, renamer), below):
        for one, another, found in ((left, right, gone), (right, left, come)):
            is_alone = another is None or another.kind is not EntryKind.DIRECTORY
            if one is not None and one.kind is EntryKind.DIRECTORY and is_alone:
                found.append((path, one))
    return gone, come


def _directories(trees: Trees, path: bytes, directory: Entry) -> Iterable[tuple[bytes, Entry]]:
    if not directory.tag(Tag.SUBDIRECTORIES):  # then nothing of it need be read
        return []
    return [(path + b"/" + name, entry) for name, entry in trees.entries(directory.tree) if _is_directory(entry)]


def _is_directory(entry: Entry) -> bool:
    return entry.kind is EntryKind.DIRECTORY
