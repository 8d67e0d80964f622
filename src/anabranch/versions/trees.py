"""Trees: immutable directories, as prolly maps from name to entry. Link trees are the same from link id to row.

Equal directories have equal ids. Nodes above the leaves carry the number of entries and recursive totals, so that the
size of a directory of any size is read from its root.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from anabranch.errors import DamagedError, NotFoundError, UsageError
from anabranch.ids import ObjectId
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind, hash_name, object_id
from anabranch.versions import prolly
from anabranch.versions.objects import Entry, EntryKind, LinkRow, Tag, decode_entry, decode_link_row, encode

NODE_SIZE = 4096
MAX_NODE = 16 * 1024
EMPTY_NODE = prolly.encode_node(0, [])
EMPTY_TREE = object_id(Kind.TREE, EMPTY_NODE)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a tree holds: its own entries and subdirectories; files and bytes recursively."""

    entries: int = 0
    size: int = 0
    files: int = 0
    bytes: int = 0
    subdirectories: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.entries + other.entries,
            self.size + other.size,
            self.files + other.files,
            self.bytes + other.bytes,
            self.subdirectories + other.subdirectories,
        )


_summary = msgspec.msgpack.Decoder(tuple[bytes, int, int, int, int, int])


class _MapShape:
    """Cut after a key whose hash, seeded with the level, is small beside the row's size: nodes of about 4 KiB."""

    single = MAX_NODE

    def cuts(self, level: int, key: bytes, size: int) -> bool:
        return hash_name(key, level) < (size << 64) // NODE_SIZE

    def full(self, rows: int, size: int) -> bool:
        return size >= MAX_NODE

    def size(self, root: prolly.Node) -> int:
        return self.sums(root.level, list(zip(root.keys, root.values, strict=True))).size

    def above(self, level: int, rows: Sequence[prolly.Row], child: ObjectId) -> prolly.Row:
        sums = self.sums(level, rows)
        return rows[-1][0], encode((child, sums.entries, sums.size, sums.files, sums.bytes, sums.subdirectories))

    def sums(self, level: int, rows: Sequence[prolly.Row]) -> Totals:
        total = Totals()
        for row in rows:
            total += self.leaf(row) if level == 0 else _interior(row)
        return total

    def leaf(self, row: prolly.Row) -> Totals:
        raise NotImplementedError


class _TreeShape(_MapShape):
    def leaf(self, row: prolly.Row) -> Totals:
        entry = decode_entry(row[1])
        size = prolly.row_size(row)
        if entry.kind == EntryKind.DIRECTORY:
            return Totals(1, size, entry.tag(Tag.FILES), entry.size, 1)
        return Totals(1, size, 1, entry.size, 0)


class _LinkShape(_MapShape):
    def leaf(self, row: prolly.Row) -> Totals:
        return Totals(1, prolly.row_size(row), 1, decode_link_row(row[1]).entry.size, 0)


def _interior(row: prolly.Row) -> Totals:
    try:
        _, *numbers = _summary.decode(row[1])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"an interior row of a tree cannot be read: {error}") from error
    return Totals(*numbers)


_TREE, _LINKS = _TreeShape(), _LinkShape()


class Trees:
    """Reading and editing trees. Not for several threads at once: give each its own."""

    def __init__(self, objects: ObjectStore) -> None:
        self._nodes = prolly.NodeStore(objects, Kind.TREE)
        self._objects = objects

    def fork(self) -> "Trees":
        """Another one over the same objects, for another thread."""
        return Trees(self._objects)

    def empty(self) -> ObjectId:
        """Store and return the empty tree, which is the empty link tree too."""
        return self._nodes.put(0, [])

    def lookup(self, tree: ObjectId, name: bytes) -> Entry | None:
        """The entry of a name."""
        raw = prolly.lookup(self._nodes, tree, name)
        return None if raw is None else decode_entry(raw)

    def entries(self, tree: ObjectId) -> Iterator[tuple[bytes, Entry]]:
        """All entries, in order of their names."""
        for name, raw in prolly.iterate(self._nodes, tree):
            yield name, decode_entry(raw)

    def totals(self, tree: ObjectId) -> Totals:
        """What the tree holds, from its root node alone."""
        root = self._nodes.get(tree)
        return _TREE.sums(root.level, list(zip(root.keys, root.values, strict=True)))

    def apply(self, tree: ObjectId, delta: Sequence[tuple[bytes, Entry | None]]) -> ObjectId:
        """A tree with changes applied: names in order, None to remove."""
        rows = [(name, None if entry is None else encode(entry)) for name, entry in delta]
        return prolly.apply(self._nodes, _TREE, tree, rows)

    def link(self, links: ObjectId, link_id: bytes) -> LinkRow | None:
        """The row of a hard-linked file."""
        raw = prolly.lookup(self._nodes, links, link_id)
        return None if raw is None else decode_link_row(raw)

    def apply_links(self, links: ObjectId, delta: Sequence[tuple[bytes, LinkRow | None]]) -> ObjectId:
        """A link tree with changes applied."""
        rows = [(link_id, None if row is None else encode(row)) for link_id, row in delta]
        return prolly.apply(self._nodes, _LINKS, links, rows)

    def diff(self, old: ObjectId, new: ObjectId) -> Iterator[tuple[bytes, Entry | None, Entry | None]]:
        """The names on which two trees differ, in order."""
        for name, left, right in prolly.diff(self._nodes, old, new):
            yield name, decode_entry(left) if left else None, decode_entry(right) if right else None

    def diff_links(self, old: ObjectId, new: ObjectId) -> Iterator[tuple[bytes, LinkRow | None, LinkRow | None]]:
        """The link ids on which two link trees differ."""
        for link_id, left, right in prolly.diff(self._nodes, old, new):
            yield link_id, decode_link_row(left) if left else None, decode_link_row(right) if right else None


class Version:
    """A commit's tree, read by path: hard links are resolved, so entries are files, directories, links, devices."""

    def __init__(self, trees: Trees, root: Entry, links: ObjectId) -> None:
        self.trees = trees
        self.root = root
        self.links = links

    def resolve(self, entry: Entry) -> tuple[Entry, int]:
        """The entry behind a hard link's name, and its number of names."""
        if entry.kind != EntryKind.LINK:
            return entry, 2 + entry.tag(Tag.SUBDIRECTORIES) if entry.kind == EntryKind.DIRECTORY else 1
        row = self.trees.link(self.links, entry.content)
        if row is None:
            raise DamagedError(f"hard link {entry.content.hex()} is missing")
        return row.entry, row.names

    def at(self, path: bytes) -> Entry:
        """The entry at a path. Raises NotFoundError, and UsageError on a path through a file."""
        entry = self.root
        for name in filter(None, path.split(b"/")):
            if entry.kind != EntryKind.DIRECTORY:
                raise UsageError(f"{path.decode(errors='replace')}: a part of the path is not a directory")
            found = self.trees.lookup(entry.tree, name)
            if found is None:
                raise NotFoundError(f"{path.decode(errors='replace')}: no such file or directory in this version")
            entry = self.resolve(found)[0]
        return entry

    def entries(self, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
        """The entries of a directory, hard links resolved."""
        for name, entry in self.trees.entries(directory.tree):
            yield name, self.resolve(entry)[0]
