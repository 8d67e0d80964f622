"""Merging two tables with the one that both came from, row by row, by a key.

A row that one side alone changed, added or removed is as that side has it; what both did alike is done. A key for which
both did something different is a conflict, and with a conflict nothing is written. Only rows that differ between `base`
and `theirs` can bring anything: these are found first, and then looked up in `ours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anabranch.errors import ExistsError, UsageError
from anabranch.tables.engine import MEMORY, Engine, Row, View, as_text, engine
from anabranch.tables.rows import check_named
from anabranch.tables.source import Format, find
from anabranch.tables.writing import Side, write

LISTED = 100
"""Conflicts that are told one by one."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key for which both sides did something different: the three rows, None where there is none."""

    key: Row
    base: Row | None
    ours: Row | None
    theirs: Row | None


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to; with conflicts, nothing was written."""

    key: tuple[str, ...]
    columns: tuple[str, ...]
    """Of the rows of conflicts: those of ours."""
    rows: int
    """How many were written."""
    added: int
    """Rows that ours did not have."""
    changed: int
    """Rows that are as in theirs now."""
    removed: int
    """Rows that ours had, and theirs took away."""
    conflicts: int
    listed: tuple[Conflict, ...]
    """The first of them."""


def merge(base: Path, ours: Path, theirs: Path, key: Sequence[str], out: Path, *, memory: int = MEMORY) -> Merged:
    """Merge tables into `out`, which must not be there, in the format of `ours`, in the order of its rows.

    New rows of theirs come last, in their order. `memory` is DuckDB's, in bytes. Raises UsageError for what is no
    table, damaged, or has other columns than ours, and for a key that is not there or not unique; ExistsError;
    DeniedError without DuckDB.
    """
    if not key:
        raise UsageError("rows cannot be merged without a key", hint="name the columns that tell rows apart: --key")
    check_named(key)
    if out.exists():
        raise ExistsError(f"{out} exists already")
    with engine(memory) as duck:
        views = (duck.view(name, find(path)) for name, path in (("base", base), ("ours", ours), ("theirs", theirs)))
        return _Merge(duck, tuple(key), *views).into(out)


class _Merge:
    """Three tables with the same columns."""

    def __init__(self, duck: Engine, key: tuple[str, ...], base: View, ours: View, theirs: View) -> None:
        self._duck, self._base, self._ours, self._theirs, self._key = duck, base, ours, theirs, key
        if ours.table.is_partitioned:
            raise UsageError(f"{ours.table.path.name} has partitions: such tables are not merged")
        _check_distinct(duck, ours)
        for view in (base, theirs):
            _check_alike(ours, view)

    def into(self, out: Path) -> Merged:
        """Write what the merge comes to, or tell the conflicts."""
        views = self._base, self._ours, self._theirs
        _, ours_rows, theirs_rows = (self._duck.count_unique(view, self._key) for view in views)
        self._plan()
        counted = self._duck.rows(
            "select count(*) filter (where conflict), count(*) filter (where ours_row is null),"
            " count(*) filter (where ours_row is not null and theirs_row is not null),"
            " count(*) filter (where theirs_row is null) from plan"
        )
        ((conflicts, added, changed, removed),) = counted
        if conflicts:
            return Merged(self._key, self._ours.names, 0, 0, 0, 0, conflicts, self._conflicts())
        write(self._duck, Side(self._ours, ours_rows), Side(self._theirs, theirs_rows), out)
        return Merged(self._key, self._ours.names, ours_rows + added - removed, added, changed, removed, 0, ())

    def _plan(self) -> None:
        """Make the table `plan`: where theirs is neither as base nor as ours, by the numbers of the rows.

        Where that is no conflict, theirs is what it comes to: the row of ours is replaced, removed, or there is a new
        one. It takes two steps, so that one large join is enough.
        """
        names = self._ours.names
        both = ", ".join(
            f"{view.name}.row as {view.name}_row, "
            + ", ".join(f"{view.at(name)} as {view.name}_c{number}" for number, name in enumerate(names))
            for view in (self._base, self._theirs)
        )
        base, theirs = ([view.at(name) for name in names] for view in (self._base, self._theirs))
        self._duck.run(
            f"create table moved as select {both} from base full join theirs on {self._same_key(base, theirs)}"
            f" where {_differ('base.row', 'theirs.row', base, theirs)}"
        )
        ours = [self._ours.at(name) for name in names]
        base, theirs = ([f"{view}_c{number}" for number in range(len(names))] for view in ("base", "theirs"))
        either = [f"coalesce({one}, {two})" for one, two in zip(base, theirs, strict=True)]
        self._duck.run(
            f"create table plan as select base_row, ours.row as ours_row, theirs_row,"
            f" {_differ('base_row', 'ours.row', base, ours)} as conflict"
            f" from moved left join ours on {self._same_key(either, ours)}"
            f" where {_differ('theirs_row', 'ours.row', theirs, ours)}"
        )

    def _same_key(self, one: Sequence[str], two: Sequence[str]) -> str:
        """Whether rows have the same key; columns are given in the order of ours."""
        places = map(self._ours.names.index, self._key)
        return " and ".join(f"{one[place]} is not distinct from {two[place]}" for place in places)

    def _conflicts(self) -> tuple[Conflict, ...]:
        """The first conflicts: those of rows of ours in their order, then others."""
        found = [
            *self._duck.rows(
                "select base_row, ours_row, theirs_row from plan where conflict"
                f" order by ours_row nulls last, theirs_row nulls last limit {LISTED}"
            )
        ]
        views = (self._base, self._ours, self._theirs)
        texts = [self._texts(view, numbers) for view, numbers in zip(views, zip(*found, strict=True), strict=True)]
        places = [*map(self._ours.names.index, self._key)]
        listed = []
        for rows in found:
            base, ours, theirs = (text.get(row) for text, row in zip(texts, rows, strict=True))
            one = base or ours or theirs
            assert one is not None
            listed.append(Conflict(tuple(one[place] for place in places), base, ours, theirs))
        return tuple(listed)

    def _texts(self, view: View, numbers: Sequence[int | None]) -> dict[int | None, Row]:
        """Some rows of a table by their numbers."""
        rows = [number for number in numbers if number is not None]
        if not rows:
            return {}
        columns = as_text([view.at(name) for name in self._ours.names])
        found = self._duck.rows(f"select row, {columns} from {view.name} where row in ({', '.join(map(str, rows))})")
        return {row: tuple(values) for row, *values in found}


def _differ(one: str, two: str, ones: Sequence[str], twos: Sequence[str]) -> str:
    """Whether two rows do: one is not there, or a value is another."""
    values = " or ".join(f"{before} is distinct from {after}" for before, after in zip(ones, twos, strict=True))
    return f"(({one} is null) <> ({two} is null) or {values})"


def _check_distinct(duck: Engine, ours: View) -> None:
    """Raises UsageError for names that DuckDB does not tell apart: it has given one of them another name."""
    if ours.table.format is Format.PARQUET:
        stored = {
            name for (name,) in duck.rows(f"select name from parquet_schema('{duck.folder}/ours/000000.parquet')")
        }
        if renamed := [name for name in ours.names if name not in stored]:
            raise UsageError(
                f"{ours.table.path.name} has columns whose names differ in case only: {', '.join(renamed)} would be new"
            )


def _check_alike(ours: View, other: View) -> None:
    """Raises UsageError unless two tables have the same columns, of the same types, in any order."""
    names = f"{ours.table.path.name} (ours) and {other.table.path.name} ({other.name})"
    if ours.table.format is not other.table.format:
        raise UsageError(f"{names} are of different formats")
    for one, two in ((ours, other), (other, ours)):
        if missing := [name for name in one.names if name not in set(two.names)]:
            raise UsageError(f"{names} have different columns: only {one.name} has {', '.join(missing)}")
    for name in ours.names:
        if (mine := ours.type(name)) != (its := other.type(name)):
            raise UsageError(f"{names} have different columns: {name} is {mine} in ours, {its} in {other.name}")
