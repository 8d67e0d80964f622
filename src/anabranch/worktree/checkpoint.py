"""Checkpoints: taking rows of the working trees from the journal into the meta environment.

A commit is one, too: its transaction holds the rows of all working trees up to its own cut, and names the record with
which the journal goes on. So no record that is read back is older than the commit that a working tree lies over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.store.env import Batch, Environment
from anabranch.store.meta import NAMES, NODES, SETTINGS, WORKTREES, damaged_rows
from anabranch.store.records import seal, unseal, unseal_counter
from anabranch.worktree import journal
from anabranch.worktree.cuts import EXTENTS, GENERATION, NUMBER, PLACE, WORKTREE, Key, Row, WorktreeRow, fields

POSITION = b"journal"
_SWEEP = 4096


@dataclass(frozen=True, slots=True)
class Ended:
    """A generation of a working tree that ends with a transaction."""

    number: int
    generation: int


def read_row(meta: Environment, branch: str) -> WorktreeRow | None:
    """The row of a branch's working tree."""
    sealed = meta.get(WORKTREES, branch.encode())
    return None if sealed is None else WORKTREE.unseal(sealed, f"working tree of {branch}", branch.encode())


def put_row(batch: Batch, branch: str, row: WorktreeRow) -> None:
    """Write the row of a branch's working tree."""
    batch.put(WORKTREES, branch.encode(), WORKTREE.seal(row, branch.encode()))


def rename_row(batch: Batch, old: str, new: str) -> None:
    """Give the row of a branch's working tree, if there is one, to another name."""
    if (sealed := batch.get(WORKTREES, old.encode())) is not None:
        put_row(batch, new, WORKTREE.unseal(sealed, f"working tree of {old}", old.encode()))
        batch.delete(WORKTREES, old.encode())


def check_rows(meta: Environment, table: str) -> None:
    """Before rows are believed: is each where it was put, and none lost? Raises DamagedError.

    A row that lies under another key, or in a page that nothing leads to any more, would not be missed: what it had
    changed would show as it was before.
    """
    with meta.view() as view:
        for _, why in damaged_rows(view, table):
            raise DamagedError(why)


def position(meta: Environment) -> int:
    """The number of the first record of the journal that was not yet taken in."""
    row = meta.get(SETTINGS, POSITION)
    return 0 if row is None else unseal_counter(row, 8, "position in the journal", POSITION)


def take_in(meta: Environment, rows: Mapping[Key, bytes | None], until: int) -> None:
    """Write the rows of all records before the number `until`. After a crash on the way it can be done again."""
    meta.set_all(_placed(meta, rows))
    with meta.write() as batch:
        put_position(batch, until)


def take_in_with(
    meta: Environment, rows: Mapping[Key, bytes | None], until: int, also: Callable[[Batch], None], ended: Ended | None
) -> None:
    """The same with something else, and perhaps the end of a generation: all in one transaction.

    Rows of the generation would be deleted at once. They are left out: LMDB would find room for them first, with all
    the small files that they hold, and its file never shrinks.
    """
    placed = _placed(meta, rows)
    if ended is not None:
        prefix = GENERATION.pack(ended.number, ended.generation)
        placed = [row for row in placed if row[0] not in (NODES, NAMES) or not row[1].startswith(prefix)]
    with meta.write() as batch:
        for row in placed:
            batch.set(*row)
        also(batch)
        if ended is not None:
            sweep_some(batch, ended.number, ended.generation)
        put_position(batch, until)


def put_position(batch: Batch, number: int) -> None:
    """Write the number of the first record of the journal that is to be taken in."""
    batch.put(SETTINGS, POSITION, seal(number.to_bytes(8, "little"), POSITION))


def _placed(meta: Environment, rows: Mapping[Key, bytes | None]) -> list[Row]:
    """The rows with the keys that they have in the tables. Those of a branch that was deleted since are left out."""
    names = {WORKTREE.unseal(row, f"working tree of {name!r}", name).number: name for name, row in meta.scan(WORKTREES)}
    placed: list[Row] = []
    for (table, key), value in rows.items():
        number = fields(NUMBER, key[: NUMBER.size])[0]
        if number in names:
            placed.append(_by_name(names[number], key, value) if table == WORKTREES else (table, key, value))
    return placed


def _by_name(name: bytes, key: bytes, value: bytes | None) -> Row:
    """A working tree's own row goes by its number in the journal, and by its branch's name here."""
    return WORKTREES, name, None if value is None else seal(unseal(value, f"working tree of {name!r}", key), name)


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
            generation = fields(PLACE, first[0][: PLACE.size])[1]
            if generation in row.generations or generation == EXTENTS:
                break
            sweep(meta, row.number, generation)
