"""A disk without room: who is told, what stays, and what goes on all the same. P31, P32, P33, P45.

The repository lies on a small disk of its own, which only root can make.
"""

import errno
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from anabranch import AnabranchError, Repository
from tests.harness import PATIENCE, REQUIRED, Mount, done, errno_of, hinted, python, refused, snapshot, wait_for

pytestmark = pytest.mark.mounted

DISK = 96 << 20
ROOM = 8 << 20
"""What a test leaves free where it need not fill all of the disk by itself."""

WRITER = """
import errno, os, random, sys
def content(name, size):
    return random.Random(name).randbytes(size)
def write(descriptor, data):
    data = memoryview(data)
    while data:
        data = data[os.write(descriptor, data[: 1 << 18]) :]
def kept(name, size):
    print(name, size, flush=True)
def make(name, size, sync):
    descriptor = os.open(name, os.O_CREAT | os.O_WRONLY)
    try:
        write(descriptor, content(name, size))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if sync:
        kept(name, size)
def large(number):
    make(f"large-{number}", 3_000_000, True)
def unsynced(number):
    make(f"unsynced-{number}", 1_000_000, False)
def small(number):
    names = [f"small-{number}-{each}" for each in range(20)]
    for name in names:
        make(name, 20_000, False)
    descriptor = os.open(".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for name in names:
        kept(name, 20_000)
def append(number):
    if number == 0:
        global log, all_of_it
        log, all_of_it = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND), content("log", 1 << 26)
    write(log, all_of_it[20_000 * number : 20_000 * (number + 1)])
    os.fsync(log)
    kept("log", 20_000 * (number + 1))
try:
    for number in range(3000):
        globals()[sys.argv[1]](number)
    print("never full")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
"""Writes until it is told that there is no room: says what it fsynced, and at last what it was told."""

Ledger = dict[str, int]
"""What was fsynced: files of the main branch by name, and how many bytes of each."""


def content(name: str, size: int) -> bytes:
    """What a file of a name holds; no compressor makes it smaller. Of sizes that 4 divides, less is the beginning."""
    return random.Random(name).randbytes(size)


@dataclass
class Disk:
    """A small filesystem of its own."""

    path: Path

    @property
    def filler(self) -> Path:
        """A file that is none of the repository's."""
        return self.path / "filler"

    def free(self) -> int:
        """Bytes that are left."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        """Have another program take the room; by 0, until not a byte is left."""
        with self.filler.open("ab") as file:
            if (much := self.free() - leave - (1 << 20)) > 0:
                os.posix_fallocate(file.fileno(), 0, much)
            file.seek(0, os.SEEK_END)
            block = bytes(4096)
            while self.free() > leave and errno_of(os.write, file.fileno(), block) == 0:
                os.fsync(file.fileno())


def in_order(*command: str | Path) -> None:
    """Run a program of the machine."""
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)


@contextmanager
def made(directory: Path) -> Iterator[Disk]:
    """A disk, which is gone afterwards. Raises CalledProcessError, FileNotFoundError where none can be made."""
    image, path = directory / "disk.img", directory / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK)
    in_order("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", image)
    in_order("mount", "-o", "loop", image, path)
    try:
        yield Disk(path)
    finally:
        try:
            wait_for(lambda: subprocess.run(["umount", path], capture_output=True).returncode == 0, "an unused disk")
        except BaseException:
            in_order("umount", "--lazy", path)
            raise
        finally:
            image.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk. Where root must be able to make one, failing to is a failure."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(made(tmp_path))
        except (OSError, subprocess.CalledProcessError) as error:
            why = f"no small disk can be made here: {error} {getattr(error, 'stderr', b'')!r}"
            if REQUIRED:
                pytest.fail(why, pytrace=False)
            pytest.skip(why)
        yield disk


@pytest.fixture
def mount(disk: Disk, fresh_repository: Path, tmp_path: Path) -> Iterator[Mount]:
    """A repository on the small disk, mounted, with one commit and something that was fsynced after it."""
    root = tmp_path / "mnt"
    root.mkdir()
    with Mount(Path(shutil.copytree(fresh_repository, disk.path / "repo")), root).kept_tidy() as mount:
        mount.mount()
        (mount.main / "directory").mkdir()
        for name, size in COMMITTED.items():
            (mount.main / name).write_bytes(content(name, size))
        mount.commit("before")
        for name, size in FSYNCED.items():
            (mount.main / name).write_bytes(content(name, size))
        sync(mount.main)
        yield mount


COMMITTED = {"old": 2_000_000, "directory/old small": 3000}
FSYNCED = {"new": 1_000_000, "directory/new small": 3000}


def sync(path: Path) -> None:
    """Fsync a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, size: int) -> None:
    """Write a file and fsync it."""
    path.write_bytes(content(path.name, size))
    sync(path)


def holds(top: Path, ledger: Ledger) -> None:
    """The files of a ledger are there."""
    for name, size in ledger.items():
        assert (top / name).read_bytes()[:size] == content(name, size), name


def check_kept(mount: Mount, ledger: Ledger) -> None:
    """All that was committed or fsynced is there, byte by byte."""
    holds(mount.main, COMMITTED | FSYNCED | ledger)
    holds(mount.root / "main@1", COMMITTED)


def write_until_full(mount: Mount, *kinds: str) -> Ledger:
    """Several programs write at once until there is no room. Each must be told; returns what they had fsynced."""
    writers = [python(WRITER, kind, cwd=mount.main) for kind in kinds]
    try:
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(lambda writer: writer.communicate(timeout=PATIENCE)[0].split("\n")[:-1], writers))
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate(timeout=PATIENCE)
    assert [lines[-1] for lines in said] == ["ENOSPC"] * len(kinds)
    return {name: int(size) for lines in said for name, size in (line.split() for line in lines[:-1])}


def check_refused(mount: Mount) -> None:
    """There is no room: who writes is told at write, close or fsync."""
    path = mount.main / "one too many"
    assert errno_of(write, path, 4_000_000) == errno.ENOSPC


def check_goes_on(mount: Mount, ledger: Ledger) -> Ledger:
    """There is room again, or soon: writing, fsync and commits work, with all that was kept. Returns the new ledger."""
    wait_for(lambda: errno_of(write, mount.main / "after", 2_000_000) == 0, "room")
    write(mount.main / "small after", 1000)
    ledger = ledger | {"after": 2_000_000, "small after": 1000}
    holds(mount.commit("after"), ledger)
    holds(mount.main, ledger)
    return ledger


def test_everybody_who_writes_to_a_full_disk_is_told_and_nobody_hangs_p45(mount: Mount):
    """Four at once. What they fsynced is there while the disk is full, and after the next mount."""
    ledger = write_until_full(mount, "large", "small", "append", "unsynced")
    assert ledger, "nobody had come to an fsync"
    check_kept(mount, ledger)
    mount.remount()
    check_kept(mount, ledger)


def test_what_nobody_fsyncs_is_refused_on_a_full_disk_too_p45(mount: Mount, disk: Disk):
    """Files that are small enough to stay in memory: what close(2) took is not lost at umount for want of room."""
    disk.fill(leave=ROOM)
    taken = []

    def fill() -> None:
        for number in range(2 * ROOM // 60_000):
            (mount.main / f"file {number}").write_bytes(content(str(number), 60_000))
            taken.append(number)

    assert errno_of(fill) == errno.ENOSPC
    mount.remount()
    for number in taken:
        assert (mount.main / f"file {number}").read_bytes() == content(str(number), 60_000), number


def write_too_much(file: BinaryIO, disk: Disk) -> bytes:
    """Three times what there is room for, which write(2) does not know; then there is room again."""
    disk.fill(leave=ROOM)
    data = content("large", 3 * ROOM)
    for start in range(0, len(data), 1 << 16):
        file.write(data[start : start + (1 << 16)])
    assert errno_of(os.fsync, file.fileno()) == errno.ENOSPC
    disk.filler.unlink()
    return data


def test_until_it_is_written_again_each_fsync_of_what_had_no_room_fails_and_so_does_a_commit_p45_p76(
    mount: Mount, disk: Disk
):
    with (mount.main / "large").open("wb", buffering=0) as file:
        data = write_too_much(file, disk)
        for _ in range(2):
            assert errno_of(os.fsync, file.fileno()) == errno.ENOSPC
        hinted(mount.ana("commit", "-m", "a part"), 3, "large could not be written whole: No space left on device")
        assert errno_of((mount.main / ".ana/commit").write_text, "a part") == errno.EBUSY
        sync(mount.main / "new")
        done(mount.ana("commit", "-m", "others", "directory", "new"))
        os.pwrite(file.fileno(), data, 0)
        os.fsync(file.fileno())
    assert (mount.commit("all of it") / "large").read_bytes() == data


def test_a_commit_goes_on_as_soon_as_what_had_no_room_is_closed_p45_p76(mount: Mount, disk: Disk):
    """Whether or not the kernel has let go of the file: somebody may know it without having it open."""
    with (mount.main / "large").open("wb", buffering=0) as file:
        write_too_much(file, disk)
        known = os.open(mount.main / "large", os.O_PATH)
    mount.commit("what was kept")
    os.close(known)


def test_under_no_name_is_shown_what_had_no_room_once_the_file_is_closed_p45_p76(mount: Mount, disk: Disk):
    names = [mount.main / f"name {number}" for number in range(3)]
    with names[0].open("wb", buffering=0) as file:
        for name in names[1:]:
            name.hardlink_to(names[0])
        data = write_too_much(file, disk)
        assert {name.stat().st_size for name in names} == {len(data)}
    wait_for(lambda: all(name.stat().st_size < len(data) for name in names), "the kernel to let go of the file")


@pytest.mark.parametrize("cut", [False, True], ids=["closed", "cut off"])
def test_what_had_no_room_is_not_shown_once_the_file_is_closed_or_cut_off_p45_p76(mount: Mount, disk: Disk, cut: bool):
    large = mount.main / "large"
    with large.open("wb", buffering=0) as file:
        data = write_too_much(file, disk)
        if cut:
            os.ftruncate(file.fileno(), 0)
            errno_of(os.fsync, file.fileno())  # as below
            os.fsync(file.fileno())
    wait_for(lambda: large.stat().st_size < len(data), "the kernel to let go of the file")
    kept = large.read_bytes()
    pages = ((kept[start : start + 4096], data[start : start + 4096]) for start in range(0, len(kept), 4096))
    assert all(ours in (theirs, bytes(4096)) for ours, theirs in pages)
    errno_of(sync, large)  # the repository's disk may have more to tell of before
    sync(large)
    assert (mount.commit("what was kept") / "large").read_bytes() == kept
    mount.remount()
    assert large.read_bytes() == kept


def test_what_had_no_room_is_let_go_of_also_where_the_kernel_was_told_to_long_ago_p45_p76(mount: Mount, disk: Disk):
    """A file that is open while many others are looked at, which take the place of what was known."""
    mount.umount()
    mount.mount("--memory", "1")
    with (mount.main / "large").open("wb", buffering=0) as file:
        for number in range(600):
            (mount.main / f"{number}").touch()
        data = write_too_much(file, disk)
    wait_for(lambda: (mount.main / "large").stat().st_size < len(data), "the kernel to let go of the file")


def test_a_full_disk_keeps_nobody_from_looking_deleting_and_unmounting_p45(mount: Mount, disk: Disk):
    disk.fill(leave=ROOM)
    ledger = write_until_full(mount, "large", "append")
    check_kept(mount, ledger)
    assert (mount.main / "directory").stat().st_mode == (mount.root / "main@1/directory").stat().st_mode
    assert {"old", "new", *ledger} <= set(os.listdir(mount.main))
    assert "before" in done(mount.ana("log"))
    assert "new" in done(mount.ana("status"))
    assert "new" in (mount.main / ".ana/status").read_text()
    (mount.main / "directory/old small").unlink()
    (mount.main / "new").unlink()
    assert "old small" not in os.listdir(mount.main / "directory")
    mount.remount()
    assert "old small" not in os.listdir(mount.main / "directory")
    assert "new" not in os.listdir(mount.main)
    holds(mount.main, ledger)


def test_a_commit_that_does_not_fit_fails_whole_p17_p45(mount: Mount, disk: Disk):
    """By the control file and by the command: a clear error, and the branch is as it was."""
    (mount.main / "directory/renamed").hardlink_to(mount.main / "old")
    with (mount.main / "too much").open("wb") as file:  # what is closed may be stored before the disk is full
        file.write(content("too much", 20_000_000))
        file.flush()
        sync(mount.main / "too much")
        disk.fill(leave=ROOM)
        before, status, log = snapshot(mount.main), mount.json("status"), mount.json("log")
        assert errno_of((mount.main / ".ana/commit").write_text, "too much") == errno.ENOSPC
        assert re.search("full|space", (mount.main / ".ana/error").read_text())
        ended = mount.ana("commit", "-m", "too much")
        assert ended.returncode != 0
        assert re.search("full|space", hinted(ended, ended.returncode))
    for _ in range(2):
        assert (mount.json("status"), mount.json("log")) == (status, log)
        assert snapshot(mount.main) == before
        check_kept(mount, {"too much": 20_000_000})
        mount.remount()
    disk.filler.unlink()
    assert snapshot(mount.commit()) == snapshot(mount.main)


def test_a_commit_does_not_fit_where_not_a_byte_is_left_p45(mount: Mount, disk: Disk):
    """Small changes, too: whole or not at all."""
    disk.fill()
    status = mount.json("status")
    code = errno_of((mount.main / ".ana/commit").write_text, "as small as it is")
    assert code in (0, errno.ENOSPC)
    assert mount.messages()[0] == ("as small as it is" if code == 0 else "before")
    assert mount.json("status") == status or code == 0
    check_kept(mount, {})
    mount.remount()
    assert mount.messages()[0] == ("as small as it is" if code == 0 else "before")
    check_kept(mount, {})
    disk.filler.unlink()
    check_goes_on(mount, COMMITTED | FSYNCED)


def test_deleting_in_the_mount_makes_room_p45(mount: Mount, disk: Disk):
    """Nobody restarts anything: what could not be written can be, soon after uncommitted files have gone."""
    disk.fill(leave=2 * ROOM)
    ledger = write_until_full(mount, "large", "append", "unsynced")
    check_refused(mount)
    for path in mount.main.iterdir():
        if path.name.startswith(("large", "unsynced", "one too many")):
            path.unlink()
    sync(mount.main)
    ledger = check_goes_on(mount, {name: size for name, size in ledger.items() if name == "log"})
    mount.remount()
    check_kept(mount, ledger)


def test_room_that_another_program_makes_is_used_p45(mount: Mount, disk: Disk):
    disk.fill(leave=ROOM)
    ledger = write_until_full(mount, "large", "small", "append")
    check_refused(mount)
    disk.filler.unlink()
    ledger = check_goes_on(mount, ledger)
    mount.remount()
    check_kept(mount, ledger)


def test_a_file_that_met_a_full_disk_can_be_written_on_with_when_there_is_room_p45(mount: Mount, disk: Disk):
    """By the same descriptor."""
    data = content("open", 3 * ROOM)
    with (mount.main / "open").open("wb", buffering=0) as file:
        assert os.write(file.fileno(), data[:ROOM]) == ROOM
        os.fsync(file.fileno())
        disk.fill()

        def write_all() -> None:
            for start in range(ROOM, len(data), 1 << 20):
                os.pwrite(file.fileno(), data[start : start + (1 << 20)], start)
            os.fsync(file.fileno())

        assert errno_of(write_all) == errno.ENOSPC
        disk.filler.unlink()
        write_all()
    mount.crash()
    assert (mount.main / "open").read_bytes() == data


def test_a_version_and_its_file_stay_whole_under_writes_that_do_not_fit_p19_p45(mount: Mount, disk: Disk):
    """In place, over what is committed: what does not fit is refused, what was there is there."""
    (mount.main / "old").chmod(0o600)
    sync(mount.main)
    disk.fill()
    with (mount.main / "old").open("r+b", buffering=0) as file:

        def overwrite() -> None:
            os.pwrite(file.fileno(), bytes(1_500_000), 0)
            os.fsync(file.fileno())

        assert errno_of(overwrite) == errno.ENOSPC
    mount.remount()
    assert (mount.root / "main@1/old").read_bytes() == content("old", 2_000_000)
    assert (mount.main / "old").read_bytes()[1_500_000:] == content("old", 2_000_000)[1_500_000:]
    disk.filler.unlink()
    check_goes_on(mount, FSYNCED)


def test_what_was_fsynced_survives_a_kill_on_a_full_disk_p32_p45(mount: Mount, disk: Disk):
    disk.fill(leave=2 * ROOM)
    ledger = write_until_full(mount, "large", "small", "append", "unsynced")
    mount.crash()
    check_kept(mount, ledger)
    disk.fill()
    mount.crash()
    check_kept(mount, ledger)
    disk.filler.unlink()
    check_goes_on(mount, ledger)


@pytest.mark.parametrize("end", ["umount", "kill"])
def test_where_another_program_left_not_a_byte_files_can_be_deleted_and_the_mount_ends_and_begins_p45(
    mount: Mount, disk: Disk, end: str
):

    def nothing_is_left() -> bool:
        disk.fill()
        return disk.free() == 0

    wait_for(nothing_is_left, "the daemon to delete no overlay file any more")
    names = [name for name in os.listdir(mount.main) if (mount.main / name).is_file()]
    (mount.main / "new").unlink()
    sync(mount.main)
    disk.fill()
    mount.remount() if end == "umount" else mount.crash()
    assert sorted(os.listdir(mount.main)) == sorted({*names, "directory"} - {"new"})
    assert (mount.main / "old").read_bytes() == content("old", 2_000_000)
    (mount.main / "directory/new small").unlink()
    sync(mount.main / "directory")
    disk.filler.unlink()
    check_goes_on(mount, COMMITTED)


def test_names_of_branches_and_tags_are_made_whole_or_refused_p45(mount: Mount, disk: Disk):
    """With not a byte left: there or not there, and never another error than that of a full disk."""
    disk.fill()
    code = errno_of((mount.root / "exp").mkdir)
    assert code in (0, errno.ENOSPC)
    tagged = mount.ana("tag", "v1", "main@1")
    assert tagged.returncode == 0 or re.search("full|space", refused(tagged, tagged.returncode))
    for _ in range(2):
        assert (mount.root / "exp").exists() == (code == 0)
        assert (mount.root / "v1").exists() == (tagged.returncode == 0)
        mount.remount()
    check_kept(mount, {})


def test_without_a_mount_a_full_disk_is_the_same_p37_p45(mount: Mount, disk: Disk):
    """What only reads works; a commit that does not fit says so, and leaves everything uncommitted."""
    (mount.main / "too much").write_bytes(content("too much", 20_000_000))
    mount.umount()  # at once: a mount stores what nobody writes to any more ahead of a commit
    status, log = mount.json("status"), mount.json("log")
    disk.fill(leave=ROOM)
    ended = mount.ana("commit", "-m", "too much")
    assert re.search("full|space", refused(ended, ended.returncode))
    disk.fill()
    assert (mount.json("status"), mount.json("log")) == (status, log)
    disk.filler.unlink()
    done(mount.ana("commit", "-m", "fits"))
    mount.mount()
    check_kept(mount, {"too much": 20_000_000})


def test_the_library_says_that_the_disk_is_full_and_does_nothing(mount: Mount, disk: Disk):
    """With the mount, and without."""
    with Repository(mount.path) as repository:
        main = repository.branch()
        for unmounted in (False, True):
            if unmounted:
                mount.umount()
            disk.fill(leave=ROOM // 4)
            with pytest.raises(AnabranchError), main.transaction() as transaction:  # noqa: PT012  (at its end)
                transaction.write_bytes("small", b"small")
                transaction.write_bytes("large", content("large", 4 * ROOM))
            assert not (main / "small").exists()
            assert (main / "new").read_bytes() == content("new", FSYNCED["new"])
            disk.filler.unlink()
            (main / "small").write_bytes(b"there is room")
            main.commit("again")
            (main / "small").remove()
