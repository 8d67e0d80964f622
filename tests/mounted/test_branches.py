"""Branches as directories: mkdir, mv, rmdir on the root of a mount. P1, P5, P7."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import Mount, done, errno_of, run_ana, shell, snapshot

pytestmark = pytest.mark.mounted


def reason(mount: Mount) -> str:
    """Why the root refused something last."""
    return (mount.root / ".ana/error").read_text()


def test_mkdir_branches_from_the_last_commit_of_the_default_branch_p7(mount: Mount):
    (mount.main / "data").write_text("committed")
    (mount.main / "dir").mkdir(mode=0o750)
    version = mount.commit()
    (mount.main / "data").write_text("uncommitted")
    (mount.root / "exp").mkdir()
    assert snapshot(mount.root / "exp") == snapshot(version)
    assert mount.json("log", "-b", "exp")[0]["id"] == mount.json("log")[0]["id"]
    assert mount.json("status", "-b", "exp")["clean"]
    (mount.root / "exp/data").write_text("of exp")
    mount.commit(branch="exp")
    assert (mount.main / "data").read_text() == "uncommitted"
    assert (mount.root / "main@head/data").read_text() == "committed"


def test_files_of_branches_that_were_made_one_after_the_other_are_files_of_their_own(mount: Mount):
    names = [f"p{number:02}" for number in range(40)]
    for name in names:
        (mount.main / name).write_text(name)
    mount.commit()
    branches = [mount.root / name for name in ("a", "b", "c", "d")]
    for branch in branches:
        branch.mkdir()
    found = [branch / name for branch in branches for name in names]
    assert len({path.stat().st_ino for path in found}) == len(found)
    assert [path.read_text() for path in found] == names * len(branches)


def test_another_default_branch_can_be_chosen_p7(tmp_path: Path, mountable: Mount):
    mountable.path = tmp_path / "trunk repo"
    done(run_ana("init", "--no-ignore", mountable.path, "--branch", "trunk", cwd=tmp_path))
    mountable.mount()
    assert os.listdir(mountable.root) == ["trunk"]
    (mountable.root / "trunk/data").write_text("x")
    mountable.commit(branch="trunk")
    (mountable.root / "exp").mkdir()
    assert (mountable.root / "exp/data").read_text() == "x"
    assert errno_of(os.rmdir, mountable.root / "trunk") == errno.EBUSY


def test_a_branch_of_many_files_costs_nothing_p7(mount: Mount):
    """By what it adds to the repository: a few rows, for 3,000 files and 30 MB."""
    for number in range(30):
        (mount.main / f"{number:02}").mkdir()
        for file in range(100):
            (mount.main / f"{number:02}/{file:02}").write_bytes(os.urandom(200))
    (mount.main / "large").write_bytes(os.urandom(30_000_000))
    mount.commit()
    before = disk_use(mount)
    (mount.root / "exp").mkdir()
    (mount.root / "exp/new").write_text("x")
    mount.commit(branch="exp")
    assert disk_use(mount) - before < 200_000
    assert len(os.listdir(mount.root / "exp")) == 32


def disk_use(mount: Mount) -> int:
    """Bytes that the repository takes on disk."""
    return sum(path.lstat().st_blocks * 512 for path in mount.path.rglob("*"))


def test_mv_renames_a_branch_with_its_uncommitted_changes_p7(mount: Mount):
    (mount.root / "exp").mkdir()
    (mount.root / "exp/data").write_text("committed")
    mount.commit(branch="exp")
    (mount.root / "exp/data").write_text("uncommitted")
    (mount.root / "exp/more").write_bytes(os.urandom(2_000_000))
    before = snapshot(mount.root / "exp", inodes=True)
    with (mount.root / "exp/open").open("w") as file:
        file.write("before")
        file.flush()
        done(shell("mv exp new", mount.root))
        file.write(" and after")
    assert errno_of(os.stat, mount.root / "exp") == errno.ENOENT
    assert sorted(os.listdir(mount.root)) == ["main", "new"]
    after = snapshot(mount.root / "new", inodes=True)
    assert after.pop("open")[7] == b"before and after"
    before.pop("."), after.pop(".")
    assert after == before
    assert (mount.root / "new/.ana/head").read_text().startswith("new@0 ")
    assert (mount.root / "exp@1/data").read_text() == "committed"
    mount.remount()
    assert (mount.root / "new/data").read_text() == "uncommitted"
    mount.commit(branch="new")
    assert (mount.root / "new@1/open").read_text() == "before and after"


def test_a_branch_never_takes_the_place_of_another_p7(mount: Mount):
    for name in ("one", "two"):
        (mount.root / name).mkdir()
        (mount.root / name / "data").write_text(name)
    done(mount.ana("tag", "v1"))
    assert errno_of(os.rename, mount.root / "one", mount.root / "two") in (errno.EEXIST, errno.ENOTEMPTY)
    assert errno_of(os.mkdir, mount.root / "one") == errno.EEXIST
    assert errno_of(os.mkdir, mount.root / "v1") == errno.EEXIST
    assert errno_of(os.rename, mount.root / "one", mount.root / "v1") == errno.EEXIST
    assert errno_of(os.rename, mount.root / "none", mount.root / "new") == errno.ENOENT
    assert errno_of(os.rmdir, mount.root / "none") == errno.ENOENT
    os.rename(mount.root / "one", mount.root / "one")
    assert [(mount.root / name / "data").read_text() for name in ("one", "two")] == ["one", "two"]


def test_mv_into_another_branch_fails_and_leaves_both_as_they_were_p7(mount: Mount):
    """With EXDEV, mv would copy all of the branch, and then delete what is in it."""
    (mount.main / "file").write_text("x")
    mount.commit()
    (mount.root / "exp").mkdir()
    before = snapshot(mount.root)
    moved = shell("mv main exp", mount.root)
    assert moved.returncode == 1
    assert "busy" in moved.stderr
    assert snapshot(mount.root) == before


def test_renaming_the_default_branch_keeps_it_the_default_p7(mount: Mount):
    (mount.main / "data").write_text("x")
    mount.commit()
    mount.main.rename(mount.root / "trunk")
    (mount.root / "exp").mkdir()
    assert (mount.root / "exp/data").read_text() == "x"
    assert errno_of(os.rmdir, mount.root / "trunk") == errno.EBUSY
    assert "default branch" in reason(mount)


def test_rmdir_deletes_a_clean_branch_and_keeps_its_versions_p7(mount: Mount):
    exp = mount.root / "exp"
    exp.mkdir()
    (exp / "dir").mkdir()
    (exp / "dir/data").write_text("x")
    version = mount.commit(branch="exp")
    exp.rmdir()
    assert os.listdir(mount.root) == ["main"]
    assert errno_of(os.stat, exp) == errno.ENOENT
    assert (version / "dir/data").read_text() == "x"
    assert mount.json("branch")[0]["name"] == "main"
    mount.remount()
    assert os.listdir(mount.root) == ["main"]
    assert (version / "dir/data").read_text() == "x"


def test_rmdir_refuses_a_branch_that_is_dirty_p7(mount: Mount):
    exp = mount.root / "exp"
    exp.mkdir()
    (exp / "data").write_text("precious")
    assert errno_of(exp.rmdir) == errno.EBUSY
    assert "uncommitted changes" in reason(mount)
    assert (exp / "data").read_text() == "precious"
    (exp / "data").unlink()
    exp.rmdir()
    assert errno_of(os.rmdir, mount.main) == errno.EBUSY
    assert "default branch" in reason(mount)


def test_rmdir_refuses_a_branch_with_a_file_open_p7(mount: Mount):
    (mount.main / "data").write_text("x")
    mount.commit()
    exp = mount.root / "exp"
    exp.mkdir()
    with (exp / "data").open():
        assert errno_of(exp.rmdir) == errno.EBUSY
        assert "open" in reason(mount)
    with (exp / "data").open("r+") as file:
        file.write("y")
        file.flush()
        assert errno_of(exp.rmdir) == errno.EBUSY
    (exp / "data").write_text("x")
    assert errno_of(exp.rmdir) == errno.EBUSY, "the same content, but another time"
    mount.commit(branch="exp")
    exp.rmdir()


def test_who_stands_in_a_deleted_branch_stands_nowhere_p7(mount: Mount):
    exp = mount.root / "exp"
    exp.mkdir()
    code = "import os,sys; print('here', flush=True); input(); print(os.listdir('.')); open('x', 'w')"
    stander = subprocess.Popen(
        [sys.executable, "-c", code], cwd=exp, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert stander.stdout is not None
        assert stander.stdout.readline() == "here\n"
        exp.rmdir()
        exp.mkdir()
        _, errors = stander.communicate("\n", timeout=30)
    finally:
        stander.kill()
        stander.communicate()
    assert "Errno" in errors
    assert os.listdir(exp) == [], "the branch that was made again has nothing to do with it"


def test_branches_made_by_command_and_by_mkdir_are_the_same_p7_p37(mount: Mount):
    (mount.main / "data").write_text("x")
    mount.commit()
    done(mount.ana("branch", "by-command", "main@0"))
    (mount.root / "by-mkdir").mkdir()
    assert sorted(os.listdir(mount.root)) == ["by-command", "by-mkdir", "main"]
    assert os.listdir(mount.root / "by-command") == []
    assert (mount.root / ".ana/branches").read_text() == "by-command\nby-mkdir\nmain\n"
    assert [row["name"] for row in mount.json("branch")] == ["by-command", "by-mkdir", "main"]


def test_a_name_that_was_looked_up_before_it_was_made_is_there_p37(mount: Mount):
    """The kernel may not remember for ever that a name at the root is not there."""
    for name in ("exp", "v1", "main@1"):
        assert not (mount.root / name).exists()
    (mount.main / "data").write_text("x")
    mount.commit()
    done(mount.ana("branch", "exp"))
    done(mount.ana("tag", "v1"))
    for name in ("exp", "v1", "main@1"):
        assert (mount.root / name / "data").read_text() == "x"


def test_head_follows_the_branch_and_numbers_do_not_p1(mount: Mount):
    head = mount.root / "main@head"
    (mount.main / "dir").mkdir()
    (mount.main / "dir/data").write_text("one")
    (mount.main / "dir/gone").write_text("in the first")
    mount.commit()
    assert sorted(os.listdir(head / "dir")) == ["data", "gone"]
    with (head / "dir/data").open() as opened:
        (mount.main / "dir/data").write_text("two")
        (mount.main / "dir/gone").unlink()
        (mount.main / "dir/new").write_text("in the second")
        mount.commit()
        assert sorted(os.listdir(head / "dir")) == ["data", "new"]
        assert (head / "dir/data").read_text() == "two"
        assert (head / "dir/new").read_text() == "in the second"
        assert not (head / "dir/gone").exists()
        assert opened.read() == "one", "an open file stays what it was"
    assert sorted(os.listdir(mount.root / "main@1/dir")) == ["data", "gone"]
    assert (mount.root / "main@1/dir/data").read_text() == "one"


def test_a_process_keeps_the_version_it_stands_in_p1(mount: Mount):
    (mount.main / "dir").mkdir()
    (mount.main / "dir/data").write_text("one")
    version = mount.commit()
    done(mount.ana("tag", "v1", "main@1"))
    (mount.main / "dir/data").write_text("two")
    code = (
        "import os\nwhile True:\n"
        " print(open('data').read(), os.path.realpath('.'), os.path.realpath('..'), flush=True)\n"
        " if not input(): break"
    )
    stander = subprocess.Popen(
        [sys.executable, "-c", code], cwd=version / "dir", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert stander.stdin is not None
        assert stander.stdout is not None
        here = f"one {version}/dir {version}\n"
        assert stander.stdout.readline() == here
        assert (mount.root / "v1/dir/data").read_text() == "one", "the same commit under another name"
        assert os.path.realpath(mount.root / "v1/dir") == str(mount.root / "v1/dir")
        mount.commit()
        (mount.root / "main@2/dir/data").read_text()
        os.listdir(mount.root / "v1/dir")
        stander.stdin.write("again\n")
        stander.stdin.flush()
        assert stander.stdout.readline() == here
    finally:
        stander.kill()
        stander.communicate()


def test_the_same_commit_under_two_names_is_two_directories_p1(mount: Mount):
    (mount.main / "dir").mkdir()
    (mount.main / "dir/data").write_text("one")
    version = mount.commit()
    done(mount.ana("tag", "v1", "main@1"))
    done(mount.ana("tag", "v2", "main@1"))
    names = [version, mount.root / "v1", mount.root / "v2", mount.root / "main@head"]
    opened = [os.open(name / "dir", os.O_RDONLY) for name in names]
    try:
        where = [os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in opened]
        assert where == [f"{name}/dir" for name in names]
        assert [snapshot(name) for name in names[1:]] == [snapshot(version)] * 3
    finally:
        for descriptor in opened:
            os.close(descriptor)
