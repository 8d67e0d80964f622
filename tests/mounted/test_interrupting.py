"""Ctrl-C in the middle of a long commit or import leaves everything as it was (P55)."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.harness import ANA, Mount, Repo, done, run_ana, wait_for

pytestmark = pytest.mark.mounted

LARGE = 400_000_000
"""Bytes that take a second or more to store."""


def stored(repository: Path) -> int:
    return sum(path.stat().st_size for path in (repository / "volumes").glob("*.mdb"))


def write_noise(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(LARGE // 1_000_000):
            file.write(os.urandom(1_000_000))


def interrupted(repo: Repo, *arguments: str | Path) -> str:
    """Run a command, and press Ctrl-C when it has begun to store; returns what it said."""
    before = stored(repo.path)
    command = [ANA, arguments[0], "-R", repo.path, *arguments[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: stored(repo.path) > before + 5_000_000 or process.poll() is not None, "something to be stored")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (process.returncode, out, err)
    assert out == ""
    assert "Traceback" not in err
    return err


def test_a_commit_through_the_daemon_is_not_made(mount: Mount) -> None:
    write_noise(mount.main / "large")
    assert "interrupted" in interrupted(mount, "commit", "-m", "x")
    assert mount.json("log")[0]["version"] == "main@0"
    assert [change["path"] for change in mount.json("status")["changes"]] == ["large"]
    assert "1 file changed" in done(mount.ana("commit", "-m", "again"))
    assert mount.messages()[0] == "again"


def test_a_commit_without_a_mount_is_not_made(mount: Mount) -> None:
    write_noise(mount.main / "large")
    mount.umount()
    assert "interrupted" in interrupted(mount, "commit", "-m", "x")
    assert mount.json("log")[0]["version"] == "main@0"
    assert "1 file changed" in done(mount.ana("commit", "-m", "again"))


def test_an_import_shows_nothing_with_and_without_a_mount(mount: Mount, beside: Path) -> None:
    write_noise(beside / "large")
    interrupted(mount, "import", beside, "data", "--commit", "x")
    assert not (mount.main / "data").exists()
    mount.umount()
    (beside / "large").unlink()
    write_noise(beside / "large")
    interrupted(mount, "import", beside, "data")
    assert mount.json("status")["clean"]
    done(run_ana("import", "-R", mount.path, beside, "data", cwd=beside))
