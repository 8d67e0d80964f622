"""ana diff: renames as renames, and the changed lines of texts; uncommitted ones without a mount, too. P43."""

from pathlib import Path

import pytest

from anabranch.repo import Repository
from anabranch.versions.objects import EntryKind
from tests.harness import Repo, done
from tests.unit.helpers import WHO, Branch, random_bytes

pytestmark = pytest.mark.mounted

TEXT = b"".join(b"row %d\n" % number for number in range(20))
LINES = """\
M  text  130 B -> 137 B
    @@ -9,7 +9,7 @@
     row 8
     row 9
     row 10
    -row 11
    +row eleven
     row 12
     row 13
     row 14
    @@ -18,3 +18,4 @@
     row 17
     row 18
     row 19
    +end
    \\ No newline at end of file
"""
RENAMES = """\
A  data/
R  raw/ -> data/raw/
R  raw/a.csv -> data/raw/a.csv  5.0 kB
R  raw/b.csv -> data/raw/b.csv  5.0 kB
A  data/raw/empty  0 B
M  large  550.0 kB -> 550.0 kB
R  inline -> outline  1 B
D  raw/empty  0 B
R  link -> zlink  6 B
"""


@pytest.fixture
def filled(repo: Repo) -> Repo:
    """A version, and what was changed after it: committed on main, not committed on exp."""
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.mkdir("raw")
        main.write("raw/a.csv", random_bytes(1, 5_000))
        main.write("raw/b.csv", random_bytes(2, 5_000))
        main.make("raw/empty")
        main.write("inline", b"x")
        main.make("link", EntryKind.SYMLINK, target=b"inline")
        main.write("text", TEXT)
        main.write("binary", b"\0\1")
        main.write("large", b"line\n" * 110_000)
        main.commit("before")
        exp = Branch(repository, repository.create_branch("exp", repository.resolve("main").id, WHO).name)
        for branch in (main, exp):
            change(branch)
        main.commit("after")
        repository.save()
    return repo


def change(branch: Branch) -> None:
    branch.mkdir("data")
    branch.rename("raw", "data/raw")
    branch.rename("inline", "outline")
    branch.rename("link", "zlink")
    branch.unlink("text")
    branch.write("text", TEXT.replace(b"11", b"eleven") + b"end")
    branch.write("binary", b"\1\0")
    branch.write("large", b"LINE")


FORMS = (["main@1", "main@2"], ["-b", "exp"], ["-b", "exp", "main@1"])
"""Of one and the same difference: two versions, what is not committed, and a version beside it."""


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_diff_shows_renames_and_the_lines_of_texts(filled: Repo, form: list[str]):
    said = done(filled.ana("diff", *form))
    assert said.replace(LINES, "").replace("M  binary  2 B -> 2 B\n", "") == RENAMES
    assert LINES in said
    paths = done(filled.ana("diff", *form, "--name-only")).splitlines()
    assert paths[:4] == ["binary", "data", "data/raw", "data/raw/a.csv"]
    assert len(paths) == 11
    stat = done(filled.ana("diff", *form, "--stat"))
    assert stat.startswith("11 paths differ: 2 added, 1 deleted, 5 renamed, 3 modified; ")


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_scripts_get_both_paths_and_no_lines(filled: Repo, form: list[str]):
    changes = {change["path"]: change for change in filled.json("diff", *form)["changes"]}
    assert changes["data/raw/a.csv"] == {
        "path": "data/raw/a.csv", "old_path": "raw/a.csv", "change": "renamed", "kind": "file",
        "old_size": 5_000, "new_size": 5_000,
    }  # fmt: skip
    assert changes["text"] == {
        "path": "text", "change": "modified", "kind": "file", "old_size": 130, "new_size": 137,
    }  # fmt: skip


def test_status_and_show_tell_renames_but_no_lines(filled: Repo):
    for said in (done(filled.ana("status", "-b", "exp")), done(filled.ana("show", "main@2"))):
        assert said.endswith(RENAMES.replace("R  link", "M  text  130 B -> 137 B\nR  link"))
    assert "old_path" in str(filled.json("status", "-b", "exp")["changes"])
    assert "old_path" in str(filled.json("show", "main@2")["changes"])


def test_a_rename_out_of_the_paths_that_are_asked_for_is_a_deletion(filled: Repo):
    """And one into them an addition."""
    for form in FORMS:
        assert done(filled.ana("diff", *form, "--", "raw/a.csv", "link")) == "D  link  6 B\nD  raw/a.csv  5.0 kB\n"
        assert done(filled.ana("diff", *form, "--", "data/raw/a.csv")) == "A  data/raw/a.csv  5.0 kB\n"
        assert done(filled.ana("diff", *form, "--", "text")) == LINES


def test_what_a_text_holds_cannot_take_the_terminal_over(repo: Repo, tmp_path: Path):
    with Repository(repo.path, writable=True) as repository:
        main = Branch(repository)
        main.write("text", b"a\tb\r\n")
        main.commit()
        main.write("text", b"\x1b]0;owned\x07\n")
        repository.save()
    assert done(repo.ana("diff")).splitlines()[2:] == ["    -a\tb\\x0d", "    +\\x1b]0;owned\\x07"]
