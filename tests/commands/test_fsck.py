"""ana fsck: what it prints, its exit codes, and that it may run beside a mount but not mend there. P80, P81."""

import json
import os
import random
from pathlib import Path

import pytest

from tests.harness import Mount, Repo, done, hinted


def filled(repo: Repo, beside: Path) -> Path:
    """A repository with one file of noise in a version; returns its volume."""
    (beside / "noise").write_bytes(random.Random(0).randbytes(100_000))
    done(repo.ana("import", beside / "noise", "noise", "--commit", "Noise"))
    return repo.path / "volumes/000000.mdb"


def spoil(volume: Path) -> None:
    data = bytearray(volume.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    volume.write_bytes(data)


def test_a_sound_repository_is_said_to_be_so(repo: Repo, beside: Path):
    filled(repo, beside)
    for option in ((), ("--deep",), ("--repair",)):
        assert done(repo.ana("fsck", *option)).endswith(": no damage\n")
    assert repo.json("fsck")["damaged"] == []


def test_damage_is_named_with_its_path_and_version(repo: Repo, beside: Path):
    spoil(filled(repo, beside))
    ended = repo.ana("fsck")
    assert ended.returncode == 4
    assert "    noise  main@1\n" in ended.stdout
    assert "hint: ana fsck --repair" in ended.stderr
    ended = repo.ana("fsck", "--json")
    assert ended.returncode == 4
    (damage,) = json.loads(ended.stdout)["damaged"]
    assert damage["hits"] == [{"path": "noise", "versions": ["main@1"]}]


def test_damage_of_what_no_version_holds_is_said_to_be_that(repo: Repo, beside: Path):
    volume = filled(repo, beside)
    (beside / "other").write_bytes(random.Random(1).randbytes(200_000))
    done(repo.ana("import", beside / "other", "other"))
    done(repo.ana("discard", "other"))
    data = bytearray(volume.read_bytes())
    data[-100_000:-99_900] = bytes(100)
    volume.write_bytes(data)
    ended = repo.ana("fsck")
    assert ended.returncode == 4
    assert "    no version leads there, as far as they can be read\n" in ended.stdout


def test_what_cannot_be_mended_is_listed_and_comes_back_with_the_content(repo: Repo, beside: Path):
    spoil(filled(repo, beside))
    ended = repo.ana("fsck", "--repair")
    assert ended.returncode == 4
    assert "\nlost: chunk " in f"\n{ended.stdout}"
    done(repo.ana("import", beside / "noise", "again"))
    done(repo.ana("fsck"))
    assert done(repo.ana("cat", "main@1:noise", cwd=repo.path)) is not None


def test_wrong_options_are_refused_with_a_hint(repo: Repo, tmp_path: Path):
    other = tmp_path / "other"
    done(repo.ana("init", other, cwd=tmp_path))
    hinted(repo.ana("fsck", "--from", other), 2, "--repair")
    hinted(repo.ana("fsck", "--repair", "--from", other), 2, "is no copy of")


@pytest.mark.mounted
def test_it_looks_beside_a_mount_and_mends_only_without_one(mount: Mount):
    (mount.main / "file").write_bytes(os.urandom(50_000))
    mount.commit()
    (mount.main / "file").write_bytes(os.urandom(50_000))
    assert done(mount.ana("fsck")).endswith("no damage\n")
    hinted(mount.ana("fsck", "--repair"), 3, "is already mounted")
