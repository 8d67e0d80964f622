"""ana doctor: anywhere, in repositories of every state; its exit code."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Completed, Mount, Repo, run_ana, wait_for

MACHINE = ["FUSE", "fusermount3", "allow-other", "kernel", "open files"]
REPOSITORY = ["format", "folder", "filesystem", "disk space", "read-ahead", "repository", "clock", "owner"]


def findings(ended: Completed) -> dict[str, dict[str, Any]]:
    """What was found, by name; the exit code goes with it."""
    found = {finding["name"]: finding for finding in json.loads(ended.stdout)}
    failed = any(finding["state"] == "fail" for finding in found.values())
    assert ended.returncode == (3 if failed else 0), ended
    assert ended.stderr == ""
    return found


def test_anywhere_it_looks_at_the_machine(tmp_path: Path):
    found = findings(run_ana("doctor", "--json", cwd=tmp_path))
    assert list(found) == MACHINE
    assert set(found["kernel"]) == {"name", "state", "found", "hint"}
    text = run_ana("doctor", cwd=tmp_path).stdout
    for name, finding in found.items():
        assert f"{finding['state']:<4}  {name + ':':<13}{finding['found']}\n" in text


def test_in_a_repository_it_looks_at_that_too(repo: Repo):
    found = findings(run_ana("doctor", "--json", cwd=repo.path / "volumes"))
    assert list(found) == [*MACHINE, *REPOSITORY, "mounts"]
    for name in ("format", "repository", "clock", "owner", "mounts"):
        assert found[name]["state"] == "ok"
    again = findings(repo.ana("doctor", "--json"))
    del found["disk space"], again["disk space"]  # others use the disk, too
    assert found == again


def test_a_failed_check_is_exit_code_3_with_its_hint(repo: Repo, tmp_path: Path):
    (repo.path / "index.mdb").unlink()
    (repo.path / "volumes/000000.mdb").write_bytes(b"x" * 10_000)
    found = findings(repo.ana("doctor", "--json"))
    assert found["repository"]["state"] == "fail"
    assert found["repository"]["hint"] == f"ana reindex -R {repo.path}"
    assert f"      hint: ana reindex -R {repo.path}\n" in repo.ana("doctor").stdout
    record = repo.path / "anabranch.json"
    record.write_text(record.read_text().replace('"format": 1', '"format": 2'))
    assert "format 2" in findings(repo.ana("doctor", "--json"))["format"]["found"]
    for path in (tmp_path, tmp_path / "none"):
        assert findings(Repo(path).ana("doctor", "--json"))["repository"]["state"] == "fail"


@pytest.mark.mounted
def test_a_mount_is_looked_at_and_its_daemon_asked(mount: Mount):
    found = findings(run_ana("doctor", "--json", cwd=mount.main))
    assert list(found) == [*MACHINE, *REPOSITORY, "daemon", "mounts"]
    assert found["owner"]["found"] == f"process {mount.pid} has it mounted at {mount.root}"
    assert (found["daemon"]["state"], found["mounts"]["state"]) == ("ok", "ok")


@pytest.mark.mounted
def test_a_daemon_that_mounted_read_only_answers(mountable: Mount):
    ended = run_ana("mount", "--read-only", mountable.path, mountable.root, cwd=Path("/"))
    assert ended.returncode == 0
    assert findings(mountable.ana("doctor", "--json"))["daemon"]["state"] == "ok"


@pytest.mark.mounted
def test_a_daemon_that_does_not_answer_is_named_and_its_mount_left_alone(mount: Mount):
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        found = findings(mount.ana("doctor", "--json"))
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert "does not answer" in found["daemon"]["found"]
    assert str(mount.path / "daemon.log") in found["daemon"]["hint"]
    assert "mounts" not in found


@pytest.mark.mounted
def test_a_dead_mount_is_named_with_what_to_type(mount: Mount):
    mount.kill()
    wait_for(lambda: findings(mount.ana("doctor", "--json"))["owner"]["state"] == "warn", "the lock to be free")
    found = findings(mount.ana("doctor", "--json"))
    assert found["mounts"]["state"] == "fail"
    assert f"ana umount {mount.root}" in found["mounts"]["hint"]
    assert found["owner"]["hint"] == f"ana mount {mount.path} {mount.root}"
    assert findings(run_ana("doctor", "--json", cwd=mount.path))["mounts"]["state"] == "fail"
    mount.mount()
    assert findings(mount.ana("doctor", "--json"))["mounts"]["state"] == "ok"
