"""Three versions become one: the three-way merge of whole trees, at a cost that follows what both sides changed.

docs/design/011 has the rules. Nothing is recursive in Python: paths may be deeper than its stack.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, compress

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.versions.diff import compare, path_order
from anabranch.versions.graft import at, followed, graft
from anabranch.versions.objects import Entry, EntryKind, LinkRow, Tag
from anabranch.versions.parts import are_rewritten
from anabranch.versions.threeway import Conflict, ConflictKind, dressed, kind_of, merged_leaf
from anabranch.versions.trees import EMPTY_TREE, Pair, Trees, Version, tree_of
from anabranch.versions.walks import Descent


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a conflict is resolved to: an entry, or that nothing is there."""

    entry: Entry | None


Resolve = Callable[[Conflict], Chosen | None]
"""Says what becomes of a conflict; None: it stays one."""


def unresolved(_: Conflict) -> None:
    """Every conflict stays one."""


def as_base(conflict: Conflict) -> Chosen:
    """For a virtual base: both sides will differ from it."""
    return Chosen(conflict.base)


@dataclass(frozen=True, slots=True)
class Merged:
    """What comes out. With conflicts, these paths are as in `ours`."""

    version: Version
    conflicts: list[Conflict]
    """Those that nobody resolved, in order of paths."""
    resolved: list[Conflict]


def merge(base: Version, ours: Version, theirs: Version, resolve: Resolve = unresolved) -> Merged:
    """What both sides changed since the base, together."""
    return _Merge(base, ours, theirs, resolve).run()


@dataclass(slots=True)
class _Directory:
    """A directory that is not the same on any two sides; None where a side, or the base, has none."""

    path: bytes
    name: bytes
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None
    pairs: Iterator[Pair]
    """The names on which base and theirs differ."""
    conflicts: int
    """How many there were before this directory."""
    delta: list[tuple[bytes, Entry | None]] = field(default_factory=list)
    """What is to be changed in ours."""

    def conflict(self) -> Conflict:
        """That both sides disagree on what it is, whatever is in it."""
        kind = kind_of(self.base, self.ours, self.theirs)
        return Conflict(self.path, kind, self.base, self.ours, self.theirs)

    def trees(self) -> Iterator[object]:
        """The trees of both sides, each for its side."""
        return ((number, side.tree) for number, side in enumerate((self.ours, self.theirs)) if side is not None)


class _Merge:
    """One merge on its way."""

    def __init__(self, base: Version, ours: Version, theirs: Version, resolve: Resolve) -> None:
        self._trees = ours.trees
        self._versions = base, ours, theirs
        self._resolve = resolve
        self._conflicts: list[Conflict] = []
        self._resolved: list[Conflict] = []

    def run(self) -> Merged:
        """Trees first; then the files with hard links, whose names have come together by that."""
        base, ours, theirs = self._versions
        root_base, root_theirs = followed(self._trees, base.root, ours.root, theirs.root)
        root_base, root_ours = followed(self._trees, root_base, root_theirs, ours.root)
        root = self._roots(root_base, root_ours, root_theirs)
        if any(version.links != ours.links for version in self._versions) or root.tag(Tag.LINKS):
            version = _Links(self, root).run()
        else:
            version = Version(self._trees, root, ours.links)
        self._conflicts.sort(key=lambda conflict: path_order((conflict.path, None, None)))
        return Merged(version, self._conflicts, self._resolved)

    def conflict(self, conflict: Conflict) -> Entry | None:
        """What is there afterwards."""
        chosen = self.chosen(conflict)
        self.note(conflict, is_resolved=chosen is not None)
        return conflict.ours if chosen is None else chosen.entry

    def chosen(self, conflict: Conflict) -> Chosen | None:
        """What somebody has said of a conflict; whoever asks notes what came of it."""
        return self._resolve(conflict)

    def note(self, conflict: Conflict, *, is_resolved: bool) -> None:
        """Keep what became of a conflict."""
        (self._resolved if is_resolved else self._conflicts).append(conflict)

    def disputed(self) -> set[bytes]:
        """The paths of the conflicts up to now, but for directories that are there on both sides."""
        return {each.path for each in self._conflicts if not (_is_directory(each.ours) and _is_directory(each.theirs))}

    @property
    def versions(self) -> tuple[Version, Version, Version]:
        """Base, ours, theirs."""
        return self._versions

    # --- trees ---

    def _roots(self, base: Entry, ours: Entry, theirs: Entry) -> Entry:
        if base == ours:
            return theirs
        top = self._directory(b"", b"", base, ours, theirs)
        stack, descent = [top], Descent()
        while True:
            directory = stack[-1]
            pair = next(directory.pairs, None)
            if pair is not None:
                if (inside := self._name(directory, *pair)) is not None:
                    descent.enter(inside.path, inside.trees())
                    stack.append(inside)
                continue
            stack.pop()
            entry = self._closed(directory)
            if not stack:
                assert entry is not None, "BUG: a root was deleted"
                return entry
            descent.leave()
            if entry != directory.ours:
                stack[-1].delta.append((directory.name, entry))

    def _directory(
        self, path: bytes, name: bytes, base: Entry | None, ours: Entry | None, theirs: Entry | None
    ) -> _Directory:
        pairs = self._trees.diff(tree_of(base), tree_of(theirs))
        return _Directory(path, name, base, ours, theirs, pairs, len(self._conflicts))

    def _name(self, directory: _Directory, name: bytes, base: Entry | None, theirs: Entry | None) -> _Directory | None:
        """Merge a name; returns what is to be entered for that."""
        path = directory.path + b"/" + name if directory.path else name
        tree = tree_of(directory.ours)
        ours = None if tree == EMPTY_TREE else self._trees.lookup(tree, name)
        if ours == theirs:
            return None
        if ours == base:
            directory.delta.append((name, theirs))
            return None
        is_rewritten = are_rewritten(self._trees, base, ours, theirs)
        if not is_rewritten and _is_entered(base, ours, theirs):
            return self._directory(path, name, base if _is_directory(base) else None, ours, theirs)
        entry = None if is_rewritten else merged_leaf(base, ours, theirs)
        if entry is None:
            entry = self.conflict(Conflict(path, kind_of(base, ours, theirs), base, ours, theirs))
        if entry != ours:
            directory.delta.append((name, entry))
        return None

    def _closed(self, directory: _Directory) -> Entry | None:
        """The entry of a directory whose names are merged."""
        ours, theirs = directory.ours, directory.theirs
        tree = tree_of(ours)
        if directory.delta:
            tree = self._trees.apply(tree, directory.delta)
        if ours is None or theirs is None:
            there = ours or theirs
            return (
                self._emptied(directory) if tree == EMPTY_TREE or there is None else self._trees.directory(there, tree)
            )
        dress = dressed(ours, directory.base, ours, theirs)
        if dress is None:
            dress = self.conflict(directory.conflict())
            if dress is None or dress.kind is not EntryKind.DIRECTORY:
                return dress
        return self._trees.directory(dress, tree)

    def _emptied(self, directory: _Directory) -> Entry | None:
        """What becomes of a directory that one side deleted, and in which nothing is left: it goes, unless the other
        side gave it other attributes. With conflicts in it, these are what is to be decided.
        """
        there = directory.ours or directory.theirs
        if compare(directory.path, directory.base, there) is None or len(self._conflicts) > directory.conflicts:
            return None
        entry = self.conflict(directory.conflict())
        if entry is None or entry.kind is not EntryKind.DIRECTORY:
            return entry
        return self._trees.directory(entry, EMPTY_TREE)


class _Links:
    """The files with hard links of a merge whose trees are done: one content for all names."""

    def __init__(self, merge: _Merge, root: Entry) -> None:
        self._merge = merge
        self._base, self._ours, self._theirs = merge.versions
        self._trees: Trees = self._ours.trees
        self._root = root
        self._moved: dict[bytes, dict[bytes, bool]] = {}
        """Which names came and went since ours, by link id."""
        for (link_id, path), there in self._trees.moved_links(self._ours.root.tree, root.tree).items():
            self._moved.setdefault(link_id, {})[path] = there
        self._disputed = merge.disputed()
        self._entries: dict[bytes, Entry] = {}
        """What becomes of files that a side changed."""

    def run(self) -> Version:
        """The version with its link tree."""
        for link_id in sorted(self._changed()):
            base, ours, theirs = (self._row(version, link_id) for version in self._merge.versions)
            names = [name for name in self._names(link_id) if not self._is_disputed(name)]
            if not names:
                self._deleted(link_id, base, ours, theirs)
            elif ours is not None and theirs is not None:
                base_entry = None if base is None else base.entry
                self._entries[link_id] = self._content(names[0], base_entry, ours.entry, theirs.entry)
        return Version(self._trees, self._root, self._rows())

    def _changed(self) -> set[bytes]:
        """The files whose content or attributes are not what they were, on either side."""
        diffs = (self._trees.diff_links(self._base.links, side.links) for side in (self._ours, self._theirs))
        return {
            link_id
            for diff in diffs
            for link_id, was, now in diff
            if now is not None and (was is None or was.entry != now.entry)
        }

    def _names(self, link_id: bytes) -> list[bytes]:
        """The names that a file has now, in order."""
        names = dict.fromkeys(self._trees.link_names(self._ours.links, link_id), True)
        return sorted(name for name, there in (names | self._moved.get(link_id, {})).items() if there)

    def _is_disputed(self, path: bytes) -> bool:
        """Whether it is not decided yet if anything of either side is there."""
        while path and path not in self._disputed:
            path = path.rpartition(b"/")[0]
        return bool(path)

    def _content(self, name: bytes, base: Entry | None, ours: Entry, theirs: Entry) -> Entry:
        """What becomes of a file that has names on both sides; a conflict is one of its first name, and so of all."""
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        entry = merged_leaf(base, ours, theirs)
        if entry is None:
            entry = self._merge.conflict(Conflict(name, kind_of(base, ours, theirs), base, ours, theirs))
        return ours if entry is None else entry

    def _deleted(self, link_id: bytes, base: LinkRow | None, *sides: LinkRow | None) -> None:
        """A file that one side changed, and whose names went with what the other did, is a conflict at each name."""
        versions = self._merge.versions[1:]
        names = [list(self._trees.link_names(version.links, link_id)) for version in versions]
        if any(map(self._is_disputed, chain(*names))):
            return  # it may be there when that is decided
        changed = (base is not None and side is not None and side.entry != base.entry for side in sides)
        for name in sorted({*chain(*compress(names, changed))}):
            self._decide(name, link_id)

    def _decide(self, path: bytes, link_id: bytes) -> None:
        """Whether a name that went is there after all; it is no other file then than it was."""
        base, ours, theirs = (version.find(path) for version in self._merge.versions)
        conflict = Conflict(path, ConflictKind.DELETED, base, ours, theirs)
        chosen = self._merge.chosen(conflict)
        wanted = ours if chosen is None else chosen.entry
        sides = ((version.find(path), version.named(path)) for version in self._merge.versions)
        entry = next((name for found, name in sides if found == wanted), wanted)
        is_there = entry == at(self._trees, self._root, path)
        root = self._root if is_there else graft(self._trees, self._root, path, entry, self._base.root)
        self._merge.note(conflict, is_resolved=None not in (chosen, root))  # a file may be where its directory was
        self._root = self._root if root is None else root
        if root is not None and entry is not None and wanted is not None and entry.content == link_id:
            self._entries[link_id] = wanted

    def _rows(self) -> ObjectId:
        """The link tree: rows say how many names there are, and that is told by the trees."""
        moved = self._trees.moved_links(self._ours.root.tree, self._root.tree)
        change: Counter[bytes] = Counter()
        for (link_id, _), there in moved.items():
            change[link_id] += 1 if there else -1
        rows: dict[bytes, LinkRow | None] = {}
        for link_id in {*self._entries, *change}:
            mine = self._row(self._ours, link_id)
            known = mine or self._row(self._theirs, link_id) or self._row(self._base, link_id)
            if known is None:
                raise DamagedError(f"hard link {link_id.hex()} is missing")
            count = (mine.names if mine else 0) + change[link_id]
            rows[link_id] = LinkRow(self._entries.get(link_id, known.entry), count) if count else None
        return self._trees.apply_links(self._ours.links, rows, moved)

    def _row(self, version: Version, link_id: bytes) -> LinkRow | None:
        return self._trees.link(version.links, link_id)


def _is_entered(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> bool:
    """Whether both sides are directories, or one is and the other one deleted it."""
    if _is_directory(base) and None in (ours, theirs):
        return _is_directory(ours) or _is_directory(theirs)
    return _is_directory(ours) and _is_directory(theirs)


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is EntryKind.DIRECTORY
