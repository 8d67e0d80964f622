"""One path in three versions: what comes out of it, or the kind of conflict that it is. Pure.

The rules are the same for both sides: which one is ours changes nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import msgspec

from anabranch.versions import xattrs
from anabranch.versions.objects import Entry, EntryKind, Tag

T = TypeVar("T")


class ConflictKind(StrEnum):
    """How two sides disagree about a path."""

    MODIFIED = "both modified"
    DELETED = "modified and deleted"
    ADDED = "both added"
    TYPE = "type changed"
    DIRECTORY = "directory against file"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path on which two sides disagree, and what the three versions have there, hard links as they are."""

    path: bytes
    kind: ConflictKind
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None


def kind_of(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> ConflictKind:
    """The kind of a conflict between two different sides."""
    if ours is None or theirs is None:
        return ConflictKind.DELETED
    if EntryKind.DIRECTORY in (ours.kind, theirs.kind) and ours.kind != theirs.kind:
        return ConflictKind.DIRECTORY
    if base is None:
        return ConflictKind.ADDED
    return ConflictKind.MODIFIED if base.kind == ours.kind == theirs.kind else ConflictKind.TYPE


def merged_leaf(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
    """What comes of two different sides that are no directories, content and attributes apart; None: a conflict.

    A name of a file with hard links is one thing: nobody can give it other content than its file has.
    """
    if ours is None or theirs is None or ours.kind != theirs.kind or ours.kind is EntryKind.LINK:
        return None
    was = base if base is not None and base.kind == ours.kind else None
    if same_thing(ours, theirs) or (was is not None and same_thing(theirs, was)):
        content = ours
    elif was is not None and same_thing(ours, was):
        content = theirs
    else:
        return None
    return dressed(content, was, ours, theirs)


def same_thing(one: Entry, other: Entry) -> bool:
    """Whether two entries are the same but for their attributes."""
    return one.same_content(other) and one.tag(Tag.DEVICE) == other.tag(Tag.DEVICE)


def dressed(entry: Entry, base: Entry | None, ours: Entry, theirs: Entry) -> Entry | None:
    """An entry with the attributes of two sides put together; None where they cannot be.

    Without a base, permissions are those that both allow.
    """
    owner = _either(_owner(base), (ours.uid, ours.gid), (theirs.uid, theirs.gid))
    held = _either(xattrs.of(base) if base else None, xattrs.of(ours), xattrs.of(theirs))
    if owner is None or held is None:
        return None
    before = ours.mode | theirs.mode if base is None else base.mode
    mode = (ours.mode & theirs.mode) | ((ours.mode | theirs.mode) & ~before)
    others = {tag: value for tag, value in (entry.extra or {}).items() if tag not in (Tag.XATTRS, Tag.XATTRS_OBJECT)}
    return msgspec.structs.replace(
        entry, mode=mode, uid=owner[0], gid=owner[1], mtime_ns=_time(base, ours, theirs),
        extra=others | held.tags() or None,
    )  # fmt: skip


def _owner(entry: Entry | None) -> tuple[int, int] | None:
    return None if entry is None else (entry.uid, entry.gid)


def _time(base: Entry | None, ours: Entry, theirs: Entry) -> int:
    """The time that one side has set; of two, the later."""
    was = None if base is None else base.mtime_ns
    if ours.mtime_ns == was:
        return theirs.mtime_ns
    return ours.mtime_ns if theirs.mtime_ns == was else max(ours.mtime_ns, theirs.mtime_ns)


def _either(base: T | None, ours: T, theirs: T) -> T | None:
    """Of two sides the one that is not as the base; None if neither is."""
    if ours == theirs or theirs == base:
        return ours
    return theirs if ours == base else None
