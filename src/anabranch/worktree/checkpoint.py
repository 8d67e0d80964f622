"""Keeping working trees in the meta environment: cut, write, load.

A cut is made in the thread of the tables, in one instant, and holds every row that is older than its node. Any thread
may then write it: first the overlay files that its rows name, then the rows, in one transaction; so a crash finds the
working trees as they were at one instant, and no row names bytes that are not on disk. What a cut no longer names is
deleted after it was written.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from anabranch.store.codec import Codec
from anabranch.store.env import Batch, Environment
from anabranch.store.meta import NAMES, NODES, WORKTREES
from anabranch.store.records import seal, unseal
from anabranch.worktree.content import OverlayContent, Overlays
from anabranch.worktree.inodes import WHITEOUT, Inode, Node, decode_node, encode_node
from anabranch.worktree.numbers import link_name
from anabranch.worktree.table import Table

_PLACE = struct.Struct(">IIQ")
_PREFIX = struct.Struct(">II")
_CHILD = struct.Struct("<Q")
_SWEEP = 4096


class WorktreeRow(msgspec.Struct, array_like=True, frozen=True):
    """A working tree: its number, its root's inode, its base commit, and its generations, oldest first."""

    number: int
    root: int
    base: bytes
    generations: tuple[int, ...]


_WORKTREE: Codec[WorktreeRow] = Codec(WorktreeRow, "a working tree")


@dataclass(slots=True)
class Cut:
    """Rows to write: table, key, and value or None to delete. `sync` are overlay files, `doomed` are to go after."""

    rows: list[tuple[str, bytes, bytes | None]] = field(default_factory=list)
    sync: set[int] = field(default_factory=set)
    doomed: set[int] = field(default_factory=set)


def read_row(meta: Environment, branch: str) -> WorktreeRow | None:
    """The row of a branch's working tree."""
    sealed = meta.get(WORKTREES, branch.encode())
    return None if sealed is None else decode_row(branch, sealed)


def decode_row(branch: str, sealed: bytes) -> WorktreeRow:
    """Read the row of a working tree. Raises DamagedError."""
    return _WORKTREE.unseal(sealed, f"working tree of {branch}")


def put_row(batch: Batch, branch: str, row: WorktreeRow) -> None:
    """Write the row of a branch's working tree."""
    batch.put(WORKTREES, branch.encode(), encode_row(row))


def encode_row(row: WorktreeRow) -> bytes:
    """The value of a working tree's row."""
    return _WORKTREE.seal(row)


def cut_table(cut: Cut, branch: str, number: int, table: Table) -> None:
    """Add everything of a table that is newer than its rows, and mark it as written."""
    table.stamp(table.touched)
    for ino in table.touched:
        node = table.nodes.get(ino)
        kept = node is not None and ino in table.dirty and not node.orphan
        cut.rows.append(
            (NODES, _PLACE.pack(number, table.generation, ino), encode_node(node) if kept and node else None)
        )
    for parent, name in table.touched_names:
        child = _child(table, parent, name)
        value = None if child is None else _CHILD.pack(child)
        cut.rows.append((NAMES, _PLACE.pack(number, table.generation, parent) + name, value and seal(value)))
    generations = (table.frozen.generation, table.generation) if table.frozen else (table.generation,)
    row = WorktreeRow(number, table.root, table.base_commit, generations)
    cut.rows.append((WORKTREES, branch.encode(), encode_row(row)))
    table.touched.clear()
    table.touched_names.clear()
    if table.frozen is None:  # a commit may still be reading them
        cut.doomed |= table.doomed
        table.doomed.clear()


def _child(table: Table, parent: Inode, name: bytes) -> Inode | None:
    if name.startswith(b"/"):
        return WHITEOUT if name[1:] in table.dead_links else None
    node = table.nodes.get(parent)
    return node.changes.get(name) if node is not None and parent in table.dirty else None


def rebased_rows(number: int, directories: Iterable[Node]) -> list[tuple[str, bytes, bytes | None]]:
    """Rows of live directories over a new base (see Table.rebased)."""
    return [(NODES, _PLACE.pack(number, node.generation, node.ino), encode_node(node)) for node in directories]


@dataclass(frozen=True, slots=True)
class Ending:
    """A generation of a working tree that ends with the transaction that writes a cut, and what else goes into it."""

    number: int
    generation: int
    also: Callable[[Batch], None]


def write(meta: Environment, overlays: Overlays, cut: Cut, ending: Ending | None = None) -> None:
    """Make a cut durable, in one transaction. Any thread may call this.

    Rows of a generation that ends with it would be deleted at once. They are left out: LMDB would find room for them
    first, with all the small files that they hold, and its file never shrinks.
    """
    ended = b"" if ending is None else _PREFIX.pack(ending.number, ending.generation)
    for number in sorted(cut.sync):
        overlays.sync(number)
    if cut.sync:
        overlays.sync_names()
    with meta.write() as batch:
        for table, key, value in cut.rows:
            if table == WORKTREES and value is not None and _moved(batch, key, value):
                continue
            if ending is not None and table in (NODES, NAMES) and key.startswith(ended):
                continue
            batch.set(table, key, value)
        if ending is not None:
            ending.also(batch)
            sweep_some(batch, ending.number, ending.generation)


def _moved(batch: Batch, key: bytes, value: bytes) -> bool:
    """Whether the branch was renamed or deleted since the cut: its row is gone, or another one stands there."""
    present, name = batch.get(WORKTREES, key), key.decode()
    return present is None or decode_row(name, present).number != decode_row(name, value).number


def sweep(meta: Environment, number: int, generation: int | None = None) -> None:
    """Delete the rows of a working tree, or of one generation of it, in small transactions. Any thread."""
    more = True
    while more:
        with meta.write() as batch:
            more = sweep_some(batch, number, generation)


def sweep_some(batch: Batch, number: int, generation: int | None = None) -> bool:
    """Delete rows as `sweep` does, as many as a transaction may; returns whether there may be more."""
    prefix = struct.pack(">I", number) if generation is None else _PREFIX.pack(number, generation)
    removed = [batch.delete_prefix(table, prefix, _SWEEP) for table in (NODES, NAMES)]
    return max(removed) == _SWEEP


def sweep_stale(meta: Environment, row: WorktreeRow) -> None:
    """Delete the rows of generations that ended when nobody could sweep them: a crash, or a commit that was dropped."""
    prefix = struct.pack(">I", row.number)
    for table in (NODES, NAMES):
        while (first := next(meta.scan(table, prefix), None)) is not None:
            generation = _PLACE.unpack_from(first[0])[1]
            if generation in row.generations:
                break
            sweep(meta, row.number, generation)


def load(meta: Environment, row: WorktreeRow, table: Table) -> None:
    """Fill a fresh table with the rows of its generations, the newer over the older.

    With more than one generation, a commit was cut short: all is live again, and will be written anew.
    """
    for generation in row.generations:
        prefix = _PREFIX.pack(row.number, generation)
        for key, value in meta.scan(NODES, prefix):
            ino = Inode(_PLACE.unpack(key)[2])
            table.nodes[ino] = decode_node(ino, table.generation, value)
            table.dirty.add(ino)
    for generation in row.generations:
        for key, value in meta.scan(NAMES, _PREFIX.pack(row.number, generation)):
            parent, name = Inode(_PLACE.unpack_from(key)[2]), key[_PLACE.size :]
            child = Inode(_CHILD.unpack(unseal(value, f"name {name!r} in {parent}"))[0])
            if name.startswith(b"/"):
                table.dead_links.add(name[1:])
            elif parent in table.nodes:
                table.nodes[parent].changes[name] = child
    table.adopt()
    if len(row.generations) > 1:
        table.touched.update(table.dirty)
        table.touched_names.update((ino, name) for ino in table.dirty for name in table.nodes[ino].changes)
        table.touched_names.update((table.root, link_name(link_id)) for link_id in table.dead_links)


def overlays_of(table: Table) -> set[int]:
    """The overlay files that a table's nodes name."""
    contents = (node.content for node in table.nodes.values())
    return {number for content in contents if isinstance(content, OverlayContent) for number in content.numbers()}
