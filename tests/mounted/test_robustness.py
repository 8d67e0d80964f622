"""What once lost data, hung, or ended the mount."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness import ANA, Mount, done, python, shell

pytestmark = pytest.mark.mounted


def status_of(process: "subprocess.Popen[str]") -> int:
    """The exit status of a process that ends by itself."""
    with process:
        process.communicate(timeout=30)
    return process.returncode


@pytest.mark.parametrize("year", [1600, 3000])
def test_times_that_64_bits_cannot_hold_keep_nothing_from_being_saved(mount: Mount, year: int):
    (mount.main / "precious").write_text("keep")
    done(shell(f"touch -d {year}-01-01 odd && sync odd", mount.main))
    mount.umount()
    mount.mount()
    assert sorted(os.listdir(mount.main)) == ["odd", "precious"]


def test_a_branch_is_not_renamed_or_deleted_under_a_message(mount: Mount):
    (mount.root / "exp").mkdir()
    (mount.root / "exp" / "file").write_text("one")
    with (mount.root / "exp" / ".ana" / "commit").open("w") as message:
        message.write("the message")
        message.flush()
        with pytest.raises(OSError, match="busy"):
            (mount.root / "exp").rename(mount.root / "other")
        with pytest.raises(OSError, match="busy"):
            (mount.root / "exp").rmdir()
    assert mount.json("log", "-b", "exp")[0]["message"] == "the message"
    (mount.root / "exp").rename(mount.root / "other")
    (mount.root / "other").rmdir()


def test_two_messages_at_once_are_two_commits(mount: Mount):
    """The second waits for the first; neither hangs in the kernel."""
    (mount.main / "file").write_text("one")
    first = mount.main / ".ana" / "commit"
    with first.open("w") as message:
        message.write("first")
        message.flush()
        second = python("open('.ana/commit', 'w').write('second')", cwd=mount.main)
        (mount.main / "file").write_text("two")
        message.write(" and whole")
    assert status_of(second) == 0
    assert [row["message"] for row in mount.json("log")][:2] == ["second", "first and whole"]


def test_many_readers_of_the_status_beside_many_open_files_hang_nothing(mount: Mount):
    """Laundering waits for writes, writes wait for chunks: they must not share their threads."""
    for number in range(150):
        (mount.main / str(number)).write_bytes(os.urandom(3000))
    mount.commit()
    mount.umount()
    mount.mount()
    opened = [os.open(mount.main / str(number), os.O_WRONLY) for number in range(150)]
    try:
        for descriptor in opened:
            os.pwrite(descriptor, b"new", 1000)
        readers = [subprocess.Popen(["cat", ".ana/status"], cwd=mount.main, stdout=subprocess.PIPE) for _ in range(60)]
        for reader in readers:
            output, _ = reader.communicate(timeout=60)
            assert output.count(b"M  ") == 150
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_more_large_files_than_a_shell_may_open(mount: Mount):
    mount.umount()
    done(shell(f"ulimit -S -n 256 && {ANA} mount {mount.path} {mount.root}", Path("/")))
    for number in range(400):
        (mount.main / str(number)).write_bytes(bytes(70_000))
    mount.commit()


def test_a_process_of_any_name_can_commit(mount: Mount):
    (mount.main / "file").write_text("one")
    code = """
import ctypes
ctypes.CDLL(None).prctl(15, b"b\\xff", 0, 0, 0)
with open(".ana/commit", "w") as message:
    message.write("by a process with an odd name")
"""
    assert status_of(python(code, cwd=mount.main)) == 0


def test_a_name_that_was_absent_from_the_head_is_there_after_a_commit(mount: Mount):
    (mount.main / "old").write_text("old")
    mount.commit()
    head = mount.root / "main@head"
    assert not (head / "new").exists()
    (mount.main / "new").write_text("new")
    mount.commit()
    assert (head / "new").read_text() == "new"


def test_a_file_is_at_most_16_tib(mount: Mount):
    with (mount.main / "large").open("wb") as file, pytest.raises(OSError, match="too large"):
        os.truncate(file.fileno(), (16 << 40) + 1)


def test_commands_below_a_commit_or_a_control_directory_mean_the_default_branch(mount: Mount):
    (mount.main / "file").write_text("one")
    mount.commit()
    commit = next(iter(mount.json("log")))["id"]
    for directory in (mount.root / f"@{commit}", mount.root / ".ana", mount.main / ".ana"):
        assert "main@1" in done(mount.ana("log", cwd=directory))


def test_a_message_that_is_not_utf_8_is_wrong_use(mount: Mount):
    ended = shell(f"{ANA} commit -m $(printf '\\377')", mount.main)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_a_version_directory_is_no_place_to_commit_its_branch_from(mount: Mount):
    (mount.main / "file").write_text("one")
    mount.commit()
    (mount.main / "file").write_text("two")
    ended = mount.ana("commit", "-m", "by mistake", cwd=mount.root / "main@1")
    assert ended.returncode == 2
    assert "main@1 is a version" in ended.stderr
    assert len(mount.json("log")) == 2


def test_json_gives_names_as_they_are(mount: Mount):
    names = ["back\\slash", "new\nline", "tab\t"]
    for name in names:
        (mount.main / name).write_text("x")
    assert sorted(change["path"] for change in mount.json("status")["changes"]) == sorted(names)
