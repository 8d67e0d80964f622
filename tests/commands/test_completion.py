"""What Tab offers: names of branches, tags and versions, wherever the command is called; and never an error."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness import ANA, Mount, Repo, done


def offered(cwd: Path, *words: str) -> list[str]:
    """What bash is told for the last word."""
    asked = {"_ANA_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["ana", *words]), "COMP_CWORD": str(len(words))}
    ended = subprocess.run([ANA], cwd=cwd, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


@pytest.mark.mounted
def test_names_and_versions_are_completed_in_the_mount_and_beside_it(mount: Mount):
    (mount.main / "file").touch()
    mount.commit()
    done(mount.ana("branch", "middle"))
    done(mount.ana("tag", "mark"))
    for cwd in (mount.root, mount.main, mount.path):
        assert offered(cwd, "show", "m") == ["main", "middle", "mark"]
        assert offered(cwd, "log", "-b", "m") == ["main", "middle"]
        assert offered(cwd, "diff", "main@1", "main@") == ["main@head", "main@1", "main@0"]
        assert offered(cwd, "restore", "ma") == ["main", "mark", "ma"]
        assert offered(cwd, "dis") == ["discard"]
    assert offered(Path("/"), "show", "-R", str(mount.path), "mi") == ["middle"]


def test_without_a_repository_nothing_is_offered(tmp_path: Path):
    assert offered(tmp_path, "show", "m") == []
    assert offered(tmp_path, "show", "m@") == []


def test_with_a_damaged_repository_nothing_is_offered(repo: Repo):
    (repo.path / "meta.mdb").write_bytes(b"rubbish" * 10_000)
    assert offered(repo.path, "show", "m") == []
