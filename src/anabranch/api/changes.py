"""What differs, as the library tells it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anabranch.versions import diff, threeway
from anabranch.versions.objects import Entry
from anabranch.versions.renames import renamed


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs; sizes in bytes, None where the path is not there."""

    path: str
    change: str
    """`added`, `deleted`, `renamed`, `modified`, `attributes` (nothing else differs), or `type`."""
    kind: str
    """Of the newer side, or of the only one: `file`, `directory`, `symlink` ..."""
    old_size: int | None
    new_size: int | None
    old_path: str | None = None
    """Of what was renamed."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One path on which two sides of a merge disagree; sizes in bytes, None where the path is not there."""

    path: str
    kind: str
    """`both modified`, `modified and deleted`, `both added`, `type changed`, or `directory against file`."""
    base_size: int | None
    our_size: int | None
    their_size: int | None


def told_conflicts(conflicts: Iterable[threeway.Conflict]) -> list[Conflict]:
    """Conflicts with text in the place of bytes."""
    return [
        Conflict(os.fsdecode(each.path), str(each.kind), _size(each.base), _size(each.ours), _size(each.theirs))
        for each in conflicts
    ]


def _size(entry: Entry | None) -> int | None:
    return None if entry is None else entry.size


def told(changes: Iterable[diff.Change]) -> Iterator[Change]:
    """Changes with renames told, and text in the place of bytes."""
    for change in renamed(changes):
        yield Change(
            os.fsdecode(change.path), str(change.change), change.kind.name.lower(), change.old_size, change.new_size,
            None if change.old_path is None else os.fsdecode(change.old_path),
        )  # fmt: skip
