"""Names of things: object ids, branch and tag names, the syntax of revisions, and of paths in a branch.

Everything here is a plain value; nothing looks into a repository.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NewType

from anabranch.errors import UsageError

ObjectId = NewType("ObjectId", bytes)
"""Keyed BLAKE3-256 of an object's canonical bytes: 32 bytes."""

RefName = NewType("RefName", str)
"""A checked name of a branch or a tag (see `ref_name`)."""

ID_SIZE = 32
MAX_NAME_BYTES = 200
MIN_PREFIX = 4
HEAD = "head"
CONTROL_NAME = b".ana"
"""What no file at the top of a branch is called: the mount has its control files there."""
MAX_DIGITS = 18
"""Of a version's number: what fits into 64 bits."""

_NAME_RULE = (
    "a name has 1 to 200 bytes of UTF-8, no '/', '@', ':' or control characters, and does not start with '.' or '-'"
)
_FORBIDDEN = re.compile(r"[/@:\x00-\x1f\x7f]")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):?(\d\d):?(\d\d)(\.\d{1,9})?Z)?")


@dataclass(frozen=True, slots=True)
class Head:
    """`main` or `main@head`: the last commit of a branch, or the commit of a tag."""

    ref: RefName


@dataclass(frozen=True, slots=True)
class Numbered:
    """`main@12`: row 12 of a branch's log."""

    ref: RefName
    number: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """`main@2026-11-20T100000Z`: the last row at or before that time (nanoseconds since 1970, UTC)."""

    ref: RefName
    time_ns: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """`@3f9ac2e1`: the one commit whose id starts so."""

    digits: str


Revision = Head | Numbered | AtTime | Prefix


def ref_name(text: str) -> RefName:
    """Check a branch or tag name: what is legal on ext4 and in Hadoop paths, and cannot be taken for something else.

    Raises UsageError.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"bad name {text!r}: it is not UTF-8", hint=_NAME_RULE) from None
    if not 1 <= size <= MAX_NAME_BYTES or text[0] in ".-" or _FORBIDDEN.search(text):
        raise UsageError(f"bad name {text!r}", hint=_NAME_RULE)
    return RefName(text)


def parse_revision(text: str) -> Revision:
    """Read a revision: `main`, `main@head`, `main@12`, `main@2026-11-20[T10:00:00Z]`, a tag, `@3f9ac2e1`.

    Raises UsageError.
    """
    name, at, rest = text.partition("@")
    if not at:
        return Head(ref_name(name))
    if not name:
        return _prefix(text, rest)
    ref = ref_name(name)
    if rest == HEAD:
        return Head(ref)
    if rest.isascii() and rest.isdigit() and len(rest) <= MAX_DIGITS:
        return Numbered(ref, int(rest))
    if found := _TIME.fullmatch(rest):
        return AtTime(ref, _time_ns(text, found))
    raise UsageError(
        f"bad revision {text!r}", hint=f"after '@': a number, 'head', a date, or a time like {name}@2026-11-20T100000Z"
    )


def _prefix(text: str, digits: str) -> Prefix:
    lowered = digits.lower()
    if not re.fullmatch(r"[0-9a-f]{1,64}", lowered) or len(lowered) < MIN_PREFIX:
        raise UsageError(
            f"bad revision {text!r}", hint=f"'@' and at least {MIN_PREFIX} hexadecimal digits of a commit's id"
        )
    return Prefix(lowered)


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of `2026-11-20`, `2026-11-20T10:00:00Z` and the like, UTC. Raises UsageError."""
    if found := _TIME.fullmatch(text):
        return _time_ns(text, found)
    raise UsageError(f"bad time {text!r}", hint="a date, or a time like 2026-11-20T10:00:00Z, UTC")


def _time_ns(text: str, found: re.Match[str]) -> int:
    year, month, day, hour, minute, second = (int(group or 0) for group in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise UsageError(f"bad time in {text!r}: {error}", hint="a time is written 2026-11-20T100000Z, UTC") from None
    fraction = (found.group(7) or ".0")[1:].ljust(9, "0")
    return int(moment.timestamp()) * 1_000_000_000 + int(fraction)


def path_inside(top: Path, start: Path, typed: str) -> bytes:
    """A path that counts from `start`, from the top of its branch: nothing is guessed. Raises UsageError."""
    if not typed:
        raise UsageError("a PATH is empty", hint="everything of the branch is .")
    full = Path(os.path.normpath(start / typed))
    if not full.is_relative_to(top):
        raise UsageError(f"{typed} leads out of the branch", hint="paths count from where you are, or from its top")
    inside = full.relative_to(top)
    return b"" if inside == Path() else os.fsencode(inside)


def short(object_id: bytes) -> str:
    """The first 8 hexadecimal digits, as people read ids."""
    return object_id.hex()[:8]
