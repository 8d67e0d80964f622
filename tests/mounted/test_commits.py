"""What a commit holds: everything, as it was at one instant; see also test_instant. P13, P14, P15, P16, P19, P24."""

import errno
import mmap
import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.harness import Mount, done, errno_of, pin_times, python, run_ana, shell, snapshot

pytestmark = pytest.mark.mounted

COARSE = 5
"""CLOCK_REALTIME_COARSE, which files are stamped by; the module time has no name for it."""


def fill(directory: Path) -> None:
    """Everything that a commit holds, in one directory. Sockets by name, since their paths are short."""
    (directory / "empty").touch()
    (directory / "small").write_bytes(b"x" * 100)
    (directory / "inline").write_bytes(b"y" * 512)
    (directory / "middling").write_bytes(os.urandom(20_000))
    (directory / "large").write_bytes(os.urandom(1_500_000))
    with (directory / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    os.truncate(directory / "sparse", 7_000_000)
    (directory / "runs").write_text("#!/bin/sh\n")
    (directory / "runs").chmod(0o4755)
    (directory / "secret").write_text("x")
    (directory / "secret").chmod(0o000)
    (directory / "empty directory").mkdir(mode=0o2711)
    (directory / "deep/er/and/deeper").mkdir(parents=True)
    (directory / "deep/er/and/deeper/file").write_text("x")
    (directory / "deep").chmod(0o1777)
    (directory / "linked").write_text("one file, three names")
    os.link(directory / "linked", directory / "deep/linked too")
    os.link(directory / "linked", directory / "deep/er/linked three")
    os.symlink("../small", directory / "deep/to small")
    os.symlink("/nowhere/at all", directory / "dangling")
    os.symlink("x" * 4000, directory / "long")
    os.link(directory / "dangling", directory / "dangling too", follow_symlinks=False)
    os.mkfifo(directory / "fifo", 0o640)
    os.mknod(directory / "socket", stat.S_IFSOCK | 0o600)
    if os.geteuid() == 0:
        os.mknod(directory / "character", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(directory / "block", stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
        os.chown(directory / "small", 1234, 4_000_000_000)
        os.lchown(directory / "dangling", 12, 34)
    name = os.path.join(os.fsencode(directory), b"not \xff utf-8 \n\t")
    with open(name, "wb") as file:
        file.write(b"x")
    pin_times(directory)
    os.utime(directory / "small", ns=(0, -1_234_567_890))
    os.utime(directory / "empty", ns=(0, 4_102_444_800_999_999_999))


def test_a_version_holds_everything_of_a_branch_p13(mount: Mount):
    fill(mount.main)
    before = snapshot(mount.main)
    version = mount.commit()
    assert snapshot(version) == before
    assert snapshot(mount.main) == before
    mount.remount()
    assert snapshot(version) == before
    assert snapshot(mount.main) == before
    (mount.root / "exp").mkdir()
    assert snapshot(mount.root / "exp") == before
    (mount.root / "exp/new").touch()
    second = snapshot(mount.commit(branch="exp"))
    second.pop("new"), second.pop("."), before.pop(".")
    assert second == before


def test_what_is_read_from_a_version_is_what_ordinary_tools_copied_p13(mount: Mount, beside: Path):
    """By cp -a and tar, back and forth."""
    fill(beside)
    done(shell(f"cp -a {beside}/. {mount.main}/", Path("/")))
    expected = snapshot(beside)
    assert snapshot(mount.main) == expected
    version = mount.commit()
    back = beside.with_name("back")
    back.mkdir()
    done(shell(f"tar -C {version} --exclude ./socket -c . | tar -C {back} -xp", Path("/")))
    (mount.main / "socket").unlink()
    expected.pop("socket")
    theirs = snapshot(back)
    for rows in (expected, theirs):
        rows.pop(".")
    whole_seconds = {path: (*row[:3], row[3] // 10**9, *row[4:]) for path, row in expected.items()}
    assert {path: (*row[:3], row[3] // 10**9, *row[4:]) for path, row in theirs.items()} == whole_seconds


def test_the_time_of_a_write_is_the_same_in_the_version_p13(mount: Mount):
    """A file made and written within one tick of the clock, and closed in a later one."""
    for number in range(20):
        descriptor = os.open(mount.main / str(number), os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"x")
        tick = time.clock_gettime_ns(COARSE)
        while time.clock_gettime_ns(COARSE) == tick:
            pass
        os.close(descriptor)
    times = [(mount.main / str(number)).stat().st_mtime_ns for number in range(20)]
    version = mount.commit()
    assert [(version / str(number)).stat().st_mtime_ns for number in range(20)] == times


def test_an_open_file_is_whole_in_the_commit_p14(mount: Mount):
    """Small and large, written by this process and another, not closed and not fsynced; by both doors."""
    large = os.urandom(5_000_000)
    code = "import os,sys; d = os.open('other', 65); os.write(d, b'of another process'); print(flush=True); input()"
    other = python(code, cwd=mount.main)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with (mount.main / "small").open("wb", buffering=0) as small, (mount.main / "large").open("wb") as big:
            small.write(b"one")
            big.write(large)
            big.flush()
            first = mount.commit()
            assert {name: (first / name).read_bytes() for name in os.listdir(first)} == {
                "small": b"one", "large": large, "other": b"of another process",
            }  # fmt: skip
            small.write(b"two")
            os.pwrite(big.fileno(), b"changed", 2_500_000)
            os.truncate(mount.main / "large", 4_000_000)
            done(mount.ana("commit", "-m", "second"))
            second = mount.root / "main@2"
            assert (second / "small").read_bytes() == b"onetwo"
            changed = (large[:2_500_000] + b"changed" + large[2_500_007:])[:4_000_000]
            assert (second / "large").read_bytes() == changed
            assert (first / "large").read_bytes() == large
            assert mount.json("status")["clean"]
    finally:
        other.kill()
        other.communicate()
    assert mount.json("status")["clean"]


def test_stores_through_a_mapping_are_in_the_commit_that_follows_p14(mount: Mount):
    path = mount.main / "mapped"
    path.write_bytes(bytes(100_000))
    mount.commit()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 100_000) as mapping:
        mapping[50_000:50_006] = b"stored"
        second = mount.commit()
        mapping[0:5] = b"again"
        third = mount.commit()
    assert (second / "mapped").read_bytes()[50_000:50_006] == b"stored"
    assert (second / "mapped").read_bytes()[:5] == bytes(5)
    assert (third / "mapped").read_bytes()[:5] == b"again"


def test_one_instant_over_many_files_p15_p16(mount: Mount):
    """A program that numbers twelve files in turn, half of them made anew by rename, beside 20 commits."""
    code = """
import os, sys
count, kept = 0, [open(f"kept {n}", "wb", buffering=0) for n in range(6)]
while True:
    count += 1
    for n, file in enumerate(kept):
        os.pwrite(file.fileno(), b"%020d" % count, 0)
        with open("new", "wb") as new:
            new.write(b"%020d" % count)
        os.rename("new", f"renamed {n}")
    if count == 1:
        print("ready", flush=True)
"""
    writer = python(code, cwd=mount.main)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(20):
            version = mount.commit()
            order = [f"{kind} {number}" for number in range(6) for kind in ("kept", "renamed")]
            counts = [int((version / name).read_bytes()) for name in order]
            assert counts == sorted(counts, reverse=True), counts
            assert counts[0] - counts[-1] <= 1, counts
            assert set(os.listdir(version)) - {"new"} == set(order)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


def test_writing_goes_on_while_a_commit_is_made_p16(mount: Mount):
    """While a large commit is built, a program writes; what it writes is in the next commit, and not in this one."""
    for number in range(4):
        (mount.main / f"large {number}").write_bytes(os.urandom(15_000_000))
    descriptor = os.open(mount.main / ".ana/commit", os.O_WRONLY)
    os.write(descriptor, b"prepared: the instant was before this returned")
    (mount.main / "meanwhile").write_text("written")
    (mount.main / "large 1").unlink()
    with (mount.main / "large 2").open("r+b") as file:
        file.write(b"changed")
    os.rename(mount.main / "large 3", mount.main / "moved")
    os.close(descriptor)
    assert sorted(os.listdir(mount.root / "main@1")) == [f"large {number}" for number in range(4)]
    assert (mount.root / "main@1/large 2").read_bytes()[:7] != b"changed"
    changes = {row["path"]: row["change"] for row in mount.json("status")["changes"]}
    assert changes == {
        "large 1": "deleted", "large 2": "modified", "meanwhile": "added", "moved": "renamed",
    }  # fmt: skip
    second = mount.commit()
    assert sorted(os.listdir(second)) == ["large 0", "large 2", "meanwhile", "moved"]
    assert (second / "large 2").read_bytes()[:7] == b"changed"
    assert (second / "moved").read_bytes() == (mount.root / "main@1/large 3").read_bytes()


def test_every_call_is_answered_while_a_large_commit_is_made_p16(mount: Mount):
    answered = number = 0
    while not answered:  # a commit may be over before a call was begun
        number += 1
        assert number <= 5, "no call was answered while a commit was made"
        (mount.main / "large").write_bytes(os.urandom(40_000_000))
        committing = threading.Thread(target=mount.commit)
        committing.start()
        while committing.is_alive():
            (mount.main / f"file {answered % 50}").write_text("x")
            os.listdir(mount.main)
            answered += committing.is_alive()
        committing.join()
    assert (mount.root / f"main@{number}/large").stat().st_size == 40_000_000


def test_a_version_never_changes_whatever_happens_to_the_branch_p19(mount: Mount):
    fill(mount.main)
    first = mount.commit()
    expected = snapshot(first)
    with (mount.main / "large").open("r+b") as file:
        file.write(b"over")
    os.truncate(mount.main / "middling", 3)
    (mount.main / "deep").rename(mount.main / "moved")
    (mount.main / "linked").unlink()
    (mount.main / "small").chmod(0o600)
    mount.commit()
    assert snapshot(first) == expected
    done(shell("rm -rf ./*", mount.main))
    mount.commit()
    assert os.listdir(mount.root / "main@head") == []
    mount.remount()
    assert snapshot(first) == expected
    assert done(run_ana("cat", "main@1:small", "-R", mount.path, cwd=Path("/"))) == "x" * 100


def test_a_file_read_from_the_cache_of_a_version_is_not_the_branchs_p19(mount: Mount):
    """The same name in a branch and two versions, all open at once."""
    path = mount.main / "data"
    path.write_bytes(b"1" * 100_000)
    first = mount.commit()
    path.write_bytes(b"2" * 100_000)
    second = mount.commit()
    path.write_bytes(b"3" * 100_000)
    with (first / "data").open("rb") as one, (second / "data").open("rb") as two, path.open("rb") as three:
        contents = [set(file.read()) for file in (one, two, three)]
    assert contents == [{ord("1")}, {ord("2")}, {ord("3")}]
    path.write_bytes(b"1" * 100_000)
    assert set((first / "data").read_bytes()) == set(path.read_bytes())
    with path.open("r+b") as file:
        file.write(b"4")
    assert set((first / "data").read_bytes()) == {ord("1")}


def test_hard_links_are_one_file_in_a_version_p13(mount: Mount):
    (mount.main / "one").write_bytes(b"shared" * 1000)
    (mount.main / "dir").mkdir()
    os.link(mount.main / "one", mount.main / "dir/two")
    version = mount.commit()
    assert (version / "one").stat().st_ino == (version / "dir/two").stat().st_ino
    assert (version / "one").stat().st_nlink == 2
    (mount.main / "dir/two").write_text("both")
    assert (mount.main / "one").read_text() == "both"
    mount.commit()
    (mount.main / "one").unlink()
    third = mount.commit()
    assert (third / "dir/two").stat().st_nlink == 1
    assert (mount.root / "main@2/one").read_text() == "both"
    assert (mount.root / "main@2/one").stat().st_nlink == 2
    (mount.main / "dir/two").write_text("alone")
    mount.commit()
    assert (mount.root / "main@2/dir/two").read_text() == "both"


def test_a_socket_in_a_branch_works_p24(mount: Mount):
    """It is bound by a short name from inside, as an address holds 108 bytes."""
    code = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('it'); s.listen(); print(flush=True); s.accept()"
    server = python(code, cwd=mount.main)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        directory = os.open(mount.main, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"/proc/self/fd/{directory}/it")
        finally:
            os.close(directory)
    finally:
        server.send_signal(signal.SIGKILL)
        server.communicate()
    assert stat.S_ISSOCK((mount.commit() / "it").stat().st_mode)
    assert errno_of(os.open, mount.main / "it", os.O_RDONLY) == errno.ENXIO
