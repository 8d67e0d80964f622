"""ana backup: what it says, its exit codes, and that the copy is a repository as any. What it holds: tests/unit."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from anabranch.daemon import lock as locks
from anabranch.store.layout import Layout
from tests.commands.test_completion import offered
from tests.harness import ANA, Repo, done, hinted, refused, run_ana, verify

LARGE = 300_000


def commit(repo: Repo, beside: Path, size: int = LARGE) -> bytes:
    """Make a version with a new file; returns its content."""
    content = os.urandom(size)
    (beside / "file").write_bytes(content)
    done(repo.ana("import", beside / "file", "file", "--commit", "a file"))
    return content


@pytest.fixture
def copy(tmp_path: Path) -> Repo:
    """Where backups go."""
    return Repo(tmp_path / "copy")


def test_it_says_how_much_it_copied_as_text_and_as_json(repo: Repo, copy: Repo, beside: Path):
    content = commit(repo, beside)
    ended = repo.ana("backup", copy.path)
    assert done(ended).startswith(f"2 versions in {copy.path}, 3")
    assert ended.stderr == ""  # no bar: this is no terminal
    again = json.loads(done(run_ana("backup", "--json", "../copy", cwd=repo.path)))
    assert again["added_bytes"] < 100_000
    assert (again["to"], again["versions"], again["chunks"], again["damaged"]) == (str(copy.path), 2, 0, [])
    exported = subprocess.run([ANA, "cat", "-R", copy.path, "main:file"], cwd="/", capture_output=True, check=True)
    assert exported.stdout == content
    for command in ("log", "status", "ls", "info", "doctor", "branch"):
        ended, expected = copy.ana(command), repo.ana(command)
        assert ended.returncode == expected.returncode
        if command not in ("info", "doctor"):
            assert ended.stdout == expected.stdout


def test_a_copy_of_a_backup_takes_the_place_of_what_was_lost(repo: Repo, copy: Repo, beside: Path):
    """And the backup is the backup of that."""
    commit(repo, beside)
    done(repo.ana("backup", copy.path))
    subprocess.run(["rm", "-r", repo.path], check=True)
    subprocess.run(["cp", "-a", copy.path, repo.path], check=True)
    commit(repo, beside)
    done(repo.ana("backup", copy.path))
    assert copy.messages() == repo.messages() == ["a file", "a file", ""]
    assert verify(copy.path) == 2


def test_damage_is_named_with_exit_code_4_and_the_rest_is_copied(repo: Repo, copy: Repo, beside: Path):
    content = commit(repo, beside, 20_000)
    kept = commit(repo, beside, 20_000)
    volume = repo.path / "volumes/000000.mdb"
    stored = volume.read_bytes()
    volume.write_bytes(stored.replace(content[5_000:5_100], bytes(100)))
    ended = repo.ana("backup", copy.path)
    assert ended.returncode == 4
    assert ended.stdout.splitlines()[1].startswith("damaged: volume 0, from 0 to ")
    assert ended.stderr == f"ana: {repo.path} is damaged; what is intact was copied\n"
    exported = subprocess.run([ANA, "cat", "-R", copy.path, "main:file"], cwd="/", capture_output=True, check=True)
    assert exported.stdout == kept
    volume.write_bytes(stored)
    assert repo.json("backup", copy.path)["chunks"] == 1
    assert verify(copy.path) == 2


def test_what_it_refuses_it_says_in_one_line_with_a_hint(repo: Repo, copy: Repo, beside: Path):
    (beside / "mine").touch()
    hinted(repo.ana("backup", beside), 2, str(beside), "is not empty")
    refused(repo.ana("backup", beside / "mine"), 2, "is not a folder")
    hinted(repo.ana("backup", os.fsdecode(b"/tmp/\xff")), 2, "not UTF-8")
    done(repo.ana("backup", copy.path))
    with locks.acquire(Layout(copy.path)):
        hinted(repo.ana("backup", copy.path), 3, f"{copy.path} is in use")
    done(copy.ana("tag", "mine"))
    hinted(repo.ana("backup", copy.path), 3, "mine@0", "choose another folder")
    assert os.listdir(beside) == ["mine"]


def test_a_backup_that_was_cut_short_is_said_to_be_one_and_gone_on_with(repo: Repo, copy: Repo, beside: Path):
    commit(repo, beside)
    done(repo.ana("backup", copy.path))
    for name in ("anabranch.json", "meta.mdb"):  # which come last
        (copy.path / name).unlink()
    hinted(copy.ana("log"), 2, "has no anabranch.json", "run 'ana backup' again")
    done(repo.ana("backup", copy.path))
    assert copy.json("log")


def test_a_place_that_cannot_be_written_is_refused(repo: Repo, copy: Repo, tmp_path: Path):
    """For root, too, when it may do no more than others."""
    done(repo.ana("backup", copy.path))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    (copy.path / "incoming").mkdir()
    copy.path.chmod(0o500)
    for place in (closed / "copy", copy.path):
        ended = subprocess.run(
            [*powerless, ANA, "backup", "-R", repo.path, place], cwd="/", capture_output=True, text=True, check=False
        )
        refused(ended, 3, str(place))
    copy.path.chmod(0o700)
    assert verify(copy.path) == 0


def test_folders_are_completed(repo: Repo):
    assert offered(repo.path, "backup", "/ho") == ["/ho"]
    assert offered(repo.path, "back") == ["backup"]
