"""ana diff --rows: tables row by row, of versions and of what is not committed, with and without a mount. P107."""

import io
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from anabranch.repo import Repository
from tests.harness import ANA, PATIENCE, Mount, Repo, done, hinted, refused, wait_for
from tests.tables import need_duckdb
from tests.unit.helpers import WHO, Branch

need_duckdb()

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

OLD = b'carrier,name,"note"\n9E,Endeavor,\nAA,American,x\nB6,JetBlue,\n'
NEW = b'carrier,name,"note"\n9E,Endeavor Air,""\nB6,JetBlue,\nXX,"a\tb",' + b"y" * 50 + b"\nYY,\xc3\xa9,\n"
KEYED = f"""\
M  airlines.csv  {len(OLD)} B -> {len(NEW)} B
    3 -> 4 rows: 2 added, 1 removed, 1 changed
      carrier  name    note
    + XX       a\\x09b  {"y" * 37}...
    + YY       é       NULL
      carrier  name      note
    - AA       American  x
      carrier  column  before    after
    ~ 9E       name    Endeavor  Endeavor Air
    ~ 9E       note    NULL      ""
"""
SPARK = """\
M  spark.parquet/
    3 -> 3 rows: 1 added, 1 removed, 1 changed
    column w (VARCHAR) added
      id  v    w
    + 4   [4]  z
      id  v
    - 3   NULL
      id  column  before  after
    ~ 2   v       [2]     []
"""

PARTS: list[dict[str, list[object]]] = [
    {"id": [1, 2], "v": [[1], []], "w": ["x", "y"]},
    {"id": [4], "v": [[4]], "w": ["z"]},
]
"""Of the table on the newer side."""


def parquet(columns: Mapping[str, Sequence[object]]) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return written.getvalue()


@pytest.fixture
def filled(repo: Repo) -> Repo:
    """Two versions of main; the same changes, not committed, on exp."""
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.write("airlines.csv", OLD)
        main.write("text", b"a\n")
        main.write("gone.csv", b"id\n1")
        main.write("same.csv", b"id\n1\n")
        main.mkdir("spark.parquet")
        main.write("spark.parquet/part-0-aaa.parquet", parquet({"id": [1, 2, 3], "v": [[1], [2], None]}))
        main.write("spark.parquet/_SUCCESS", b"")
        main.write("spark.parquet/.part-0-aaa.parquet.crc", b"1")
        main.commit("before")
        exp = Branch(repository, repository.create_branch("exp", repository.resolve("main").id, WHO).name)
        for branch in (main, exp):
            branch.write("airlines.csv", NEW)
            branch.write("text", b"a\nb\n")
            branch.unlink("gone.csv")
            branch.write("new.csv", b"id\n2")
            branch.write("same.csv", b'"id"\r\n1\r\n')
            for name in ("part-0-aaa.parquet", ".part-0-aaa.parquet.crc"):
                branch.unlink(f"spark.parquet/{name}")
            for number, columns in enumerate(PARTS):
                branch.write(f"spark.parquet/part-{number}-bbb.parquet", parquet(columns))
            branch.write("spark.parquet/.part-0-bbb.parquet.crc", b"22")
        main.commit("after")
        repository.save()
    return repo


FORMS = (["main@1", "main@2"], ["-b", "exp"], ["-b", "exp", "main@1"])
"""Of one and the same difference: two versions, what is not committed, and a version beside it."""


def looks_right(repo: Repo, form: list[str]) -> None:
    """The output of a diff in one of the forms."""
    assert done(repo.ana("diff", *form, "--rows", "--key", "carrier", "--", "airlines.csv")) == KEYED
    assert done(repo.ana("diff", *form, "--rows", "--key", "id", "--", "spark.parquet")) == SPARK
    said = done(repo.ana("diff", *form, "--rows"))
    assert said == (
        f"M  airlines.csv  {len(OLD)} B -> {len(NEW)} B\n"
        "    3 -> 4 rows: 3 added, 2 removed\n"
        "      carrier  name          note\n"
        '    + 9E       Endeavor Air  ""\n'
        f"    + XX       a\\x09b        {'y' * 37}...\n"
        "    + YY       é             NULL\n"
        "      carrier  name      note\n"
        "    - 9E       Endeavor  NULL\n"
        "    - AA       American  x\n"
        "D  gone.csv  4 B\n"
        "A  new.csv  4 B\n"
        "M  same.csv  5 B -> 9 B\n"
        "    1 -> 1 row: none differs\n"
        "M  spark.parquet/\n"
        "    3 -> 3 rows: 2 added, 2 removed\n"
        "    column w (VARCHAR) added\n"
        "      id  v\n"
        "    + 2   []\n"
        "    + 4   [4]\n"
        "      id  v\n"
        "    - 2   [2]\n"
        "    - 3   NULL\n"
        "M  text  2 B -> 4 B\n"
        "    @@ -1,1 +1,2 @@\n"
        "     a\n"
        "    +b\n"
    )


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_tables_are_shown_row_by_row_and_the_rest_as_ever(filled: Repo, form: list[str]):
    looks_right(filled, form)


@pytest.mark.mounted
def test_it_is_the_same_through_a_mount(filled: Repo, mountable: Mount):
    """`filled` and `mountable` are one repository."""
    mountable.mount()
    for form in FORMS:
        looks_right(filled, form)
    (mountable.main / "airlines.csv").write_bytes(OLD + b"ZZ,not committed,\n")
    said = done(filled.ana("diff", "main@1", "--rows", "--key", "carrier", "--", "airlines.csv"))
    assert said.endswith(
        "    3 -> 4 rows: 1 added\n      carrier  name           note\n    + ZZ       not committed  NULL\n"
    )


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_scripts_get_the_tables_beside_the_changes(filled: Repo, form: list[str]):
    words = ["--rows", "--key", "carrier", "--sample", "1", "--", "airlines.csv", "text"]
    found = filled.json("diff", *form, *words)
    assert [change["path"] for change in found["changes"]] == ["airlines.csv", "text"]
    assert found["tables"] == [
        {
            "path": "airlines.csv", "key": ["carrier"], "error": None, "old_rows": 3, "new_rows": 4,
            "added": 2, "removed": 1, "changed": 1,
            "columns_added": [], "columns_removed": [], "columns_retyped": [], "columns_reordered": False,
            "added_rows": [{"carrier": "XX", "name": "a\tb", "note": "y" * 50}],
            "removed_rows": [{"carrier": "AA", "name": "American", "note": "x"}],
            "changed_rows": [
                {
                    "key": {"carrier": "9E"},
                    "cells": [
                        {"column": "name", "before": "Endeavor", "after": "Endeavor Air"},
                        {"column": "note", "before": None, "after": ""},
                    ],
                }
            ],
        }
    ]  # fmt: skip
    (spark,) = filled.json("diff", *form, "--rows", "--", "spark.parquet")["tables"]
    assert spark["columns_added"] == [{"name": "w", "type": "VARCHAR"}]
    assert "tables" not in filled.json("diff", *form)


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_sample_shows_so_many_rows_and_how_many_more_there_are(filled: Repo, form: list[str]):
    words = ["--rows", "--key", "carrier", "--", "airlines.csv"]
    said = done(filled.ana("diff", *form, "--sample", "1", *words)).splitlines()
    assert said[2:5] == ["      carrier  name    note", f"    + XX       a\\x09b  {'y' * 37}...", "      ... 1 more"]
    said = done(filled.ana("diff", *form, "--sample", "0", *words)).splitlines()
    assert said[1:] == ["    3 -> 4 rows: 2 added, 1 removed, 1 changed"]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_table_without_the_key_is_named_and_the_others_are_shown(filled: Repo, form: list[str]):
    ended = filled.ana("diff", *form, "--rows", "--key", "carrier")
    assert ended.returncode == 2
    assert ended.stdout.startswith(KEYED)
    assert "A  spark.parquet/part-1-bbb.parquet" in ended.stdout
    said = ended.stderr.splitlines()
    assert said[0] == "ana: same.csv: same.csv (old) has no column carrier"
    assert said[2] == "ana: spark.parquet: spark.parquet (old) has no column carrier"
    assert said[1::2] == ["hint: it has id", "hint: it has id, v"]
    ended = filled.ana("diff", "--json", *form, "--rows", "--key", "carrier", "--", "same.csv")
    assert ended.returncode == 2
    assert '"error": "same.csv (old) has no column carrier"' in ended.stdout


def test_what_is_damaged_or_has_two_rows_of_a_key_is_said(repo: Repo):
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.write("t.csv", b"id,v\n1,2\n")
        main.commit()
        main.write("t.csv", b"id,v\n1,2\n1,3\n")
        main.commit()
        main.write("t.csv", b"id,v\n1,2,3\n")
        repository.save()
    ended = repo.ana("diff", "main@1", "main@2", "--rows", "--key", "id")
    assert (ended.returncode, "several rows have id = 1" in ended.stderr) == (2, True)
    assert ended.stdout.startswith("M  t.csv  9 B -> 13 B\n    @@")
    ended = repo.ana("diff", "main@1", "--rows", "--key", "id")
    assert (ended.returncode, "t.csv (new) cannot be read: " in ended.stderr) == (2, True)


def test_partitions_and_parts_that_moved_are_one_table(repo: Repo):
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        for name in ("data", "data/t", "data/t/y=1", "data/t/y=2"):
            main.mkdir(name)
        main.write("data/t/y=1/part-0.csv", b"id\n1\n2\n")
        main.commit()
        main.rename("data/t/y=1/part-0.csv", "data/t/y=2/part-0.csv")
        main.commit()
        repository.save()
    said = done(repo.ana("diff", "main@1", "main@2", "--rows", "--key", "id", "--", "data"))
    assert said == (
        "M  data/t/\n    2 -> 2 rows: 2 changed\n      id  column  before  after\n"
        "    ~ 1   y       1       2\n    ~ 2   y       1       2\n"
    )


def test_a_new_table_and_one_that_is_gone_are_shown_as_ever(repo: Repo):
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.mkdir("t")
        main.write("t/part-0.csv", b"id\n1\n")
        main.write("part-9.csv", b"id\n1\n")
        main.commit()
        main.write("part-9.csv", b"id\n2\n")
        main.unlink("t/part-0.csv")
        main.rmdir("t")
        main.mkdir("u")
        main.write("u/part-0.csv", b"id\n2\n")
        main.write("u/part-1.csv", b"id\n3\n")
        main.commit()
        repository.save()
    said = done(repo.ana("diff", "main@1", "main@2", "--rows"))
    assert said == (
        "M  part-9.csv  5 B -> 5 B\n    1 -> 1 row: 1 added, 1 removed\n      id\n    + 2\n      id\n    - 1\n"
        "D  t/\nD  t/part-0.csv  5 B\nA  u/\nA  u/part-0.csv  5 B\nA  u/part-1.csv  5 B\n"
    )


def test_options_that_do_not_go_together_are_wrong_use(filled: Repo):
    refused(filled.ana("diff", "--rows", "--stat"), 2, "--rows")
    refused(filled.ana("diff", "--rows", "--name-only"), 2, "--rows")
    refused(filled.ana("diff", "--key", "id"), 2, "go with --rows")
    refused(filled.ana("diff", "--sample", "3"), 2, "go with --rows")
    assert filled.ana("diff", "--rows", "--sample", "-1").returncode == 2


def test_without_duckdb_it_says_what_to_install(filled: Repo, tmp_path: Path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/duckdb.py").write_text("raise ImportError\n")
    paths = [str(tmp_path / "none"), *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [ANA, "diff", "-R", filled.path, "main@1", "main@2", "--rows", "--", "same.csv"],
        cwd="/", env={**os.environ, "PYTHONPATH": ":".join(paths)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    hinted(ended, 3, "DuckDB, which is not installed", "pip install 'anabranch[tables]'")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_it_finds_nothing_left(repo: Repo, tmp_path: Path, number: signal.Signals):
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        for sign in (b"x", b"y"):
            main.write("t.csv", b"id,v\n" + b"".join(b"%d,%b\n" % (row, sign * 50) for row in range(400_000)))
            main.commit()
        repository.save()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        [ANA, "diff", "-R", repo.path, "main@1", "main@2", "--rows"],
        cwd="/", env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        wait_for(lambda: any(temporary.glob("anabranch-tables-*")), "the comparison to begin")
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, b"ana: interrupted\n")
    assert [*temporary.iterdir()] == []
