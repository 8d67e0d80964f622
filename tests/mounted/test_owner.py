"""Whose a repository is: after a crash, between two who want it, while its owner ends or stands still. P31, P36, P44.

See test_processes.py for one owner in ordinary times.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anabranch.daemon import lock as locks
from anabranch.daemon.protocol import Status, encode_request, send, short_address
from anabranch.store.layout import Layout
from tests.harness import ANA, PATIENCE, Mount, done, errno_of, hinted, python, refused, run_ana, wait_for

pytestmark = pytest.mark.mounted


@pytest.fixture
def other(mount: Mount, tmp_path: Path) -> Iterator[Mount]:
    """Another place for the same repository; nothing stays mounted there."""
    place = Mount(mount.path, tmp_path / "other")
    place.root.mkdir()
    try:
        yield place
    finally:
        place.clear_away()


def write(path: Path, data: bytes) -> None:
    """Write a file and fsync it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def test_mount_after_a_kill_lifts_the_dead_mount_and_says_what_it_found_p44(mount: Mount):
    """By one command, at the same place. After an ordinary end there is nothing to say."""
    write(mount.main / "kept", data := os.urandom(300_000))
    mount.kill()
    assert errno_of(os.listdir, mount.root) != 0
    ended = run_ana("mount", mount.path, mount.root, cwd=Path("/"))
    said = done(ended) + ended.stderr
    assert re.search(r"process \d+ (died|ended|was killed)|crash", said), said
    assert (mount.main / "kept").read_bytes() == data
    with open("/proc/self/mountinfo") as mounts:
        assert mounts.read().count(f" {mount.root} ") == 1, "the dead mount lies below the living one"
    mount.umount()
    ended = run_ana("mount", mount.path, mount.root, cwd=Path("/"))
    assert not re.search("died|killed|crash", done(ended) + ended.stderr)
    assert (mount.main / "kept").read_bytes() == data


def test_a_program_that_stands_in_the_dead_mount_does_not_keep_it_from_being_lifted_p44(mount: Mount):
    """It goes on standing in what is gone."""
    write(mount.main / "kept", b"kept")
    stander = python("print(flush=True); input()", cwd=mount.main)
    try:
        assert stander.stdout is not None
        stander.stdout.readline()
        mount.kill()
        mount.mount()
        assert (mount.main / "kept").read_bytes() == b"kept"
    finally:
        stander.kill()
        stander.communicate()


def test_a_dead_mount_of_another_repository_is_not_lifted_p44(mount: Mount, tmp_path: Path):
    done(run_ana("init", "--no-ignore", tmp_path / "second", cwd=tmp_path))
    mount.kill()
    refused(run_ana("mount", tmp_path / "second", mount.root, cwd=tmp_path), 3, "dead mount")
    mount.umount()


def test_a_command_after_a_kill_brings_the_working_tree_back_p36_p44(mount: Mount):
    """The command becomes the owner. It commits nothing while somebody may think that all is there: P14."""
    write(mount.main / "kept", b"kept")
    mount.kill()
    looked = mount.ana("status")
    assert "kept" in done(looked)
    for words in (f"process {mount.pid} died", str(mount.root), "uncommitted changes were brought back"):
        assert words in looked.stderr
    assert mount.ana("status").stderr == "", "it is told once"
    hinted(mount.ana("commit", "-m", "too early"), 3, str(mount.root), "died", "ana mount")
    mount.umount()
    done(mount.ana("commit", "-m", "after the crash"))
    assert done(mount.ana("cat", "main@1:kept")) == "kept"


def test_nothing_is_told_of_a_crash_where_none_was_p44(mount: Mount):
    """Changes by commands, without a mount and with one, are no crash."""
    (mount.main / "file").write_text("one")
    mount.commit()
    (mount.main / "file").write_text("two")
    mount.umount()
    for command in (["restore", "main@1", "file"], ["status"], ["restore", "main@0", "."]):
        ended = mount.ana(*command)
        done(ended)
        assert ended.stderr == ""
    assert mount.mount() == ""
    assert "died" not in mount.log_text()


def test_of_two_mounts_at_once_one_wins_p36(mount: Mount, other: Mount):
    """Twice. The other is told who has it, or that it is in use, and leaves no mount."""
    mount.umount()
    for number in range(2):
        places = (mount, other)
        running = [
            subprocess.Popen(
                [ANA, "mount", place.path, place.root], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for place in places
        ]
        try:
            said = [process.communicate(timeout=PATIENCE)[1] for process in running]
        finally:
            for process in running:
                process.kill()
                process.communicate()
        assert sorted(process.returncode for process in running) == [0, 3], said
        won = 0 if running[0].returncode == 0 else 1
        assert re.search("already mounted|in use", said[1 - won])
        assert [place.is_mounted() for place in places] == [won == 0, won == 1]
        (places[won].main / f"file {number}").write_text("x")
        places[won].umount()
        assert len(mount.json("status")["changes"]) == number + 1


def test_the_lock_is_the_kernels_whatever_its_file_says_p36(mount: Mount, other: Mount):
    """A process that is dead, one that never was, rubbish, nothing: the owner lives."""
    (mount.main / "file").write_text("x")
    lock = mount.path / "lock"
    truth = lock.read_bytes()
    dead = python("")
    dead.communicate()
    for text in (json.dumps({"pid": dead.pid, "mount_point": None}), '{"pid": 0', "no JSON", ""):
        lock.write_text(text)
        refused(run_ana("mount", mount.path, other.root, cwd=Path("/")), 3)
        assert not other.is_mounted()
        assert "file" in done(mount.ana("status")), "the command asks the owner"
    lock.write_bytes(truth)
    mount.commit()


def test_who_deletes_the_lock_file_does_not_rob_the_owner_p36(mount: Mount, other: Mount):
    """The kernel's lock lives on in a file without a name; a new file must not make a second owner."""
    (mount.main / "file").write_text("x")
    (mount.path / "lock").unlink()
    ended = run_ana("mount", mount.path, other.root, cwd=Path("/"))
    if ended.returncode == 0:
        other.umount()
    assert (mount.main / "file").read_text() == "x"
    refused(ended, 3)
    assert "file" in done(mount.ana("status")), "the command asks the owner"
    mount.commit()


def test_sigterm_brings_in_what_open_files_hold_p31(mount: Mount):
    """Written and neither synced nor closed, in memory and on the disk."""
    large, small = os.urandom(5_000_000), os.urandom(20_000)
    code = """
import os, sys
small, large = (os.open(name, os.O_WRONLY | os.O_CREAT) for name in ("small", "large"))
os.write(small, sys.stdin.buffer.read(20_000))
for _ in range(50):
    os.write(large, sys.stdin.buffer.read(100_000))
print("written", flush=True)
sys.stdin.buffer.read()
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=mount.main, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(small + large)
        writer.stdin.flush()
        assert writer.stdout.readline() == b"written\n"
        os.kill(mount.pid, signal.SIGTERM)
        wait_until_ended(mount)
    finally:
        writer.kill()
        writer.communicate()
    away(mount)
    mount.mount()
    assert (mount.main / "small").read_bytes() == small
    assert (mount.main / "large").read_bytes() == large


def wait_until_ended(mount: Mount) -> None:
    """The daemon ends, and in good order."""
    wait_for(lambda: not locks.is_held(Layout(mount.path)), "the daemon to end")
    assert "everything is on disk" in mount.log_text(), mount.log_text()


def away(mount: Mount) -> None:
    """What a daemon that ended while files were open may leave: a mount that nobody serves."""
    if mount.is_mounted():
        mount.umount()


def test_sigterm_again_and_again_is_as_good_p31(mount: Mount):
    """Until it has ended: while it brings things in, unmounts, and saves."""

    def ended() -> bool:
        errno_of(os.kill, mount.pid, signal.SIGTERM)
        return not locks.is_held(Layout(mount.path))

    descriptor = os.open(mount.main / "open", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, data := os.urandom(3_000_000))
        wait_for(ended, "the daemon to end")
    finally:
        errno_of(os.close, descriptor)
    assert "everything is on disk" in mount.log_text(), mount.log_text()
    away(mount)
    mount.mount()
    assert (mount.main / "open").read_bytes() == data


def test_what_a_program_could_write_until_the_end_of_the_mount_is_there_p31(mount: Mount):
    """It writes into one file, without a pause, until write(2) fails; SIGTERM comes meanwhile."""
    code = """
import os
descriptor = os.open("file", os.O_WRONLY | os.O_CREAT)
written = 0
try:
    while True:
        written += os.write(descriptor, b"%07d." % (written // 8 % 10**7))
        if written == 80_000:
            print("writing", flush=True)
except OSError as error:
    print(written)
"""
    writer = python(code, cwd=mount.main)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        os.kill(mount.pid, signal.SIGTERM)
        written = int(writer.communicate(timeout=PATIENCE)[0])
    finally:
        writer.kill()
        writer.communicate()
    wait_until_ended(mount)
    away(mount)
    mount.mount()
    assert (mount.main / "file").stat().st_size == written
    assert (mount.main / "file").read_bytes()[-8:] == b"%07d." % ((written // 8 - 1) % 10**7)


LONG = 300
"""MiB that a commit takes a while for."""


@contextmanager
def filled(mount: Mount) -> Iterator[None]:
    """Inside, the files are open for writing: else the mount would begin to store them ahead of the commit."""
    with contextlib.ExitStack() as stack:
        for number in range(LONG // 10):
            file = stack.enter_context((mount.main / f"file {number}").open("wb", buffering=0))
            file.write(os.urandom(10 << 20))
        yield


def is_committing(mount: Mount) -> bool:
    """Chunks of the commit are being written."""
    return sum(path.stat().st_size for path in (mount.path / "volumes").iterdir()) > 20 << 20


def test_a_commit_that_sigterm_meets_is_made_or_fails_where_it_was_asked_for_p10_p33(mount: Mount):
    """A shell hears of an error of write(2), and never of one of close(2)."""
    with filled(mount):
        writer = subprocess.Popen(["sh", "-c", "echo a message > .ana/commit"], cwd=mount.main, stderr=subprocess.PIPE)
        wait_for(lambda: is_committing(mount), "the commit to be under way")
    os.kill(mount.pid, signal.SIGTERM)
    writer.communicate(timeout=PATIENCE)
    wait_until_ended(mount)
    away(mount)
    assert (writer.returncode == 0) == (mount.messages()[0] == "a message")


BUSY = """
import os, sys
names = [f"{sys.argv[1]} {number}" for number in range(50)]
print("busy", flush=True)
try:
    while True:
        for name in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT))
            os.stat(f"file {len(name) * 7 % 3000}")
        for name in names:
            os.unlink(name)
except OSError:
    pass
"""


def invalidates(pid: int) -> bool:
    """A thread of a process has the kernel forget a name, and waits for the directory's lock, perhaps."""
    for stack in Path(f"/proc/{pid}/task").glob("*/stack"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            if "fuse_reverse_inval_entry" in stack.read_text():
                return True
    return False


@pytest.mark.parametrize("memory", ["256", "1"], ids=["a restore", "eviction"])
def test_sigterm_ends_a_mount_whose_kernel_is_being_told_something_p31(mount: Mount, memory: str):
    """The kernel holds the directory's lock for programs that work there; they get an error, and nobody hangs."""
    if os.geteuid() != 0:
        pytest.skip("only root sees where a thread waits")
    mount.umount()
    done(run_ana("mount", "--memory", memory, mount.path, mount.root, cwd=Path("/")))
    top = mount.main / "d"
    top.mkdir()
    for number in range(3000):
        (top / f"file {number}").write_text("one")
    mount.commit()
    for number in range(3000):
        (top / f"file {number}").write_text("two")
    holder = locks.owner(Layout(mount.path).lock)
    assert holder is not None
    programs = [python(BUSY, str(number), cwd=top) for number in range(2)]
    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "busy\n"
        command = [str(ANA), "restore", "main@1", "."]
        restore = subprocess.Popen(command, cwd=top, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda: restore.poll() is not None or invalidates(holder.pid), "the kernel to be told something")
        os.kill(holder.pid, signal.SIGTERM)
        restore.communicate(timeout=PATIENCE)
        for program in programs:
            program.communicate(timeout=PATIENCE)
    finally:
        for program in programs:
            program.kill()
            program.communicate()
    wait_until_ended(mount)
    away(mount)
    mount.mount()
    assert (top / "file 7").read_text() == ("one" if restore.returncode == 0 else "two")


def test_a_client_that_never_reads_does_not_keep_a_mount_for_ever(mount: Mount):
    """One that has asked, and one that says nothing at all."""
    (mount.main / "file").touch()
    with contextlib.ExitStack() as stack:
        for message in (b"", encode_request(Status("main"))):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            with short_address(mount.path / "socket") as address:
                client.connect(address)
            if message:
                send(client, message)
        mount.umount()
    assert not mount.is_mounted()


def test_an_unmount_waits_for_a_commit_that_a_command_asked_for_p31_p33(mount: Mount):
    words: list[str | Path] = [ANA, "commit", "-R", mount.path, "-m", "a message"]
    with filled(mount):
        command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: is_committing(mount), "the commit to be under way")
    mount.umount()
    output, errors = command.communicate(timeout=PATIENCE)
    assert (command.returncode, errors) == (0, "")
    assert output.startswith("main@1 ")
    assert mount.messages()[0] == "a message"


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """A process stands still."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_stopped_owner_is_an_owner_p36(mount: Mount, other: Mount):
    """Nobody takes the repository from it. History can be read; who asks it something waits, or is told."""
    (mount.main / "file").write_text("x")
    with stopped(mount.pid):
        hinted(run_ana("mount", mount.path, other.root, cwd=Path("/")), 3, "already mounted")
        assert "main@0" in done(mount.ana("log"))
        asking = [
            subprocess.Popen([ANA, *command], cwd=mount.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for command in (["status"], ["commit", "-m", "asked"])
        ]
        hinted(run_ana("mount", mount.path, other.root, cwd=Path("/")), 3, "already mounted")
        assert not other.is_mounted()
    for process in asking:
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0 or errors.startswith("ana: ")
        assert "Traceback" not in errors
    assert (mount.main / "file").read_text() == "x"
    (mount.main / "more").write_text("goes on")
    mount.commit()
