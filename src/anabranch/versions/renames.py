"""Renames among the changes of two versions: what is gone from one path and new at another with the same content.

A file or symbolic link is recognized by its content; a directory by the files that moved from it to another one and
kept their paths in it. Nothing is guessed from contents that are only similar. Each side of a rename is used once,
and the same changes always give the same renames.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

from anabranch.ids import ID_SIZE
from anabranch.versions.diff import Change, ChangeKind
from anabranch.versions.objects import EntryKind

LIMIT = 100_000
"""Of more changes than these no renames are told: the changes go through as they come, and none is kept."""

Pair = tuple[Change, Change]
"""What is gone, and what is new."""
Parts = tuple[bytes, ...]
"""A path."""
Sides = tuple[list[Parts], list[Parts]]
"""What is gone, and what is new, in order."""


def renamed(changes: Iterable[Change]) -> Iterator[Change]:
    """The changes with each rename as one, in the place of what is new."""
    rest = iter(changes)
    first = list(islice(rest, LIMIT + 1))
    return chain(first, rest) if len(first) > LIMIT else _told(first)


def short(change: Change) -> Change:
    """The change as it travels: a content that is longer than an id gives way to its digest."""
    if len(change.content) <= ID_SIZE:
        return change
    return replace(change, content=hashlib.blake2b(change.content, digest_size=ID_SIZE).digest())


def _told(changes: list[Change]) -> Iterator[Change]:
    files = _files(changes)
    pairs = files + _directories(changes, files)
    gone = {old.path for old, _ in pairs}
    origins = {new.path: old for old, new in pairs}
    for change in changes:
        if (old := origins.get(change.path)) is not None:
            yield replace(change, change=ChangeKind.RENAMED, old_size=old.old_size, old_path=old.path)
        elif change.path not in gone:
            yield change


# --- files and symbolic links ---


def _files(changes: list[Change]) -> list[Pair]:
    """What was deleted and added with one content; where several have it, the likeliest pairs."""
    groups: defaultdict[object, tuple[list[Change], list[Change]]] = defaultdict(lambda: ([], []))
    for change in changes:
        if change.content and change.change in (ChangeKind.DELETED, ChangeKind.ADDED):
            added = change.change == ChangeKind.ADDED
            groups[change.kind, change.new_size if added else change.old_size, change.content][added].append(change)
    return [pair for old, new in groups.values() if old and new for pair in _likeliest(old, new)]


def _likeliest(old: list[Change], new: list[Change]) -> list[Pair]:
    """Pairs of one content: those of one base name, then the others; each time the nearest first."""
    if len(old) == len(new) == 1:
        return [(old[0], new[0])]
    before, after = ({tuple(change.path.split(b"/")): change for change in side} for side in (old, new))
    pairs: list[Pair] = []
    for name in (lambda parts: parts[-1], lambda _: b""):
        named: defaultdict[bytes, tuple[list[Parts], list[Parts]]] = defaultdict(lambda: ([], []))
        for number, side in enumerate((before, after)):
            for parts in side:
                named[name(parts)][number].append(parts)
        for lost, won in named.values():
            pairs += [(before.pop(one), after.pop(other)) for one, other in _nearest(lost, won)]
    return pairs


def _nearest(old: list[Parts], new: list[Parts]) -> Iterator[tuple[Parts, Parts]]:
    """As many pairs as can be; what lies below one directory first, before it can pair with anything elsewhere.

    A walk over all paths in order. What a directory has left when the walk leaves it goes to the one above.
    """
    if not old or not new:
        return
    ways = sorted([(parts, False) for parts in old] + [(parts, True) for parts in new])
    inside: list[tuple[int, Sides]] = [(0, ([], []))]
    """The directories that the walk is in, as far as they matter: the depth, and what has no pair yet."""
    for (parts, is_new), (following, _) in zip(ways, [*ways[1:], ((b"",), False)], strict=True):
        if inside[-1][0] < len(parts) - 1:
            inside.append((len(parts) - 1, ([], [])))
        inside[-1][1][is_new].append(parts)
        shared = _shared(parts, following)
        while inside[-1][0] > shared:
            depth, left = inside.pop()
            yield from _taken(depth, left)
            if inside[-1][0] < shared:
                inside.append((shared, ([], [])))
            for above, below in zip(inside[-1][1], left, strict=True):
                above += below
    yield from _taken(*inside[0])


def _shared(one: Parts, other: Parts) -> int:
    """How many directories lead to both."""
    count = 0
    for here, there in zip(one[:-1], other[:-1], strict=False):
        if here != there:
            break
        count += 1
    return count


def _taken(depth: int, left: Sides) -> list[tuple[Parts, Parts]]:
    """The pairs of a directory, taken from what is left in it: first those that lie alike, as `old/x/f` and `new/x/f`,
    then in order.
    """
    old, new = left
    if not old or not new:
        return []
    alike = {parts[depth + 1 :]: parts for parts in reversed(old)}
    pairs = [(one, parts) for parts in new if (one := alike.pop(parts[depth + 1 :], None)) is not None]
    for paired, side in zip(map(set, zip(*pairs, strict=True)), left, strict=False):
        side[:] = [parts for parts in side if parts not in paired]
    count = min(len(old), len(new))
    pairs += zip(old[:count], new[:count], strict=True)
    del old[:count], new[:count]
    return pairs


# --- directories ---


def _directories(changes: list[Change], files: list[Pair]) -> list[Pair]:
    """Directories from which files moved, with the same path in both; most files first."""
    gone, come = (
        {c.path: c for c in changes if c.kind == EntryKind.DIRECTORY and c.change == kind}
        for kind in (ChangeKind.DELETED, ChangeKind.ADDED)
    )
    votes: Counter[tuple[bytes, bytes]] = Counter()
    for old, new in files:
        before, after = old.path, new.path
        while True:
            before, _, name = before.rpartition(b"/")
            after, _, new_name = after.rpartition(b"/")
            if name != new_name or before not in gone or after not in come:
                break
            votes[before, after] += 1
    pairs: list[Pair] = []
    for before, after in sorted(votes, key=lambda pair: (-votes[pair], *(path.split(b"/") for path in pair))):
        if before in gone and after in come:
            pairs.append((gone.pop(before), come.pop(after)))
    return pairs
