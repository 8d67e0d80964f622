"""What there is to do when a working tree gets back what a version holds: read from both sides, nothing is touched."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import msgspec

from anabranch.errors import NotFoundError, RefusedError
from anabranch.versions import xattrs
from anabranch.versions.diff import is_nobodys
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.versions.walks import walk
from anabranch.worktree.inodes import Node
from anabranch.worktree.sides import (
    Pair,
    Side,
    changed_children,
    changed_links,
    child_pairs,
    is_directory,
    side_at,
    side_entry,
    side_link_id,
)
from anabranch.worktree.table import Table


@dataclass(slots=True)
class Plan:
    """What is to be done at which paths, from the top of the branch."""

    removed: list[bytes] = field(default_factory=list)
    made: list[tuple[bytes, Entry]] = field(default_factory=list)
    """What is there goes first. A directory comes with all that is below it, or empty and before what is in it."""
    linked: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Names that become one file again, by its link id in the version."""
    dressed: dict[bytes, Entry] = field(default_factory=dict)
    """Directories that get back their attributes and times, after everything else."""

    @property
    def nodes(self) -> int:
        """How many new inodes it takes at most."""
        return len(self.made) + len(self.linked)

    @property
    def names(self) -> int:
        """How many names it makes itself."""
        return len(self.made) + sum(map(len, self.linked.values()))

    @property
    def files(self) -> int:
        """How many paths that are no directories it puts back."""
        made = sum(entry.tag(Tag.FILES) if is_directory(entry) else 1 for _, entry in self.made)
        return made + sum(map(len, self.linked.values()))


Kept = Callable[[bytes, Side], bool]
"""Whether what is at a path, and is not in the version, stays."""


def plan(table: Table, base: Version, source: Version, paths: Collection[bytes], kept: Kept, *, new_too: bool) -> Plan:
    """How the working tree becomes, at some paths, what a version is there. Costs what differs.

    Raises NotFoundError where the version has nothing, unless with `new_too` the working tree has something, which
    goes; RefusedError where a file is in the way of a path.
    """
    return _Planner(table, base, source, kept).plan(set(paths), new_too=new_too)


class _Planner:
    """One plan in the making."""

    def __init__(self, table: Table, base: Version, source: Version, kept: Kept) -> None:
        self._table = table
        self._base = base
        self._source = source
        self._kept = kept
        self._plan = Plan()
        self._named_all_the_same: set[bytes] = set()
        """Paths that would stay, were they not asked for."""
        self._spared: dict[bytes, bool] = {}
        self._broken: set[bytes] = set()
        """Link ids of the version whose names are not all those of one file."""

    def plan(self, paths: set[bytes], *, new_too: bool) -> Plan:
        asked = {path: self._named(path, new_too=new_too) for path in sorted(paths)}
        tops = {path for path in paths if not path or not _is_in(_above(path), paths)}
        missing: dict[bytes, Entry] = {}
        for path in sorted(tops):
            top: Pair = path, asked[path], side_at(self._table, path)
            if asked[path] is not None:
                missing |= self._missing_above(path)
            if top[1] is None and self._kept(path, top[2]):
                self._named_all_the_same.add(path)
            for pair in walk(iter([top]), self._below):
                if pair[1] is not None or pair is top or not self._kept(pair[0], pair[2]):
                    self._note(*pair)
        self._plan.made[:0] = missing.items()
        self._plan_links(tops)
        if is_nobodys(self._source):
            self._plan.dressed.pop(b"", None)
        return self._plan

    def _named(self, path: bytes, *, new_too: bool) -> Entry | None:
        entry = self._source.named(path)
        if entry is None and not (new_too and side_at(self._table, path) is not None):
            where = "neither the version nor the working tree has" if new_too else "the version does not have"
            raise NotFoundError(f"{where} {path.decode(errors='replace')}", hint="'ana status' lists what has changed")
        return entry

    def _missing_above(self, path: bytes) -> dict[bytes, Entry]:
        """The directories above a path that the working tree lacks, without what else is in them."""
        missing: dict[bytes, Entry] = {}
        parts = path.split(b"/")
        for above in (b"/".join(parts[:length]) for length in range(1, len(parts))):
            side = side_at(self._table, above)
            if side is None:
                missing[above] = bare(self._source.at(above))
            elif not is_directory(side):
                name = above.decode(errors="replace")
                raise RefusedError(
                    f"{name} is a directory in the version, and none in the working tree",
                    hint=f"restore {name} itself",
                )
        return missing

    def _below(self, pair: Pair) -> Iterator[Pair] | None:
        path, before, after = pair
        if before is None and self._spares(path, after):
            assert isinstance(after, Node)
            return ((path + b"/" + name, None, side) for name, side in changed_children(self._table, after))
        if before is None or not is_directory(before):
            return None
        prefix = path + b"/" if path else b""
        if is_directory(after):
            return child_pairs(prefix, self._table, self._source, before, after)
        if before.tag(Tag.LINKS):
            return ((prefix + name, entry, None) for name, entry in self._source.trees.entries(before.tree))
        return None

    def _note(self, path: bytes, before: Entry | None, after: Side) -> None:
        planned = self._plan
        if before is None:
            if not self._spares(path, after):
                planned.removed.append(path)
        elif before.kind is EntryKind.LINK:
            if side_link_id(after) != before.content:
                self._broken.add(before.content)
        elif not is_directory(before):
            if side_link_id(after) or side_entry(self._table, self._base, after) != before:
                planned.made.append((path, before))
        elif is_directory(after):
            planned.dressed[path] = before
        elif before.tag(Tag.LINKS):  # somewhere below: link ids of a version mean nothing in a working tree
            planned.made.append((path, bare(before)))
            planned.dressed[path] = before
        else:
            planned.made.append((path, before))

    def _spares(self, path: bytes, side: Side) -> bool:
        """Whether a directory that the version lacks has something in it that stays; then the rest goes one by one."""
        if path not in self._spared:
            self._spared[path] = path not in self._named_all_the_same and self._holds_kept(path, side)
        return self._spared[path]

    def _holds_kept(self, path: bytes, side: Side) -> bool:
        todo = [(path, side)]
        for above, directory in todo:  # grows while it is walked
            for name, child in changed_children(self._table, directory):
                below = above + b"/" + name
                if self._kept(below, child):
                    return True
                todo.append((below, child))
        return False

    def _plan_links(self, tops: set[bytes]) -> None:
        """The names of a hard-linked file are to be those of one file, with the content of the version."""
        changed = changed_links(self._table, self._base, self._source)
        for link_id in sorted(self._broken | changed):
            names = [name for name in self._source.trees.link_names(self._source.links, link_id) if _is_in(name, tops)]
            if link_id not in changed:
                names = [name for name in names if side_link_id(side_at(self._table, name)) != link_id]
            if names:
                self._plan.linked[link_id] = names
                above = {_above(name) for name in names}
                self._plan.dressed |= {path: self._source.at(path) for path in above if _is_in(path, tops)}


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _is_in(path: bytes, tops: Collection[bytes]) -> bool:
    """Whether a path, or one above it, is among some."""
    while path and path not in tops:
        path = _above(path)
    return path in tops


def bare(directory: Entry) -> Entry:
    """A directory without what is in it."""
    return msgspec.structs.replace(directory, size=0, content=EMPTY_TREE, extra=xattrs.of(directory).tags() or None)
