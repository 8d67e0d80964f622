"""Every command, with a mount and without one: the same output, effect and exit codes. P4, P13, P18, P37."""

import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Completed, Mount, Repo, done, pin_times, refused, run_ana, together

pytestmark = pytest.mark.mounted
NOT_TEXT = os.fsdecode(b"not \xff text")


def prepare(mount: Mount) -> None:
    """Three versions, a branch, two tags, uncommitted changes of every kind."""
    main = mount.main
    (main / "raw/2026").mkdir(parents=True)
    (main / "raw/2026/flights.csv").write_text("a,b\n1,2\n")
    (main / "large").write_bytes(b"0123456789" * 30_000)
    (main / "kept").write_text("kept")
    (main / NOT_TEXT).write_text("x")
    (main / "link").symlink_to("kept")
    (main / "other kind").write_text("x")
    os.link(main / "kept", main / "raw/linked")
    pin_times(main)
    mount.commit("first\n\nwith a body")
    (main / "raw/2026/flights.csv").write_text("a,b\n1,2\n3,4\n")
    mount.commit("second")
    done(mount.ana("tag", "v1", "main@1"))
    done(mount.ana("branch", "exp", "main@1"))
    (main / "large").unlink()
    mount.commit("third, ünïcödé")
    (main / "raw/2026/flights.csv").write_text("a,b\n")
    (main / "kept").chmod(0o600)
    (main / "other kind").unlink()
    (main / "other kind").mkdir()
    (main / "new").write_bytes(b"x" * 2_000_000)
    (main / "raw/2026").rename(main / "moved")
    (mount.root / "exp/only on exp").write_text("x")


READING: list[list[str]] = [
    ["status"], ["status", "-b", "exp"], ["status", "--json"],
    ["log"], ["log", "-n", "2"], ["log", "-b", "exp"], ["log", "--json"], ["log", "-n", "1", "--json"],
    ["log", "--path", "raw"], ["log", "--path", "kept", "--json"], ["show"], ["show", "main@1"],
    ["show", "v1", "--json"],
    ["show", "-b", "exp"], ["show", "main@9"],
    ["diff"], ["diff", "main@1"], ["diff", "main@1", "main@2"], ["diff", "main", "exp"], ["diff", "v1", "exp@0"],
    ["diff", "--json"], ["diff", "main@1", "--json"], ["diff", "main@3", "main@1", "--json"], ["diff", "-b", "exp"],
    ["branch"], ["branch", "--json"], ["tag"], ["tag", "--json"],
    ["ls", "main"], ["ls", "main@1"], ["ls", "main@2:raw"], ["ls", "v1:raw/2026/"], ["ls", "main@1", "--json"],
    ["ls", "main@1:kept"], ["ls", "main@head:raw", "--json"], ["ls", "main@0"],
    ["cat", "main@1:raw/2026/flights.csv"], ["cat", "main:raw/2026/flights.csv"], ["cat", "v1:large"],
    ["cat", "main@1:raw/linked"], ["cat", f"main@1:{NOT_TEXT}"],
    ["cat", "main@1:raw"], ["cat", "main@1:link"], ["ls", "main@9"], ["cat", "main@1:none"], ["commit", "-m", ""],
]  # fmt: skip


def all_said(repo: Repo) -> dict[str, tuple[int, str, str]]:
    """What every command that reads says."""
    said = {}
    alone = [command for command in READING if command[0] in ("status", "diff")]  # each owns the repository for a while
    others = [command for command in READING if command not in alone]
    ended = [*(repo.ana(*command) for command in alone), *together(partial(repo.ana, *command) for command in others)]
    for command, result in zip([*alone, *others], ended, strict=True):
        said[" ".join(command)] = (result.returncode, result.stdout, result.stderr)
    return said


def test_every_reading_command_says_the_same_with_and_without_a_mount_p37(mount: Mount):
    """Files that are still open in the mount, too, as far as they were written."""
    prepare(mount)
    with (mount.main / "open").open("w") as file:
        file.write("written, not closed")
        file.flush()
        mounted = all_said(mount)
    mount.umount()
    unmounted = all_said(mount)
    assert unmounted == mounted
    assert [command for command, said in mounted.items() if said[0] != 0] == [
        "show main@9", "cat main@1:raw", "cat main@1:link", "ls main@9", "cat main@1:none", "commit -m ",
    ]  # fmt: skip
    assert mounted["cat main@1:raw/2026/flights.csv"][1] == "a,b\n1,2\n"
    assert mounted["cat v1:large"][1] == "0123456789" * 30_000
    assert {"A  moved/", "A  moved/flights.csv  4 B", "A  new  2.0 MB", "A  open  19 B", "D  raw/2026/"} <= set(
        mounted["status"][1].splitlines()
    )
    assert "    +3,4\n" in mounted["diff main@1 main@2"][1]
    assert [line.split()[0] for line in mounted["log"][1].splitlines()] == ["main@3", "main@2", "main@1", "main@0"]
    assert mounted["log"][1].splitlines()[2].endswith("first"), "one line a version"


def test_what_json_says(mount: Mount):
    """Its fields are for scripts: they stay."""
    prepare(mount)
    log = mount.json("log")
    assert [version["message"] for version in log] == ["third, ünïcödé", "second", "first\n\nwith a body", ""]
    assert set(log[0]) == {"version", "name", "number", "id", "parents", "author", "time", "message", "metadata"}
    assert log[0]["parents"] == [log[1]["id"]]
    assert len(log[0]["id"]) == 64
    status = mount.json("status")
    assert (status["branch"], status["base"]["version"], status["clean"]) == ("main", "main@3", False)
    changes = {change["path"]: change for change in status["changes"]}
    assert changes["moved/flights.csv"] == {
        "path": "moved/flights.csv", "change": "added", "kind": "file", "old_size": None, "new_size": 4,
    }  # fmt: skip
    assert {path: change["change"] for path, change in changes.items() if "/" not in path} == {
        "kept": "attributes", "moved": "added", "new": "added", "other kind": "type",
    }  # fmt: skip
    assert changes["raw/2026/flights.csv"]["change"] == "deleted"
    listed = {row["path"]: row for row in mount.json("ls", "main@1")}
    assert (listed["large"]["kind"], listed["large"]["size"], listed["large"]["mode"]) == ("file", 300_000, "0644")
    assert listed["raw"]["kind"] == "directory"
    assert listed["link"]["kind"] == "symlink"
    assert listed["not \\xff text"]["path_b64"] == "bm90IP8gdGV4dA=="
    diff = mount.json("diff", "main@1", "main@2")
    assert (diff["from"], diff["to"]) == ("main@1", "main@2")
    assert [(change["path"], change["old_size"], change["new_size"]) for change in diff["changes"]] == [
        ("raw/2026/flights.csv", 8, 12)
    ]
    assert [(row["name"], row["number"], row["current"]) for row in mount.json("branch")] == [
        ("exp", 0, False), ("main", 3, True),
    ]  # fmt: skip
    assert mount.json("tag") == [{"name": "v1", "number": None, "id": log[2]["id"]}]
    made = mount.json("commit", "-m", "fourth")
    assert set(made) == {"version", "branch", "number", "id", "files", "added_bytes"}
    assert (made["version"], made["branch"], made["number"]) == ("main@4", "main", 4)
    assert mount.json("branch", "new")["name"] == "new"
    assert mount.json("tag", "v2")["name"] == "v2"


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "not mounted"])
def test_commands_that_change_something_work_p37(mount: Mount, mounted: bool):
    """Commit, branch and tag; what they made is there afterwards, in the mount at once."""
    (mount.main / "data").write_text("one")
    (mount.main / "large").write_bytes(content := os.urandom(1_500_000))
    if not mounted:
        mount.umount()
    said = done(mount.ana("commit", "-m", "the first\nof two lines"))
    first = mount.json("log")[0]
    assert said == f"main@1 {first['id'][:8]}  2 files changed, 1.5 MB new\n"
    assert first["message"] == "the first\nof two lines"
    refused(mount.ana("commit", "-m", "again"), 1, "nothing to commit")
    assert mount.json("status")["clean"]
    assert done(mount.ana("branch", "exp")) == f"exp@0  {first['id'][:8]}\n"
    assert done(mount.ana("branch", "empty", "main@0")).startswith("empty@0  ")
    assert done(mount.ana("tag", "v1", f"@{first['id'][:6]}")) == f"v1  {first['id'][:8]}\n"
    refused(mount.ana("branch", "exp"), 3)
    refused(mount.ana("commit", "-m", "x", "-b", "v1"), 2)
    if not mounted:
        mount.mount()
    assert sorted(os.listdir(mount.root)) == ["empty", "exp", "main"]
    for name in ("main@1", "v1", "exp", "main@head", "exp@0"):
        assert (mount.root / name / "data").read_text() == "one"
        assert (mount.root / name / "large").read_bytes() == content
    assert os.listdir(mount.root / "empty") == []


def test_uncommitted_changes_are_committed_without_a_mount_p37(mount: Mount):
    prepare(mount)
    mount.umount()
    before = mount.json("diff", "main@1")["changes"]
    made = mount.json("commit", "-m", "not mounted")
    assert mount.json("diff", "main@1", "main")["changes"] == before
    assert made["version"] == "main@4"
    done(mount.ana("commit", "-m", "on exp", "-b", "exp"))
    mount.mount()
    assert (mount.root / "main@4/moved/flights.csv").read_text() == "a,b\n"
    assert (mount.root / "exp@1/only on exp").read_text() == "x"
    assert mount.json("status")["clean"]
    assert mount.json("status", "-b", "exp")["clean"]


def test_the_current_directory_says_which_repository_and_branch(mount: Mount, tmp_path: Path):
    """In the repository, in the mount's root, in a branch, in a version; -R and -b say otherwise, before or after."""
    (mount.root / "exp").mkdir()
    (mount.root / "exp/dir").mkdir()
    mount.commit("on exp", branch="exp")
    (mount.main / "data").write_text("x")

    def branch_of(completed: Completed) -> Any:
        return json.loads(done(completed))["branch"]

    places = {
        mount.path: "main", mount.path / "volumes": "main", mount.root: "main", mount.main: "main",
        mount.root / "exp": "exp", mount.root / "exp/dir": "exp", mount.root / "exp@1/dir": "exp",
    }  # fmt: skip
    for place, branch in places.items():
        assert branch_of(run_ana("status", "--json", cwd=place)) == branch, place
    assert branch_of(run_ana("status", "--json", "-b", "main", cwd=mount.root / "exp")) == "main"
    assert branch_of(run_ana("status", "--json", "-R", mount.path, "-b", "exp", cwd=tmp_path)) == "exp"
    assert branch_of(run_ana("-R", mount.path, "-b", "exp", "status", "--json", cwd=tmp_path)) == "exp"
    assert branch_of(run_ana("status", "--json", "-R", "repo", cwd=tmp_path)) == "main"
    assert branch_of(run_ana("status", "--json", "-R", mount.path, cwd=mount.root / "exp/dir")) == "exp"
    done(run_ana("init", tmp_path / "other", cwd=tmp_path))
    assert branch_of(run_ana("status", "--json", "-R", tmp_path / "other", cwd=mount.root / "exp")) == "main"
    done(run_ana("branch", "third", cwd=mount.root / "exp"))
    assert os.listdir(mount.root / "third") == ["dir"], "it starts from the branch where one is"
    done(run_ana("commit", "-m", "by place", cwd=mount.main))
    assert mount.messages() == ["by place", ""]


def test_ls_and_cat_know_times_with_colons_p6(mount: Mount):
    """The path follows the colon after the Z."""
    (mount.main / "dir").mkdir()
    (mount.main / "dir/data").write_text("one")
    mount.commit()
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for time in (moment, moment.replace(":", "")):
        assert done(mount.ana("cat", f"main@{time}:dir/data")) == "one"
        assert done(mount.ana("ls", f"main@{time}:dir")).endswith("data\n")
        assert done(mount.ana("ls", f"main@{time}")).endswith("dir/\n")


def test_a_version_in_the_mount_is_what_ls_and_cat_say_p37(mount: Mount):
    prepare(mount)
    for revision in ("main@1", "main@3", "v1", "exp"):
        listed = {row["path"]: row for row in mount.json("ls", f"{revision}:raw/2026")}
        directory = mount.root / revision / "raw/2026"
        assert sorted(listed) == sorted(os.listdir(directory))
        for name, row in listed.items():
            assert row["size"] == (directory / name).stat().st_size
            assert done(mount.ana("cat", f"{revision}:raw/2026/{name}")) == (directory / name).read_text()
