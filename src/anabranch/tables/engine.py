"""DuckDB, as far as tables need it: bounded memory, a temporary directory, tables as views, errors as ours.

The only importer of duckdb. One engine is one connection: one thread. Each table is a view with the columns `row` (its
rows from 1 on, in the order of its files) and `c0`, `c1` ... for its columns, since names in a file may be any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anabranch.errors import AnabranchError, DeniedError, RefusedError, UsageError
from anabranch.tables.scratch import scratch
from anabranch.tables.source import Format, Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = 512 * 1024 * 1024
"""Bytes that DuckDB may take; what is more goes into the temporary directory."""
_THREADS = 4
"""At most: each takes its part of the memory."""
_BATCH = 10_000
_LINE_MAX = 16 * 1024 * 1024
"""Bytes of a CSV record; DuckDB reads twice as much at a time, by itself it would take 16 times as much."""
_PATTERN = set("*?[]{}")
"""What DuckDB takes for a pattern in a path."""

Row = tuple[str | None, ...]
"""Values as text; None where there is none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; its type as DuckDB calls it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class View:
    """A table that an engine can ask."""

    name: str
    table: Table
    columns: tuple[Column, ...]

    def __str__(self) -> str:
        """For messages: `flights.csv (old)`."""
        return f"{self.table.path.name} ({self.name})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    def at(self, column: str, table: str | None = None) -> str:
        """A column in SQL; of something else that has the view's columns, of `table`."""
        return f"{table or self.name}.c{self.names.index(column)}"

    def type(self, column: str) -> str:
        """The type of a column."""
        return self.columns[self.names.index(column)].type


class Engine:
    """A connection to a database in memory, and a directory beside it."""

    def __init__(self, connection: DuckDBPyConnection, folder: Path) -> None:
        self._connection = connection
        connection.execute("set enable_progress_bar = false")  # it would get into what is printed
        connection.execute("set TimeZone = 'UTC'")  # times with a zone are the same text everywhere
        self._files: dict[str, str] = {}
        """What is linked to, for messages, by the links."""
        self.folder = folder
        """For what is needed until the end."""

    def view(self, name: str, table: Table) -> View:
        """Make a table a view. Raises UsageError when it cannot be read."""
        source = self._source(name, table)
        with self._told(f"{table.path.name} ({name})"):
            if table.format is Format.PARQUET:
                source = self._with_instants(name, source)
            found = self._connection.execute(f"describe select * from {source}").fetchall()
            names = [*table.header, *(row[0] for row in found[len(table.header) :])]
            columns = tuple(Column(column, row[1]) for column, row in zip(names, found, strict=True))
            aliases = ", ".join(f"c{number}" for number in range(len(columns)))
            self._connection.execute(
                f"create view {name} as select row_number() over () as row, * from (select * from {source})"
                f" as source({aliases})"
            )
        return View(name, table, columns)

    def _with_instants(self, name: str, source: str) -> str:
        """INT96 as it is meant: Spark writes instants so, and DuckDB takes them for times without a zone."""
        schema = f"select distinct name from parquet_schema('{self.folder}/{name}/**/*.parquet') where type = 'INT96'"
        old = {row[0] for row in self._connection.execute(schema).fetchall()}
        found = self._connection.execute(f"describe select * from {source}").fetchall()
        columns = ['"' + row[0].replace('"', '""') + '"' for row in found if row[0] in old and row[1] == "TIMESTAMP"]
        if not columns:
            return source
        casts = ", ".join(f"cast({column} as timestamp with time zone) as {column}" for column in columns)
        return f"(select * replace ({casts}) from {source})"

    def _source(self, name: str, table: Table) -> str:
        files = ", ".join(map(_text, self._links(name, table)))
        hive = f"hive_partitioning={str(table.is_partitioned).lower()}, hive_types_autocast=false"
        if table.format is Format.PARQUET:
            return f"read_parquet([{files}], {hive}, union_by_name=true)"
        assert table.dialect is not None
        columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(table.header)))
        delimiter, escape = _text(table.dialect.delimiter.decode()), _text(table.dialect.escape.decode())
        return (
            f"read_csv([{files}], {hive}, auto_detect=false, header=true, columns={{{columns}}}, delim={delimiter},"
            f" quote='\"', escape={escape}, nullstr='', allow_quoted_nulls=false, max_line_size={_LINE_MAX},"
            f" buffer_size={2 * _LINE_MAX})"
        )

    def _links(self, name: str, table: Table) -> Iterator[str]:
        """Paths that are ASCII and no patterns, of links to the files: a name may be any bytes."""
        for number, file in enumerate(table.files):
            partitions = file.relative_to(table.path).parent if table.is_directory else Path()
            if _PATTERN & set(str(partitions)):
                raise UsageError(f"a partition of {table.path.name} is called {partitions}, which is a pattern")
            packed = ".gz" if file.name.lower().endswith(".gz") else ""
            link = self.folder / name / partitions / f"{number:06}.{table.format}{packed}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.abspath(file))
            self._files[str(link)] = f"{file.name} ({name})"
            yield str(link)

    def run(self, query: str) -> None:
        """Have something made."""
        with self._told():
            self._connection.execute(query)

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """What a query gives, bit by bit. No two at a time."""
        with self._told():
            answer = self._connection.execute(query)
            while batch := answer.fetchmany(_BATCH):
                yield from batch

    def count(self, view: View) -> int:
        """How many rows a table has."""
        with self._told(str(view)):
            return int(self._one(f"select count(*) from {view.name}")[0])

    def count_unique(self, view: View, key: Sequence[str]) -> int:
        """As `count`. Raises UsageError when a key column is missing, or two rows have one key."""
        if missing := [column for column in key if column not in view.names]:
            raise UsageError(
                f"{view} has no column {missing[0]}",
                hint=f"it has {', '.join(view.names)}",
            )
        columns = ", ".join(view.at(column) for column in key)
        groups = f"select count(*) as many, min(row) as first from {view.name} group by {columns}"
        with self._told(str(view)):
            rows, twice = self._one(
                f"select coalesce(sum(many), 0), min(first) filter (where many > 1) from ({groups})"
            )
        if twice is not None:
            values = self._one(f"select {as_text(columns.split(', '))} from {view.name} where row = {twice}")
            shown = (f"{name} = {'NULL' if value is None else value}" for name, value in zip(key, values, strict=True))
            raise UsageError(
                f"the key is not unique in {view}: several rows have {', '.join(shown)}",
                hint="more columns may make it unique: --key is repeatable",
            )
        return int(rows)

    def _one(self, query: str) -> tuple[Any, ...]:
        """The row that a query gives."""
        row: tuple[Any, ...] | None = self._connection.execute(query).fetchone()
        assert row is not None
        return row

    @contextmanager
    def _told(self, which: str | None = None) -> Iterator[None]:
        """Errors of DuckDB as ours; `which` table is at fault, if that is known."""
        import duckdb

        try:
            yield
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except duckdb.OutOfMemoryException as error:
            hint = "TMPDIR says where there is more room"
            raise RefusedError(
                f"{self._blamed(which, error)} cannot be read: {self._plain(error)}", hint=hint
            ) from error
        except duckdb.Error as error:
            raise UsageError(f"{self._blamed(which, error)} cannot be read: {self._plain(error)}") from error
        except RuntimeError as error:
            if "interrupted" in str(error).lower():  # so DuckDB says that Ctrl-C was pressed
                raise KeyboardInterrupt from None
            raise AnabranchError(f"{self._blamed(which, error)} cannot be read: {error}") from error

    def _blamed(self, which: str | None, error: Exception) -> str:
        """The table that an error is about; the file, if it names one; else all that there are."""
        named = (name for link, name in self._files.items() if link in str(error))
        return which or next(named, ", ".join(dict.fromkeys(self._files.values())))

    def _plain(self, error: Exception) -> str:
        """What is wrong, without what DuckDB would do about it, and with the files' own names."""
        text = str(error).partition("\n\n")[0].partition("Possible ")[0]
        for link, name in self._files.items():
            text = text.replace(link, name)
        lines = (line.strip() for line in text.partition(": ")[2].splitlines())
        return "; ".join(line for line in lines if line and not line.startswith(("Original Line", "LINE "))) or text


@contextmanager
def engine(memory: int = MEMORY) -> Iterator[Engine]:
    """DuckDB, with a temporary directory that is gone in the end. Raises DeniedError where it is not installed."""
    try:
        import duckdb  # takes 0.1 s, and most of what people do needs it not
    except ImportError:
        raise DeniedError(
            "rows are read by DuckDB, which is not installed", hint="pip install 'anabranch[tables]'"
        ) from None
    with scratch("tables") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory}B", "temp_directory": f"{folder}/spilled",
            "threads": min(len(os.sched_getaffinity(0)), _THREADS),
            "autoinstall_known_extensions": False,  # nothing is fetched
        }  # fmt: skip
        with duckdb.connect(config=config) as connection:
            yield Engine(connection, folder)


def as_text(columns: Sequence[str]) -> str:
    """Columns as the texts of their values."""
    return ", ".join(f"cast({column} as varchar)" for column in columns)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
