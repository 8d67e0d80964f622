"""Names and paths of a mount: what each means, and what cannot be changed. P1, P2, P3, P4, P5, P6, P8, P9."""

import errno
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.harness import Mount, Repo, done, errno_of, run_ana, shell

pytestmark = pytest.mark.mounted


def test_the_root_lists_the_branches_and_nothing_else_p1(mount: Mount):
    (mount.main / "data").write_text("1")
    mount.commit()
    done(mount.ana("branch", "exp"))
    done(mount.ana("tag", "v1.0"))
    assert sorted(os.listdir(mount.root)) == ["exp", "main"]
    assert os.stat(mount.root).st_nlink == 4


def test_every_kind_of_path_leads_to_its_version_p1(mount: Mount):
    (mount.main / "data").write_text("one")
    first = mount.json("commit", "-m", "first")
    (mount.main / "data").write_text("two")
    mount.commit("second")
    done(mount.ana("tag", "v1.0", "main@1"))
    (mount.main / "data").write_text("uncommitted")
    digits = first["id"]
    expected = {
        "main": "uncommitted", "main@1": "one", "main@2": "two", "main@head": "two", "v1.0": "one",
        f"@{digits[:4]}": "one", f"@{digits[:8]}": "one", f"@{digits.upper()[:10]}": "one", f"@{digits}": "one",
    }  # fmt: skip
    assert {name: (mount.root / name / "data").read_text() for name in expected} == expected
    for absent in ("main@3", "main@99999999999999999999", "none", "none@1", "main@", "@", "@" + digits[:3],
                   "@0000", "@" + "0" * 64, "main@x", "main@-1", "main@1.5", "main@1/none", "v1.0@1"):  # fmt: skip
        assert errno_of(os.stat, mount.root / absent) == errno.ENOENT, absent


def test_a_prefix_is_a_link_to_the_whole_id_p1(mount: Mount):
    (mount.main / "data").write_text("one")
    whole = mount.json("commit", "-m", "first")["id"]
    link = mount.root / f"@{whole[:8]}"
    assert link.is_symlink()
    assert os.readlink(link) == f"@{whole}"
    assert link.lstat().st_size == 65
    assert os.path.realpath(link / "data") == str(mount.root / f"@{whole}" / "data")
    assert errno_of(os.unlink, link) == errno.EROFS


def test_nothing_but_a_branch_can_be_changed_p2(mount: Mount):
    (mount.main / "dir").mkdir()
    (mount.main / "dir/file").write_text("one")
    (mount.main / "link").symlink_to("dir/file")
    mount.commit()
    done(mount.ana("tag", "v1"))
    whole = mount.json("log")[0]["id"]
    for name in ("main@1", "main@head", "v1", f"@{whole}", f"@{whole[:6]}"):
        version = mount.root / name
        file, directory = version / "dir/file", version / "dir"
        changes = {
            "write": errno_of(os.open, file, os.O_WRONLY),
            "read and write": errno_of(os.open, file, os.O_RDWR),
            "append": errno_of(os.open, file, os.O_WRONLY | os.O_APPEND),
            "open to truncate": errno_of(os.open, file, os.O_WRONLY | os.O_TRUNC),
            "truncate": errno_of(os.truncate, file, 0),
            "create": errno_of(os.open, directory / "new", os.O_WRONLY | os.O_CREAT),
            "create at the top": errno_of(os.open, version / "new", os.O_WRONLY | os.O_CREAT),
            "mkdir": errno_of(os.mkdir, directory / "new"),
            "rmdir": errno_of(os.rmdir, directory),
            "unlink": errno_of(os.unlink, file),
            "rename": errno_of(os.rename, file, directory / "other"),
            "symlink": errno_of(os.symlink, "x", directory / "new"),
            "link": errno_of(os.link, file, directory / "new"),
            "mknod": errno_of(os.mkfifo, directory / "new"),
            "chmod": errno_of(os.chmod, file, 0o777),
            "chmod of a directory": errno_of(os.chmod, directory, 0o777),
            "chown": errno_of(os.chown, file, 1, 1),
            "utimens": errno_of(os.utime, file, (1, 1)),
            "utimens of the top": errno_of(os.utime, version, (1, 1)),
        }
        assert set(changes.values()) == {errno.EROFS}, (name, changes)
        assert (version / "dir/file").read_text() == "one"
        assert (version / "link").read_text() == "one"
        assert os.access(file, os.R_OK)


def test_versions_and_tags_cannot_be_moved_removed_or_made_p2(mount: Mount):
    (mount.main / "data").write_text("one")
    mount.commit()
    done(mount.ana("tag", "v1"))
    for name in ("main@1", "main@head", "v1"):
        assert errno_of(os.rmdir, mount.root / name) == errno.EROFS, name
        assert errno_of(os.rename, mount.root / name, mount.root / "new") == errno.EROFS, name
        assert errno_of(os.mkdir, mount.root / name) == errno.EEXIST, name
    assert errno_of(os.mkdir, mount.root / "main@7") == errno.EINVAL
    assert errno_of(os.chmod, mount.root, 0o777) == errno_of(os.utime, mount.root, (1, 1)) == errno.EROFS


def test_good_names_are_taken_p3(mount: Mount):
    names = ["a", "x" * 200, "ä" * 100, "with space", "UPPER", "1", "2026-11-20", "head", "a.b-c_d+e", "日本", "\\"]
    for name in names:
        (mount.root / name).mkdir()
        (mount.root / name / "file").write_text(name)
        assert mount.commit(branch=name).name == f"{name}@1"
        assert (mount.root / f"{name}@1/file").read_text() == name
    mount.remount()
    assert set(os.listdir(mount.root)) == {"main", *names}
    assert [(mount.root / name / "file").read_text() for name in names] == names
    assert [mount.json("log", "-b", name)[0]["version"] for name in names[:2]] == ["a@1", "x" * 200 + "@1"]


def test_bad_names_are_refused_p3(mount: Mount):
    bad = [b"x" * 201, "ä".encode() * 101, b".hidden", b"-dash", b"a:b", b"a@b", b"@", b"tab\there", b"new\nline",
           b"\xff\xfe", b"del\x7f", b"main@x", b"x" * 255]  # fmt: skip
    for name in bad:
        path = os.path.join(os.fsencode(mount.root), name)
        assert errno_of(os.mkdir, path) == errno.EINVAL, name
        assert errno_of(os.rename, os.fsencode(mount.main), path) == errno.EINVAL, name
        assert "bad name" in (mount.root / ".ana/error").read_text(), name
    assert errno_of(os.mkdir, os.path.join(os.fsencode(mount.root), b"x" * 256)) in (errno.EINVAL, errno.ENAMETOOLONG)
    assert os.listdir(mount.root) == ["main"]


def test_versions_count_from_the_empty_commit_p4(mount: Mount, tmp_path: Path):
    assert os.listdir(mount.root / "main@0") == []
    (mount.main / "data").write_text("one")
    assert mount.commit() == mount.root / "main@1"
    done(mount.ana("branch", "exp"))
    (mount.root / "exp/more").write_text("two")
    assert mount.commit(branch="exp") == mount.root / "exp@1"
    assert os.listdir(mount.root / "exp@0") == ["data"]
    logs = mount.json("log", "-b", "main") + mount.json("log", "-b", "exp")
    ids = {version["version"]: version["id"] for version in logs}
    assert ids["exp@0"] == ids["main@1"]
    other = Repo(tmp_path / "other")
    done(run_ana("init", "--no-ignore", other.path, cwd=tmp_path))
    assert other.json("log")[0]["id"] == ids["main@0"]


def test_a_number_keeps_its_meaning_whatever_becomes_of_the_name_p5(mount: Mount):
    exp = mount.root / "exp"
    exp.mkdir()
    (exp / "data").write_text("first life")
    mount.commit(branch="exp")  # exp@1
    exp.rmdir()  # exp@2: given up
    assert not exp.exists()
    assert (mount.root / "exp@1/data").read_text() == "first life"
    exp.mkdir()  # exp@3: born again
    assert os.listdir(mount.root / "exp@3") == []
    (exp / "data").write_text("second life")
    assert mount.commit(branch="exp") == mount.root / "exp@4"
    assert errno_of(os.stat, mount.root / "exp@2") == errno.ENOENT
    exp.rename(mount.root / "new")  # exp@5: given up
    assert (mount.root / "exp@1/data").read_text() == "first life"
    assert (mount.root / "exp@4/data").read_text() == "second life"
    assert (mount.root / "new@0/data").read_text() == "second life"
    assert errno_of(os.stat, mount.root / "exp@5") == errno.ENOENT
    mount.remount()
    assert (mount.root / "exp@1/data").read_text() == "first life"
    assert (mount.root / "exp@4/data").read_text() == "second life"
    assert errno_of(os.stat, mount.root / "exp@2") == errno.ENOENT


def now() -> str:
    """A version of main by this moment, in the form without colons."""
    return "main@" + datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")


def test_a_time_names_the_newest_version_at_or_before_it_p6(mount: Mount):
    (mount.main / "data").write_text("one")
    mount.commit()
    first = mount.root / now()
    (mount.main / "data").write_text("two")
    mount.commit()
    second = mount.root / now()
    assert (second / "data").read_text() == "two"
    assert (first / "data").read_text() == "one"
    with_colons = second.name[:18] + ":" + second.name[18:20] + ":" + second.name[20:]
    assert with_colons.count(":") == 2
    assert (mount.root / with_colons / "data").read_text() == "two"
    assert errno_of(os.open, second / "data", os.O_WRONLY) == errno.EROFS
    (mount.main / "data").write_text("three")
    mount.commit()
    assert [(path / "data").read_text() for path in (first, second)] == ["one", "two"], "a time stays what it was"
    mount.remount()
    assert [(path / "data").read_text() for path in (first, second)] == ["one", "two"]


def test_a_time_that_is_not_past_or_before_the_branch_does_not_exist_p6(mount: Mount):
    (mount.main / "data").write_text("one")
    mount.commit()
    moment = datetime.now(UTC)
    for other in (moment - timedelta(days=1), moment + timedelta(days=1)):
        for form in ("%Y-%m-%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"):
            assert errno_of(os.stat, mount.root / f"main@{other.strftime(form)}") == errno.ENOENT, other
    for bad in ("2026-13-01", "2026-02-30", "2026-11-20T25:00:00Z", "2026-11-20T10:00:00", "2026-1-1", "2026"):
        assert errno_of(os.stat, mount.root / f"main@{bad}") == errno.ENOENT, bad
    assert errno_of(os.stat, mount.root / "none@2020-01-01") == errno.ENOENT


def test_the_time_that_the_log_shows_names_that_version_p6(mount: Mount):
    (mount.main / "data").write_text("one")
    mount.commit()
    shown = mount.json("log")[0]["time"].replace(":", "")
    assert (mount.root / f"main@{shown}/data").read_text() == "one"


def test_nothing_but_directories_can_be_made_at_the_root_p8(mount: Mount):
    root, file = mount.root, mount.main / "file"
    file.write_text("x")
    assert errno_of(os.open, root / "new", os.O_WRONLY | os.O_CREAT) == errno.EPERM
    assert errno_of(os.symlink, "main", root / "new") == errno.EPERM
    assert errno_of(os.mkfifo, root / "new") == errno.EPERM
    assert errno_of(os.rename, file, root / "new") == errno.EXDEV
    assert errno_of(os.link, file, root / "new") == errno.EXDEV
    (mount.main / "dir").mkdir()
    assert errno_of(os.rename, mount.main / "dir", root / "new") == errno.EXDEV
    assert os.listdir(root) == ["main"]


def test_names_do_not_move_across_branches_p8(mount: Mount):
    (mount.main / "file").write_text("x")
    mount.commit()
    exp = mount.root / "exp"
    exp.mkdir()
    assert errno_of(os.rename, mount.main / "file", exp / "moved") == errno.EXDEV
    assert errno_of(os.link, mount.main / "file", exp / "linked") == errno.EXDEV
    assert errno_of(os.rename, mount.root / "main@1/file", mount.main / "moved") == errno.EXDEV
    assert errno_of(os.link, mount.root / "main@1/file", mount.main / "linked") == errno.EXDEV
    assert errno_of(os.rename, mount.main / "file", mount.root / "main@1/moved") in (errno.EXDEV, errno.EROFS)
    done(shell("mv main/file exp/moved && cp main@1/file main/copied", mount.root))
    assert sorted(os.listdir(exp)) == ["file", "moved"]
    assert (exp / "moved").read_text() == (mount.main / "copied").read_text() == "x"


def test_control_files_are_never_listed_nor_removed_p9(mount: Mount):
    for place in (mount.root, mount.main):
        control = place / ".ana"
        assert ".ana" not in os.listdir(place)
        assert control.is_dir()
        assert errno_of(os.mkdir, control) == errno.EEXIST
        assert errno_of(os.rmdir, control) in (errno.EPERM, errno.EROFS, errno.EBUSY), place
        assert errno_of(os.open, control / "new", os.O_WRONLY | os.O_CREAT) in (errno.EPERM, errno.EROFS, errno.EACCES)
        assert errno_of(os.mkdir, control / "new") in (errno.EPERM, errno.EROFS, errno.EACCES)
        assert errno_of(os.unlink, control / "error") in (errno.EPERM, errno.EROFS, errno.EACCES)
        assert errno_of(os.rename, control, place / "other") in (errno.EPERM, errno.EROFS, errno.EXDEV, errno.EINVAL)
    assert errno_of(os.rename, mount.main / "none", mount.main / ".ana") != 0
    (mount.main / "file").write_text("x")
    assert errno_of(os.rename, mount.main / "file", mount.main / ".ana") in (errno.EPERM, errno.EISDIR)
    assert errno_of(os.rename, mount.main / "file", mount.main / ".ana/file") == errno.EXDEV
    assert sorted(os.listdir(mount.main / ".ana")) == [
        "cherry-pick", "commit", "commit.json", "conflicts", "conflicts.json", "diff", "diff.json", "discard", "error",
        "error.json", "head", "head.json", "log", "log.json", "merge", "reset", "restore", "revert", "stats",
        "stats.json", "status", "status.json",
    ]  # fmt: skip
    assert sorted(os.listdir(mount.root / ".ana")) == [
        "branches", "branches.json", "config", "config.json", "error", "error.json", "stats", "stats.json", "tags",
        "tags.json", "version", "version.json",
    ]  # fmt: skip
    assert stat.S_ISREG((mount.main / ".ana/commit").stat().st_mode)


def test_find_and_rm_do_not_meet_control_files_p9(mount: Mount):
    (mount.main / "dir").mkdir()
    (mount.main / "dir/file").write_text("x")
    mount.commit()
    assert "/.ana" not in done(shell("find . main@1", mount.root))
    done(shell("rm -rf -- * .[!.]*", mount.main))
    assert os.listdir(mount.main) == []
    assert (mount.main / ".ana/head").read_text().startswith("main@1 ")


def test_elsewhere_ana_is_a_name_like_others_p9(mount: Mount):
    inside = mount.main / "dir/.ana"
    inside.mkdir(parents=True)
    (inside / "commit").write_text("just a file")
    version = mount.commit()
    assert os.listdir(mount.main / "dir") == [".ana"]
    assert (version / "dir/.ana/commit").read_text() == "just a file"
    (inside / "commit").unlink()
    inside.rmdir()
    assert errno_of(os.stat, version / ".ana") == errno.ENOENT
