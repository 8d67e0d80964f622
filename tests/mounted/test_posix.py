"""What only several users, or rare calls, show of a mount, beside an ordinary filesystem. P66 to P72."""

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from anabranch.daemon.lock import owner
from tests.harness import (
    ANA,
    PATIENCE,
    Completed,
    Mount,
    done,
    errno_of,
    in_a_namespace,
    python,
    shell,
    verify,
    wait_for,
)

pytestmark = pytest.mark.mounted

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

NOBODY = 65534

BECOME = """
import ctypes, fcntl, mmap, os, sys

def become(user):  # in the process itself: another user might not reach this Python
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

become(int(sys.argv.pop(1)))
"""


@pytest.fixture
def open_mount(mountable: Mount, open_path: Path) -> Iterator[Mount]:
    """A mount that every user can reach, beside an ordinary directory `beside` that they can."""
    (open_path / "mnt").mkdir()
    (open_path / "beside").mkdir()
    with Mount(mountable.path, open_path / "mnt").kept_tidy() as mount:
        mount.mount("--allow-other")
        yield mount


def told_by(user: int, code: str, *arguments: str | Path, cwd: Path) -> str:
    """What a program prints that a user runs."""
    with python(BECOME + code, str(user), *arguments, cwd=cwd) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return output


BITS = """
def write(path):
    with open(path, "r+b", buffering=0) as file:
        file.write(b"x")
        print(oct(os.fstat(file.fileno()).st_mode))

def map(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = 7

def truncate_open(path):
    with open(path, "r+b") as file:
        os.ftruncate(file.fileno(), 2)

def append(path):
    with open(path, "ab") as file:
        file.write(b"more")

calls = {
    "write": write, "append": append, "map": map, "ftruncate": truncate_open,
    "truncate": lambda path: os.truncate(path, 3), "extend": lambda path: os.truncate(path, 300000),
    "O_TRUNC": lambda path: open(path, "wb").close(), "nothing": lambda path: open(path, "r+b").close(),
    "chgrp": lambda path: os.chown(path, -1, os.getgid()),
}
for call, function in calls.items():
    for mode in sys.argv[1:]:
        function(f"{call}-{mode}")
        print(call, oct(os.stat(f"{call}-{mode}").st_mode))
"""


@as_root
def test_set_uid_and_set_gid_go_when_a_user_changes_a_file_and_stay_when_root_does_p66(open_mount: Mount):
    modes = ["4777", "2777", "6777", "6766", "1777"]
    tops = (open_mount.root.parent / "beside", open_mount.main)
    for user, number in (("root", 0), ("nobody", NOBODY)):
        seen = []
        for top in tops:
            here = top / user
            here.mkdir()
            for call in ("write", "append", "map", "ftruncate", "truncate", "extend", "O_TRUNC", "nothing", "chgrp"):
                for mode in modes:
                    path = here / f"{call}-{mode}"
                    path.write_bytes(b"content")
                    os.chown(path, 65534, 65534)
                    path.chmod(int(mode, 8))
            seen.append(told_by(number, BITS, *modes, cwd=here))
        assert seen[1] == seen[0]
    assert "0o104777" in seen[0]
    assert "write 0o100777" in seen[0]
    version = open_mount.commit()
    for user in ("root", "nobody"):
        for path in (tops[0] / user).iterdir():
            assert (version / user / path.name).stat().st_mode == path.stat().st_mode


@as_root
def test_a_commit_does_not_wait_for_a_user_who_truncates_a_set_uid_file_p66(open_mount: Mount):
    """The kernel sends size and mode in one request then, and holds the file's pages until it is answered."""
    path = open_mount.main / "file"
    path.write_bytes(b"x" * 300_000)
    os.chown(path, 65534, 65534)
    code = """
file = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(file, 4096)
print("ready", flush=True)
if os.fork() == 0:  # ends with its parent
    ctypes.CDLL(None).prctl(1, 9)
    while True:
        mapped[0] = 7
for number in range(100_000):
    os.fchmod(file, 0o6777)
    os.ftruncate(file, 100_000 + number % 7)
"""
    with python(BECOME + code, str(NOBODY), path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            for number in range(25):
                (open_mount.main / "other").write_text(str(number))
                open_mount.commit()
            assert process.poll() is None
        finally:
            process.kill()
            process.stdout.read()  # until its child has ended, too


TEBIBYTE = 1 << 40


def blocks(path: Path) -> int:
    return path.lstat().st_blocks


def test_blocks_are_those_of_an_ordinary_filesystem_p67(mount: Mount, beside: Path):
    """For what has no holes, small ones, and what is no file; holes show in steps that both have.

    The content is the same each time: whether its chunks are listed in one node, and so its holes known exactly, lies
    in their ids.
    """
    noise = Random(67).randbytes
    for top in (beside, mount.main):
        for size in (0, 1, 512, 4096, 4097, 100_000, 3_000_000):
            (top / f"{size}").write_bytes(noise(size))
        (top / "dir").mkdir()
        os.mkfifo(top / "fifo")
        os.symlink("dir", top / "link")
        with (top / "sparse").open("wb") as file:
            for offset in (0, 10 << 20, 300 << 20, 1 << 30):
                os.pwrite(file.fileno(), noise(1 << 20), offset)
        (top / "cut").write_bytes(noise(3_000_000))
        os.truncate(top / "cut", 200_000)
        os.truncate(top / "cut", 1 << 30)
    os.sync()
    names = [path.name for path in beside.iterdir()]
    expected = {name: blocks(beside / name) for name in names}
    # what a filesystem has for its own tables, or finds beside the holes, is a little
    for top in (mount.main, mount.commit(), mount.main):
        for name, count in expected.items():
            assert abs(blocks(top / name) - count) <= (2048 if name in ("sparse", "cut") else 16), (top, name)
    mount.remount()
    assert blocks(mount.main / "sparse") < 9 * 2048
    with (mount.main / "sparse").open("r+b") as file:  # over stored content
        os.pwrite(file.fileno(), noise(5 << 20), 400 << 20)
    assert 9 * 2048 <= blocks(mount.main / "sparse") < 20 * 2048


def test_a_file_that_stays_open_never_looks_like_one_hole_p67(mount: Mount):
    """The kernel would not ask for its blocks until it is closed, and `tar -S` leaves out what has none."""
    with (mount.main / "new").open("wb", buffering=0) as file:
        file.write(b"x" * 10)
        assert blocks(mount.main / "new") == 8
        file.write(b"x" * 1_000_000)
        wait_for(lambda: blocks(mount.main / "new") >= 1_000_000 // 512, "the blocks of a file that stays open")
    (mount.main / "touched").touch()
    assert blocks(mount.main / "touched") == 0
    with (mount.main / "touched").open("ab", buffering=0) as file:
        file.write(b"x" * 10)
        wait_for(lambda: blocks(mount.main / "touched") == 8, "the blocks of a file that is written on")


def test_a_file_of_a_tebibyte_is_written_at_both_ends_p67(mount: Mount):
    mount.sound = False  # to read all its zeros takes minutes
    path = mount.main / "large"

    def check(path: Path, begin: bytes, end: bytes) -> None:
        with path.open("rb") as file:
            assert (file.read(6), os.fstat(file.fileno()).st_size) == (begin, TEBIBYTE)
            assert os.pread(file.fileno(), 100, TEBIBYTE - len(end)) == end
            assert os.pread(file.fileno(), 100, TEBIBYTE // 2) == bytes(100)
        assert 0 < blocks(path) < 4096
        assert int(done(shell(f"du -s --block-size=1 {path.name}", path.parent)).split()[0]) < 2 << 20

    with path.open("wb") as file:
        file.write(b"begin\n")
        os.pwrite(file.fileno(), b"end", TEBIBYTE - 3)
        assert errno_of(os.truncate, path, 1 << 60) == errno.EFBIG
    check(path, b"begin\n", b"end")
    first = mount.commit() / "large"
    check(first, b"begin\n", b"end")
    with path.open("r+b") as again:
        os.pwrite(again.fileno(), b"BEGIN\n", 0)
        os.pwrite(again.fileno(), b"END", TEBIBYTE - 3)
        with mmap.mmap(again.fileno(), 1 << 20, offset=TEBIBYTE - (1 << 20)) as mapped:
            assert mapped[-3:] == b"END"
            mapped[0] = 7
    second = mount.commit() / "large"
    mount.remount()
    for version, begin, end in ((first, b"begin\n", b"end"), (second, b"BEGIN\n", b"END"), (path, b"BEGIN\n", b"END")):
        check(version, begin, end)
    os.truncate(path, TEBIBYTE - 1)
    os.truncate(path, TEBIBYTE)
    check(path, b"BEGIN\n", b"EN\0")


APPEND = """
name, count = sys.argv[1], int(sys.argv[2])
file = os.open("log", os.O_WRONLY | os.O_APPEND)
for number in range(count):
    line = f"{name} {number} ".encode() + name.encode() * (number * 37 % 5000) + b"\\n"
    assert os.write(file, line) == len(line)
"""


def test_lines_that_many_processes_append_are_all_there_and_whole_p68(mount: Mount):
    """In the file, and in versions that are made meanwhile: those hold what came first, whole lines of it."""
    (mount.main / "log").touch()
    names, count = "abcdefgh", 400
    versions: list[Path] = []
    programs = [python(BECOME + APPEND, "0", name, str(count), cwd=mount.main) for name in names]
    while any(program.poll() is None for program in programs):
        (mount.main / "other").write_text(f"{len(versions)}")
        versions.append(mount.commit())
    for program in programs:
        program.communicate()
        assert program.returncode == 0
    text = (mount.main / "log").read_bytes()
    lines = text.splitlines()
    assert len(lines) == len(names) * count
    for name in names.encode():
        mine = [line.split(b" ", 2)[1:] for line in lines if line[0] == name]
        assert [(int(number), rest) for number, rest in mine] == [
            (number, bytes([name]) * (number * 37 % 5000)) for number in range(count)
        ]
    for version in versions:
        held = (version / "log").read_bytes()
        assert text.startswith(held)
        assert held[-1:] in (b"\n", b"")


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.opendir.restype = LIBC.readdir.restype = ctypes.c_void_p
LIBC.telldir.restype = ctypes.c_long
for function in (LIBC.readdir, LIBC.telldir, LIBC.closedir, LIBC.rewinddir):
    function.argtypes = [ctypes.c_void_p]
LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def next_name(stream: int) -> bytes | None:
    """The next name of an open directory, but for `.` and `..`."""
    while entry := LIBC.readdir(stream):
        name = ctypes.string_at(entry + 19)  # struct dirent: number, offset, length, type, name
        if name not in (b".", b".."):
            return name
    return None


def test_every_listing_begins_with_the_directory_and_the_one_above_p69(mount: Mount, beside: Path):
    (mount.main / "d/e").mkdir(parents=True)
    (mount.main / "d/file").touch()
    version = mount.commit()
    (beside / "d/e").mkdir(parents=True)
    tops = (mount.main, version, mount.root / "main@head", beside)
    for path in (*(top / below for top in tops for below in ("d", "d/e")), mount.main, version, mount.main / ".ana"):
        stream = LIBC.opendir(os.fsencode(path))
        found: dict[bytes, int] = {}
        while entry := LIBC.readdir(stream):
            found[ctypes.string_at(entry + 19)] = ctypes.c_uint64.from_address(entry).value
        LIBC.closedir(stream)
        assert (found.pop(b"."), found.pop(b"..")) == (path.stat().st_ino, (path / "..").stat().st_ino)
        assert {os.fsdecode(name) for name in found} == set(os.listdir(path))
    assert shell("ls -a", mount.root).stdout == ".\n..\nmain\n"


def test_a_place_in_a_directory_stays_while_others_add_and_remove_p69(mount: Mount):
    """telldir and seekdir: the same names follow, but for those that are gone; each that stays comes once."""
    directory = mount.main / "many"
    directory.mkdir()
    for number in range(1000):
        (directory / f"clean {number:04}").touch()
    mount.commit()
    for number in range(1000):
        (directory / f"dirty {number:04}").touch()
    stream = LIBC.opendir(os.fsencode(directory))
    names: list[bytes] = []
    places: list[int] = []
    while True:
        places.append(LIBC.telldir(stream))
        if (name := next_name(stream)) is None:
            break
        names.append(name)
    assert len(set(names)) == len(names) == 2000
    for round_, place in enumerate((1500, 3, 700, 1999, 0)):
        for number in range(round_, 1000, 50):
            for kind in ("clean", "dirty"):
                (directory / f"{kind} {number:04}").unlink()
                (directory / f"{kind} {number:04} new").touch()
        if round_ == 2:
            mount.commit()
        LIBC.seekdir(stream, places[place])
        follows = [name for name in iter(lambda: next_name(stream), None) if not name.endswith(b"new")]
        gone = {name for name in names if int(name[6:10]) % 50 <= round_}
        kept = [name for name in names[place:] if name not in gone]
        assert [name for name in follows if name not in gone] == kept
    LIBC.rewinddir(stream)
    assert sorted(iter(lambda: next_name(stream), None)) == sorted(os.listdir(os.fsencode(directory)))
    LIBC.closedir(stream)


def test_names_of_one_file_stay_so_across_commits_mounts_and_in_versions_p70(mount: Mount):
    def groups(top: Path) -> list[list[str]]:
        found: dict[tuple[int, int], list[str]] = {}
        for path in sorted(top.rglob("*")):
            if not path.is_dir():
                found.setdefault((path.lstat().st_ino, path.lstat().st_nlink), []).append(str(path.relative_to(top)))
        assert all(len(names) == links for (_, links), names in found.items())
        return sorted(found.values())

    (mount.main / "d/e").mkdir(parents=True)
    (mount.main / "one").write_text("one")
    (mount.main / "alone").write_text("one")
    os.mkfifo(mount.main / "fifo")
    os.symlink("one", mount.main / "link")
    for old, new in (("one", "d/one"), ("one", "d/e/one"), ("fifo", "d/fifo"), ("link", "d/e/link")):
        os.link(mount.main / old, mount.main / new, follow_symlinks=False)
    expected = [["alone"], ["d/e/link", "link"], ["d/e/one", "d/one", "one"], ["d/fifo", "fifo"]]
    versions = []
    for change in ("ln one four", "rm d/one", "mv d moved", "echo x >> moved/e/one", "cp -l alone moved/e/alone"):
        assert groups(mount.main) == expected
        versions.append((mount.commit(), expected))
        assert groups(mount.main) == expected
        done(shell(change, mount.main))
        expected = groups(mount.main)
        mount.remount()
    assert expected == [["alone", "moved/e/alone"], ["fifo", "moved/fifo"], ["four", "moved/e/one", "one"],
                        ["link", "moved/e/link"]]  # fmt: skip
    for version, groups_then in versions:
        assert groups(version) == groups_then


@pytest.mark.parametrize("limit", [128, 512])
def test_more_files_are_open_than_the_daemon_may_have_descriptors_p71(mountable: Mount, limit: int):
    done(shell(f"ulimit -n {limit}; exec {ANA} mount {mountable.path} {mountable.root}", Path("/")))
    daemon = owner(mountable.path / "lock")
    assert daemon is not None
    assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[1] == limit
    main, count = mountable.main, 800  # itself under the usual limit, 1,024
    files = []
    for number in range(count):
        path = main / f"{number}"
        path.write_bytes(b"%d " % number * 15_000)
        files.append(os.open(path, os.O_RDWR))
    try:
        for number, file in enumerate(files):
            assert os.pwrite(file, b"changed", 40_000) == 7
            assert os.pread(file, 10, 0).startswith(b"%d " % number)
        version = mountable.commit()
        for file in files[::3]:
            assert os.pwrite(file, b"again", 80_000) == 5
            os.fsync(file)
        for file in files[::7]:
            assert os.pread(file, 7, 40_000) == b"changed"
    finally:
        for file in files:
            os.close(file)
    for number in range(0, count, 10):
        assert (version / f"{number}").read_bytes()[40_000:40_007] == b"changed"
        assert ((main / f"{number}").read_bytes()[80_000:80_005] == b"again") == (number % 3 == 0)


USER = """
set -e
cd "$1"; ana=$2
mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
echo "$3" > fuse.conf; mount --bind fuse.conf /etc/fuse.conf
mkdir home; chown 65534:65534 home; cd home; export HOME=$PWD
plainly() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
# this Python may lie where only root may look
as() { plainly --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"; }
trap 'as $ana umount mnt || fusermount3 -uz mnt' EXIT
plainly mkdir mnt
as $ana init --no-ignore repo
"""


def as_user(directory: Path, commands: str, *, configured: str = "") -> Completed:
    """Run commands as `nobody` beside a new repository, as on a machine where everybody may mount."""
    return in_a_namespace(USER + commands, directory, ANA, configured)


@as_root
def test_a_user_who_is_not_root_mounts_writes_and_commits_p72(open_path: Path):
    script = """
    as $ana mount repo mnt
    plainly sh -ec 'cd mnt/main; mkdir d; echo text > file; ln file d/hard; ln -s file link; mkfifo fifo
        chgrp "$(id -g)" file; chmod 4711 file; truncate -s 300000 large; mv large d; touch -d @7 d; rm fifo; sync d
        ! chown 0 file 2>/dev/null; ! mknod null c 1 3 2>/dev/null
        echo first > .ana/commit; cat .ana/commit; mkdir ../exp; echo more >> d/hard'
    as $ana commit -R repo -m second
    plainly sh -ec 'stat -c "%n %u:%g %a %h %s" mnt/main@1/* mnt/main/*; cat mnt/exp/file mnt/main@2/file; ls mnt'
    ls mnt 2>&1 || true
    as $ana umount mnt; as $ana mount repo mnt; plainly cat mnt/main/d/hard
    as $ana log -R repo --json | grep -c message
    """
    ended = as_user(open_path, script)
    output = done(ended).splitlines()
    assert output[1].startswith("main@1 ")
    for line in ("mnt/main@1/file 65534:65534 4711 2 5", "mnt/main/file 65534:65534 711 2 10", "exp", "more"):
        assert line in output, (line, output)
    assert any(line.startswith("ls: ") and line.endswith("Permission denied") for line in output), (
        "root is somebody else, too"
    )
    verify(open_path / "home/repo")


@as_root
def test_a_user_lets_others_in_where_root_allows_it_p72(open_path: Path):
    (open_path / "refused").mkdir()
    ended = as_user(open_path / "refused", "trap - EXIT; as $ana mount --allow-other repo mnt", configured="#")
    assert ended.returncode == 3
    assert "only root may let others in here\nhint: " in ended.stderr
    assert "user_allow_other" in ended.stderr
    (open_path / "allowed").mkdir()
    script = """
    as $ana mount --allow-other repo mnt
    plainly sh -ec 'cd mnt/main; echo for all > all; echo for me > mine; chmod 600 mine; mkdir -m 777 open; mkdir shut'
    setpriv --reuid=1234 --regid=1234 --clear-groups sh -c '
        cd mnt/main; cat all mine; echo theirs > open/file; echo x > shut/file; rm all; stat -c "%u %g" open/file'
    """
    ended = as_user(open_path / "allowed", script, configured="user_allow_other")
    output = done(ended)
    assert output.splitlines()[-2:] == ["for all", "1234 1234"]
    assert ended.stderr.count("Permission denied") == 3
