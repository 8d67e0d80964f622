"""Directories whose files are parts of one thing: a table as Hadoop and Spark write it, `part-00000-...` beside others,
or a dataset of Parquet files with names of their own.

Such a table is rewritten by other files, with other names. Merged file by file, a table that both sides rewrote would
have all rows twice, and nobody would see it: so it is one thing, and both changed it.
"""

from typing import NamedTuple

from anabranch.ids import ObjectId
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import Trees, tree_of

_PART = b"part-"
_PARQUET = b".parquet"


class _Change(NamedTuple):
    """What a side did to the parts of a directory: of Spark's, and of other Parquet files."""

    added: bool = False
    lost: bool = False
    """Taken away, or changed."""
    others_added: bool = False
    others_gone: bool = False


def are_rewritten(trees: Trees, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> bool:
    """Whether both sides changed a table that is a directory, and not only by adding to it.

    Parts of Spark's count each: one side lost some, or there was no table before, and both have written one. Parquet
    files of other names may be tables by themselves: both sides took some away and added others.
    """
    if any(side is not None and side.kind is not EntryKind.DIRECTORY for side in (base, ours, theirs)):
        return False
    one, two = (_changed(trees, tree_of(base), tree_of(side)) for side in (ours, theirs))
    if base is None:
        return one.added and two.added
    both = (one.added or one.lost) and (two.added or two.lost)
    if ours is None or theirs is None:  # who deleted all of it rewrote it elsewhere, perhaps
        return both and (one.added or two.added)
    others = all((one.others_added, one.others_gone, two.others_added, two.others_gone))
    return (both and (one.lost or two.lost)) or others


def _changed(trees: Trees, old: ObjectId, new: ObjectId) -> _Change:
    found = _Change()
    for name, left, right in trees.diff(old, new):
        if left is not None and right is not None and left.same_content(right):
            continue
        if name.startswith(_PART):
            found = found._replace(added=found.added or left is None, lost=found.lost or left is not None)
        elif name.endswith(_PARQUET):
            found = found._replace(
                others_added=found.others_added or left is None, others_gone=found.others_gone or right is None
            )
    return found
