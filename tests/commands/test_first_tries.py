"""What people type first, before they have read anything: it works, or the hint says what does."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.harness import ANA, Mount, Repo, done, hinted, run_ana


@pytest.fixture
def filled(repo: Repo, beside: Path) -> Repo:
    """Two versions of a folder."""
    (beside / "raw").mkdir()
    (beside / "raw/a.csv").write_text("1\n")
    done(run_ana("import", "-R", repo.path, ".", "data", "--commit", "one", "--meta", "run=1", cwd=beside))
    (beside / "raw/a.csv").write_text("2\n")
    done(run_ana("import", "-R", repo.path, ".", "data", "--commit", "two", "--author", "Ann", cwd=beside))
    return repo


def test_a_version_alone_is_nothing_to_restore(filled: Repo) -> None:
    assert "ana restore main@1 ." in hinted(filled.ana("restore", "main@1"), 2, "is a version")
    assert "ana restore main@1 data" in hinted(filled.ana("restore", "main@1:data"), 2, "is a version")


def test_paths_of_a_diff_come_last(filled: Repo) -> None:
    assert "-- data/raw" in hinted(filled.ana("diff", "data/raw"), 2)
    assert "-- nothing" in hinted(filled.ana("diff", "nothing"), 1)
    hinted(filled.ana("diff", "--", "typo"), 1, "neither side has typo")
    hinted(filled.ana("diff", "main@1", "main@2", "--", "data", "typo"), 1, "neither side has typo")
    assert "a.csv" in done(filled.ana("diff", "main@1", "main@2", "--", "data/raw"))


def test_until_a_date_is_until_its_end(filled: Repo) -> None:
    until, since = (version["time"][:10] for version in filled.json("log")[:2])  # of one day, but at midnight
    assert len(filled.json("log", "--since", since, "--until", until)) >= 2


def test_a_file_does_not_take_the_place_of_a_directory(filled: Repo, beside: Path) -> None:
    file = beside / "raw/a.csv"
    for place in ("data", "data/raw/", "new/"):
        assert "a.csv" in hinted(filled.ana("import", file, place), 2, "is a directory")
    done(filled.ana("import", file, "data/raw/b.csv"))


def test_what_is_said_of_a_commit_needs_one(filled: Repo, beside: Path) -> None:
    hinted(filled.ana("import", beside, "data", "--meta", "run=2"), 2, "--commit")
    assert [version["metadata"] for version in filled.json("log")][:2] == [{}, {"run": "1"}]
    assert filled.json("log")[0]["author"] == "Ann"


def test_an_export_to_a_terminal_or_a_compressed_file_is_refused(filled: Repo, beside: Path) -> None:
    hinted(filled.ana("export", "main", beside / "x.tar.gz"), 2, "only plain tar", "gzip")
    master, slave = pty.openpty()
    command = ("export", "-R", filled.path, "main", "-")
    ended = subprocess.run([ANA, *command], stdout=slave, stderr=subprocess.PIPE, text=True, check=False)
    os.close(slave)
    os.close(master)
    assert (ended.returncode, "terminal" in ended.stderr) == (2, True)


@pytest.mark.mounted
def test_a_mount_is_as_good_a_name_as_its_repository(mount: Mount, beside: Path) -> None:
    (mount.main / "a").write_text("1")
    mount.commit("first")
    for place in (mount.root, mount.main):
        assert "first" in done(run_ana("log", "-R", place, cwd=beside))
