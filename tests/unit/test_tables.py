"""Tables on a disk, case by case: what is one, how CSV is written, what is kept of it, and what is refused."""

import gzip
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from anabranch.errors import DeniedError, ExistsError, NotFoundError, RefusedError, UsageError
from anabranch.tables.merge import LISTED, Conflict, merge
from anabranch.tables.rows import Difference, compare
from anabranch.tables.scratch import scratch
from anabranch.tables.source import find
from anabranch.tables.texts import head_of
from tests.tables import need_duckdb

need_duckdb()


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def differing(folder: Path, old: str | bytes, new: str | bytes, *key: str) -> Difference:
    return compare(put(folder / "old.csv", old), put(folder / "new.csv", new), key)


def merging(folder: Path, base: str, ours: str, theirs: str, *key: str) -> str:
    """What three texts come to."""
    sides = [put(folder / name / "t.csv", text) for name, text in (("b", base), ("o", ours), ("t", theirs))]
    done = merge(sides[0], sides[1], sides[2], key or ["id"], folder / "out.csv")
    assert done.conflicts == 0
    return (folder / "out.csv").read_bytes().decode()


# --- what is read ---


@pytest.mark.parametrize(
    ("one", "other"),
    [("01", "1"), ("1.0", "1"), ("", '""'), ('""', "NULL"), ("a", "a "), ("é", "e\u0301"), ("true", "True")],
)
def test_values_are_text_so_that_nothing_is_taken_for_equal(tmp_path: Path, one: str, other: str):
    assert differing(tmp_path, f"id,v\n1,{one}\n", f"id,v\n1,{other}\n", "id").changed == 1
    assert not differing(tmp_path, f"id,v\n1,{one}\n", f"id,v\n1,{one}\n", "id")


def test_quotes_delimiters_and_ends_of_lines_are_no_difference(tmp_path: Path):
    old = 'id;v;w\r\n1;"a;b";"c ""d"""\r\n2;"x\ny";\r\n'
    new = 'id|v|w\n"1"|a;b|"c ""d"""\n"2"|"x\ny"|'
    assert not differing(tmp_path, old, new, "id")
    assert not differing(tmp_path, old, new)


def test_a_backslash_may_stand_before_a_quote(tmp_path: Path):
    """So Spark writes."""
    old = 'id,v\n1,"a \\"b\\", c"\n'
    assert not differing(tmp_path, old, 'id,v\n1,"a ""b"", c"\n', "id")
    assert merging(tmp_path, old, old, old.replace("c", "d") + "2,x\n") == 'id,v\n1,"a \\"b\\", d"\n2,x\n'


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path: Path):
    assert not differing(tmp_path, b"\xef\xbb\xbfid,v\n1,2\n", b"id,v\n1,2\n", "id")


def test_names_of_columns_may_be_any(tmp_path: Path):
    header = ',ID,id,"a ""b""",select,c0,row,new'
    old, new = f"{header}\n0,1,2,3,4,5,6,7\n", f"{header}\n0,1,2,x,4,5,6,y\n"
    found = differing(tmp_path, old, new, "", "ID")
    assert [cell.column for cell in found.changed_rows[0].cells] == ['a "b"', "new"]
    assert differing(tmp_path, old, new, "row").changed == 1


def test_a_table_may_have_one_column_and_empty_lines_are_rows_of_it(tmp_path: Path):
    found = differing(tmp_path, "v\n1\n\n2\n", 'v\n1\n2\n""\n')
    assert (found.added.shown, found.removed.shown) == ((("",),), ((None,),))
    assert merging(tmp_path, "v\na\n\n", "v\na\n\n", "v\na\nb\n", "v") == "v\na\nb\n"


@pytest.mark.parametrize("text", ["id,v", "id,v\n", "id,v\r\n"])
def test_a_table_may_be_a_header_alone(tmp_path: Path, text: str):
    found = differing(tmp_path, text, "id,v\n1,2\n", "id")
    assert (found.old_rows, found.new_rows, found.added.shown) == (0, 1, (("1", "2"),))
    assert not differing(tmp_path, text, text)
    assert merging(tmp_path, text, text, "id,v\n1,2\n").split() == ["id,v", "1,2"]


def test_names_of_files_may_be_any_bytes(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9 [a]*'")
    paths = [put(folder / os.fsdecode(name), "id,v\n1,2\n") for name in (b"\xff?.csv", b"'{x}.csv")]
    assert not compare(paths[0], paths[1], ["id"])
    assert merge(paths[0], paths[0], paths[1], ["id"], folder / os.fsdecode(b"\xfe.csv")).rows == 1


def test_long_values_are_read(tmp_path: Path):
    row = "1," + "x" * 10_000_000
    assert differing(tmp_path, f"id,v\n{row}\n", f"id,v\n{row}y\n", "id").changed == 1


# --- directories ---


def test_parts_are_one_table_whatever_they_are_called(tmp_path: Path):
    for name, text in {
        "part-0.csv": "id,v\n1,a\n",
        "part-1.csv": "id,v\n2,b",
        "part-2.csv": "",
        "_SUCCESS": "",
    }.items():
        put(tmp_path / "old" / name, text)
    put(tmp_path / "new/part-9-z.csv.gz", gzip.compress(b"id,v\n2,b\n1,a\n"))
    put(tmp_path / "new/.hidden.crc", b"\0")
    assert not compare(tmp_path / "old", tmp_path / "new", ["id"])
    done = merge(tmp_path / "old", tmp_path / "old", tmp_path / "new", ["id"], tmp_path / "out")
    assert done.rows == 2
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "part-00000.csv": "id,v\n1,a\n2,b", "_SUCCESS": "",
    }  # fmt: skip
    merge(tmp_path / "old", tmp_path / "new", tmp_path / "old", ["id"], tmp_path / "packed")
    (packed,) = (tmp_path / "packed").iterdir()
    assert packed.name == "part-00000.csv.gz"
    assert gzip.decompress(packed.read_bytes()) == b"id,v\n2,b\n1,a\n"


def test_partitions_of_csv_are_columns(tmp_path: Path):
    put(tmp_path / "old/day=1/part-0.csv", "id,v\n1,a\n")
    put(tmp_path / "new/day=2/part-0.csv", "id,v\n1,a\n")
    found = compare(tmp_path / "old", tmp_path / "new", ["id"])
    assert [(cell.column, cell.before, cell.after) for cell in found.changed_rows[0].cells] == [("day", "1", "2")]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "has no files with rows"),
        ({"_SUCCESS": ""}, "has no files with rows"),
        ({"a.csv": "id\n", "b.parquet": ""}, "has files of different formats"),
        ({"a.csv": "id\n", "notes.txt": ""}, "notes.txt in t is no part of a table"),
        ({"a.csv": "id\n", "sub/b.csv": "id\n"}, "sub in t is no part of a table"),
        ({"a.csv": "id,v\n", "b.csv": "id,w\n"}, "b.csv has another header than a.csv"),
    ],
)
def test_a_directory_that_is_no_table_is_refused(tmp_path: Path, files: dict[str, str], why: str):
    (tmp_path / "t").mkdir()
    for name, text in files.items():
        put(tmp_path / "t" / name, text)
    with pytest.raises(UsageError) as raised:
        find(tmp_path / "t")
    assert why in raised.value.message


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no header"),
        ("\n\nid,v\n", "has no header"),
        ("id,id\n1,2\n", "two columns with the name id"),
        ("id,v\n1,2,3\n", "Line: 2"),
        ("id,v\n1\n", "Line: 2"),
        ('id,v\n1,"2\n', "Line: 2"),
        ('id,v\n1,"2"x\n', "Line: 2"),
        (b"id,v\n1,\xff\n", "unicode"),
        (b"\xff\xfei\0d\0", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("key", [["id"], []])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, text: str | bytes, why: str, key: list[str]):
    good, bad = put(tmp_path / "good.csv", "id,v\n1,2\n"), put(tmp_path / "bad.csv", text)
    for old, new in ((good, bad), (bad, good)):
        with pytest.raises(UsageError) as raised:
            compare(old, new, key)
        assert "bad.csv" in raised.value.message
        assert why.lower() in raised.value.message.lower()
        assert "\n" not in raised.value.message


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path):
    good = put(tmp_path / "good.csv", "id,v\n1,2\n")
    whole = gzip.compress(b"id,v\n" + b"".join(b"%d,%d\n" % (number, number**3) for number in range(200_000)))
    for text in (whole[:-1000], whole[:20], b"no gzip"):
        with pytest.raises(UsageError, match=r"bad\.csv\.gz .*cannot be read"):
            compare(good, put(tmp_path / "bad.csv.gz", text), ["id"])


def test_what_is_no_table_is_refused(tmp_path: Path):
    good = put(tmp_path / "good.csv", "id,v\n1,2\n")
    with pytest.raises(UsageError, match=r"notes\.txt is no table"):
        compare(good, put(tmp_path / "notes.txt", "id,v\n"))
    with pytest.raises(NotFoundError, match="there is no"):
        compare(good, tmp_path / "gone.csv")
    with pytest.raises(UsageError, match="no column in common"):
        compare(good, put(tmp_path / "other.csv", "a,b\n1,2\n"))


def test_a_key_must_be_there_and_unique(tmp_path: Path):
    old = "id,v\n1,a\n,b\n2,c\n1,d\n"
    with pytest.raises(UsageError, match=r"old\.csv \(old\).*several rows have id = 1"):
        differing(tmp_path, old, "id,v\n", "id")
    with pytest.raises(UsageError, match=r"new\.csv \(new\).*several rows have v = NULL, id = x"):
        differing(tmp_path, "id,v\n", "id,v\nx,\ny,\nx,\n", "v", "id")
    with pytest.raises(UsageError, match=r"new\.csv \(new\) has no column w") as raised:
        differing(tmp_path, "id,w\n", "id,v\n", "w")
    assert raised.value.hint == "it has id, v"
    with pytest.raises(UsageError, match="twice"):
        differing(tmp_path, old, old, "id", "id")
    assert not differing(tmp_path, old, old, "id", "v")


def test_without_duckdb_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(DeniedError, match="DuckDB, which is not installed") as raised:
        differing(tmp_path, "id\n", "id\n")
    assert raised.value.hint == "pip install 'anabranch[tables]'"


def test_too_little_memory_is_said_so_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = put(tmp_path / "t.csv", "id,v\n" + "".join(f"{number},{number}\n" for number in range(100_000)))
    with pytest.raises(RefusedError, match=r"t\.csv \(old\) cannot be read"):
        compare(path, path, ["id"], memory=1024 * 1024)
    assert [*(tmp_path / "temporary").iterdir()] == []


def test_ctrl_c_ends_a_comparison_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    line = ",".join(str(number) for number in range(50))
    path = put(tmp_path / "t.csv", f"id,{line}\n" + "".join(f"{number},{line}\n" for number in range(100_000)))

    def compare_for_ever() -> None:
        while True:
            compare(path, path)

    pressing = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        compare_for_ever()
    pressing.join()
    assert [*(tmp_path / "temporary").iterdir()] == []


# --- merging ---


def test_rows_that_nobody_changed_keep_their_text(tmp_path: Path):
    base = 'id,v,w\r\n"1",\'x\',"a, b"\r\n\r\n2,5" pipe,"q\r\nr"\r\n"3","","s ""t"""\r\n4,u,v'
    theirs = base.replace("u,v", '"U",v') + "\r\n5,y,z\r\n"
    assert merging(tmp_path, base, base, theirs) == base.replace("u,v", '"U",v') + "\r\n5,y,z\r\n"
    (tmp_path / "out.csv").unlink()
    assert merging(tmp_path, base, base, base) == base
    (tmp_path / "out.csv").unlink()
    assert merging(tmp_path, base, base, base.replace("\r\n4,u,v", "\r\n")) == base.replace("\r\n4,u,v", "\r\n")


def test_what_only_one_side_did_is_taken_and_new_rows_come_last(tmp_path: Path):
    base = "id,v\n1,a\n2,b\n3,c\n4,d\n"
    ours = "id,v\n9,new\n4,d\n3,C\n1,a\n"
    theirs = "id,v\n7,z\n1,A\n8,y\n2,b\n3,c\n"
    assert merging(tmp_path, base, ours, theirs) == "id,v\n9,new\n3,C\n1,A\n7,z\n8,y\n"


def test_each_kind_of_conflict_is_told_with_its_three_rows(tmp_path: Path):
    texts = {"base": "id,v\n1,a\n2,b\n3,c\n", "ours": "id,v\n4,x\n3,C\n1,A\n", "theirs": "v,id\nB,2\nAA,1\ny,4\n"}
    sides = [put(tmp_path / name / "t.csv", text) for name, text in texts.items()]
    done = merge(sides[0], sides[1], sides[2], ["id"], tmp_path / "out.csv")
    assert (done.conflicts, done.rows, done.columns) == (4, 0, ("id", "v"))
    assert done.listed == (
        Conflict(("4",), None, ("4", "x"), ("4", "y")),
        Conflict(("3",), ("3", "c"), ("3", "C"), None),
        Conflict(("1",), ("1", "a"), ("1", "A"), ("1", "AA")),
        Conflict(("2",), ("2", "b"), None, ("2", "B")),
    )
    assert not (tmp_path / "out.csv").exists()


def test_all_conflicts_are_counted_and_the_first_are_told(tmp_path: Path):
    sides = [put(tmp_path / f"{name}.csv", "id,v\n" + "".join(f"{n},{name}\n" for n in range(500))) for name in "bot"]
    done = merge(sides[0], sides[1], sides[2], ["id"], tmp_path / "out.csv")
    assert (done.conflicts, len(done.listed)) == (500, LISTED)
    assert [conflict.key for conflict in done.listed] == [(str(number),) for number in range(LISTED)]


@pytest.mark.parametrize(
    ("ours", "theirs", "key", "why"),
    [
        ("id,v\n1,2\n", "id,v,w\n1,2,3\n", ["id"], r"different columns: only theirs has w"),
        ("id,w\n1,2\n", "id,v\n1,2\n", ["id"], r"t\.csv \(ours\) and t\.csv \(base\) have different columns"),
        ("id,v\n1,2\n1,3\n", "id,v\n1,2\n", ["id"], r"not unique in t\.csv \(ours\)"),
        ("id,v\n1,2\n", "id,v\n1,2\n", [], "without a key"),
        ("id,v\n1,2\n", "id,v\n1,2\n", ["x"], "has no column x"),
        ("id,v\r1,2\r", "id,v\n1,3\n", ["id"], "carriage return"),
    ],
)
def test_a_merge_that_cannot_be_is_refused(tmp_path: Path, ours: str, theirs: str, key: list[str], why: str):
    texts = {"base": "id,v\n1,2\n", "ours": ours, "theirs": theirs}
    sides = [put(tmp_path / name / "t.csv", text) for name, text in texts.items()]
    with pytest.raises(UsageError, match=why):
        merge(sides[0], sides[1], sides[2], key, tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "ours", "theirs"]


def test_records_that_duckdb_sees_otherwise_are_refused(tmp_path: Path):
    """A space before a quote: DuckDB takes the quote for one, RFC 4180 does not."""
    text = 'id,v\n1, "a\nb"\n'
    assert not differing(tmp_path, text, text, "id")
    with pytest.raises(UsageError, match=r"record|text"):
        merging(tmp_path, text, text, text)


def test_a_merge_makes_only_what_is_not_there(tmp_path: Path):
    path = put(tmp_path / "t.csv", "id,v\n1,2\n")
    with pytest.raises(ExistsError):
        merge(path, path, path, ["id"], path)
    assert path.read_text() == "id,v\n1,2\n"


def test_headers_over_several_lines_and_beyond_a_mebibyte(tmp_path: Path):
    assert head_of(put(tmp_path / "a.csv", 'id,"a\nb"\n1,2\n')).names == ("id", "a\nb")
    with pytest.raises(UsageError, match="no header in its first"):
        head_of(put(tmp_path / "b.csv", "id," + "x" * 2**20 + "\n1,2\n"))
    rows = "".join(f"{number},{'x' * 1000}\n" for number in range(2000))
    assert head_of(put(tmp_path / "c.csv", "id,v\n" + rows)).names == ("id", "v")


def test_a_scratch_folder_is_gone_though_ctrl_c_comes_as_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Path.mkdir

    def interrupted(folder: Path, mode: int) -> None:
        made(folder, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), scratch("tables"):
        pytest.fail("it was not made")
    assert not any(tmp_path.iterdir())
