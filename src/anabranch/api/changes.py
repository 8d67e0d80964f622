"""What differs, as the library tells it."""

import os
from dataclasses import dataclass

from anabranch.versions import diff


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs; sizes in bytes, None where the path is not there."""

    path: str
    change: str
    """`added`, `deleted`, `modified`, `attributes` (nothing else differs), or `type`."""
    kind: str
    """Of the newer side, or of the only one: `file`, `directory`, `symlink` ..."""
    old_size: int | None
    new_size: int | None


def told(change: diff.Change) -> Change:
    """A change with text in the place of bytes."""
    return Change(
        os.fsdecode(change.path), str(change.change), change.kind.name.lower(), change.old_size, change.new_size
    )
