"""A working tree goes from its base commit to another one, with its uncommitted changes (docs/design/011).

What differs between the two commits is put in place as a restore does; then the base is changed (rebase.py). All in the
thread of the tables, at one instant; nothing is read but what differs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from anabranch.errors import DamagedError
from anabranch.versions import xattrs
from anabranch.versions.diff import compare, is_nobodys
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.trees import Pair, Version, tree_of
from anabranch.versions.walks import directories_above, walk
from anabranch.worktree import sides
from anabranch.worktree.inodes import Node
from anabranch.worktree.restore_plan import Plan, bare
from anabranch.worktree.sides import is_directory, side_at, side_entry
from anabranch.worktree.table import Table

# --- what differs ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Way:
    """What differs between two commits, by path."""

    pairs: list[Pair] = field(default_factory=list)
    """Names, hard links as they are, parents first; what is in a directory that only one has is not among them."""
    linked: dict[bytes, list[bytes]] = field(default_factory=dict)
    """The files with hard links of the new commit that have other content or names there: all names of each."""
    unlinked: set[bytes] = field(default_factory=set)
    """Those that it has no more."""

    def paths(self) -> list[bytes]:
        """Everything that is not the same, but for directories that only lead to it."""
        found = {path for path, left, right in self.pairs if not (is_directory(left) and is_directory(right))}
        return sorted(found.union(*self.linked.values()))


def way(old: Version, new: Version) -> Way:
    """What differs between two commits."""
    found = Way()
    for link_id, left, right in new.trees.diff_links(old.links, new.links):
        if right is None:
            found.unlinked.add(link_id)
        elif left is None or left != right:
            found.linked[link_id] = []
    for pair in _pairs(old, new):
        found.pairs.append(pair)
        for entry in pair[1:]:
            if isinstance(entry, Entry) and entry.kind is EntryKind.LINK and entry.content not in found.unlinked:
                found.linked[entry.content] = []
    for link_id, names in found.linked.items():
        names += new.trees.link_names(new.links, link_id)
    return found


def _pairs(old: Version, new: Version) -> Iterator[Pair]:
    def names(prefix: bytes, left: Entry | None, right: Entry | None) -> Iterator[Pair]:
        return ((prefix + name, one, other) for name, one, other in new.trees.diff(tree_of(left), tree_of(right)))

    def below(pair: Pair) -> Iterator[Pair] | None:
        path, left, right = pair
        if is_directory(left) and is_directory(right):
            return names(path + b"/", left, right)
        links = any(side is not None and is_directory(side) and side.tag(Tag.LINKS) for side in (left, right))
        return names(path + b"/", left, right) if links else None  # the names of others may be in there

    if old.root != new.root:
        yield b"", old.root, new.root
    yield from walk(names(b"", old.root, new.root), below)


# --- what is uncommitted in the way ------------------------------------------------------------------------------


Hidden = Callable[[bytes, sides.Side], bool]
"""Whether what is at a path is ignored."""


def in_the_way(table: Table, base: Version, new: Version, going: Way, hidden: Hidden) -> list[bytes]:
    """The paths with uncommitted changes that a move would touch. What is ignored counts where something is to be, and
    not in a directory that goes, or comes back: there it stays.
    """
    changed = {node.link_id: node for ino in table.dirty if (node := table.nodes[ino]).link_id and not node.orphan}
    found: set[bytes] = set()
    for path, left, right in going.pairs:
        found.update(islice(_touched(table, base, new, (path, left, right), hidden), 1))
    for link_id, names in going.linked.items():
        if _is_link_touched(table, base, link_id, changed.get(link_id)):
            found.update(names)
    for link_id in going.unlinked:
        if _is_link_touched(table, base, link_id, changed.get(link_id)):
            found.update(base.trees.link_names(base.links, link_id))
    return sorted(found)


def _touched(table: Table, base: Version, new: Version, pair: Pair, hidden: Hidden) -> Iterator[bytes]:
    path, left, right = pair
    if not path or (is_directory(left) and is_directory(right)):
        if (path or not is_nobodys(base)) and _is_redressed(table, base, path, left, right):
            yield path
        return
    if right is not None and (above := _missing_above(table, base, path)) is not None:
        yield above
        return
    for place, side in _differing(table, base, path, left):
        goes = right is None and is_directory(left) and hidden(place, side)
        comes = left is None and is_directory(right) and _fits(new, place, side, hidden)
        if not goes and not comes:
            yield place


def _fits(new: Version, place: bytes, side: sides.Side, hidden: Hidden) -> bool:
    """Whether something can stay where a directory comes: a directory that comes, too, or what is ignored."""
    there = new.named(place)
    return hidden(place, side) if there is None else is_directory(there) and is_directory(side)


def _missing_above(table: Table, base: Version, path: bytes) -> bytes | None:
    """The first directory above a path that the base has, and the working tree has not."""
    parts = path.split(b"/")
    for above in (b"/".join(parts[:length]) for length in range(1, len(parts))):
        if not is_directory(side_at(table, above)):
            return above if is_directory(base.find(above)) else None
    return None


def _is_redressed(table: Table, base: Version, path: bytes, left: Entry | None, right: Entry | None) -> bool:
    """Whether the attributes of a directory are changed here, and by the move."""
    here = side_entry(table, base, side_at(table, path))
    return compare(path, left, right) is not None and compare(path, left, here) is not None


def _differing(table: Table, base: Version, path: bytes, left: Entry | None) -> Iterator[tuple[bytes, sides.Side]]:
    """What is not as in the base, at a path and below it."""
    for place, before, after in walk(iter([(path, left, side_at(table, path))]), _below(table, base)):
        was = None if before is None else base.resolve(before)[0]
        here = side_entry(table, base, after)
        is_other = (was is not None or here is not None) and compare(place, was, here) is not None
        if is_other or (before is not None and before.kind is EntryKind.LINK) != bool(sides.side_link_id(after)):
            yield place, after


def _below(table: Table, base: Version) -> Callable[[sides.Pair], Iterator[sides.Pair] | None]:
    def below(pair: sides.Pair) -> Iterator[sides.Pair] | None:
        path, before, after = pair
        look = is_directory(before) or is_directory(after)
        return sides.child_pairs(path + b"/", table, base, before, after) if look else None

    return below


def _is_link_touched(table: Table, base: Version, link_id: bytes, node: Node | None) -> bool:
    """Whether a file with hard links has other content, or other names, than in the base; `node` if it is changed."""
    if link_id in table.dead_links:
        return True
    if node is not None:
        row = base.trees.link(base.links, link_id)
        if row is None or node.links != row.names or side_entry(table, base, node) != row.entry:
            return True
    names = base.trees.link_names(base.links, link_id)
    return any(sides.side_link_id(side_at(table, name)) != link_id for name in names)


# --- what is to be done ------------------------------------------------------------------------------------------


def plan(table: Table, base: Version, new: Version, going: Way) -> Plan:
    """How what differs comes into the working tree. Nothing of it may be `in_the_way`."""
    planned = Plan(linked=dict(sorted(going.linked.items())))
    for path, left, right in going.pairs:
        if right is None:
            if not _is_below(path, planned.removed):
                planned.removed += _removed(table, base, path, left)
        elif not is_directory(right):
            if right.kind is not EntryKind.LINK:
                planned.made.append((path, right))
        elif is_directory(left):
            planned.dressed[path] = right
        elif is_directory(side_at(table, path)):
            _make_into(planned, table, new, path, right)
        else:
            planned.made.append((path, bare(right) if right.tag(Tag.LINKS) else right))
            planned.dressed[path] = right
    for path in [*planned.removed, *(path for path, _ in planned.made), *going.paths()]:
        above = path.rpartition(b"/")[0]
        if above not in planned.dressed and is_directory(entry := new.find(above)):
            assert entry is not None
            planned.dressed[above] = entry
    planned.dressed = {
        path: _kept_dress(table, base, path, entry)
        for path, entry in planned.dressed.items()
        if path or not is_nobodys(new)
    }
    return planned


def _removed(table: Table, base: Version, path: bytes, left: Entry | None) -> list[bytes]:
    """What goes with a path: that itself, or where something ignored stays in a directory, all else in it."""
    left_over = [place for place, side in _differing(table, base, path, left) if side is not None and place != path]
    if left is None or not is_directory(left) or not left_over:
        return [path]
    stays = {directory for place in left_over for directory in directories_above(place)}
    found: list[bytes] = []
    todo = [(path, left)]
    for above, directory in todo:  # grows while it is walked
        for name, entry in base.trees.entries(directory.tree):
            place = above + b"/" + name
            if place in stays and is_directory(entry):
                todo.append((place, entry))
            else:
                found.append(place)
    return found


def _make_into(planned: Plan, table: Table, new: Version, path: bytes, directory: Entry) -> None:
    """Where a directory with something ignored is left, what is to be in it comes one by one."""
    todo = [(path, directory)]
    for above, entry in todo:  # grows while it is walked
        planned.dressed[above] = entry
        for name, child in new.trees.entries(entry.tree):
            place = above + b"/" + name
            if is_directory(child) and is_directory(side_at(table, place)):
                todo.append((place, child))
            elif child.kind is not EntryKind.LINK:
                planned.made.append((place, bare(child) if is_directory(child) and child.tag(Tag.LINKS) else child))


def plan_back(table: Table, base: Version, new: Version) -> Plan:
    """How a working tree comes back from a move to `new`, of which everything was done, or a part, or nothing."""
    planned = plan(table, new, base, way(new, base))
    planned.made = [(path, entry) for path, entry in planned.made if _is_to_make(table, base, path)]
    return planned


def _is_to_make(table: Table, base: Version, path: bytes) -> bool:
    try:
        return any(_differing(table, base, path, base.named(path)))
    except DamagedError:  # a name in there is that of a file with hard links that the base does not have
        return True


def _is_below(path: bytes, tops: list[bytes]) -> bool:
    """Whether the last of some paths in order is above another."""
    return bool(tops) and path.startswith(tops[-1] + b"/")


def _kept_dress(table: Table, base: Version, path: bytes, new: Entry) -> Entry:
    """The attributes of a directory afterwards: those of the new commit, but for what is changed here."""
    here, old = side_entry(table, base, side_at(table, path)), base.find(path)
    if here is None or old is None or not is_directory(here) or (not path and is_nobodys(base)):
        return new
    dress = xattrs.of(new if xattrs.of(here) == xattrs.of(old) else here).tags()
    return msgspec.structs.replace(
        new,
        mode=new.mode if here.mode == old.mode else here.mode,
        uid=new.uid if here.uid == old.uid else here.uid,
        gid=new.gid if here.gid == old.gid else here.gid,
        mtime_ns=new.mtime_ns if here.mtime_ns == old.mtime_ns else here.mtime_ns,
        extra=dress or None,
    )
