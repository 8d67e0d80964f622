"""What programs do to files, directories and names at the worst moments: all stays as it was promised.

P1, P7, P13, P14, P16, P19, P23, P25, P33, P40, P43.
"""

import errno
import json
import mmap
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.harness import PATIENCE, Mount, done, errno_of, python

pytestmark = pytest.mark.mounted

Process = subprocess.Popen[str]


@contextmanager
def started(code: str, *arguments: str | Path, cwd: Path) -> Iterator[Process]:
    """A program that says a line when it is ready, and goes on; it has to be well until the end of its input."""
    with ExitStack() as stack:
        process = python(code, *arguments, cwd=cwd, stderr=subprocess.PIPE)
        stack.callback(process.communicate)
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def said(process: Process) -> list[str]:
    """End a program by the end of its input; its last lines. It must not have failed."""
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    return output.splitlines()


UNTIL_TOLD = """
import json, os, sys, threading

def until_told(call):
    told, rounds = threading.Event(), 0
    while not told.is_set():
        call()
        rounds += 1
        if rounds == 1:
            threading.Thread(target=lambda: (sys.stdin.read(), told.set())).start()
            print("ready", flush=True)
"""
"""Does something again and again, and at least once after it was ready to be told to end."""


@pytest.mark.parametrize("size", [100, 40_000, 300_000])
def test_an_open_file_renamed_over_another_is_in_the_commit_that_survives_p23_p33(mount: Mount, size: int):
    """Written before and after the rename, not closed; then a commit, and the daemon is killed."""
    target, first, second = mount.main / "target", os.urandom(size), os.urandom(size)
    target.write_bytes(b"old")
    mount.commit()
    old, new = os.open(target, os.O_RDONLY), os.open(mount.main / "new", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(new, first)
        os.rename(mount.main / "new", target)
        os.write(new, second)
        version = mount.commit()
        assert os.read(old, 10) == b"old"
        mount.kill()
    finally:
        ended = [errno_of(os.close, descriptor) for descriptor in (old, new)]
    assert set(ended) <= {0, errno.ENOTCONN, errno.ECONNABORTED}
    mount.umount()
    mount.mount()
    assert os.listdir(mount.main) == os.listdir(version) == ["target"]
    assert target.read_bytes() == (version / "target").read_bytes() == first + second
    assert (mount.root / "main@1/target").read_bytes() == b"old"
    assert mount.json("status")["clean"]


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_write_by_one_of_two_names_in_clean_directories_is_at_both_p13_p43(mount: Mount, size: int):
    for name in ("one", "two", "three"):
        (mount.main / name / "deeper").mkdir(parents=True)
        (mount.main / name / "other").write_text(name)
    (mount.main / "one/deeper/a").write_bytes(bytes(size))
    os.link(mount.main / "one/deeper/a", mount.main / "two/deeper/b")
    mount.commit()
    mount.remount()
    with (mount.main / "two/deeper/b").open("r+b") as file:
        file.seek(size // 2)
        file.write(b"changed")
    expected = (bytes(size // 2) + b"changed").ljust(size, b"\0")
    changes = {row["path"]: row["change"] for row in mount.json("status")["changes"]}
    assert changes == {"one/deeper/a": "modified", "two/deeper/b": "modified"}
    version = mount.commit()
    assert mount.json("status")["clean"]
    for top in (mount.main, version):
        assert (top / "one/deeper/a").read_bytes() == (top / "two/deeper/b").read_bytes() == expected
        assert os.path.samefile(top / "one/deeper/a", top / "two/deeper/b")
    assert (mount.root / "main@1/one/deeper/a").read_bytes() == bytes(size)


def test_a_modification_time_never_goes_backward_p13(mount: Mount):
    """300 files are made and written, and looked at twice after each step; some are synced or committed in between."""
    for number in range(300):
        path = mount.main / str(number)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            times = [os.fstat(descriptor).st_mtime_ns]
            for piece in (b"first", b"second"):
                os.write(descriptor, piece)
                times += [os.fstat(descriptor).st_mtime_ns, os.stat(path).st_mtime_ns, os.stat(path).st_mtime_ns]
            if number % 3 == 0:
                os.fsync(descriptor)
                times.append(os.stat(path).st_mtime_ns)
            if number % 50 == 0:
                mount.commit()
                times.append(os.stat(path).st_mtime_ns)
        finally:
            os.close(descriptor)
        times += [os.stat(path).st_mtime_ns, os.stat(path).st_mtime_ns]
        assert times == sorted(times), (number, [time - times[0] for time in times])


FINE_TIMES = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 13)
"""Whether looking at a file of ext4 makes the kernel stamp all files ahead of its coarse clock."""


def test_what_is_made_after_a_write_is_not_older_p13(mount: Mount, beside: Path):
    """As make needs it: 300 times, a file is written, and then an empty one is made. Beside it, ext4 is at work."""
    for number in range(300):
        (beside / "file").write_text(str(number))
        os.stat(beside / "file")
        (mount.main / "source").write_text("x")
        target = mount.main / f"target {number}"
        target.touch()
        assert target.stat().st_mtime_ns >= (mount.main / "source").stat().st_mtime_ns


STANDING = (
    UNTIL_TOLD
    + """
def look():
    seen = open("data").read(), open("deeper/data").read(), open("../d/data").read(), os.getcwd(), sorted(os.listdir())
    assert seen == expected, seen

here = sys.argv[1]
expected = "one", "one", "one", here, ["data", "deeper"]
until_told(look)
"""
)

WALKING = (
    UNTIL_TOLD
    + """
def walk():
    for top in sys.argv[1:]:
        assert open(top + "/d/data").read() == "one"
        assert [len(files) for _, _, files in os.walk(top)] == [0, 1, 1]
        assert os.path.realpath(top + "/d/deeper") == top + "/d/deeper"

until_told(walk)
"""
)


def test_who_stands_in_a_version_stays_there_whoever_walks_the_same_commit_p1_p19(mount: Mount):
    """By a tag, by the id, by the head, and in versions with the same tree; while the branch is committed, too."""
    (mount.main / "d/deeper").mkdir(parents=True)
    (mount.main / "d/data").write_text("one")
    (mount.main / "d/deeper/data").write_text("one")
    version = mount.commit()
    done(mount.ana("tag", "v1", "main@1"))
    whole = mount.json("log")[0]["id"]
    names = [mount.root / "v1", mount.root / f"@{whole}", version]
    with ExitStack() as stack:
        standing = stack.enter_context(started(STANDING, version / "d", cwd=version / "d"))
        walking = [
            stack.enter_context(started(WALKING, *names[turn:], *names[:turn], cwd=mount.root)) for turn in (0, 1)
        ]
        for number in range(20):
            (mount.main / "d/data").write_text(f"another {number}")
            mount.commit()
            (mount.root / "main@head/d/data").read_text()
            assert (mount.root / "v1/d/data").read_text() == "one"
        for process in (standing, *walking):
            assert said(process) == []


AT_THE_HEAD = (
    UNTIL_TOLD
    + """
def read(path):
    try:
        return int(open(path).read())
    except FileNotFoundError:
        return None

def look():
    global last
    number = read("data")
    assert number is None or number >= last, f"{number} after {last}"
    last = last if number is None else number
    for name in ("even", "odd"):
        read(name)
    assert os.getcwd() == sys.argv[1]

last = 0
until_told(look)
look()
print(last)
"""
)


def test_who_stands_in_the_head_sees_the_old_or_the_new_across_commits_p1(mount: Mount):
    """A file that changes with each commit, and one of two names that is gone with each: ENOENT, or a whole version."""
    (mount.main / "d").mkdir()
    (mount.main / "d/data").write_text("0")
    mount.commit()
    here = mount.root / "main@head/d"
    with started(AT_THE_HEAD, here, cwd=here) as standing:
        for number in range(1, 31):
            (mount.main / "d/data").write_text(str(number))
            gone, new = ("even", "odd") if number % 2 else ("odd", "even")
            (mount.main / "d" / gone).unlink(missing_ok=True)
            (mount.main / "d" / new).write_text(str(number))
            mount.commit()
            assert (here / "data").read_text() == str(number)
        assert said(standing) == ["30"]


LISTING = (
    UNTIL_TOLD
    + """
def listing():
    names = os.listdir(sys.argv[1])
    assert "main" in names and len(names) == len(set(names)), names
    assert len([name for name in names if name.startswith("exp")]) in (0, 1, 2), names
    seen.update(names)

seen = set()
until_told(listing)
print(json.dumps(sorted(seen)))
"""
)


def test_a_branch_is_renamed_while_others_list_the_root_p1_p7(mount: Mount):
    """By mv, there and back, with a file open in it; the branch is listed by one of its names and stays what it was."""
    (mount.root / "exp").mkdir()
    (mount.root / "exp/data").write_text("uncommitted")
    number = (mount.root / "exp").stat().st_ino
    with ExitStack() as stack:
        listing = [stack.enter_context(started(LISTING, mount.root, cwd=Path("/"))) for _ in range(2)]
        file = stack.enter_context((mount.root / "exp/open").open("w"))
        for turn in range(40):
            old, new = (mount.root / f"exp{at or ''}" for at in (turn, turn + 1))
            subprocess.run(["mv", old, new], check=True)
            assert sorted(os.listdir(mount.root)) == [new.name, "main"][:: 1 if new.name < "main" else -1]
            assert (new / "data").read_text() == "uncommitted"
            assert new.stat().st_ino == number
            file.write("x")
            file.flush()
        names = {"main", "exp", *(f"exp{at}" for at in range(1, 41))}
        for process in listing:
            assert set(json.loads(said(process)[-1])) <= names
    assert (mount.root / "exp40/open").read_text() == "x" * 40
    assert (mount.commit(branch="exp40") / "data").read_text() == "uncommitted"


def by_command(mount: Mount) -> None:
    """The command, from a directory outside of the mount."""
    done(mount.ana("commit", "-m", "by command"))


def by_another_process(mount: Mount) -> None:
    """The control file, in a shell of its own."""
    subprocess.run(["sh", "-c", "echo by another > main/.ana/commit"], cwd=mount.root, check=True)


@pytest.mark.parametrize("commit", [by_command, by_another_process])
@pytest.mark.parametrize("size", [20_000, 500_000])
def test_a_mapped_and_open_file_keeps_what_it_had_when_others_commit_p14_p25(
    mount: Mount, size: int, commit: Callable[[Mount], None]
):
    """Three times over: what a descriptor wrote and a shared mapping stored is in each version, and stays in both."""
    path, expected = mount.main / "mapped", bytearray(size)
    path.write_bytes(expected)
    mount.commit()
    with path.open("r+b", buffering=0) as file, mmap.mmap(file.fileno(), size) as shared:
        private = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE)
        private[0:7] = b"private"
        for number in range(2, 5):
            at = 5000 * (number - 1)
            file.seek(at)
            file.write(b"written %d" % number)
            shared[at + 100 : at + 108] = b"stored %d" % number
            expected[at : at + 9] = b"written %d" % number
            expected[at + 100 : at + 108] = b"stored %d" % number
            commit(mount)
            assert file.tell() == at + 9
            assert shared[:] == os.pread(file.fileno(), size, 0) == bytes(expected)
            assert private[0:7] == b"private"
            assert (mount.root / f"main@{number}/mapped").read_bytes() == bytes(expected)
        private.close()
    assert path.read_bytes() == bytes(expected)
    assert mount.json("status")["clean"]


def worked(mount: Mount) -> float:
    """Seconds for which the daemon has had a processor; waiting for one is nobody's work."""
    words = Path(f"/proc/{mount.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_clean_directory_of_many_files_is_renamed_in_one_step_p22_p40(mount: Mount):
    """10,000 files: the rename costs nothing beside making them; status and version have it at the new place."""
    count, old, new = 10_000, mount.main / "old", mount.main / "parent/new"
    old.mkdir()
    new.parent.mkdir()
    begun = worked(mount)
    for number in range(count):
        (old / f"{number:05}").write_text(str(number))
    making = worked(mount) - begun
    mount.commit()
    mount.remount()
    begun = worked(mount)
    os.rename(old, new)
    assert worked(mount) - begun < making / 20
    changes = {row["path"]: row["change"] for row in mount.json("status")["changes"]}
    assert changes.pop("parent/new") == "renamed"
    assert len(changes) == count
    assert set(changes.values()) == {"renamed"}
    version = mount.commit()
    assert mount.json("status")["clean"]
    for top in (mount.main, version):
        assert sorted(os.listdir(top)) == ["parent"]
        assert sorted(os.listdir(top / "parent/new")) == [f"{number:05}" for number in range(count)]
        assert [(top / f"parent/new/{number:05}").read_text() for number in (0, 4711, count - 1)] == [
            "0",
            "4711",
            "9999",
        ]
    assert len(os.listdir(mount.root / "main@1/old")) == count
