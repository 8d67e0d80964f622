"""ana branch -m, -d, --restore and ana tag -d, seen in the mount at once. P5, P7, P37, P50."""

import os
from pathlib import Path

import pytest

from tests.harness import Mount, done, hinted, refused

pytestmark = pytest.mark.mounted


@pytest.fixture
def filled(mount: Mount) -> Mount:
    """Branch exp with a commit of its own, looked at by this process."""
    done(mount.ana("branch", "exp"))
    (mount.root / "exp/data").write_text("data")
    mount.commit(branch="exp")
    return mount


def test_a_renamed_branch_is_at_its_new_name_with_what_is_uncommitted_p7(filled: Mount):
    exp, kept = filled.root / "exp", filled.root / "kept"
    (exp / "more").write_text("uncommitted")
    number = (exp / "data").stat().st_ino
    assert not kept.exists()
    with (exp / "data").open("a") as opened:
        done(filled.ana("branch", "-m", "exp", "kept"))
        opened.write(", and more")
    assert sorted(os.listdir(filled.root)) == ["kept", "main"]
    assert not exp.exists()
    assert (kept / "data").read_text() == "data, and more"
    assert (kept / "more").read_text() == "uncommitted"
    assert (kept / "data").stat().st_ino == number
    assert done(filled.ana("branch", "-m", "exp", cwd=kept)).startswith("exp@")
    assert (exp / "more").read_text() == "uncommitted"


def test_a_deleted_branch_is_gone_and_comes_back_where_it_stood_p5_p7(filled: Mount):
    exp = filled.root / "exp"
    said = done(filled.ana("branch", "-d", "exp"))
    assert said.startswith("deleted exp, which was exp@1  ")
    assert said.endswith("; to bring it back: ana branch --restore exp\n")
    assert not exp.exists()
    assert (filled.root / "exp@1/data").read_text() == "data"
    assert done(filled.ana("branch", "--restore", "exp")).startswith("exp@3  ")
    assert (exp / "data").read_text() == "data"
    (exp / "data").write_text("changed")
    assert filled.commit(branch="exp").name == "exp@4"


def test_the_log_of_a_name_that_was_given_up_can_be_read_p41(filled: Mount):
    done(filled.ana("branch", "-m", "exp", "kept"))
    assert filled.messages("exp") == ["a commit", ""]
    said = done(filled.ana("log", "-b", "kept"))
    assert said.splitlines()[-1] == "before that it was called exp: ana log -b exp"
    done(filled.ana("branch", "-d", "kept"))
    assert len(filled.messages("kept")) == 1
    hinted(filled.ana("log", "-b", "never"), 1, "never")


def test_a_branch_with_changes_or_open_files_is_not_deleted_p7(filled: Mount):
    exp = filled.root / "exp"
    with (exp / "data").open():
        refused(filled.ana("branch", "-d", "exp"), 3, "files of branch exp are open")
    (exp / "new").touch()
    hinted(filled.ana("branch", "-d", "exp"), 3, "uncommitted changes")
    refused(filled.ana("branch", "-d", "main"), 3, "default branch")
    assert (exp / "data").read_text() == "data"


def test_all_names_are_looked_up_before_the_first_is_deleted(filled: Mount):
    done(filled.ana("tag", "v1", "exp"))
    hinted(filled.ana("branch", "-d", "exp", "none"), 1, "none")
    refused(filled.ana("branch", "-d", "exp", "v1"), 2, "v1 is a tag, not a branch")
    refused(filled.ana("tag", "-d", "exp"), 2, "exp is a branch, not a tag")
    assert (filled.root / "exp/data").read_text() == "data"


def test_a_deleted_tag_is_gone_and_what_it_named_is_not(filled: Mount):
    done(filled.ana("tag", "v1", "exp"))
    assert (filled.root / "v1/data").read_text() == "data"
    said = done(filled.ana("tag", "-d", "v1"))
    assert not (filled.root / "v1").exists()
    done(filled.ana(*said.strip().split("ana ")[1].split()))
    assert (filled.root / "v1/data").read_text() == "data"


def test_what_was_never_a_branch_or_was_renamed_does_not_come_back(filled: Mount):
    done(filled.ana("branch", "-m", "exp", "kept"))
    hinted(filled.ana("branch", "--restore", "exp"), 1, "renamed", "it became kept")
    hinted(filled.ana("branch", "--restore", "none"), 1, "no branch was ever called none")
    refused(filled.ana("branch", "--restore", "kept"), 3, "exists already")
    done(filled.ana("tag", "v1"))
    done(filled.ana("tag", "-d", "v1"))
    hinted(filled.ana("branch", "--restore", "v1"), 1, "v1 was a tag", "ana tag v1 @")


def test_wrong_numbers_of_names_are_told(filled: Mount):
    for arguments in (["-d"], ["-m"], ["-m", "a", "b", "c"], ["--restore"], ["a", "b", "c"]):
        hinted(filled.ana("branch", *arguments), 2, "is expected here")
    hinted(filled.ana("tag", "a", "b", "c"), 2, "NAME [REV] is expected here")
    refused(filled.ana("branch", "-d", "-m", "exp"), 2, "exclude each other")


def test_without_a_mount_it_is_the_same_p37(filled: Mount, tmp_path: Path):
    filled.umount()
    done(filled.ana("branch", "-m", "exp", "kept"))
    done(filled.ana("branch", "-d", "kept"))
    assert [row["name"] for row in filled.json("branch")] == ["main"]
    done(filled.ana("branch", "--restore", "kept"))
    filled.mount()
    assert (filled.root / "kept/data").read_text() == "data"
