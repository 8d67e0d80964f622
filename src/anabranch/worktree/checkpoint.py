"""Checkpoints: taking rows of the working trees from the journal into the meta environment.

A commit is one, too: its transaction holds the rows of all working trees up to its own cut, and names the record with
which the journal goes on. So no record that is read back is older than the commit that a working tree lies over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anabranch.store.env import Batch, Environment
from anabranch.store.meta import NAMES, NODES, SETTINGS, WORKTREES
from anabranch.store.records import seal, unseal
from anabranch.worktree import journal
from anabranch.worktree.cuts import EXTENTS, GENERATION, NUMBER, PLACE, WORKTREE, Key, Row, WorktreeRow

_POSITION = b"journal"
_SWEEP = 4096


@dataclass(frozen=True, slots=True)
class Ending:
    """A generation of a working tree that ends with a transaction, and what else goes into it."""

    number: int
    generation: int
    also: Callable[[Batch], None]


def read_row(meta: Environment, branch: str) -> WorktreeRow | None:
    """The row of a branch's working tree."""
    sealed = meta.get(WORKTREES, branch.encode())
    return None if sealed is None else WORKTREE.unseal(sealed, f"working tree of {branch}")


def put_row(batch: Batch, branch: str, row: WorktreeRow) -> None:
    """Write the row of a branch's working tree."""
    batch.put(WORKTREES, branch.encode(), WORKTREE.seal(row))


def position(meta: Environment) -> int:
    """The number of the first record of the journal that was not yet taken in."""
    row = meta.get(SETTINGS, _POSITION)
    return 0 if row is None else int.from_bytes(unseal(row, "position in the journal"), "little")


def take_in(meta: Environment, rows: Mapping[Key, bytes | None], until: int) -> None:
    """Write the rows of all records before the number `until`. After a crash on the way it can be done again."""
    meta.set_all(_placed(meta, rows))
    with meta.write() as batch:
        _put_position(batch, until)


def take_in_ending(meta: Environment, rows: Mapping[Key, bytes | None], until: int, ending: Ending) -> None:
    """The same, with the end of a generation: all in one transaction.

    Rows of the generation would be deleted at once. They are left out: LMDB would find room for them first, with all
    the small files that they hold, and its file never shrinks.
    """
    ended = GENERATION.pack(ending.number, ending.generation)
    placed = [row for row in _placed(meta, rows) if row[0] not in (NODES, NAMES) or not row[1].startswith(ended)]
    with meta.write() as batch:
        for row in placed:
            batch.set(*row)
        ending.also(batch)
        sweep_some(batch, ending.number, ending.generation)
        _put_position(batch, until)


def _put_position(batch: Batch, number: int) -> None:
    batch.put(SETTINGS, _POSITION, seal(number.to_bytes(8, "little")))


def _placed(meta: Environment, rows: Mapping[Key, bytes | None]) -> list[Row]:
    """The rows with the keys that they have in the tables. Those of a branch that was deleted since are left out."""
    names = {WORKTREE.unseal(row, f"working tree of {name!r}").number: name for name, row in meta.scan(WORKTREES)}
    placed: list[Row] = []
    for (table, key), value in rows.items():
        number = NUMBER.unpack_from(key)[0]
        if number in names:
            placed.append((table, names[number] if table == WORKTREES else key, value))
    return placed


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a process that ended without warning had left in the journal."""

    records: int
    rows: int
    dropped: int
    """Bytes of a record that was cut short."""
    saved_ns: int
    """When the last of it was written; 0 without a journal."""


def recover(meta: Environment, directory: Path) -> Recovered:
    """Take in what the journal holds. Raises DamagedError."""
    first = position(meta)
    found = journal.read(directory, first)
    rows: dict[Key, bytes | None] = {}
    for record in found.records:
        rows |= {(table, key): value for table, key, value in record}
    if rows:
        take_in(meta, rows, first + len(found.records))
    return Recovered(len(found.records), len(rows), found.dropped, found.saved_ns)


def sweep(meta: Environment, number: int, generation: int | None = None) -> None:
    """Delete the rows of a working tree, or of one generation of it, in small transactions. Any thread."""
    more = True
    while more:
        with meta.write() as batch:
            more = sweep_some(batch, number, generation)


def sweep_some(batch: Batch, number: int, generation: int | None = None) -> bool:
    """Delete rows as `sweep` does, as many as a transaction may; returns whether there may be more."""
    prefix = NUMBER.pack(number) if generation is None else GENERATION.pack(number, generation)
    removed = [batch.delete_prefix(table, prefix, _SWEEP) for table in (NODES, NAMES)]
    return max(removed) == _SWEEP


def sweep_stale(meta: Environment, row: WorktreeRow) -> None:
    """Delete the rows of generations that ended when nobody could sweep them: a crash, or a commit that was dropped."""
    prefix = NUMBER.pack(row.number)
    for table in (NODES, NAMES):
        while (first := next(meta.scan(table, prefix), None)) is not None:
            generation = PLACE.unpack_from(first[0])[1]
            if generation in row.generations or generation == EXTENTS:
                break
            sweep(meta, row.number, generation)
