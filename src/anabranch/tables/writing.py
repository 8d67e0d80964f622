"""Writing a merged table in the format of ours, under another name until it is whole.

The table `plan` of the engine says what differs from ours (merge.py). Of CSV, records are copied as they stand in their
files, so that a row nobody changed keeps its text; Parquet is written anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from anabranch.errors import UsageError
from anabranch.tables.engine import Engine, View, as_text
from anabranch.tables.source import SUCCESS, Format, Table, ending
from anabranch.tables.texts import Dialect, new_text, open_text, records

_PART = "part-00000"
_NUMBER = 8
"""Bytes of a number in the file of the positions."""

Record = tuple[bytes, bytes]
"""A row's text, and the end of its line."""


@dataclass(frozen=True, slots=True)
class Side:
    """A table, and how many rows DuckDB sees in it."""

    view: View
    rows: int

    @property
    def table(self) -> Table:
        """What is on the disk."""
        return self.view.table


def write(duck: Engine, ours: Side, theirs: Side, out: Path) -> None:
    """Write what the plan makes of ours: a file, or a directory with one file."""
    table = ours.table
    end = ending(table.files[0])
    with _beside(out, end) as partial:
        file = partial
        if table.is_directory:
            partial.mkdir()
            file = partial / f"{_PART}{end}"
        if table.format is Format.CSV:
            _write_csv(duck, ours, theirs, file)
        else:
            _write_parquet(duck, ours.view, theirs.view, file)
        if table.is_directory and (table.path / SUCCESS).exists():
            (partial / SUCCESS).touch()
        partial.rename(out)


@contextmanager
def _beside(out: Path, end: str) -> Iterator[Path]:
    """A name beside a place, with an ending, where nothing is left at the end."""
    partial = out.with_name(f".{os.getpid()}.ana-merge{end}")
    try:
        yield partial
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


# --- Parquet ---


def _write_parquet(duck: Engine, ours: View, theirs: View, file: Path) -> None:
    names = ours.names
    kept = ", ".join(ours.at(name) for name in names)
    taken = ", ".join(theirs.at(name) for name in names)
    inner = [f"c{number}" for number in range(len(names))]  # a column of the user's may be called `place`
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    titles = ", ".join(f"{column} as {title}" for column, title in zip(inner, quoted, strict=True))
    link = duck.folder / "out"
    link.symlink_to(file.parent.absolute())
    used = duck.rows(f"select compression from parquet_metadata('{duck.folder}/ours/000000.parquet') limit 1")
    (compression,) = next(used, ("snappy",))  # a table without rows need not have any
    duck.run(
        f"copy (select {titles} from ("
        f"select {kept}, false as is_new, ours.row as place from ours anti join plan on plan.ours_row = ours.row"
        f" union all select {taken}, plan.ours_row is null, coalesce(plan.ours_row, theirs.row)"
        f" from plan join theirs on theirs.row = plan.theirs_row) as merged({', '.join(inner)}, is_new, place)"
        f" order by merged.is_new, merged.place) to '{link}/{file.name}' (format parquet, compression {compression})"
    )


# --- CSV ---


def _write_csv(duck: Engine, ours: Side, theirs: Side, file: Path) -> None:
    duck.run(
        "create table ranked as select ours_row, theirs_row, case when theirs_row is not null"
        " then row_number() over (order by theirs_row nulls last) - 1 end as rank from plan"
    )
    newline = _dialect(ours.table).newline
    with _Picked(duck.folder) as picked, new_text(file) as stream:
        for text in _taken(duck, ours, theirs):
            picked.add(text)
        before = end = b""
        for text, end in _merged(duck, ours, picked):
            stream.write(before + text)
            before = end or newline  # the last line of a file may have no end
        stream.write(end)


def _taken(duck: Engine, ours: Side, theirs: Side) -> Iterator[bytes]:
    """The texts of theirs' rows in the plan, in theirs' order: as they stand, if both files are written alike."""
    one, two = ours.table, theirs.table
    wanted = "from ranked where theirs_row is not null order by theirs_row"
    if (one.dialect, one.header) != (two.dialect, two.header):
        columns = as_text([theirs.view.at(name) for name in one.header])
        found = duck.rows(
            f"select {columns} from theirs join ranked on ranked.theirs_row = theirs.row order by theirs.row"
        )
        yield from map(_dialect(one).record, found)
        return
    rows = (row for (row,) in duck.rows(f"select theirs_row {wanted}"))
    following = next(rows, None)
    for number, (text, _) in enumerate(_records(theirs), 1):
        if number == following:
            yield text
            following = next(rows, None)


def _merged(duck: Engine, ours: Side, picked: _Picked) -> Iterator[Record]:
    """The header and the rows of the merged table."""
    table = ours.table
    with open_text(table.files[0]) as stream:
        yield _split(next(records(stream, _dialect(table), len(table.header))))
    moved = duck.rows("select ours_row, rank from ranked where ours_row is not null order by ours_row")
    following, rank = next(moved, (None, None))
    for number, (text, end) in enumerate(_records(ours), 1):
        if number != following:
            yield text, end
            continue
        if rank is not None:
            yield picked.text(rank), end
        following, rank = next(moved, (None, None))
    for (rank,) in duck.rows("select rank from ranked where ours_row is null order by rank"):
        yield picked.text(rank), _dialect(table).newline


def _records(side: Side) -> Iterator[Record]:
    """The rows of a table as they stand. Raises UsageError when they are not as many as DuckDB sees."""
    table, count = side.table, 0
    for file in table.files:
        with open_text(file) as stream:
            for record in islice(records(stream, _dialect(table), len(table.header)), 1, None):
                count += 1
                yield _split(record)
    if count != side.rows:
        raise UsageError(f"{table.path.name} ({side.view.name}) has {side.rows} rows, and {count} records as text")


def _split(record: bytes) -> Record:
    text = record.rstrip(b"\r\n")
    return text, record[len(text) :]


def _dialect(table: Table) -> Dialect:
    assert table.dialect is not None
    return table.dialect


class _Picked:
    """Texts on the disk, by their numbers from 0 on."""

    def __init__(self, folder: Path) -> None:
        self._texts = (folder / "texts").open("w+b")
        self._ends = (folder / "ends").open("w+b")

    def __enter__(self) -> Self:
        """Itself; the files are closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._texts.close()
        self._ends.close()

    def add(self, text: bytes) -> None:
        """Put a text after the others."""
        self._texts.write(text)
        self._ends.write(self._texts.tell().to_bytes(_NUMBER))

    def text(self, number: int) -> bytes:
        """The text of a number."""
        start = self._end(number - 1) if number else 0
        self._texts.seek(start)
        return self._texts.read(self._end(number) - start)

    def _end(self, number: int) -> int:
        self._ends.seek(number * _NUMBER)
        return int.from_bytes(self._ends.read(_NUMBER))
