"""How a working tree differs from a version: from its base commit, as a commit of it would show, or from another.

`old` is the version that is compared with, `base` the one that the working tree stands on: clean entries belong to it.
Costs what differs between the two versions, and what is not committed.
"""

from collections.abc import Iterator

from anabranch.versions.diff import Change, compare, in_order, is_nobodys, path_order, walk
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import Version
from anabranch.worktree.sides import (
    Pair,
    changed_links,
    child_pairs,
    is_directory,
    side_at,
    side_entry,
    side_link_id,
    uncommitted,
)
from anabranch.worktree.table import Table


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
    if not uncommitted(table):
        return True
    return not any(changes(table, base)) and not _is_regrouped(table, base)


def _is_regrouped(table: Table, base: Version) -> bool:
    """Whether other names than before are names of one file, where no path differs."""
    fresh = False
    for node in (table.nodes[ino] for ino in uncommitted(table)):
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


def _same_names(table: Table, base: Version, old: Version) -> list[Pair]:
    """The paths at which a hard link's name stayed, while the file that it leads to may differ."""
    pairs: list[Pair] = []
    for linked in changed_links(table, base, old):
        for path in old.trees.link_names(old.links, linked):
            side = side_at(table, path)
            if side_link_id(side) == linked:
                pairs.append((path, Entry(EntryKind.LINK, content=linked), side))
    return sorted(pairs, key=path_order)
