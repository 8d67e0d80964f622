"""Entries and commits: the immutable values of history, and their canonical bytes.

Canonical bytes are MessagePack in its shortest form, arrays of fields in the order below (docs/format.md, "Entry" and
"Commit"). Two equal values have equal bytes, so equal ids.
"""

import stat
from enum import IntEnum

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
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


class Tag(IntEnum):
    """Optional fields of an entry. A reader ignores tags that it does not know."""

    FILES = 1
    SUBDIRECTORIES = 2
    DEVICE = 3


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One row of a tree: everything about a name but the name.

    `size` is in bytes (of a directory: of all files below it, each hard link apart). `content` depends on the kind: of
    a file by `form` nothing, its bytes, a chunk id or a manifest id; of a directory its tree id; of a symbolic link
    its target; of a hard link its link id (16 random bytes), with all else in the commit's link tree.
    """

    kind: int
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    form: int = Form.EMPTY
    content: bytes = b""
    extra: dict[int, int | bytes] | None = None

    def tag(self, tag: Tag) -> int:
        """The value of an integer tag; 0 without it."""
        value = (self.extra or {}).get(tag, 0)
        return value if isinstance(value, int) else 0

    def same_content(self, other: "Entry") -> bool:
        """Whether two entries hold the same content, whatever their attributes."""
        return (self.kind, self.size, self.form, self.content) == (other.kind, other.size, other.form, other.content)

    @property
    def tree(self) -> ObjectId:
        """The tree id of a directory."""
        return ObjectId(self.content)


class LinkRow(msgspec.Struct, array_like=True, frozen=True):
    """One row of a link tree: the entry that all names of a hard-linked file share, and how many names there are."""

    entry: Entry
    names: int


class Commit(msgspec.Struct, array_like=True, frozen=True):
    """A version of everything. `generation` is 1 + the largest of the parents', 0 without parents."""

    root: Entry
    links: bytes
    parents: tuple[bytes, ...]
    generation: int
    author: str
    time_ns: int
    message: str
    metadata: dict[str, str]


encode = msgspec.msgpack.Encoder().encode
"""Canonical as long as maps are built in the order of their keys, which is up to who builds them."""
_entry = msgspec.msgpack.Decoder(Entry)
_link_row = msgspec.msgpack.Decoder(LinkRow)
_commit = msgspec.msgpack.Decoder(Commit)


def decode_entry(raw: bytes | memoryview | msgspec.Raw) -> Entry:
    """An entry from its canonical bytes. Raises DamagedError."""
    try:
        return _entry.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"an entry cannot be read: {error}") from error


def decode_link_row(raw: bytes | memoryview | msgspec.Raw) -> LinkRow:
    """A link tree's row from its canonical bytes. Raises DamagedError."""
    try:
        return _link_row.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"a hard link's row cannot be read: {error}") from error


def put_commit(objects: ObjectStore, commit: Commit) -> ObjectId:
    """Store a commit."""
    return objects.put(Kind.COMMIT, encode(commit))


def get_commit(objects: ObjectStore, identity: ObjectId) -> Commit:
    """Read a commit. Raises DamagedError."""
    try:
        return _commit.decode(objects.get(Kind.COMMIT, identity))
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"commit {identity.hex()} cannot be read: {error}") from error
