"""Trees: immutable directories, as prolly maps from name to entry; and link trees, which hold hard-linked files.

Equal directories have equal ids. Nodes above the leaves carry the number of entries and recursive totals, so that the
size of a directory of any size is read from its root. A link tree has a row for each hard-linked file under its link
id, and right after it one for each of its names under link id and path: so a file's other names are found, and adding
one costs one row.
"""

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import msgspec

from anabranch.errors import DamagedError, NotFoundError, UsageError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.codec import Codec, encode
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind, hash_name, object_id
from anabranch.versions import prolly, xattrs
from anabranch.versions.objects import (
    ENTRY,
    LINK_ID_SIZE,
    LINK_ROW,
    MAX_FILE,
    Count,
    Entry,
    EntryKind,
    IdBytes,
    LinkRow,
    Tag,
)
from anabranch.versions.prolly import Edit, Row
from anabranch.versions.walks import walk

NODE_SIZE = 4096
MAX_NODE = 16 * 1024
EMPTY_NODE = prolly.encode_node(0, [])
EMPTY_TREE = object_id(Kind.TREE, EMPTY_NODE)
NAME_MAX = 255
_NO_NAMES = frozenset((b".", b".."))
_NAME_VALUE = encode(None)


def is_name(name: bytes) -> bool:
    """Whether a file may have this name."""
    return 0 < len(name) <= NAME_MAX and b"/" not in name and b"\0" not in name and name not in _NO_NAMES


class Totals(NamedTuple):
    """What a tree holds: its own entries, their size in bytes as rows, its subdirectories; and recursively files
    (all but directories), their bytes, and names of hard links.
    """

    entries: int = 0
    size: int = 0
    files: int = 0
    bytes: int = 0
    subdirectories: int = 0
    links: int = 0


_SUMMARY: Codec[tuple[bytes, int, int, int, int, int, int]] = Codec(
    tuple[IdBytes, Count, Count, Count, Count, Count, Count], "an upper row of a tree"
)
"""The value of a row above the leaves: the child, and the totals of what is below it."""
_CHILD_HEAD = b"\x97\xc4\x20"
"""How every upper row's value starts: an array of 7, and 32 bytes of an id."""
_CHILD_END = len(_CHILD_HEAD) + ID_SIZE
_CUT = (1 << 64) // NODE_SIZE
"""A row ends its node with a chance of its size by this: hashes below size x _CUT."""


class _MapShape:
    """Cut after a key whose hash, seeded with the level, is small beside the row's size: nodes of about 4 KiB."""

    origin = b""
    anchored = False
    single = MAX_NODE

    def positions(self, level: int, rows: Sequence[Row]) -> list[bytes]:
        return [key for key, _ in rows]

    def absolute(self, base: bytes, position: bytes) -> bytes:
        return position

    def all_absolute(self, base: bytes, positions: list[bytes]) -> list[bytes]:
        return positions

    def relative(self, base: bytes, position: bytes) -> bytes:
        return position

    def children(self, rows: Sequence[Row]) -> list[ObjectId]:
        values = [value for _, value in rows]
        if {value[: len(_CHILD_HEAD)] for value in values} != {_CHILD_HEAD} or min(map(len, values)) < _CHILD_END:
            raise DamagedError("an upper row of a tree names no child")
        return cast(list[ObjectId], [value[len(_CHILD_HEAD) : _CHILD_END] for value in values])

    def cuts(self, level: int, key: bytes, size: int) -> bool:
        return hash_name(key, level) < size * _CUT

    def full(self, rows: int, size: int) -> bool:
        return size >= MAX_NODE

    def size(self, above: Row) -> int:
        return Totals(*_SUMMARY.decode(above[1])[1:]).size

    def above(self, level: int, rows: Sequence[Row], child: ObjectId) -> Row:
        return rows[-1][0], encode((child, *self.sums(level, rows)))

    def sums(self, level: int, rows: Sequence[Row]) -> Totals:
        if level:
            _, *columns = zip(*_SUMMARY.decode_all([value for _, value in rows]), strict=True)
            totals = Totals(*map(sum, columns))
        else:
            totals = self.leaf_sums(rows)
        if max(totals) > MAX_FILE:
            raise OSError(errno.EFBIG, "the files of a directory are too large together")
        if min(totals) < 0:
            raise DamagedError("the files of a directory have a negative size together")
        return totals

    def leaf_sums(self, rows: Sequence[Row]) -> Totals:
        raise NotImplementedError


class _Sized(msgspec.Struct, array_like=True, gc=False):
    """An entry as far as sums need it: decoded in a third of the time, unchecked. Whoever uses an entry decodes it."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    form: int
    content: bytes
    extra: dict[int, int | bytes] | None = None


_SIZED: Codec[_Sized] = Codec(_Sized, "an entry")


class _TreeShape(_MapShape):
    def positions(self, level: int, rows: Sequence[Row]) -> list[bytes]:
        names = super().positions(level, rows)
        together = b"".join(names)
        long = max(map(len, names), default=0) > NAME_MAX
        if long or not all(names) or b"/" in together or b"\0" in together or not _NO_NAMES.isdisjoint(names):
            raise DamagedError(f"a directory has an entry of a bad name, from {names[0]!r} to {names[-1]!r}")
        return names

    def leaf_sums(self, rows: Sequence[Row]) -> Totals:
        size = files = subdirectories = links = 0
        for entry in _SIZED.decode_all([value for _, value in rows]):
            size += entry.size
            if entry.kind == EntryKind.DIRECTORY:
                extra = entry.extra or {}
                subdirectories += 1
                files += _count(extra, Tag.FILES)
                links += _count(extra, Tag.LINKS)
            else:
                files += 1
                links += entry.kind == EntryKind.LINK
        return Totals(len(rows), prolly.rows_size(rows), files, size, subdirectories, links)


def _count(extra: dict[int, int | bytes], tag: Tag) -> int:
    value = extra.get(tag, 0)
    return value if isinstance(value, int) else 0


class _LinkShape(_MapShape):
    def leaf_sums(self, rows: Sequence[Row]) -> Totals:
        entries = [LINK_ROW.decode(value).entry for key, value in rows if len(key) == LINK_ID_SIZE]
        size = prolly.rows_size(rows)
        return Totals(len(rows), size, len(entries), sum(entry.size for entry in entries), 0, len(rows) - len(entries))


_TREE, _LINKS = _TreeShape(), _LinkShape()

Pair = tuple[bytes, Entry | None, Entry | None]
"""A name or a path, and what is there on either side."""


class Trees:
    """Reading and editing trees. Safe for use by several threads."""

    def __init__(self, objects: ObjectStore) -> None:
        self.nodes: prolly.NodeStore[bytes] = prolly.NodeStore(objects, Kind.TREE, _TREE)
        self.link_nodes: prolly.NodeStore[bytes] = prolly.NodeStore(objects, Kind.TREE, _LINKS)

    def empty(self) -> ObjectId:
        """Store and return the empty tree, which is the empty link tree too."""
        return self.nodes.put(0, [])

    def lookup(self, tree: ObjectId, name: bytes) -> Entry | None:
        """The entry of a name."""
        raw = prolly.lookup(self.nodes, tree, name)
        return None if raw is None else ENTRY.decode(raw)

    def entries(self, tree: ObjectId) -> Iterator[tuple[bytes, Entry]]:
        """All entries, in order of their names; hard links as they are."""
        for name, row in prolly.iterate(self.nodes, tree):
            yield name, ENTRY.decode(row[1])

    def totals(self, tree: ObjectId) -> Totals:
        """What the tree holds, from its root node alone."""
        root = self.nodes.get(tree)
        return _TREE.sums(root.level, root.rows)

    def directory(self, dress: Entry, tree: ObjectId) -> Entry:
        """The entry of a directory: a tree, with the mode, owners, time and extended attributes of another entry."""
        totals = self.totals(tree)
        extra: dict[int, int | bytes] = {
            Tag.FILES: totals.files, Tag.SUBDIRECTORIES: totals.subdirectories, Tag.LINKS: totals.links,
        }  # fmt: skip
        return Entry(
            EntryKind.DIRECTORY, dress.mode, dress.uid, dress.gid, dress.mtime_ns, totals.bytes, content=tree,
            extra={tag: value for tag, value in extra.items() if value} | xattrs.of(dress).tags() or None,
        )  # fmt: skip

    def apply(self, tree: ObjectId, delta: Sequence[tuple[bytes, Entry | None]]) -> ObjectId:
        """A tree with changes applied: names in order, None to remove."""
        edits = [Edit(name, name, [] if entry is None else [(name, ENTRY.encode(entry))]) for name, entry in delta]
        return prolly.apply(self.nodes, tree, edits)

    def diff(self, old: ObjectId, new: ObjectId) -> Iterator[Pair]:
        """The names on which two trees differ, in order."""
        for name, left, right in prolly.diff(self.nodes, old, new):
            yield name, left and ENTRY.decode(left[1]), right and ENTRY.decode(right[1])

    # --- link trees ---

    def link(self, links: ObjectId, link_id: bytes) -> LinkRow | None:
        """The row of a hard-linked file."""
        raw = prolly.lookup(self.link_nodes, links, link_id)
        return None if raw is None else LINK_ROW.decode(raw)

    def link_names(self, links: ObjectId, link_id: bytes) -> Iterator[bytes]:
        """The paths of a hard-linked file, in order."""
        for key, _ in prolly.iterate(self.link_nodes, links, link_id + b"\0"):
            if not key.startswith(link_id):
                return
            yield key[LINK_ID_SIZE:]

    def links(self, links: ObjectId) -> Iterator[tuple[bytes, LinkRow]]:
        """All hard-linked files by link id."""
        for key, row in prolly.iterate(self.link_nodes, links):
            if len(key) == LINK_ID_SIZE:
                yield key, LINK_ROW.decode(row[1])

    def link_totals(self, links: ObjectId) -> Totals:
        """What a link tree holds: its files and their bytes, each once, and their names."""
        root = self.link_nodes.get(links)
        return _LINKS.sums(root.level, root.rows)

    def apply_links(
        self, links: ObjectId, rows: dict[bytes, LinkRow | None], names: dict[tuple[bytes, bytes], bool]
    ) -> ObjectId:
        """A link tree with changes applied: rows by link id, None to remove; and whether a link id has a path."""
        delta = {link_id: None if row is None else LINK_ROW.encode(row) for link_id, row in rows.items()}
        delta |= {link_id + path: _NAME_VALUE if there else None for (link_id, path), there in names.items()}
        edits = [Edit(key, key, [] if value is None else [(key, value)]) for key, value in sorted(delta.items())]
        return prolly.apply(self.link_nodes, links, edits)

    def diff_links(self, old: ObjectId, new: ObjectId) -> Iterator[tuple[bytes, LinkRow | None, LinkRow | None]]:
        """The hard-linked files that differ, by link id; their names apart."""
        for link_id, left, right in prolly.diff(self.link_nodes, old, new):
            if len(link_id) == LINK_ID_SIZE:
                yield link_id, left and LINK_ROW.decode(left[1]), right and LINK_ROW.decode(right[1])

    def moved_links(self, old: ObjectId, new: ObjectId) -> dict[tuple[bytes, bytes], bool]:
        """Which names of hard links a directory lost (False) and won (True): link id and path.

        Opens nothing that holds no hard link, or the same ones at the same paths.
        """

        def inside(prefix: bytes, before: ObjectId, after: ObjectId) -> Iterator[Pair]:
            return ((prefix + name, left, right) for name, left, right in self.diff(before, after))

        def below(pair: Pair) -> Iterator[Pair] | None:
            path, lost, won = pair[0], _linking(pair[1]), _linking(pair[2])
            return inside(path + b"/", lost, won) if lost != won else None

        moved: dict[tuple[bytes, bytes], bool] = {}
        for path, left, right in walk(inside(b"", old, new), below):
            for entry, there in ((left, False), (right, True)):
                if entry is not None and entry.kind is EntryKind.LINK:
                    moved[entry.content, path] = there
        return moved


def tree_of(entry: Entry | None) -> ObjectId:
    """The tree of a directory; of everything else, and of nothing, the empty one."""
    return entry.tree if entry is not None and entry.kind is EntryKind.DIRECTORY else EMPTY_TREE


def _linking(entry: Entry | None) -> ObjectId:
    """The tree of a directory that holds hard links somewhere below; else the empty one."""
    if entry is None or entry.kind is not EntryKind.DIRECTORY or not entry.tag(Tag.LINKS):
        return EMPTY_TREE
    return entry.tree


class Version:
    """A commit's tree, read by path: hard links are resolved, so entries are files, directories, links, devices."""

    def __init__(self, trees: Trees, root: Entry, links: ObjectId) -> None:
        self.trees = trees
        self.root = root
        self.links = links

    def resolve(self, entry: Entry) -> tuple[Entry, int]:
        """The entry behind a hard link's name, and its number of names."""
        if entry.kind is not EntryKind.LINK:
            return entry, 2 + entry.tag(Tag.SUBDIRECTORIES) if entry.kind is EntryKind.DIRECTORY else 1
        row = self.trees.link(self.links, entry.content)
        if row is None:
            raise DamagedError(f"hard link {entry.content.hex()} is missing")
        return row.entry, row.names

    def find(self, path: bytes) -> Entry | None:
        """The entry at a path; None where nothing is."""
        entry = self.root
        for name in filter(None, path.split(b"/")):
            found = self.trees.lookup(entry.tree, name) if entry.kind is EntryKind.DIRECTORY else None
            if found is None:
                return None
            entry = self.resolve(found)[0]
        return entry

    def named(self, path: bytes) -> Entry | None:
        """What a path itself names: of a hard link its name, not the file. None where nothing is."""
        above, _, name = path.rpartition(b"/")
        directory = self.find(above)
        if not path or directory is None or directory.kind is not EntryKind.DIRECTORY:
            return None if path else self.root
        return self.trees.lookup(directory.tree, name)

    def at(self, path: bytes) -> Entry:
        """The entry at a path. Raises NotFoundError, and UsageError on a path through a file."""
        entry = self.find(path)
        if entry is not None:
            return entry
        above = self.find(path.rstrip(b"/").rpartition(b"/")[0])
        if above is not None and above.kind is not EntryKind.DIRECTORY:
            raise UsageError(f"{path.decode(errors='replace')}: a part of the path is not a directory")
        raise NotFoundError(f"{path.decode(errors='replace')}: no such file or directory in this version")

    def children(self, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
        """The entries of a directory, hard links resolved."""
        for name, entry in self.trees.entries(directory.tree):
            yield name, self.resolve(entry)[0]
