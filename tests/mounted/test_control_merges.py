"""The control files merge, revert, cherry-pick and reset. P105."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.harness import Mount, errno_of, shell

pytestmark = pytest.mark.mounted


@pytest.fixture
def parted(mount: Mount) -> Mount:
    """Two branches that changed other files: main@2 and exp@1."""
    for name in ("a", "b", "c"):
        (mount.main / name).write_text(name)
    mount.commit("first")
    (mount.root / "exp").mkdir()
    (mount.root / "exp/a").write_text("of exp")
    mount.commit("on exp", branch="exp")
    (mount.main / "b").write_text("of main")
    mount.commit("on main")
    return mount


def write(mount: Mount, name: str, text: str) -> str:
    """Write to a control file; what it says then."""
    file = mount.main / ".ana" / name
    file.write_text(text)
    return file.read_text()


def conflicts(mount: Mount) -> list[str]:
    return [each["path"] for each in json.loads((mount.main / ".ana/conflicts.json").read_text())]


def test_each_does_what_its_command_does(parted: Mount):
    assert write(parted, "merge", "exp\n").endswith("  merged exp@1: 1 file changed\n")
    assert (parted.main / "a").read_text() == "of exp"
    assert write(parted, "revert", "main@3").endswith("  reverted main@3: 1 file changed\n")
    assert (parted.main / "a").read_text() == "a"
    assert write(parted, "cherry-pick", "exp@1").endswith("  picked exp@1: 1 file changed\n")
    assert (parted.main / "a").read_text() == "of exp"
    assert write(parted, "reset", "main@1").endswith("  reset to main@1: 2 files changed\n")
    assert (parted.main / "b").read_text() == "b"
    assert parted.messages()[:3] == ["first", "on exp", "Revert main@3: Merge exp@1 into main"]
    assert len(parted.json("log")[3]["parents"]) == 2


def test_with_conflicts_nothing_is_changed_and_the_paths_are_told(parted: Mount):
    (parted.main / "a").write_text("of main, too")
    parted.commit()
    before = parted.json("log")
    assert errno_of(write, parted, "merge", "exp") == errno.ENOTEMPTY
    assert conflicts(parted) == ["a"]
    assert (parted.main / ".ana/conflicts").read_text().startswith("both modified         a  base 1 B, ours 12 B")
    assert "exp@1 and main disagree on a; nothing was changed" in (parted.main / ".ana/error").read_text()
    assert json.loads((parted.main / ".ana/error.json").read_text())["error"] == "MergeConflictError"
    assert (parted.json("log"), (parted.main / "a").read_text()) == (before, "of main, too")


def test_a_merge_without_conflicts_leaves_none_listed(parted: Mount):
    (parted.main / "a").write_text("of main, too")
    parted.commit()
    assert errno_of(write, parted, "merge", "exp") == errno.ENOTEMPTY
    (parted.root / "exp/a").write_text("a")
    parted.commit(branch="exp")
    write(parted, "merge", "exp")
    assert conflicts(parted) == []
    assert (parted.main / ".ana/error").read_text() == ""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("merge", "none", errno.ENOENT),
        ("merge", "main@99", errno.ENOENT),
        ("merge", "exp\nexp\n", errno.EINVAL),
        ("merge", "\n", errno.EINVAL),
        ("revert", "main@0", errno.EINVAL),
        ("cherry-pick", "main@2", errno.ENODATA),
    ],
)
def test_what_is_wrong_is_an_error_of_the_write(parted: Mount, name: str, text: str, expected: int):
    before = parted.json("log")
    assert errno_of(write, parted, name, text) == expected
    assert (parted.main / ".ana/error").read_text()
    assert parted.json("log") == before


def test_uncommitted_changes_in_the_way_are_named_and_others_stay(parted: Mount):
    (parted.main / "a").write_text("not committed")
    assert errno_of(write, parted, "merge", "exp") == errno.EBUSY
    assert "in the way: a\n" in (parted.main / ".ana/error").read_text()
    assert errno_of(write, parted, "reset", "main@1") == errno.EBUSY
    (parted.main / "a").write_text("a")
    os.utime(parted.main / "a", ns=((parted.root / "main@2/a").stat().st_mtime_ns,) * 2)
    (parted.main / "c").write_text("not committed")
    write(parted, "merge", "exp")
    assert [(parted.main / name).read_text() for name in ("a", "c")] == ["of exp", "not committed"]
    assert [change["path"] for change in parted.json("status")["changes"]] == ["c"]


def test_a_blank_line_is_no_revision(parted: Mount):
    assert errno_of(write, parted, "merge", " ") == errno.EINVAL
    assert "one revision is expected" in (parted.main / ".ana/error").read_text()


def test_a_shell_sees_the_error(parted: Mount):
    (parted.main / "a").write_text("of main, too")
    parted.commit()
    ended = shell("echo exp > .ana/merge", parted.main, "/bin/bash")
    assert ended.returncode != 0
    assert "Directory not empty" in ended.stderr


def test_others_may_not_write_them(parted: Mount):
    for name in ("merge", "revert", "cherry-pick", "reset"):
        assert Path(parted.main / ".ana" / name).stat().st_mode & 0o022 == 0
