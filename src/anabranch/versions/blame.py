"""Blame: which commit last changed each name of a directory.

A name goes from a commit on to the first parent that has the same at it; where no parent has, the commit changed it.
What is the same is as in diff.py: the time of a directory alone is no change, and a hard link is what it leads to.
The names of a directory walk together, each commit is met once, and what two directories have in common is never read:
the cost follows what changed. Pure over Trees and `CommitAt`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anabranch.ids import ObjectId
from anabranch.versions.diff import compare, differing_names, same_names
from anabranch.versions.graph import CommitAt, Frontier
from anabranch.versions.objects import Commit, Entry, EntryKind
from anabranch.versions.trees import Pair, Trees, Version

_FEW = 8
"""Up to so many names are looked up one by one, whatever else changed beside them."""


@dataclass(frozen=True, slots=True)
class Blamed:
    """A name, what it is, and the commit that last changed it."""

    name: bytes
    kind: EntryKind
    id: ObjectId
    commit: Commit


@dataclass
class _Side:
    """A commit, the directory in it (None where it is none), and the names that have come to it unchanged."""

    commit: Commit
    directory: Version | None
    names: set[bytes]


def blame(
    trees: Trees, commit_at: CommitAt, start: ObjectId, path: bytes, *, recursive: bool = False
) -> Iterator[Blamed]:
    """Each name in a directory, with a commit and all that led to it looked at; of a file, that alone. As found.

    A directory in it is one name, that changes with anything below it; with `recursive`, all files below are names.
    Raises NotFoundError, UsageError as `Version.at`.
    """
    path = b"/".join(filter(None, path.split(b"/")))
    commit = commit_at(start)
    version = Version(trees, commit.root, ObjectId(commit.links))
    entry = version.at(path)
    kinds: dict[bytes, EntryKind]
    if entry.kind is not EntryKind.DIRECTORY:
        above, _, name = path.rpartition(b"/")
        path, kinds = above, {name: entry.kind}
    elif not recursive:
        kinds = {name: child.kind for name, child in version.children(entry)}
    else:
        below = differing_names(b"", version, None, entry)
        found = ((name, version.resolve(child)[0].kind) for name, _, child in below if child is not None)
        kinds = {name: kind for name, kind in found if kind is not EntryKind.DIRECTORY}
    return _Walk(trees, commit_at, path, kinds, recursive=recursive).run(start)


def differs(old: Version, new: Version, left: Entry | None, right: Entry | None) -> bool:
    """Whether two versions differ at two entries, or anywhere below; but for files of which both have the same link."""
    left, right = left and old.resolve(left)[0], right and new.resolve(right)[0]
    if left is None or right is None:
        return left is not right
    if compare(b"", left, right) is not None:
        return True
    if right.kind is not EntryKind.DIRECTORY or left.tree == right.tree:
        return False
    below = differing_names(b"", new, left, right)
    return any(
        compare(name, before and old.resolve(before)[0], after and new.resolve(after)[0])
        for name, before, after in below
    )


class _Walk:
    def __init__(
        self, trees: Trees, commit_at: CommitAt, path: bytes, kinds: dict[bytes, EntryKind], *, recursive: bool
    ) -> None:
        self._trees = trees
        self._commit_at = commit_at
        self._path = path
        self._kinds = kinds
        self._recursive = recursive
        self._frontier = Frontier()
        self._sides: dict[ObjectId, _Side] = {}
        """Of each commit of the frontier."""

    def run(self, start: ObjectId) -> Iterator[Blamed]:
        self._hand(start, self._side(start), set(self._kinds))
        while self._frontier:
            identity, commit = self._frontier.take()
            for name in self._changed_by(self._sides.pop(identity)):
                yield Blamed(name, self._kinds[name], identity, commit)

    def _side(self, identity: ObjectId) -> _Side:
        """The directory in a commit that may not be of the frontier yet."""
        if (side := self._sides.get(identity)) is not None:
            return side
        commit = self._commit_at(identity)
        links = ObjectId(commit.links)
        entry = Version(self._trees, commit.root, links).find(self._path)
        if entry is None or entry.kind is not EntryKind.DIRECTORY:
            return _Side(commit, None, set())
        return _Side(commit, Version(self._trees, entry, links), set())

    def _hand(self, identity: ObjectId, side: _Side, names: set[bytes]) -> None:
        """Names go on to a commit; the fewer join the more, so that those that never change are not copied."""
        self._frontier.add(identity, side.commit)
        self._sides[identity] = side
        fewer, side.names = sorted((side.names, names), key=len)
        side.names |= fewer

    def _changed_by(self, here: _Side) -> set[bytes]:
        """The names of which no parent has the same; the others go on."""
        names = here.names
        for number, parent in enumerate(map(ObjectId, here.commit.parents)):
            if not names:
                break
            there = self._side(parent)
            changed = self._differing(there, here, names, one_by_one=number > 0)
            names -= changed
            if names:
                self._hand(parent, there, names)
            names = changed
        return names

    def _differing(self, before: _Side, after: _Side, names: set[bytes], *, one_by_one: bool) -> set[bytes]:
        """The names, of those given, at which two commits differ. A merge's other parents may differ in much else."""
        old, new = before.directory, after.directory
        if old is None or new is None:
            return set(names)
        changed: set[bytes] = set()
        if old.root.tree != new.root.tree:
            pairs: Iterable[Pair]
            if one_by_one or len(names) <= _FEW:
                pairs = ((name, old.find(name), new.find(name)) for name in names)
            else:
                pairs = self._pairs(old, new)
            changed = {name for name, left, right in pairs if name in names and differs(old, new, left, right)}
        if old.links != new.links:
            changed |= names.intersection(self._relinked(old, new))
        return changed

    def _pairs(self, old: Version, new: Version) -> Iterator[Pair]:
        if self._recursive:
            return differing_names(b"", new, old.root, new.root)
        return self._trees.diff(old.root.tree, new.root.tree)

    def _relinked(self, old: Version, new: Version) -> Iterator[bytes]:
        """The names at which, or below which, a hard link stayed one while its file changed."""
        prefix = self._path + b"/" if self._path else b""
        for path, _, _ in same_names(prefix, old, new):
            name = path[len(prefix) :]
            yield name if self._recursive else name.partition(b"/")[0]
