"""What a look at a repository finds. Plain values, which cross from process to process."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Sort(StrEnum):
    """What something is that others name by its id."""

    COMMIT = "commit"
    TREE = "tree"
    LINKS = "link tree"
    MANIFEST = "manifest"
    XATTRS = "xattrs"
    CHUNK = "chunk"


class Thing(NamedTuple):
    """Something that is named by its id."""

    sort: Sort
    id: bytes

    def __str__(self) -> str:
        """`chunk 3f9a...`, with all digits."""
        return f"{self.sort} {self.id.hex()}"


class Hit(NamedTuple):
    """A path that cannot be read as it was, and the versions in which. The path is empty where it is all of them."""

    path: bytes
    versions: Sequence[str]


class Finding(msgspec.Struct, frozen=True):
    """A damage: the file or table where it is, what is wrong there, and what it takes with it."""

    where: str
    what: str
    thing: Thing | None = None
    key: bytes = b""
    """Of a damaged row of `meta.mdb`, whose table is `where`."""
    hits: Sequence[Hit] = ()


class Tally(msgspec.Struct, frozen=True):
    """How much was looked at."""

    rows: int = 0
    """Of meta.mdb, the index and the journal."""
    chunks: int = 0
    bytes: int = 0
    """Of volumes, as they lie on the disk."""
    versions: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(
            self.rows + other.rows,
            self.chunks + other.chunks,
            self.bytes + other.bytes,
            self.versions + other.versions,
        )


class Report(msgspec.Struct, frozen=True):
    """What there was to see."""

    looked_at: Tally
    findings: Sequence[Finding]
