"""ana show, ana log --path, and a clock that is behind: what was changed when. P6, P41, P42, P43."""

import json
import os
import random
import time
from typing import Any

import pytest

from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.refs import DAY, Refs, Who
from tests.harness import Mount, done, hinted, refused

pytestmark = pytest.mark.mounted


def prepare(mount: Mount) -> None:
    """Four versions: two files in folders, one changed, one linked to and changed through the link, one removed."""
    main = mount.main
    (main / "raw").mkdir()
    (main / "raw/a.csv").write_text("1")
    (main / "b.csv").write_text("1")
    mount.commit("both files\n\nand why")
    (main / "raw/a.csv").write_text("22")
    os.link(main / "b.csv", main / "raw/b")
    mount.commit("a is longer, b has a second name")
    (main / "raw/b").write_text("22")
    mount.commit("b through its second name")
    (main / "raw/a.csv").unlink()
    mount.commit("a is gone")


def messages(mount: Mount, *arguments: str) -> list[str]:
    return [version["message"].split("\n")[0] for version in json.loads(done(mount.ana("log", "--json", *arguments)))]


def test_the_log_of_a_path_lists_the_versions_that_changed_it(mount: Mount) -> None:
    """P41."""
    prepare(mount)
    gone, through, longer, both = (
        "a is gone",
        "b through its second name",
        "a is longer, b has a second name",
        "both files",
    )
    assert messages(mount, "--path", "raw/a.csv") == [gone, longer, both]
    assert messages(mount, "--path", "b.csv") == [through, both]
    assert messages(mount, "--path", "raw/b") == [through, longer]
    assert messages(mount, "--path", "raw") == [gone, through, longer, both]
    assert messages(mount, "--path", "./raw/../b.csv", "-n", "1") == [through]
    refused(mount.ana("log", "--path", "no such file"), 1, "no version of main has no such file")


def test_the_first_version_of_a_branch_lists_only_what_its_own_commit_changed(mount: Mount) -> None:
    """P41."""
    prepare(mount)
    done(mount.ana("branch", "exp", "main@3"))
    assert messages(mount, "-b", "exp", "--path", "b.csv") == ["b through its second name"]
    assert messages(mount, "-b", "exp", "--path", "raw/a.csv") == []


def test_a_path_counts_from_the_current_directory_of_a_mount(mount: Mount) -> None:
    """P41."""
    prepare(mount)
    inside = mount.main / "raw"
    assert "a is longer" in done(mount.ana("log", "--path", "a.csv", cwd=inside))
    assert "b through" in done(mount.ana("log", "--path", "../b.csv", cwd=inside))
    assert "b through" in done(mount.ana("log", "--path", str(inside / "b"), cwd=inside))
    assert "b through" in done(mount.ana("log", "--path", "../../main/b.csv", cwd=inside))
    assert "b through" in done(mount.ana("log", "--path", "/b.csv", cwd=inside))
    assert "b through" in done(mount.ana("log", "-b", "main", "--path", "b.csv", cwd=inside)), "-b: from the top"
    refused(mount.ana("log", "--path", "../../b.csv", cwd=inside), 2, "leads out of the branch")


def test_show_tells_who_when_why_and_what_changed(mount: Mount) -> None:
    """P42."""
    prepare(mount)
    text = done(mount.ana("show", "main@1"))
    shown: dict[str, Any] = json.loads(done(mount.ana("show", "main@1", "--json")))
    assert text.startswith(
        f"main@1  {shown['id']}\nParent:  {shown['parents'][0]}\nAuthor:  {shown['author']}\nDate:    "
    )
    assert "\n    both files\n    \n    and why\n\nA  b.csv  1 B\nA  raw/\nA  raw/a.csv  1 B\n" in text
    assert [change["path"] for change in shown["changes"]] == ["b.csv", "raw", "raw/a.csv"]
    assert done(mount.ana("show", f"@{shown['id'][:12]}", "--json")).count(shown["id"]) == 1


def test_show_without_a_revision_is_the_last_version_of_the_branch_one_is_in(mount: Mount) -> None:
    """P42."""
    prepare(mount)
    done(mount.ana("branch", "exp", "main@3"))
    assert "a is gone" in done(mount.ana("show"))
    assert "M  b.csv  1 B -> 2 B\nM  raw/b  1 B -> 2 B\n" in done(mount.ana("show", cwd=mount.root / "exp"))
    assert "    (empty)\n" in done(mount.ana("show", "main@0"))
    refused(mount.ana("show", "main@9"), 1, "main has no version 9")
    assert "a is longer" in done(mount.ana("show", cwd=mount.root / "main@2"))
    done(mount.ana("tag", "v1", "main@1"))
    assert done(mount.ana("show", cwd=mount.root / "v1/raw")).startswith("v1  ")


def test_equal_contents_have_equal_ids(mount: Mount) -> None:
    """P39."""
    data = random.Random(1).randbytes(1_000_000)
    with (mount.main / "pieces").open("wb") as file:
        for start in range(0, len(data), 1_000):
            file.write(data[start : start + 1_000])
            file.flush()
    (mount.main / "whole").write_bytes(data)
    (mount.main / "small").write_bytes(b"x")
    mount.commit("two of one kind")
    ids = {row["path"]: row["content_id"] for row in mount.json("ls", "main")}
    assert ids["small"] is None
    assert ids["pieces"] == ids["whole"]
    assert ids["pieces"] is not None


def set_the_clock_back(mount: Mount) -> None:
    """As if the last version had been made two days from now."""
    mount.umount()
    with Repository(mount.path, writable=True) as repository:
        ahead = Refs(repository.meta, repository.objects, lambda: time.time_ns() + 2 * DAY)
        name = RefName("late")
        with repository.meta.write() as batch:
            ahead.create(batch, name, repository.resolve("main").id, Who("ann", "test"), tag=False)
    mount.mount()


def test_a_commit_is_refused_while_the_clock_is_a_day_behind_unless_one_insists(mount: Mount) -> None:
    """P6."""
    mount.commit("first") if (mount.main / "x").write_text("x") else None
    set_the_clock_back(mount)
    late = mount.root / "late"
    (late / "file").write_text("x")
    refused(mount.ana("commit", "-m", "late", cwd=late), 3, "clock is more than a day behind", "--any-clock")
    with pytest.raises(OSError, match="busy"):
        (late / ".ana/commit").write_text("late")
    assert "clock" in (late / ".ana/error").read_text()
    assert done(mount.ana("commit", "-m", "late", "--any-clock", cwd=late)).startswith("late@1 ")


def test_the_log_by_time_and_by_metadata(mount: Mount) -> None:
    for number in (1, 2, 3):
        (mount.main / "file").write_text(str(number))
        done(mount.ana("commit", "-m", str(number), "--meta", f"run={number}", "--meta", "source=a b"))
    first, second, third = (row["time"] for row in reversed(mount.json("log", "-n", "3")))
    assert messages(mount, "--since", second) == ["3", "2"]
    assert messages(mount, "--until", second) == ["2", "1", ""]
    assert messages(mount, "--since", second, "--until", second) == ["2"]
    assert messages(mount, "--since", first[:10], "--until", "2999-01-01", "-n", "1") == ["3"]
    assert messages(mount, "--meta", "run=2") == ["2"]
    assert messages(mount, "--meta", "source=a b", "--meta", "run=1") == ["1"]
    assert messages(mount, "--meta", "run=4") == []
    assert third > second
    hinted(mount.ana("log", "--since", "yesterday"), 2, "bad time 'yesterday'")
    hinted(mount.ana("log", "--until", "2026-13-01"), 2, "2026-13-01")
    hinted(mount.ana("log", "--meta", "run"), 2, "run is no KEY=VALUE")
    hinted(mount.ana("commit", "-m", "x", "--meta", "a=1", "--meta", "a=2"), 2, "a is given twice")
    hinted(mount.ana("commit", "-m", "x", "--author", "eve\nmain@9"), 2, "is no author")
    assert "run: 3" in done(mount.ana("show"))


def test_an_author_and_an_empty_commit(mount: Mount) -> None:
    refused(mount.ana("commit", "-m", "x"), 1, "nothing to commit")
    done(mount.ana("commit", "-m", "a mark", "--allow-empty", "--author", "Bureau of Statistics"))
    (newest, _) = mount.json("log")
    assert (newest["author"], newest["message"]) == ("Bureau of Statistics", "a mark")


def test_a_diff_of_some_paths_as_names_and_as_a_sum(mount: Mount) -> None:
    prepare(mount)
    names = ("diff", "--name-only", "main@0", "main@3")
    assert done(mount.ana(*names)).splitlines() == ["b.csv", "raw", "raw/a.csv", "raw/b"]
    assert done(mount.ana(*names, "--", "raw/a.csv", "b.csv")) == "b.csv\nraw/a.csv\n"
    assert done(mount.ana("diff", "main@1", "main@2", "--", "raw/b")) == "A  raw/b  1 B\n"
    hinted(mount.ana("diff", "main@1", "main@2", "--", "ra"), 1, "neither side has ra")
    said = "3 paths differ: 1 added, 2 modified; 2 B -> 6 B in all\n"
    assert done(mount.ana("diff", "--stat", "main@1", "main@3")) == said
    assert done(mount.ana("diff", "--stat", "main@3", "main@3")) == "0 paths differ\n"
    (mount.main / "raw/new").write_text("x")
    assert done(mount.ana("diff", "--name-only", cwd=mount.main / "raw")) == "raw/new\n"
    assert done(mount.ana("diff", "--name-only", "main@3", "--", "new", cwd=mount.main / "raw")) == "raw/new\n"
    refused(mount.ana("diff", "--stat", "--json"), 2, "exclude each other")


def test_how_much_is_in_a_directory_of_a_version(mount: Mount) -> None:
    (mount.main / "raw/deep").mkdir(parents=True)
    (mount.main / "raw/deep/a").write_bytes(bytes(3_000))
    (mount.main / "raw/b").write_bytes(bytes(500))
    (mount.main / "c").write_bytes(bytes(20))
    os.link(mount.main / "c", mount.main / "raw/c")
    mount.commit()
    said = mount.json("du", "main")
    rows = {row["path"]: (row["bytes"], row["files"]) for row in said["children"]}
    assert rows["raw"][1] == 3
    assert rows["c"] == (20, 1)
    assert said["files"] == 4
    lines = done(mount.ana("du", "main@1:raw/deep")).splitlines()
    assert [line.split() for line in lines] == [["3.0", "kB", "1", "file", "a"], ["3.0", "kB", "1", "file", "raw/deep"]]
    assert done(mount.ana("du", "main:raw/b")).split() == ["500", "B", "1", "file", "raw/b"]
    refused(mount.ana("du", "main:none"), 1, "none")
