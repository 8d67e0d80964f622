"""Inodes of a working tree: their attributes, where they hang, and the rows that keep them.

A node is keyed by its inode number and knows its parent, never its path. A node belongs to the generation in which it
was last changed; nodes of a frozen generation are never written again, a change forks them.
"""

import copy
import stat
import time
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.codec import Codec
from anabranch.store.records import hash_place
from anabranch.versions import manifests, xattrs
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import (
    KIND_OF_TYPE,
    MODE_TYPE,
    Count,
    Entry,
    EntryKind,
    Form,
    IdBytes,
    LinkRow,
    Mode,
    Owner,
    Tag,
    Time,
)  # fmt: skip
from anabranch.versions.trees import EMPTY_TREE
from anabranch.versions.xattrs import NO_XATTRS, Xattrs
from anabranch.worktree.content import Content, MemoryContent, OverlayContent, StoredContent
from anabranch.worktree.ranges import Ranges

Inode = NewType("Inode", int)

CLEAN_BIT = 1 << 63
"""Set in the number of a clean child of a base tree, which is a hash and needs no storage."""
WHITEOUT = Inode(0)
"""In a directory's changes: the name is gone. No inode has this number."""
DIRECTORY_SIZE = 4096
_CLOCK_REALTIME_COARSE = 5
"""From linux/time.h; Python's time module has no name for it."""


def now_ns() -> int:
    """The kernel's own clock for files; with a finer one, mtime would go backward against the kernel's."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def clean_number(parent: Inode, name: bytes) -> Inode:
    """The number of a clean child: 62 bits of a hash of its parent's number and its name, under the top bit."""
    return Inode(CLEAN_BIT | hash_place(parent, name) >> 2)


class Kept(NamedTuple):
    """What trees do not hold of an inode."""

    ino: Inode
    ctime_ns: int = 0
    """0: it is the mtime."""
    atime_ns: int | None = None


@dataclass(slots=True)
class Attributes:
    """What stat(2) shows of an inode, of a working tree's or of a version's."""

    ino: Inode
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int
    device: int = 0
    atime_ns: int | None = None
    """As a program set it; None: nobody did, and it is the mtime."""

    @property
    def st_mode(self) -> int:
        """Type and permissions in one."""
        return MODE_TYPE[self.kind] | self.mode


@dataclass(slots=True)
class Node(Attributes):
    """One inode. `content` is of files, `target` of symbolic links, `base`, `changes` and `below` of directories."""

    parent: Inode = Inode(0)
    name: bytes = b""
    generation: int = 0
    link_id: bytes = b""
    """Of a file with hard links: the id that its names hold. Such a node has no parent."""
    content: Content = field(default_factory=lambda: StoredContent(manifests.EMPTY))
    target: bytes = b""
    base: ObjectId = EMPTY_TREE
    changes: dict[bytes, Inode] = field(default_factory=dict)
    """Names that differ from the layer below: the child's number, or WHITEOUT."""
    below: "Node | None" = None
    """The same directory in the frozen generation, while a commit of it is being made."""
    xattrs: Xattrs = NO_XATTRS

    @property
    def orphan(self) -> bool:
        """Unlinked, and alive only while somebody holds it open."""
        return self.links == 0

    def fork(self, generation: int, *, frozen: bool) -> "Node":
        """A copy for a newer generation; a directory stands on its frozen self, if it has one."""
        forked = copy.copy(self)
        forked.generation = generation
        if self.kind == EntryKind.DIRECTORY:
            forked.changes = {}
            forked.below = self if frozen else None
        return forked


def kind_of_mode(mode: int) -> EntryKind:
    """The kind that a mode's type bits name. Raises KeyError."""
    return KIND_OF_TYPE[stat.S_IFMT(mode)]


def from_entry(entry: Entry, kept: Kept, parent: Inode, name: bytes) -> Node:
    """The node of a clean entry."""
    kind = entry.kind
    directory = kind == EntryKind.DIRECTORY
    return Node(
        kept.ino, kind, entry.mode, entry.uid, entry.gid, DIRECTORY_SIZE if directory else entry.size, entry.mtime_ns,
        kept.ctime_ns or entry.mtime_ns, 2 + entry.tag(Tag.SUBDIRECTORIES) if directory else 1, entry.tag(Tag.DEVICE),
        kept.atime_ns, parent, name,
        content=StoredContent(manifests.of(entry)),
        target=entry.content if kind == EntryKind.SYMLINK else b"",
        base=entry.tree if directory else EMPTY_TREE,
        xattrs=xattrs.of(entry),
    )  # fmt: skip


def from_link(row: LinkRow, link_id: bytes, kept: Kept) -> Node:
    """The node of a clean file with hard links."""
    node = from_entry(row.entry, kept, Inode(0), b"")
    node.links, node.link_id = row.names, link_id
    return node


def entry_of(node: Node, stored: Stored | None = None) -> Entry:
    """The entry of a node that is not a directory; `stored` is the content of a file."""
    device: dict[int, int | bytes] = {Tag.DEVICE: node.device} if node.device else {}
    extra = device | node.xattrs.tags() or None
    common = (node.kind, node.mode, node.uid, node.gid, node.mtime_ns)
    if node.kind == EntryKind.SYMLINK:
        return Entry(*common, len(node.target), Form.EMPTY, node.target, extra)
    if stored is None:
        return Entry(*common, 0, Form.EMPTY, b"", extra)
    return Entry(*common, stored.size, stored.form, stored.content, extra)


# --- rows: docs/format.md, "Working tree" -----------------------------------------------------------------------


class NodeRow(msgspec.Struct, array_like=True, frozen=True):
    """A node as it is kept: attributes in their order, then where it hangs and what it holds."""

    kind: int
    mode: Mode
    uid: Owner
    gid: Owner
    mtime_ns: Time
    ctime_ns: Time
    links: Count
    device: Count
    parent: int
    name: bytes
    link_id: bytes
    target: bytes
    base: IdBytes
    content: "ContentRow | None"


class RichNodeRow(NodeRow, array_like=True, frozen=True):
    """The row of a node that has extended attributes, or an access time that a program set. Others do without the
    fields: on a full disk, bytes count.
    """

    xattrs: Xattrs = NO_XATTRS
    atime_ns: int | None = None


class ContentRow(msgspec.Struct, array_like=True, frozen=True):
    """A content as it is kept: `memory`, or `stored` as (form, bytes), or an overlay file.

    The ranges of an overlay file have rows of their own, by segments; only old rows hold them all.
    """

    size: Count
    memory: bytes | None = None
    stored: tuple[int, bytes] | None = None
    overlay: Count = 0
    starts: tuple[Count, ...] = ()
    ends: tuple[Count, ...] = ()
    below: "ContentRow | None" = None
    below_size: Count = 0


_NODE: Codec[RichNodeRow] = Codec(RichNodeRow, "an inode")
_PLAIN_NODE: Codec[NodeRow] = Codec(NodeRow, "an inode")


def encode_node(node: Node, key: bytes) -> bytes:
    """The row of a node, under its key."""
    content = _content_row(node.content) if node.kind == EntryKind.FILE else None
    fields = (
        node.kind, node.mode, node.uid, node.gid, node.mtime_ns, node.ctime_ns, node.links, node.device, node.parent,
        node.name, node.link_id, node.target, node.base, content,
    )  # fmt: skip
    if node.xattrs == NO_XATTRS and node.atime_ns is None:
        return _PLAIN_NODE.seal(NodeRow(*fields), key)
    return _NODE.seal(RichNodeRow(*fields, node.xattrs, node.atime_ns), key)


def decode_node(ino: Inode, generation: int, sealed: bytes, key: bytes) -> Node:
    """The node of a row under its key. Raises DamagedError."""
    what = f"row of inode {ino}"
    try:
        row = _NODE.unseal(sealed, what, key)
        content = StoredContent(manifests.EMPTY) if row.content is None else _content(row.content, generation)
        kind = EntryKind(row.kind)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{what} cannot be read: {error}") from error
    size = len(row.target) if kind == EntryKind.SYMLINK else content.size
    return Node(
        ino, kind, row.mode, row.uid, row.gid, DIRECTORY_SIZE if kind == EntryKind.DIRECTORY else size, row.mtime_ns,
        row.ctime_ns, row.links, row.device, row.atime_ns, Inode(row.parent), row.name, generation, row.link_id,
        content, row.target, ObjectId(row.base), xattrs=row.xattrs,
    )  # fmt: skip


def _content_row(content: Content) -> ContentRow:
    if isinstance(content, StoredContent):
        stored = content.stored
        return ContentRow(stored.size, stored=(stored.form, stored.content))
    if isinstance(content, MemoryContent):
        return ContentRow(content.size, memory=bytes(content.data))
    below = None if content.below is None else _content_row(content.below)
    return ContentRow(content.size, overlay=content.number, below=below, below_size=content.below_size)


def _content(row: ContentRow, generation: int) -> Content:
    if row.stored is not None:
        held = Entry(EntryKind.FILE, size=row.size, form=Form(row.stored[0]), content=row.stored[1])
        return StoredContent(manifests.of(held))
    if row.memory is not None:
        return MemoryContent(row.memory, generation)
    ranges = Ranges(list(row.starts), list(row.ends))
    ranges.check(row.size)
    return OverlayContent(
        row.overlay,
        generation,
        size=row.size,
        below=None if row.below is None else _content(row.below, generation),
        below_size=row.below_size,
        ranges=ranges,
    )
