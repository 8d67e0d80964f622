"""Control files: committing from every kind of program, and what is read. P10, P11, P12, P17, P18."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import Completed, Mount, done, errno_of, pin_times, python, run_ana, shell, snapshot

pytestmark = pytest.mark.mounted

SHELLS = [path for path in map(shutil.which, ("bash", "dash", "sh")) if path is not None]
COMMIT, ERROR = ".ana/commit", ".ana/error"


def change(mount: Mount) -> None:
    """Something to commit."""
    path = mount.main / "data"
    path.write_text(f"{path.read_text() if path.exists() else ''}more\n")


@pytest.mark.parametrize("program", SHELLS)
def test_shells_commit_and_messages_arrive_whole_p10(mount: Mount, program: str):
    """By echo, printf, cat, a here-document, a subshell with children, a descriptor, tee and a redirected script."""
    (mount.main / "dir").mkdir()
    several = "first line\n\nthird line, with 'quotes' and ünïcödé"
    (mount.main / "message").write_text(several)
    ways = {
        "echo a word > .ana/commit": "a word",
        "echo appended >> .ana/commit": "appended",
        "echo from below > dir/../.ana/commit": "from below",
        "printf 'no newline' > .ana/commit": "no newline",
        "printf '%s\\n' one two three > .ana/commit": "one\ntwo\nthree",
        "printf '  white space around \\n\\n\\t ' > .ana/commit": "white space around",
        "cat > .ana/commit <<END\n\n  \n\n a blank start in one write \nEND": "a blank start in one write",
        "cat message > .ana/commit": several,
        "cat < message > .ana/commit": several,
        "cp message .ana/commit": several,
        "tee .ana/commit < message > /dev/null": several,
        "dd if=message of=.ana/commit bs=1M 2>/dev/null": several,
        "cat > .ana/commit <<END\nhere\n\nare $((1 + 1)) parts\nEND": "here\n\nare 2 parts",
        "(echo one; /bin/echo two; (/bin/echo three)) > .ana/commit": "one\ntwo\nthree",
        "{ echo one; /bin/sh -c 'echo two'; cat message; } > .ana/commit": f"one\ntwo\n{several}",
        "exec 3> .ana/commit; echo one >&3; /bin/echo two >&3; exec 3>&-": "one\ntwo",
        "for n in 1 2 3; do echo line $n; done > .ana/commit": "line 1\nline 2\nline 3",
        "seq 1 2 | while read n; do echo piped $n; done > .ana/commit": "piped 1\npiped 2",
    }
    for number, (command, message) in enumerate(ways.items(), 1):
        change(mount)
        ended = shell(command, mount.main, program)
        assert (ended.returncode, ended.stderr) == (0, ""), command
        assert (mount.main / COMMIT).read_text().startswith(f"main@{number} "), command
        newest = json.loads((mount.main / ".ana/log.json").read_text())[0]
        assert newest["message"] == message, command
    assert mount.messages()[:-1] == [*reversed(ways.values())]


@pytest.mark.parametrize("program", SHELLS)
def test_a_blank_first_line_is_no_reason_to_lose_the_rest_p10_p11(mount: Mount, program: str):
    """Bash writes line by line, and its first line alone looks like an empty message: refused as a whole, or taken."""
    change(mount)
    ended = shell("printf '\\n\\nafter two blank lines\\n' > .ana/commit", mount.main, program)
    assert (ended.returncode, mount.messages()) in [(0, ["after two blank lines", ""]), (1, [""])]


@pytest.mark.parametrize("program", SHELLS)
def test_shells_see_a_failure_p11(mount: Mount, program: str):
    """Nothing to commit, and an empty message, end every way of writing with status 1."""

    def ended(command: str) -> Completed:
        return shell(command, mount.main, program)

    ways = ("echo message > .ana/commit", "printf 'a\\nb\\n' > .ana/commit", "/bin/echo message > .ana/commit",
            "cat /etc/hostname > .ana/commit", "cp /etc/hostname .ana/commit",
            "echo message | tee .ana/commit > /dev/null", "(echo one; exit $?) > .ana/commit")  # fmt: skip
    for command in ways:
        assert ended(command).returncode == 1, command
        assert "nothing to commit" in (mount.main / ERROR).read_text(), command
    assert "No data available" in ended("/bin/echo message > .ana/commit").stderr
    assert ended("echo message > .ana/commit && echo never").stdout == ""
    assert ended("set -e; echo message > .ana/commit; echo never").stdout == ""
    change(mount)
    for command in ("echo > .ana/commit", "printf '  \\n\\t\\n' > .ana/commit"):
        assert ended(command).returncode == 1, command
        assert "message is empty" in (mount.main / ERROR).read_text(), command
    assert mount.messages() == [""]
    assert not mount.json("status")["clean"]
    assert ended("echo now it goes > .ana/commit").returncode == 0
    assert (mount.main / ERROR).read_text() == ""
    assert mount.messages() == ["now it goes", ""]


def test_python_commits_and_sees_a_failure_p10_p11(mount: Mount):
    control = mount.main / COMMIT
    change(mount)
    control.write_text("by write_text\n")
    change(mount)
    with control.open("w") as file:
        print("one", file=file)
        file.flush()
        print("two", file=file)
    change(mount)
    with control.open("wb", buffering=0) as raw:
        for byte in b"byte by byte":
            raw.write(bytes([byte]))
    change(mount)
    with control.open("r+") as file:
        file.write("opened to read and write")
    change(mount)
    descriptor = os.open(control, os.O_WRONLY)
    os.write(descriptor, "ü".encode() * 40_000)
    os.close(descriptor)
    assert mount.messages()[:-1] == [
        "ü" * 40_000, "opened to read and write", "byte by byte", "one\ntwo", "by write_text",
    ]  # fmt: skip
    assert errno_of(control.write_text, "nothing") == errno.ENODATA
    change(mount)
    assert errno_of(control.write_text, " \n") == errno.EINVAL
    assert len(mount.messages()) == 6


def test_a_long_message_arrives_whole_p10(mount: Mount):
    message = "\n".join(f"line {number} of a long message" for number in range(20_000))
    change(mount)
    (mount.main / "message").write_text(message)
    done(shell("cat message > .ana/commit", mount.main))
    assert mount.messages()[0] == message


def test_the_instant_is_the_first_write_and_the_commit_is_made_at_close_p10(mount: Mount):
    """Two writes with a change between them: a commit happens once, when the file is closed."""
    change(mount)
    descriptor = os.open(mount.main / COMMIT, os.O_WRONLY)
    os.write(descriptor, b"one\n")
    assert (mount.main / ".ana/head").read_text().startswith("main@0 ")
    os.write(descriptor, b"two\n")
    os.close(descriptor)
    assert (mount.main / ".ana/head").read_text().startswith("main@1 ")
    assert mount.messages() == ["one\ntwo", ""]


def test_opening_and_closing_without_a_word_commits_nothing_p10(mount: Mount):
    change(mount)
    done(shell(": > .ana/commit; true >> .ana/commit; exec 3> .ana/commit; exec 3>&-", mount.main))
    assert mount.messages() == [""]
    assert errno_of(os.truncate, mount.main / COMMIT, 0) == 0
    assert mount.messages() == [""]


def test_a_program_killed_before_it_closes_has_said_what_it_said_p10_p17(mount: Mount):
    """The kernel closes its files: the commit is made with what was written, or not at all; the branch goes on."""
    change(mount)
    writer = python("import os; os.write(os.open('.ana/commit', 1), b'half'); print('x', flush=True); input()",
                    cwd=mount.main)  # fmt: skip
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "x\n"
    finally:
        writer.kill()
        writer.communicate()
    assert len(mount.messages()) in (1, 2)
    change(mount)
    (mount.main / COMMIT).write_text("after it")
    assert mount.messages()[0] == "after it"


def test_after_a_commit_by_one_descriptor_it_takes_no_second_p10(mount: Mount):
    change(mount)
    descriptor = os.open(mount.main / COMMIT, os.O_WRONLY)
    os.write(descriptor, b"first")
    os.close(os.dup(descriptor))  # a FLUSH, as when a child of a shell ends
    os.close(descriptor)
    assert mount.messages() == ["first", ""]


def test_a_commit_changes_nothing_that_is_seen_in_the_branch_p10(mount: Mount):
    (mount.main / "dir").mkdir()
    for number in range(20):
        (mount.main / f"dir/{number}").write_bytes(b"x" * number * 1000)
    os.link(mount.main / "dir/3", mount.main / "dir/linked")
    pin_times(mount.main)
    before = snapshot(mount.main, inodes=True)
    mount.commit()
    assert snapshot(mount.main, inodes=True) == before
    mount.remount()
    assert snapshot(mount.main, inodes=True) == before


def test_control_files_say_what_the_commands_say_p37(mount: Mount):
    (mount.main / "data").write_text("one")
    (mount.main / "gone").write_text("x")
    mount.commit("first\nand more")
    (mount.main / "data").write_text("two and more")
    (mount.main / "gone").unlink()
    (mount.main / "new").mkdir()
    control = mount.main / ".ana"
    done(mount.ana("tag", "v1"))
    done(mount.ana("tag", "v2", "main@0"))
    for name in ("status", "log", "diff"):
        said = done(mount.ana(name))
        assert (control / name).read_text() == "".join(re.findall("(?m)^[^ ].*\n", said)), name  # P43: without lines
        assert json.loads((control / f"{name}.json").read_text()) == mount.json(name), name
    assert (control / "status").read_text().splitlines()[1:] == [
        "Uncommitted: 3 changes", "M  data  3 B -> 12 B", "D  gone  1 B", "A  new/",
    ]  # fmt: skip
    newest = mount.json("log")[0]
    assert (control / "head").read_text() == f"main@1 {newest['id']}\n"
    assert (control / "commit").read_text() == f"main@1 {newest['id'][:8]}  2 files changed, 0 B new\n"
    assert (control / "error").read_text() == ""
    root = mount.root / ".ana"
    assert (root / "branches").read_text() == "main\n"
    assert (root / "tags").read_text() == "v1\nv2\n"
    assert (root / "version").read_text().startswith("anabranch ")
    assert "format 1" in (root / "version").read_text()


def test_a_reader_sees_the_moment_of_open_p12(mount: Mount):
    change(mount)
    with (mount.main / ".ana/log").open() as log, (mount.main / ".ana/status").open() as status:
        mount.commit("a commit")
        assert "a commit" not in log.read()
        assert "Uncommitted: 1 change" in status.read()
    assert "a commit" in (mount.main / ".ana/log").read_text()
    assert "Nothing to commit" in (mount.main / ".ana/status").read_text()


def test_control_files_can_be_read_by_any_tool_p12(mount: Mount):
    for number in range(120):
        (mount.main / f"file {number:03}").write_text("x")
    status = (mount.main / ".ana/status").read_text()
    assert len(status) > 2000
    assert done(shell("cat .ana/status", mount.main)) == status
    assert done(shell("dd if=.ana/status bs=100 2>/dev/null", mount.main)) == status
    assert done(shell("head -n 1 .ana/status; tail -n 1 .ana/status", mount.main)).splitlines() == [
        status.splitlines()[0], status.splitlines()[-1],
    ]  # fmt: skip
    assert done(shell("grep -c file .ana/diff", mount.main)) == "120\n"
    with (mount.main / ".ana/status").open("rb") as file:
        file.seek(1000)
        assert file.read(10) == status.encode()[1000:1010]


def test_files_to_read_cannot_be_written_p9(mount: Mount):
    for path in (mount.main / ".ana/head", mount.main / ERROR, mount.root / ".ana/branches", mount.root / ERROR):
        assert errno_of(os.open, path, os.O_WRONLY) in (errno.EACCES, errno.EPERM, errno.EROFS), path
        assert errno_of(path.write_text, "x") in (errno.EACCES, errno.EPERM, errno.EROFS), path
        assert errno_of(os.chmod, path, 0o777) in (errno.EPERM, errno.EROFS), path


def test_a_refused_commit_leaves_everything_uncommitted_p17(mount: Mount):
    change(mount)
    (mount.main / "large").write_bytes(os.urandom(3_000_000))
    before = mount.json("status")
    for message in ("", " ", "\n\n"):
        assert mount.ana("commit", "-m", message).returncode == 2
        if message:
            assert errno_of((mount.main / COMMIT).write_text, message) == errno.EINVAL
    assert mount.json("status") == before
    assert before["changes"][1]["new_size"] == 3_000_000
    mount.commit()
    assert (mount.root / "main@1/large").read_bytes() == (mount.main / "large").read_bytes()


def test_a_commit_that_runs_out_of_disk_or_rights_loses_nothing_p17(mount: Mount):
    """The folder of volumes may not be written to: chunks cannot be stored, so the commit fails, by both doors."""
    (mount.main / "large").write_bytes(content := os.urandom(3_000_000))
    volumes = mount.path / "volumes"
    hidden = mount.path / "volumes away"
    volumes.rename(hidden)
    volumes.write_text("in the way")
    try:
        failed = errno_of((mount.main / COMMIT).write_text, "cannot be stored")
        by_command = mount.ana("commit", "-m", "cannot be stored")
    finally:
        volumes.unlink()
        hidden.rename(volumes)
    if failed == 0:  # the volume was open already: then it is there
        assert (mount.root / "main@1/large").read_bytes() == content
        return
    assert by_command.returncode == 4
    assert by_command.stderr.startswith("ana: ")
    assert (mount.main / ERROR).read_text() != ""
    assert mount.messages() == [""]
    assert (mount.main / "large").read_bytes() == content
    mount.commit("now it can")
    assert (mount.root / "main@1/large").read_bytes() == content


def test_the_modification_time_of_a_directory_alone_is_no_change_p18(mount: Mount):
    (mount.main / "dir").mkdir()
    (mount.main / "dir/file").write_text("x")
    mount.commit()
    assert errno_of((mount.main / COMMIT).write_text, "again") == errno.ENODATA
    os.utime(mount.main / "dir", (1, 1))
    (mount.main / "dir/new").write_text("x")
    (mount.main / "dir/new").unlink()
    (mount.main / "top").write_text("x")
    (mount.main / "top").unlink()
    assert mount.json("status")["clean"]
    assert mount.ana("commit", "-m", "again").returncode == 1
    assert errno_of((mount.main / COMMIT).write_text, "again") == errno.ENODATA
    os.utime(mount.main / "dir/file", (1, 1))
    assert [row["change"] for row in mount.json("status")["changes"]] == ["attributes"]
    mount.commit()
    (mount.main / "dir").chmod(0o700)
    mount.commit()
    assert (mount.root / "main@3/dir").stat().st_mode & 0o777 == 0o700


def test_two_commits_at_once_are_made_one_after_the_other_p10_p17(mount: Mount):
    """One has the branch while its message is written; the other waits, and finds what was changed meanwhile."""
    change(mount)
    descriptor = os.open(mount.main / COMMIT, os.O_WRONLY)
    os.write(descriptor, b"first")
    (mount.main / "second").write_text("written while the first commit is made")
    second = subprocess.Popen(
        [sys.executable, "-c", "open('.ana/commit', 'w').write('second')"], cwd=mount.main, stderr=subprocess.PIPE
    )
    try:
        os.close(descriptor)
        _, errors = second.communicate(timeout=30)
    finally:
        second.kill()
    assert (second.returncode, errors) == (0, b"")
    assert mount.messages() == ["second", "first", ""]
    assert sorted(os.listdir(mount.root / "main@1")) == ["data"]
    assert sorted(os.listdir(mount.root / "main@2")) == ["data", "second"]


def test_branches_are_committed_each_by_its_own_file_p10(mount: Mount):
    (mount.root / "exp").mkdir()
    for branch in ("main", "exp"):
        (mount.root / branch / "data").write_text(branch)
    done(shell("echo of exp > exp/.ana/commit", mount.root))
    assert [mount.messages(branch) for branch in ("main", "exp")] == [[""], ["of exp", ""]]
    assert (mount.root / "exp/.ana/commit").read_text().startswith("exp@1 ")
    assert (mount.main / COMMIT).read_text() == ""
    mount.remount()
    assert mount.messages("exp") == ["of exp", ""]


def test_the_command_shows_a_commit_made_by_file_and_the_other_way_p37(mount: Mount):
    change(mount)
    made = json.loads(done(run_ana("commit", "-m", "by command", "--json", cwd=mount.main)))
    assert (mount.main / ".ana/head").read_text() == f"main@1 {made['id']}\n"
    assert (mount.root / "main@head/data").read_text() == "more\n"
    change(mount)
    (mount.main / COMMIT).write_text("by file")
    assert mount.messages() == ["by file", "by command", ""]


def test_who_committed_is_known_p13(mount: Mount):
    change(mount)
    mount.commit()
    change(mount)
    done(mount.ana("commit", "-m", "by command"))
    name = done(shell("id -un", Path("/"))).strip()
    assert [version["author"] for version in mount.json("log")[:2]] == [name, name]
