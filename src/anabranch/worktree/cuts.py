"""Cuts: the rows of a working tree that are older than its nodes, and the way back from rows to nodes.

A cut is made in the thread of the tables, in one instant. Any thread may then write it (journal.py), and later take it
into the meta environment (checkpoint.py). A working tree's own row goes by its number, which a renamed branch keeps.
"""

import contextlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from anabranch.errors import DamagedError
from anabranch.store.codec import Codec
from anabranch.store.env import Environment
from anabranch.store.meta import NAMES, NODES, WORKTREES
from anabranch.store.records import seal, unseal_fixed
from anabranch.versions.objects import Count, IdBytes
from anabranch.versions.trees import is_name
from anabranch.worktree.content import OverlayContent
from anabranch.worktree.inodes import WHITEOUT, Inode, Node, decode_node, encode_node
from anabranch.worktree.numbers import FIRST, link_name
from anabranch.worktree.ranges import Ranges
from anabranch.worktree.table import Table

PLACE = struct.Struct(">IIQ")
"""The key of a node: working tree, generation, inode; a name's goes on with the name."""
GENERATION = struct.Struct(">II")
NUMBER = struct.Struct(">I")
EXTENTS = 0xFFFFFFFF
"""In the place of a generation: the ranges of an overlay file, by its number and that of a segment."""
_SEGMENT = struct.Struct(">IIQI")
_CHILD = struct.Struct("<Q")
_RANGES: Codec[tuple[list[int], list[int]]] = Codec(tuple[list[Count], list[Count]], "ranges of an overlay file")

Row = tuple[str, bytes, bytes | None]
"""Table, key, and value or None where the row is gone."""
Key = tuple[str, bytes]
"""A table and a key in it."""


_Generation = Annotated[int, Meta(ge=1, lt=EXTENTS)]


class WorktreeRow(msgspec.Struct, array_like=True, frozen=True):
    """A working tree: its number, its root's inode, its base commit, and its generations, oldest first."""

    number: Annotated[int, Meta(ge=1, lt=1 << 30)]
    root: Annotated[int, Meta(ge=FIRST, lt=1 << 62)]
    base: IdBytes
    generations: Annotated[tuple[_Generation, ...], Meta(min_length=1, max_length=2)]


WORKTREE: Codec[WorktreeRow] = Codec(WorktreeRow, "a working tree")


@dataclass(slots=True)
class Cut:
    """Rows to write, None to delete. `sync` is what to bring to disk of overlay files before, `doomed` go after."""

    rows: dict[Key, bytes | None] = field(default_factory=dict)
    sync: dict[int, Ranges] = field(default_factory=dict)
    doubted: set[int] = field(default_factory=set)
    """Of `sync`, those that could not be brought to disk: nobody knows what is there."""
    doomed: set[int] = field(default_factory=set)
    taken_in: int = 0
    """About how many bytes were in memory only until this cut."""

    def add(self, later: "Cut") -> None:
        """Make one of two cuts."""
        self.rows |= later.rows
        self.unsynced(later.sync)
        self.doubted |= later.doubted
        self.doomed |= later.doomed
        self.taken_in += later.taken_in

    def unsynced(self, written: Mapping[int, Ranges]) -> None:
        """Add what was written to overlay files."""
        for number, ranges in written.items():
            known = self.sync.setdefault(number, Ranges())
            for start, end in zip(ranges.starts, ranges.ends, strict=True):
                known.add(start, end)


def cut_table(cut: Cut, number: int, table: Table) -> None:
    """Add everything of a table that is newer than its rows, and mark it as written."""
    table.stamp(table.touched)
    for ino in table.touched:
        node = table.nodes.get(ino)
        kept = node if node is not None and ino in table.dirty and not node.orphan else None
        key = PLACE.pack(number, table.generation, ino)
        cut.rows[NODES, key] = encode_node(kept, key) if kept else None
        if kept and isinstance(kept.content, OverlayContent):
            for overlay in kept.content.overlays():
                _cut_ranges(cut, number, overlay)
    for parent, name in table.touched_names:
        child = _child(table, parent, name)
        key = PLACE.pack(number, table.generation, parent) + name
        cut.rows[NAMES, key] = None if child is None else seal(_CHILD.pack(child), key)
    generations = (table.frozen.generation, table.generation) if table.frozen else (table.generation,)
    row = WorktreeRow(number, table.root, table.base_commit, generations)
    cut.rows[WORKTREES, NUMBER.pack(number)] = WORKTREE.seal(row, NUMBER.pack(number))
    table.touched.clear()
    table.touched_names.clear()
    if table.frozen is None:  # a commit may still be reading them
        for overlay_number, segments in table.doomed.items():
            cut.doomed.add(overlay_number)
            cut.rows |= {(NODES, _SEGMENT.pack(number, EXTENTS, overlay_number, segment)): None for segment in segments}
        table.doomed.clear()


def _cut_ranges(cut: Cut, number: int, overlay: OverlayContent) -> None:
    for segment in overlay.touched:
        held = overlay.held(segment)
        key = _SEGMENT.pack(number, EXTENTS, overlay.number, segment)
        cut.rows[NODES, key] = _RANGES.seal(held, key) if held[0] else None
    overlay.touched.clear()


def _child(table: Table, parent: Inode, name: bytes) -> Inode | None:
    if name.startswith(b"/"):
        return WHITEOUT if name[1:] in table.dead_links else None
    node = table.nodes.get(parent)
    return node.changes.get(name) if node is not None and parent in table.dirty else None


def rebased_rows(number: int, directories: Iterable[Node]) -> dict[Key, bytes | None]:
    """Rows of live directories over a new base (see Table.rebased)."""
    keyed = ((PLACE.pack(number, node.generation, node.ino), node) for node in directories)
    return {(NODES, key): encode_node(node, key) for key, node in keyed}


def load(meta: Environment, row: WorktreeRow, table: Table) -> list[Row]:
    """Fill a fresh table with the rows of its generations, the newer over the older.

    With more than one generation, a commit was cut short: all is live again, and will be written anew.

    Returns rows that nothing names, as deletions: overlay files that are made later get the same numbers.
    """
    for generation in row.generations:
        prefix = GENERATION.pack(row.number, generation)
        for key, value in meta.scan(NODES, prefix):
            ino = Inode(fields(PLACE, key)[2])
            table.nodes[ino] = decode_node(ino, table.generation, value, key)
            table.dirty.add(ino)
    for generation in row.generations:
        for key, value in meta.scan(NAMES, GENERATION.pack(row.number, generation)):
            parent, name = Inode(fields(PLACE, key[: PLACE.size])[2]), key[PLACE.size :]
            child = child_of(key, value)
            if name.startswith(b"/"):
                table.dead_links.add(name[1:])
            elif not is_name(name):
                raise DamagedError(f"the working tree has a file of the bad name {name!r}")
            elif parent in table.nodes:
                table.nodes[parent].changes[name] = child
    table.adopt()
    stale = _load_ranges(meta, row.number, table)
    if len(row.generations) > 1:
        table.touched.update(table.dirty)
        table.touched_names.update((ino, name) for ino in table.dirty for name in table.nodes[ino].changes)
        table.touched_names.update((table.root, link_name(link_id)) for link_id in table.dead_links)
    return stale


def child_of(key: bytes, value: bytes) -> Inode:
    """The child to which the row of a name leads. Raises DamagedError."""
    parent, name = fields(PLACE, key[: PLACE.size])[2], key[PLACE.size :]
    return Inode(unseal_fixed(_CHILD, value, f"name {name!r} in {parent}", key)[0])


def _load_ranges(meta: Environment, number: int, table: Table) -> list[Row]:
    """Fill in what overlay files hold; returns how to delete the ranges of files that nothing names any more."""
    overlays = {overlay.number: overlay for overlay in _overlays(table)}
    stale: list[Row] = []
    for key, value in meta.scan(NODES, GENERATION.pack(number, EXTENTS)):
        _, _, overlay_number, segment = fields(_SEGMENT, key)
        if (overlay := overlays.get(overlay_number)) is None:
            stale.append((NODES, key, None))
        else:
            what = f"ranges of overlay file {overlay_number}"
            try:
                overlay.hold(segment, *_RANGES.unseal(value, what, key))
            except ValueError as error:
                raise DamagedError(f"{what}: {error}") from error
    return stale


def fields(shape: struct.Struct, key: bytes) -> tuple[int, ...]:
    """The numbers in a key. Raises DamagedError."""
    if len(key) != shape.size:
        raise DamagedError(f"a row of a working tree has the key {key.hex()}")
    return shape.unpack(key)


def _overlays(table: Table) -> Iterator[OverlayContent]:
    for node in table.nodes.values():
        if isinstance(node.content, OverlayContent):
            yield from node.content.overlays()


def overlays_in(meta: Environment) -> set[int]:
    """The overlay files that the rows of working trees name; damaged rows name none."""
    found: set[int] = set()
    for name, sealed in meta.scan(WORKTREES):
        with contextlib.suppress(DamagedError):
            row = WORKTREE.unseal(sealed, f"working tree of {name!r}", name)
            for generation in row.generations:
                for key, value in meta.scan(NODES, GENERATION.pack(row.number, generation)):
                    found |= overlays_named(key, value)
    return found


def overlays_named(key: bytes, value: bytes) -> set[int]:
    """The overlay files that the row of an inode names; a damaged one names none."""
    try:
        content = decode_node(Inode(PLACE.unpack(key)[2]), 0, value, key).content
    except DamagedError:
        return set()
    return {overlay.number for overlay in content.overlays()} if isinstance(content, OverlayContent) else set()


def overlays_of(table: Table) -> set[int]:
    """The overlay files that a table's nodes name."""
    return {overlay.number for overlay in _overlays(table)}
