"""Entries and commits: the immutable values of history, and their canonical bytes.

Canonical bytes are MessagePack in its shortest form, arrays of fields in the order below (docs/format.md, "Entry" and
"Commit"). Two equal values have equal bytes, so equal ids. A value that breaks a rule of the format cannot be made.
"""

import os
import stat
from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.codec import Codec
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind


class EntryKind(IntEnum):
    """What a name in a directory is."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    LINK = 4
    FIFO = 5
    SOCKET = 6
    CHARACTER = 7
    BLOCK = 8


MODE_TYPE = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.SOCKET: stat.S_IFSOCK,
    EntryKind.CHARACTER: stat.S_IFCHR,
    EntryKind.BLOCK: stat.S_IFBLK,
}
KIND_OF_TYPE = {mode_type: kind for kind, mode_type in MODE_TYPE.items()}


class Form(IntEnum):
    """How an entry holds the content of a file."""

    EMPTY = 0
    INLINE = 1
    CHUNK = 2
    MANIFEST = 3


INLINE_MAX = 512
"""Files of up to this many bytes live in their entry."""
LINK_ID_SIZE = 16
MAX_FILE = (1 << 63) - 1
TARGET_MAX = 4095
"""Bytes of a symbolic link's target, as in Linux."""

Mode = Annotated[int, Meta(ge=0, le=0o7777)]
Owner = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Time = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""Nanoseconds since 1970, UTC."""
Count = Annotated[int, Meta(ge=0, le=MAX_FILE)]
IdBytes = Annotated[bytes, Meta(min_length=ID_SIZE, max_length=ID_SIZE)]


class Tag(IntEnum):
    """Optional fields of an entry. A reader ignores others."""

    FILES = 1
    SUBDIRECTORIES = 2
    LINKS = 3
    DEVICE = 4
    XATTRS = 5
    """Extended attributes, encoded;"""
    XATTRS_OBJECT = 6
    """or the id of the object that holds them (xattrs.py)."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One row of a tree: everything about a name but the name.

    `size` is in bytes (of a directory: of all files below it, each hard link apart). `content` depends on the kind: of
    a file by `form` nothing, its bytes, a chunk id or a manifest id; of a directory its tree id; of a symbolic link
    its target; of a hard link its link id (16 random bytes), with all else in the commit's link tree.
    """

    kind: EntryKind
    mode: Mode = 0
    uid: Owner = 0
    gid: Owner = 0
    mtime_ns: Time = 0
    size: Count = 0
    form: Form = Form.EMPTY
    content: bytes = b""
    extra: dict[int, Count | bytes] | None = None

    def __post_init__(self) -> None:
        if not _fits(self):
            raise ValueError(f"{len(self.content)} bytes of content do not fit a {self.kind.name.lower()} entry")

    def tag(self, tag: Tag) -> int:
        """The value of an integer tag; 0 without it."""
        value = self.extra.get(tag, 0) if self.extra else 0
        return value if isinstance(value, int) else 0

    def same_content(self, other: "Entry") -> bool:
        """Whether two entries hold the same content, whatever their attributes."""
        return (self.kind, self.size, self.form, self.content) == (other.kind, other.size, other.form, other.content)

    @property
    def tree(self) -> ObjectId:
        """The tree id of a directory."""
        return ObjectId(self.content)


def _fits(entry: Entry) -> bool:
    """Whether size, form and content go together for the kind."""
    kind, form, length = entry.kind, entry.form, len(entry.content)
    if kind is EntryKind.FILE:
        if form <= Form.INLINE:
            return entry.size == length <= INLINE_MAX and (length > 0) == (form is Form.INLINE)
        return length == ID_SIZE
    if form is not Form.EMPTY:
        return False
    if kind is EntryKind.DIRECTORY:
        return length == ID_SIZE
    if kind is EntryKind.SYMLINK:
        return entry.size == length and 0 < length <= TARGET_MAX and b"\0" not in entry.content
    return entry.size == 0 and length == (LINK_ID_SIZE if kind is EntryKind.LINK else 0)


class LinkRow(msgspec.Struct, array_like=True, frozen=True):
    """What all names of a hard-linked file share: the entry, and how many names there are."""

    entry: Entry
    names: Annotated[int, Meta(ge=1, le=MAX_FILE)]

    def __post_init__(self) -> None:
        if self.entry.kind in (EntryKind.DIRECTORY, EntryKind.LINK):
            raise ValueError(f"names cannot share a {self.entry.kind.name.lower()}")


class Commit(msgspec.Struct, array_like=True, frozen=True):
    """A version of everything. `generation` is 1 + the largest of the parents', 0 without parents."""

    root: Entry
    links: IdBytes
    parents: tuple[IdBytes, ...]
    generation: Count
    author: str
    time_ns: Time
    message: str
    metadata: dict[str, str]

    def __post_init__(self) -> None:
        if self.root.kind is not EntryKind.DIRECTORY or list(self.metadata) != sorted(self.metadata):
            raise ValueError("the root is no directory, or the metadata are not in order")


ENTRY: Codec[Entry] = Codec(Entry, "an entry")
LINK_ROW: Codec[LinkRow] = Codec(LinkRow, "a hard link's row")
COMMIT: Codec[Commit] = Codec(Commit, "a commit")


def fresh_link_id() -> bytes:
    """An id for a file with several names."""
    return os.urandom(LINK_ID_SIZE)


def put_commit(objects: ObjectStore, commit: Commit) -> ObjectId:
    """Store a commit."""
    return objects.put(Kind.COMMIT, COMMIT.encode(commit))


def get_commit(objects: ObjectStore, identity: ObjectId) -> Commit:
    """Read a commit. Raises DamagedError."""
    commit = COMMIT.decode(objects.get(Kind.COMMIT, identity), f"commit {identity.hex()}")
    if commit.generation == 0 and commit.parents:
        raise DamagedError(f"commit {identity.hex()} has parents, but no generation")
    return commit
