"""ana merge --rows: tables that both sides changed, merged row by row. P106."""

import json
import os
from pathlib import Path

import pytest

from anabranch import MergeConflictError, Repository
from tests.harness import Completed, Repo, done, hinted

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CSV = "id,carrier,delay\n" + "".join(f"{number},UA,{number % 60}\n" for number in range(100))


def write_parquet(folder: Path, rows: dict[int, str], name: str) -> None:
    """A table of one part, as Spark leaves it when it is written again."""
    for part in folder.glob("part-*"):
        part.unlink()
    table = pa.table({"id": list(rows), "text": list(rows.values())})
    pq.write_table(table, folder / f"part-00000-{name}.snappy.parquet")


def read_parquet(folder: Path) -> dict[int, str]:
    table = pq.read_table(folder).to_pydict()
    return dict(zip(table["id"], table["text"], strict=True))


class Sides:
    """A repository without a mount; what a branch is to hold comes from a folder."""

    def __init__(self, repo: Repo, folder: Path) -> None:
        self.repo = repo
        self.folder = folder
        self.text = CSV
        self.rows = dict.fromkeys(range(10), "old")
        (folder / "t").mkdir(parents=True)
        self.commit("main", "first")
        done(repo.ana("branch", "exp"))

    def commit(self, branch: str, name: str, text: str | None = None, rows: dict[int, str] | None = None) -> None:
        (self.folder / "f.csv").write_text(text or self.text)
        write_parquet(self.folder / "t", self.rows | (rows or {}), name)
        (self.folder / "t/_SUCCESS").touch()
        done(self.repo.ana("import", self.folder, ".", "-b", branch, "--commit", name))

    def merged(self, path: str, place: Path) -> Path:
        done(self.repo.ana("export", f"main:{path}", place))
        return place


def conflicted(ended: Completed, paths: str) -> None:
    """Refused for these paths; what it lists is on standard output."""
    assert ended.returncode == 3, ended.stderr
    assert f"exp@1 and main disagree on {paths}; nothing was changed\nhint: " in ended.stderr


@pytest.fixture
def sides(repo: Repo, tmp_path: Path) -> Sides:
    return Sides(repo, tmp_path / "folder")


def test_different_rows_come_together_in_csv_and_in_what_spark_writes(sides: Sides, tmp_path: Path):
    sides.commit("exp", "theirs", CSV.replace("\n5,UA,5\n", "\n5,AA,5\n") + "100,UA,0\n", {3: "theirs", 10: "new"})
    sides.commit("main", "ours", CSV.replace("\n7,UA,7\n", "\n7,UA,8\n"), {4: "ours"})
    ended = sides.repo.ana("merge", "exp")
    conflicted(ended, "f.csv, t")
    assert "; tables: --rows --key COLUMN" in ended.stderr
    said = done(sides.repo.ana("merge", "exp", "--rows", "--key", "id"))
    assert "rows of f.csv: 1 added, 0 removed, 1 changed by theirs\n" in said
    assert "rows of t: 1 added, 0 removed, 1 changed by theirs\n" in said
    expected = CSV.replace("\n5,UA,5\n", "\n5,AA,5\n").replace("\n7,UA,7\n", "\n7,UA,8\n") + "100,UA,0\n"
    assert sides.merged("f.csv", tmp_path / "out.csv").read_text() == expected
    table = sides.merged("t", tmp_path / "out")
    assert read_parquet(table) == sides.rows | {3: "theirs", 4: "ours", 10: "new"}
    assert sorted(name.partition("-")[0] for name in os.listdir(table)) == ["_SUCCESS", "part"]


def test_the_same_row_is_a_conflict_that_names_its_key_and_nothing_changes(sides: Sides):
    sides.commit("exp", "theirs", CSV.replace("\n5,UA,5\n", "\n5,UA,6\n"), {3: "theirs"})
    sides.commit("main", "ours", CSV.replace("\n5,UA,5\n", "\n5,UA,7\n"), {4: "ours"})
    before = sides.repo.json("log")
    ended = sides.repo.ana("merge", "exp", "--rows", "--key", "id")
    conflicted(ended, "f.csv")
    assert "--rows" not in ended.stderr
    assert "rows of f.csv: 1 key changed by both\n      id  ours     theirs\n    ! 5   delay=7  delay=6" in ended.stdout
    assert sides.repo.json("log") == before
    told = json.loads(sides.repo.ana("merge", "exp", "--rows", "--key", "id", "--dry-run", "--json").stdout)
    assert [(table["path"], table["conflicts"]) for table in told["tables"]] == [("f.csv", 1), ("t", 0)]
    assert told["tables"][0]["conflict_rows"][0]["key"] == {"id": "5"}


def test_rules_go_before_rows_and_the_strategy_after(sides: Sides, tmp_path: Path):
    sides.commit("exp", "theirs", CSV.replace("\n5,UA,5\n", "\n5,UA,6\n"), {3: "theirs"})
    sides.commit("main", "ours", CSV.replace("\n5,UA,5\n", "\n5,UA,7\n"), {4: "ours"})
    rows = ("--rows", "--key", "id")
    done(sides.repo.ana("merge", "exp", *rows, "--strategy", "ours", "--resolve", "t=theirs"))
    assert "\n5,UA,7\n" in sides.merged("f.csv", tmp_path / "out.csv").read_text()
    assert read_parquet(sides.merged("t", tmp_path / "out"))[4] == "old"


def test_a_table_that_cannot_be_merged_by_the_key_stays_a_conflict_and_says_why(sides: Sides):
    sides.commit("exp", "theirs", CSV.replace("\n5,UA,5\n", "\n5,UA,6\n"))
    sides.commit("main", "ours", CSV.replace("\n7,UA,7\n", "\n7,UA,8\n"))
    ended = sides.repo.ana("merge", "exp", "--rows", "--key", "carrier")
    conflicted(ended, "f.csv, t")
    assert "rows of f.csv: not merged: " in ended.stdout


def test_rows_and_key_belong_together(sides: Sides):
    hinted(sides.repo.ana("merge", "exp", "--rows"), 2, "--key")
    hinted(sides.repo.ana("merge", "exp", "--key", "id"), 2, "--rows")


def test_the_library_merges_rows_too(sides: Sides):
    sides.commit("exp", "theirs", CSV.replace("\n5,UA,5\n", "\n5,UA,6\n"))
    sides.commit("main", "ours", CSV.replace("\n7,UA,7\n", "\n7,UA,8\n"))
    with Repository(sides.repo.path) as repository:
        main = repository.branch("main")
        with pytest.raises(MergeConflictError):
            main.merge("exp")
        main.merge("exp", key=["id"])
        assert "\n5,UA,6\n" in (main / "f.csv").read_text()
        assert "\n7,UA,8\n" in (main / "f.csv").read_text()
