"""How a working tree differs from a version: from its base commit, as a commit of it would show, or from another.

`old` is the version that is compared with, `base` the one that the working tree stands on: clean entries belong to it.
Costs what differs between the two versions, and what is not committed.
"""

from collections import Counter
from collections.abc import Iterator

from anabranch.versions.diff import Change, compare, in_order, is_nobodys, path_order
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import Version
from anabranch.versions.walks import walk
from anabranch.worktree.ignore import Ignored
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


def changes(table: Table, base: Version, old: Version | None = None, *, ignored: Ignored) -> Iterator[Change]:
    """The changes in order of their paths' parts, but for what is ignored. The working tree must stay as it is."""
    old = old or base
    yield from _root_change(table, base, old)
    for path, before, after in in_order(_differing_names(table, old, ignored), iter(_same_names(table, base, old))):
        change = compare(path, before and old.resolve(before)[0], side_entry(table, base, after))
        if change is not None:
            yield change


def ignored_paths(table: Table, base: Version, ignored: Ignored) -> Iterator[bytes]:
    """The paths that stay out of commits; of a directory its own."""

    def below(pair: Pair) -> Iterator[Pair] | None:
        return None if ignored.hides_pair(pair) else _children(table, base, pair)

    top: Pair = b"", base.root, table.nodes[table.root]
    return (pair[0] for pair in walk(iter([top]), below) if ignored.hides_pair(pair))


def is_clean(table: Table, base: Version, ignored: Ignored) -> bool:
    """Whether nothing differs from the base commit but what is ignored, nor which names are those of one file."""
    if not uncommitted(table):
        return True
    return not any(changes(table, base, ignored=ignored)) and not _is_regrouped(table, base, ignored)


def _is_regrouped(table: Table, base: Version, ignored: Ignored) -> bool:
    """Whether other names than before are names of one file, where no path differs."""
    linked = [node for ino in uncommitted(table) if (node := table.nodes[ino]).link_id and not node.orphan]
    shown, hidden = _linked_names(table, ignored) if linked else ({}, Counter())
    for node in linked:
        row = base.trees.link(base.links, node.link_id)
        if row is not None:
            shown.pop(node.link_id, None)
            count = node.links - hidden[node.link_id]
            if row.names != count and max(row.names, count) > 1:  # one name is no group
                return True
    dead = table.dead_links if table.frozen is None else table.dead_links | table.frozen.dead_links
    groups = {frozenset(base.trees.link_names(base.links, link_id)) for link_id in dead}
    return any(len(group) > 1 for group in groups ^ {frozenset(names) for names in shown.values()})


def _linked_names(table: Table, ignored: Ignored) -> tuple[dict[bytes, set[bytes]], Counter[bytes]]:
    """The changed names of files with hard links, by link id, and how many of each are ignored."""
    shown: dict[bytes, set[bytes]] = {}
    hidden: Counter[bytes] = Counter()
    directories = [(b"", table.nodes[table.root], False)]
    for prefix, directory, all_hidden in directories:  # grows while it is walked
        for name, ino in table.changes(directory).items():
            child = table.nodes.get(ino)
            if child is None:
                continue
            hides = all_hidden or ignored.hides(prefix + name, child)
            if is_directory(child):
                directories.append((prefix + name + b"/", child, hides))
            elif child.link_id and hides:
                hidden[child.link_id] += 1
            elif child.link_id:
                shown.setdefault(child.link_id, set()).add(prefix + name)
    return shown, hidden


def _root_change(table: Table, base: Version, old: Version) -> Iterator[Change]:
    if not is_nobodys(old):
        change = compare(b".", old.root, side_entry(table, base, table.nodes[table.root]))
        if change is not None:
            yield change


def _differing_names(table: Table, old: Version, ignored: Ignored) -> Iterator[Pair]:
    """The paths whose own entries may differ."""

    def below(pair: Pair) -> Iterator[Pair] | None:
        inside = _children(table, old, pair)
        return inside and (child for child in inside if not ignored.hides_pair(child))

    top: Pair = b"", old.root, table.nodes[table.root]
    return walk(below(top) or iter(()), below)


def _children(table: Table, old: Version, pair: Pair) -> Iterator[Pair] | None:
    path, before, after = pair
    look = is_directory(before) or is_directory(after)
    return child_pairs(path + b"/" if path else b"", table, old, before, after) if look else None


def _same_names(table: Table, base: Version, old: Version) -> list[Pair]:
    """The paths at which a hard link's name stayed, while the file that it leads to may differ."""
    pairs: list[Pair] = []
    for linked in changed_links(table, base, old):
        for path in old.trees.link_names(old.links, linked):
            side = side_at(table, path)
            if side_link_id(side) == linked:
                pairs.append((path, Entry(EntryKind.LINK, content=linked), side))
    return sorted(pairs, key=path_order)
