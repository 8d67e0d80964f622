"""Parquet tables, compared and merged row by row, against the model of tests/tables.py; and directories of parts."""

import math
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.report_tables import difference_text
from anabranch.tables.engine import Column
from anabranch.tables.merge import merge
from anabranch.tables.rows import Cell, ChangedRow, Retyped, compare
from tests.tables import Plain, compared, merged, need_duckdb, plain
from tests.unit.helpers import examples

need_duckdb()

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FLOATS = st.one_of(st.none(), st.sampled_from([math.nan, 0.0, -0.0, 1.5, math.inf]))
COLUMNS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "f": (pa.float64(), FLOATS),
    "l": (pa.list_(pa.float32()), st.one_of(st.none(), st.lists(FLOATS, max_size=2))),
    "s": (
        pa.struct({"x": pa.string(), "y": pa.int16()}),
        st.one_of(st.none(), st.fixed_dictionaries({"x": st.sampled_from([None, "", "é"]), "y": st.just(7)})),
    ),
    "t": (pa.timestamp("us", tz="UTC"), st.sampled_from([None, datetime(2013, 1, 1, 5, tzinfo=UTC)])),
    "b": (pa.binary(), st.one_of(st.none(), st.binary(max_size=2))),
}
HEADER = ("id", *COLUMNS)
SCHEMA = pa.schema({"id": pa.int32(), **{name: kind for name, (kind, _) in COLUMNS.items()}})
KEYS = st.lists(st.one_of(st.none(), st.integers(0, 8)), unique=True, max_size=7)


@st.composite
def tables(draw: st.DrawFn) -> Plain:
    return Plain(HEADER, tuple((key, *(draw(value) for _, value in COLUMNS.values())) for key in draw(KEYS)))


@st.composite
def kindred(draw: st.DrawFn, base: Plain) -> Plain:
    """A table that came from another one."""
    rows = {row[0]: row for row in base.rows}
    rows |= {row[0]: row for row in draw(tables()).rows if draw(st.booleans())}
    kept = [row for row in rows.values() if draw(st.integers(0, 3))]
    return Plain(HEADER, tuple(draw(st.permutations(kept))))


def write(path: Path, table: Plain, compression: str = "snappy") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression=compression)
    return path


def split(folder: Path, table: Plain, parts: int) -> Path:
    """A directory of parts, as Spark leaves it."""
    for number in range(parts):
        share = table.rows[len(table.rows) * number // parts : len(table.rows) * (number + 1) // parts]
        write(folder / f"part-{number:05}-8a3c.snappy.parquet", Plain(HEADER, share))
    (folder / "_SUCCESS").touch()
    (folder / ".part-00000.crc").write_bytes(b"crc")
    return folder


@examples(40)
@given(st.data(), st.integers(1, 3))
def test_a_comparison_is_that_of_the_model(data: st.DataObject, parts: int):
    old = data.draw(tables())
    new = data.draw(kindred(old))
    with tempfile.TemporaryDirectory() as folder:
        found = compare(write(Path(folder, "old.parquet"), old), split(Path(folder, "new"), new, parts), ["id"])
    added, removed, changed = compared(old, new, ("id",))
    assert (found.added.count, found.removed.count, found.changed) == (len(added), len(removed), len(changed))
    assert [row.key for row in found.changed_rows] == [(None if key is None else str(key),) for (key,) in changed]
    for row, key in zip(found.changed_rows, changed, strict=True):
        before, after = (side.by(("id",))[key] for side in (old, new))
        differing = [name for name, one, two in zip(HEADER, before, after, strict=True) if plain(one) != plain(two)]
        assert [cell.column for cell in row.cells] == differing
    assert not found.schema


@examples(40)
@given(st.data(), st.sampled_from(["none", "snappy", "zstd", "gzip"]), st.integers(0, 2))
def test_a_merge_is_that_of_the_model(data: st.DataObject, compression: str, parts: int):
    base = data.draw(tables())
    ours, theirs = data.draw(kindred(base)), data.draw(kindred(base))
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name, "out")
        mine = split(folder / "ours", ours, parts) if parts else write(folder / "ours.parquet", ours, compression)
        sides = write(folder / "base.parquet", base), mine, write(folder / "theirs.parquet", theirs)
        done = merge(*sides, ["id"], out)
        rows, conflicts = merged(base, ours, theirs, ("id",))
        assert done.conflicts == len(conflicts) == len(done.listed)
        assert out.exists() == (not conflicts)
        if conflicts:
            return
        if parts:
            assert sorted(path.name for path in out.iterdir()) == ["_SUCCESS", "part-00000.parquet"]
        written = pq.ParquetFile(out / "part-00000.parquet" if parts else out)
        got = [tuple(row.values()) for row in written.read().to_pylist()]
        assert plain(got) == plain(rows)
        assert types(written.schema_arrow) == types(SCHEMA)
        if rows and not parts:
            used = written.metadata.row_group(0).column(0).compression
            assert used == ("UNCOMPRESSED" if compression == "none" else compression.upper())


def types(schema: Any) -> list[tuple[str, str]]:
    """Names and types, whatever the inside of a list is called."""
    return [(field.name, str(field.type).replace("item: ", "element: ")) for field in schema]


def partitioned(folder: Path, name: str, years: Sequence[tuple[str, list[int]]]) -> Path:
    for year, values in years:
        path = folder / name / f"year={year}" / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"id": pa.array(values, pa.int64())}), path)
    return folder / name


def test_partitions_are_columns(tmp_path: Path):
    old = partitioned(tmp_path, "old", [("2013", [1, 2]), ("2014", [1]), ("a%20b", [9])])
    new = partitioned(tmp_path, "new", [("2013", [1]), ("2014", [1, 2])])
    found = compare(old, new, ["year", "id"])
    assert found.added.columns == ("id", "year")
    assert found.added.shown == (("2", "2014"),)
    assert found.removed.shown == (("2", "2013"), ("9", "a b"))
    with pytest.raises(UsageError, match="new has partitions"):
        merge(old, new, old, ["year", "id"], tmp_path / "out")


def test_columns_are_compared_by_name_and_those_of_another_type_as_text(tmp_path: Path):
    pq.write_table(pa.table({"id": [1, 2], "n": [1, 2], "gone": ["x", "y"]}), tmp_path / "old.parquet")
    new = {"new": pa.array([None, None], pa.int32()), "n": pa.array(["1", "02"]), "id": pa.array([1, 2], pa.int16())}
    pq.write_table(pa.table(new), tmp_path / "new.parquet")
    found = compare(tmp_path / "old.parquet", tmp_path / "new.parquet", ["id"])
    assert found.schema.added == (Column("new", "INTEGER"),)
    assert found.schema.removed == (Column("gone", "VARCHAR"),)
    assert found.schema.retyped == (Retyped("n", "BIGINT", "VARCHAR"), Retyped("id", "BIGINT", "SMALLINT"))
    assert found.schema.reordered
    assert (found.added.count, found.removed.count, found.changed) == (0, 0, 1)
    assert found.changed_rows == (ChangedRow(("2",), (Cell("n", "2", "02"),)),)
    with pytest.raises(UsageError, match="different columns: only ours has new"):
        merge(tmp_path / "old.parquet", tmp_path / "new.parquet", tmp_path / "new.parquet", ["id"], tmp_path / "out")


def test_it_is_said_when_a_key_of_another_type_matches_no_row(tmp_path: Path):
    instants = [datetime(2013, 1, 1, hour) for hour in range(3)]
    for name, kind in (("old", pa.timestamp("us", "UTC")), ("new", pa.timestamp("ns"))):
        pq.write_table(pa.table({"at": pa.array(instants, kind)}), tmp_path / f"{name}.parquet")
    lines = list(difference_text(compare(tmp_path / "old.parquet", tmp_path / "new.parquet", ["at"], sample=0)))
    assert [line.strip() for line in lines[:3]] == [
        "3 -> 3 rows: 3 added, 3 removed",
        "column at: TIMESTAMP WITH TIME ZONE -> TIMESTAMP_NS",
        "no row has the same key: at is of another type",
    ]


def test_a_table_without_rows_can_be_merged_into(tmp_path: Path):
    schema = pa.schema({"id": pa.int64()})
    pq.ParquetWriter(tmp_path / "empty.parquet", schema).close()
    pq.write_table(pa.table({"id": [1]}, schema), tmp_path / "one.parquet")
    empty, one, out = (tmp_path / f"{name}.parquet" for name in ("empty", "one", "out"))
    assert merge(empty, empty, one, ["id"], out).rows == 1
    assert pq.read_table(out).to_pydict() == {"id": [1]}
    assert merge(one, one, empty, ["id"], tmp_path / "none.parquet").rows == 0
    assert not compare(tmp_path / "none.parquet", empty, ["id"])


def test_a_part_that_has_a_column_more_shows_it(tmp_path: Path):
    """Spark merges the columns of parts, too."""
    for name, columns in (("part-0", {"id": [1]}), ("part-1", {"id": [2], "v": ["x"]})):
        path = tmp_path / "old" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path)
    pq.write_table(pa.table({"id": [1, 2], "v": [None, "y"]}), tmp_path / "new.parquet")
    found = compare(tmp_path / "old", tmp_path / "new.parquet", ["id"])
    assert found.changed_rows == (ChangedRow(("2",), (Cell("v", "x", "y"),)),)
    assert (found.old_rows, found.new_rows, found.changed) == (2, 2, 1)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"id,a\n1,2\n"])
def test_what_is_no_parquet_is_said_so(tmp_path: Path, damage: bytes):
    pq.write_table(pa.table({"id": [1]}), tmp_path / "old.parquet")
    (tmp_path / "new.parquet").write_bytes(damage)
    with pytest.raises(UsageError, match=r"new\.parquet \(new\) cannot be read") as raised:
        compare(tmp_path / "old.parquet", tmp_path / "new.parquet", ["id"])
    assert "anabranch-tables" not in raised.value.message


def test_pages_that_are_damaged_are_said_so(tmp_path: Path):
    pq.write_table(pa.table({"id": list(range(1000)), "v": [str(n) for n in range(1000)]}), tmp_path / "old.parquet")
    text = bytearray((tmp_path / "old.parquet").read_bytes())
    text[4:400] = bytes(396)
    (tmp_path / "new.parquet").write_bytes(text)
    for key in (["id"], []):
        with pytest.raises(UsageError, match="cannot be read"):
            compare(tmp_path / "old.parquet", tmp_path / "new.parquet", key)


def test_rows_stay_in_their_order_whatever_columns_are_called(tmp_path: Path):
    names = ("place", "is_new", "row", "c0")
    rows = [(9 - number, number % 2, number, number) for number in range(10)]
    places = []
    for side, change in (("base", None), ("ours", 3), ("theirs", 7)):
        values = [(*row[:3], 99) if number == change else row for number, row in enumerate(rows)]
        table = pa.table({name: [row[at] for row in values] for at, name in enumerate(names)})
        places.append(tmp_path / f"{side}.parquet")
        pq.write_table(table, places[-1])
    merge(places[0], places[1], places[2], ["row"], tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert out["row"] == list(range(10))
    assert [number for number, value in enumerate(out["c0"]) if value == 99] == [3, 7]


def test_columns_that_only_case_tells_apart_are_refused(tmp_path: Path):
    pq.write_table(pa.table({"id": [1], "A": [1], "a": [2]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="case"):
        merge(tmp_path / "t.parquet", tmp_path / "t.parquet", tmp_path / "t.parquet", ["id"], tmp_path / "out.parquet")
