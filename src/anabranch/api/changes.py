"""What differs, as the library tells it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anabranch.versions import diff
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


def told(changes: Iterable[diff.Change]) -> Iterator[Change]:
    """Changes with renames told, and text in the place of bytes."""
    for change in renamed(changes):
        yield Change(
            os.fsdecode(change.path), str(change.change), change.kind.name.lower(), change.old_size, change.new_size,
            None if change.old_path is None else os.fsdecode(change.old_path),
        )  # fmt: skip
