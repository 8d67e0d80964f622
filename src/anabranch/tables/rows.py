"""What differs between two tables: columns, then rows.

With a key, a row is the one with the same key; without, rows are told apart by all their values, and none is
changed. Compared is what both tables have. Values of one type are compared as values, in which NULL equals NULL and NaN
equals NaN; of different types as text. DuckDB joins the files as it reads them, and spills what its memory does not
hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from anabranch.errors import UsageError
from anabranch.tables.engine import MEMORY, Column, Engine, Row, View, as_text, engine
from anabranch.tables.source import find

SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Retyped:
    """A column whose type changed."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """How the columns differ."""

    added: tuple[Column, ...]
    removed: tuple[Column, ...]
    retyped: tuple[Retyped, ...]
    reordered: bool
    """Whether those that both tables have stand in another order."""

    def __bool__(self) -> bool:
        """Whether they do."""
        return bool(self.added or self.removed or self.retyped or self.reordered)


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that changed."""

    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row of which some values changed."""

    key: Row
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that only one table has: how many, and the first of them."""

    count: int
    columns: tuple[str, ...]
    """Of the rows that are shown."""
    shown: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two tables."""

    key: tuple[str, ...]
    old_rows: int
    new_rows: int
    schema: SchemaChange
    added: Rows
    removed: Rows
    changed: int
    changed_rows: tuple[ChangedRow, ...]
    """The first of them."""

    def __bool__(self) -> bool:
        """Whether anything does."""
        return bool(self.schema or self.added.count or self.removed.count or self.changed)


def compare(old: Path, new: Path, key: Sequence[str] = (), sample: int = SAMPLE, memory: int = MEMORY) -> Difference:
    """Compare two tables; of each kind of row, `sample` are shown. `memory` is DuckDB's, in bytes.

    Raises UsageError for what is no table or damaged, and for a key that is not there or not unique; DeniedError
    without DuckDB.
    """
    if sample < 0:
        raise UsageError(f"{sample} rows cannot be shown")
    check_named(key)
    with engine(memory) as duck:
        comparison = _Comparison(duck, duck.view("old", find(old)), duck.view("new", find(new)), sample)
        return comparison.by_key(tuple(key)) if key else comparison.by_values()


def check_named(key: Sequence[str]) -> None:
    """Raises UsageError when a column is named twice."""
    if len(set(key)) < len(key):
        raise UsageError("a column is in the key twice")


class _Comparison:
    """Two tables, and the columns that both have."""

    def __init__(self, duck: Engine, old: View, new: View, sample: int) -> None:
        self._duck, self._old, self._new, self._sample = duck, old, new, sample
        self._common = [name for name in new.names if name in set(old.names)]
        self._schema = _schema(old, new, self._common)

    def by_key(self, key: tuple[str, ...]) -> Difference:
        """Rows joined by a key."""
        old_rows, new_rows = (self._duck.count_unique(view, key) for view in (self._old, self._new))
        self._duck.run(
            "create table differing as select old.row as old_row, new.row as new_row from old full join new"
            f" on {self._same_key(key)} where old.row is null or new.row is null or {self._differs()}"
        )
        (added, removed, changed), *_ = self._duck.rows(
            "select count(*) filter (where old_row is null), count(*) filter (where new_row is null),"
            " count(*) filter (where old_row is not null and new_row is not null) from differing"
        )
        return Difference(
            key,
            old_rows,
            new_rows,
            self._schema,
            added=self._only_in(self._new, "old_row is null", added),
            removed=self._only_in(self._old, "new_row is null", removed),
            changed=changed,
            changed_rows=self._changed(key) if changed and self._sample else (),
        )

    def _same_key(self, key: Sequence[str]) -> str:
        return " and ".join("{} is not distinct from {}".format(*self._pair(name)) for name in key)

    def _differs(self) -> str:
        """Whether any value of two rows does."""
        return " or ".join("{} is distinct from {}".format(*self._pair(name)) for name in self._common)

    def _pair(self, column: str, old: str = "old", new: str = "new") -> tuple[str, str]:
        """A column on both sides, as it is compared."""
        sides = self._old.at(column, old), self._new.at(column, new)
        if self._old.type(column) == self._new.type(column):
            return sides
        return as_text(sides[:1]), as_text(sides[1:])

    def _only_in(self, view: View, where: str, count: int) -> Rows:
        """Rows of one table; the first of them in its order."""
        if not count or not self._sample:
            return Rows(count, view.names)
        picked = self._picked(view.name, where)
        columns = as_text([view.at(name) for name in view.names])
        found = self._duck.rows(f"select {columns} from {picked} as {view.name} order by {view.name}.row")
        return Rows(count, view.names, tuple(found))

    def _picked(self, name: str, where: str) -> str:
        """The first rows of a table that differ; reading ends with the last of them."""
        found = self._duck.rows(
            f"select {name}_row from differing where {where} order by new_row, old_row limit {self._sample}"
        )
        rows = [str(row) for (row,) in found]
        return f"(select * from {name} where row in ({', '.join(rows)}) limit {len(rows)})"

    def _changed(self, key: Sequence[str]) -> tuple[ChangedRow, ...]:
        where = "old_row is not null and new_row is not null"
        both = f"{self._picked('old', where)} as old join {self._picked('new', where)} as new on {self._same_key(key)}"
        pairs = [*map(self._pair, self._common)]
        flags = ", ".join(f"{before} is distinct from {after}" for before, after in pairs)
        before, after = (as_text(side) for side in zip(*pairs, strict=True))
        found = self._duck.rows(f"select {before}, {after}, {flags} from {both} order by new.row")
        return tuple(self._changed_row(key, values) for values in found)

    def _changed_row(self, key: Sequence[str], values: tuple[Any, ...]) -> ChangedRow:
        """A row of the query above: all values before, all after, and for each whether it differs."""
        width = len(self._common)
        sides = zip(self._common, values[:width], values[width : 2 * width], values[2 * width :], strict=True)
        cells = tuple(Cell(name, before, after) for name, before, after, differs in sides if differs)
        return ChangedRow(tuple(values[width + self._common.index(name)] for name in key), cells)

    def by_values(self) -> Difference:
        """Rows as a multiset: of equal ones each side has so many."""
        if not self._common:
            raise UsageError(f"the two tables of {self._new.table.path.name} have no column in common")
        old_rows, new_rows = self._duck.count(self._old), self._duck.count(self._new)
        values = ", ".join(f"v{number}" for number in range(len(self._common)))
        old, new = (", ".join(side) for side in zip(*map(self._pair, self._common), strict=True))
        self._duck.run(
            f"create table differing as select {values}, sum(side) as many, min(old_row) as old_row,"
            f" min(new_row) as new_row from (select {new}, 1, null, row from new union all select {old}, -1, row, null"
            f" from old) as rows({values}, side, old_row, new_row) group by {values} having sum(side) <> 0"
        )
        added, removed = self._surplus(values, "new", 1), self._surplus(values, "old", -1)
        return Difference((), old_rows, new_rows, self._schema, added, removed, changed=0, changed_rows=())

    def _surplus(self, values: str, side: str, sign: int) -> Rows:
        """What one table has more of."""
        ((count,),) = self._duck.rows(f"select coalesce(sum(abs(many)), 0) from differing where sign(many) = {sign}")
        found = self._duck.rows(
            f"select {as_text(values.split(', '))}, abs(many) from differing where sign(many) = {sign}"
            f" order by {side}_row limit {self._sample}"
        )
        shown = [row for *value, many in found for row in repeat(tuple(value), min(many, self._sample))]
        return Rows(int(count), tuple(self._common), tuple(shown[: self._sample]))


def _schema(old: View, new: View, common: Sequence[str]) -> SchemaChange:
    there = set(common)
    return SchemaChange(
        added=tuple(column for column in new.columns if column.name not in there),
        removed=tuple(column for column in old.columns if column.name not in there),
        retyped=tuple(
            Retyped(name, old.type(name), new.type(name)) for name in common if old.type(name) != new.type(name)
        ),
        reordered=[name for name in old.names if name in there] != list(common),
    )
