"""What control files tell scripts, of settings, and of the daemon: the same as the commands. P37, P63."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import anabranch
from tests.harness import Mount, done, errno_of, run_ana

pytestmark = pytest.mark.mounted

WRITTEN = ("commit", "restore", "discard", "merge", "revert", "cherry-pick", "reset")


def read(directory: Path, name: str) -> Any:
    return json.loads((directory / ".ana" / f"{name}.json").read_text())


def numbers(directory: Path) -> dict[str, int]:
    """What the text form says."""
    rows = [line.rpartition(": ") for line in (directory / ".ana/stats").read_text().splitlines()]
    return {name: int(value) for name, _, value in rows}


def test_json_of_a_branch_says_what_the_commands_say_p37(mount: Mount):
    main = mount.main
    assert read(main, "commit") is None
    (main / "file").write_text("x")
    mount.commit("by file")
    made = read(main, "commit")
    newest = mount.json("log")[0]
    assert read(main, "head") == newest
    assert (made["version"], made["id"], made["files"]) == ("main@1", newest["id"], 1)
    (main / "file").write_text("y")
    assert read(main, "commit").keys() == mount.json("commit", "-m", "by command").keys()
    assert (read(main, "head")["number"], read(main, "commit")["number"]) == (2, 1)


def test_json_of_the_mount_says_what_the_commands_say_p37(mount: Mount):
    (mount.root / "exp").mkdir()
    done(mount.ana("tag", "v1"))
    assert read(mount.root, "branches") == mount.json("branch")
    assert [row["name"] for row in read(mount.root, "branches") if row["current"]] == ["main"]
    assert read(mount.root, "tags") == mount.json("tag")
    assert read(mount.root, "version") == {"anabranch": anabranch.__version__, "format": 1}
    done(mount.ana("config", "default-branch", "exp"))
    done(mount.ana("config", "author", "Ann"))
    assert read(mount.root, "config") == mount.json("config")
    assert (mount.root / ".ana/config").read_text() == done(mount.ana("config"))
    assert [row["name"] for row in read(mount.root, "branches") if row["current"]] == ["exp"]


def test_json_of_an_error_has_its_name_and_what_to_do(mount: Mount):
    main, root = mount.main, mount.root
    assert read(main, "error") == read(root, "error") == {"error": None}
    assert errno_of((main / ".ana/commit").write_text, "x") == errno.ENODATA
    said = read(main, "error")
    assert (said["error"], said["hint"]) == ("NothingToCommitError", None)
    assert f"{said['message']}\n" == (main / ".ana/error").read_text()
    assert errno_of((main / ".ana/commit").write_text, " ") == errno.EINVAL
    said = read(main, "error")
    assert f"{said['message']}\nhint: {said['hint']}\n" == (main / ".ana/error").read_text()
    assert errno_of((root / "-bad").mkdir) == errno.EINVAL
    assert read(root, "error")["error"] == "UsageError"
    done(mount.ana("tag", "v1"))
    assert errno_of((root / "v1").rmdir) == errno.EROFS
    assert read(root, "error") == {"error": "EROFS", "message": "v1 is a tag", "hint": None}
    (root / "good").mkdir()
    (main / "file").write_text("x")
    mount.commit()
    assert read(main, "error") == read(root, "error") == {"error": None}


def test_stats_of_a_branch_count_what_is_committed_and_what_is_not_p63(mount: Mount):
    main = mount.main
    (main / "dir").mkdir()
    for name in ("a", "dir/b"):
        (main / name).write_bytes(bytes(1_000))
    mount.commit()
    empty = {"files": 2, "bytes": 2_000, "uncommitted_changes": 0, "uncommitted_bytes": 0}
    assert read(main, "stats") == empty
    (main / "a").unlink()
    with (main / "dir/b").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"x")
        file.flush()  # the kernel has it, and nobody has asked for it
        assert read(main, "stats") == {**empty, "uncommitted_changes": 2, "uncommitted_bytes": 1_000_001}
    assert numbers(main) == {name.replace("_", " "): value for name, value in read(main, "stats").items()}


def test_stats_of_the_daemon_are_its_own_p63(mount: Mount):
    (mount.root / "exp").mkdir()
    (mount.main / "small").write_text("x")
    with (mount.main / "large").open("wb", buffering=0) as large, (mount.main / "small").open("rb"):
        large.write(os.urandom(3_000_000))  # and stays open: else it may be stored ahead of a commit, on a slow disk
        os.fsync(large.fileno())
        found = read(mount.root, "stats")
        assert found["open_handles"] >= 2
    assert found["pid"] == mount.pid
    assert found["uncommitted_inodes"] == {"exp": 0, "main": 3}
    assert found["overlay_files"] == 1
    assert 3_000_000 <= found["overlay_bytes"] < 4_000_000
    assert 10_000_000 < found["resident_bytes"] < 1_000_000_000
    assert found["known_inodes"] >= 3
    assert found["serving_seconds"] >= 0
    version = mount.commit()
    mount.remount()
    assert read(mount.root, "stats")["chunk_cache_bytes"] == 0
    (version / "large").read_bytes()
    assert (mount.main / "large").exists()
    assert read(mount.root, "stats")["chunk_cache_bytes"] >= 3_000_000
    assert numbers(mount.root).keys() >= {"pid", "journal bytes", "uncommitted inodes main"}


def test_every_control_file_is_listed_read_whole_and_has_its_size_p9_p12(mount: Mount):
    (mount.main / "file").write_text("x")
    mount.commit()
    for directory in (mount.main, mount.root):
        for path in (directory / ".ana").iterdir():
            text = path.read_text()
            if path.name not in WRITTEN:
                assert errno_of(path.write_text, "x") == errno.EACCES, path
            if path.stem not in ("commit", "restore", "discard", "stats"):
                assert path.stat().st_size == len(text), path
            if path.suffix == ".json":
                json.loads(text)
                assert (path.with_suffix("")).exists()


def test_a_read_only_mount_tells_the_same(mountable: Mount):
    done(run_ana("mount", "--read-only", mountable.path, mountable.root, cwd=Path("/")))
    try:
        assert read(mountable.root, "config") == mountable.json("config")
        assert read(mountable.main, "stats")["files"] == 0
    finally:
        mountable.umount()
