"""Requests that wait for the disk, and those that must not wait for them. P46.

The disk is as slow as it can be: whoever loads chunks waits until the test says so.
"""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from anabranch.commit import Note
from anabranch.fuse.areas import ROOT
from anabranch.fuse.handles import Caller
from anabranch.fuse.operations import Operations
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.versions.contents import Contents
from anabranch.versions.refs import Who
from anabranch.worktree.inodes import Inode
from tests.harness import PATIENCE, Mount, Repo, done, python, wait_for

READERS = 200
SIZE = 20_000
CALLER = Caller(0, 0, 0)


def content(number: int) -> bytes:
    """The content of a file; none is like another."""
    return random.Random(number).randbytes(SIZE)


class NoKernel:
    """A kernel that has nothing to write back."""

    def forget_attributes(self, ino: Inode) -> None:
        """There are none."""

    def launder(self, ino: Inode) -> None:
        """There is nothing."""

    def write_back_all(self) -> None:
        """There is nothing."""

    def drop_name(self, parent: Inode, name: bytes) -> None:
        """It knows few."""


async def fill(repository: Repository) -> None:
    """Commit files to read, and leave some that are not committed."""
    async with trio.open_nursery() as nursery:
        operations = Operations(repository, NoKernel(), nursery)
        main = await operations.lookup(ROOT, b"main")
        for number in range(READERS):
            handle, _ = await operations.create_file(main.attributes.ino, b"cold %d" % number, 0o644, CALLER)
            await operations.write(handle, 0, content(number))
            await operations.release(handle)
        area = operations.root.branch(repository.default_branch())
        await operations.committer.commit(area, Note("cold"), Who("ann", "test"), any_clock=False)
        await operations.create_file(main.attributes.ino, b"warm", 0o644, CALLER)
        await operations.fsync()


@pytest.fixture
def cold(repo: Repo) -> Iterator[Repository]:
    """A repository with 200 files, none of which is in memory."""
    with Repository(repo.path, writable=True) as repository:
        trio.run(fill, repository)
    with Repository(repo.path, writable=True) as repository:
        yield repository


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is not set, nothing is loaded."""
    opened, load = threading.Event(), Contents.load

    def slow(contents: Contents, chunks: list[ObjectId]) -> None:
        assert opened.wait(PATIENCE)
        load(contents, chunks)

    monkeypatch.setattr(Contents, "load", slow)
    yield opened
    opened.set()


def test_what_is_in_memory_is_answered_beside_reads_that_wait_p46(cold: Repository, gate: threading.Event):
    read: dict[int, bytes] = {}

    async def one(operations: Operations, main: Inode, number: int) -> None:
        found = await operations.lookup(main, b"cold %d" % number)
        handle, _ = await operations.open(found.attributes.ino, os.O_RDONLY, CALLER)
        read[number] = await operations.read(handle, 0, SIZE)

    async def all_of_it() -> None:
        async with trio.open_nursery() as nursery:
            operations = Operations(cold, NoKernel(), nursery)
            main = (await operations.lookup(ROOT, b"main")).attributes.ino
            async with trio.open_nursery() as readers:
                for number in range(READERS):
                    readers.start_soon(one, operations, main, number)
                await trio.testing.wait_all_tasks_blocked()
                assert read == {}
                with trio.fail_after(PATIENCE / 2):
                    await look(operations, main)
                assert read == {}, "the reads went on before the disk did"
                gate.set()

    trio.run(all_of_it)
    assert read == {number: content(number) for number in range(READERS)}


async def look(operations: Operations, main: Inode) -> None:
    """Stat, ls, and work on what is in memory."""
    warm = await operations.lookup(main, b"warm")
    assert (await operations.getattr(warm.attributes.ino)).attributes.size == 0
    assert (await operations.lookup(main, b"cold 7")).attributes.size == SIZE
    listing = await operations.readdir(operations.opendir(main), 0)
    assert len(listing.items or []) == READERS + 1
    handle, _ = await operations.open(warm.attributes.ino, os.O_RDWR, CALLER)
    await operations.write(handle, 0, b"beside")
    assert await operations.read(handle, 0, 100) == b"beside"
    await operations.fsync()
    await operations.rename(main, b"warm", main, b"moved", 0, CALLER)
    await operations.unlink(main, b"moved")


def test_a_file_that_is_read_by_its_path_waits_for_the_disk_and_nobody_with_it_p46(
    cold: Repository, gate: threading.Event
):
    read: list[bytes] = []

    async def one(operations: Operations) -> None:
        read.append(await operations.read_path(cold.default_branch(), b"cold 8", 10, SIZE))

    async def all_of_it() -> None:
        async with trio.open_nursery() as nursery:
            operations = Operations(cold, NoKernel(), nursery)
            main = (await operations.lookup(ROOT, b"main")).attributes.ino
            nursery.start_soon(one, operations)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(PATIENCE / 2):
                await look(operations, main)
            assert read == []
            gate.set()

    trio.run(all_of_it)
    assert read == [content(8)[10:]]


class Pages(NoKernel):
    """A kernel with a dirty page of each file: it is written back when somebody asks, and until it is, he waits."""

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.operations: Operations | None = None
        self.handles: dict[Inode, int] = {}

    def launder(self, ino: Inode) -> None:
        """From a worker thread: the write goes through the loop as a request does."""
        assert self.operations is not None
        trio.from_thread.run(self._write, self.operations, self.handles[ino], trio_token=self.token)

    @staticmethod
    async def _write(operations: Operations, handle: int) -> None:
        with trio.fail_after(PATIENCE / 2):  # a thread that waits cannot be cancelled, and nothing would ever end
            await operations.write(handle, 4096, b"new" * 100)


def test_those_who_wait_for_writes_do_not_hold_up_what_the_writes_wait_for_p46(cold: Repository, gate: threading.Event):
    """Writes into stored files wait for chunks, statuses and a commit wait for the writes, and reads crowd in: all
    wait until the disk answers, and then all are served.
    """
    ended: list[str] = []

    async def look_and_tell(operations: Operations, main: Inode) -> None:
        area = operations.root.branch(cold.default_branch())
        await operations.committer.launder(area)
        ended.append("status")

    async def read(operations: Operations, main: Inode, number: int) -> None:
        found = await operations.lookup(main, b"cold %d" % number)
        handle, _ = await operations.open(found.attributes.ino, os.O_RDONLY, CALLER)
        assert await operations.read(handle, 0, 100) == content(number)[:100]
        ended.append("read")

    async def commit(operations: Operations) -> None:
        area = operations.root.branch(cold.default_branch())
        await operations.committer.commit(area, Note("beside"), Who("ann", "test"), any_clock=False)
        ended.append("commit")

    async def all_of_it() -> None:
        async with trio.open_nursery() as nursery:
            kernel = Pages()
            operations = kernel.operations = Operations(cold, kernel, nursery)
            main = (await operations.lookup(ROOT, b"main")).attributes.ino
            for number in range(50):
                found = await operations.lookup(main, b"cold %d" % number)
                handle, _ = await operations.open(found.attributes.ino, os.O_RDWR, CALLER)
                kernel.handles[found.attributes.ino] = handle
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as waiting:
                    for number in range(50, READERS):
                        waiting.start_soon(read, operations, main, number)
                    for _ in range(60):
                        waiting.start_soon(look_and_tell, operations, main)
                    waiting.start_soon(commit, operations)
                    await trio.testing.wait_all_tasks_blocked()
                    assert ended == []
                    await operations.getattr(main)
                    await operations.readdir(operations.opendir(main), 0)
                    gate.set()

    trio.run(all_of_it)
    assert sorted(ended) == ["commit"] + ["read"] * (READERS - 50) + ["status"] * 60
    assert [version.commit.message for version in cold.log(cold.default_branch())][:2] == ["beside", "cold"]


SLOW = """
import os, sys
from anabranch.cli.main import main
from anabranch.versions.contents import Contents
gate, bell, load = int(sys.argv[1]), int(sys.argv[2]), Contents.load
def slow(contents, chunks):
    os.write(bell, b".")
    os.read(gate, 1)
    load(contents, chunks)
Contents.load = slow
sys.argv[1:] = ["mount", "--foreground", *sys.argv[3:]]
main()
"""
"""A daemon that loads nothing until the other end of a pipe is closed, and rings when it is asked to."""

READ = """
import random, threading
def read(number):
    with open(f"cold {number}", "rb") as file:
        right[number] = file.read() == random.Random(number).randbytes(20_000)
right = {}
threads = [threading.Thread(target=read, args=(number,)) for number in range(200)]
for thread in threads:
    thread.start()
print("reading", flush=True)
for thread in threads:
    thread.join()
print(len(right), all(right.values()))
"""


LOOK = """
import os
assert sorted(os.listdir("warm")) == sorted(str(number) for number in range(50))
assert os.stat("cold 7").st_size == 20_000
assert os.stat("warm/7").st_size == 1
assert open("warm/7").read() == "7"
with open("warm/new", "w") as file:
    file.write("beside")
    file.flush()
    os.fsync(file.fileno())
os.rename("warm/new", "warm/moved")
os.unlink("warm/moved")
os.listdir(".")
"""

WRITE = """
import os
opened = [os.open(f"cold {number}", os.O_RDWR) for number in range(50)]
for descriptor in opened:
    os.pwrite(descriptor, bytes(4096), 4096)
print("written", flush=True)
input()
"""

COMMIT = """
with open(".ana/commit", "w") as message:
    message.write("beside")
print("committed")
"""


@dataclass
class Slow:
    """A mount whose disk does not answer. Of two pipes, the end of one makes it answer when it is closed; in the
    other it rings when somebody waits for it.
    """

    top: Path
    gate: int
    bell: int
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, code: str) -> "subprocess.Popen[str]":
        """Start a program in the main branch."""
        self.started.append(python(code, cwd=self.top))
        return self.started[-1]

    def wait(self) -> None:
        """Return when somebody waits for the disk."""
        assert os.read(self.bell, 1) == b"."

    def answer(self) -> None:
        """The disk answers from now on."""
        if self.gate >= 0:
            os.close(self.gate)
        self.gate = -1

    def end(self) -> None:
        """No program is left."""
        self.answer()  # first: who waits for the disk cannot be killed
        for program in self.started:
            program.kill()
        for program in self.started:
            program.communicate(timeout=PATIENCE)


@contextmanager
def slow_disk(mount: Mount) -> Iterator[Slow]:
    """Mount by a daemon whose disk does not answer."""
    gate, opened = os.pipe()
    bell, ringing = os.pipe()
    daemon = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(gate), str(ringing), str(mount.path), str(mount.root)],
        cwd="/", pass_fds=[gate, ringing], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(gate)
    os.close(ringing)
    slow = Slow(mount.main, opened, bell)
    try:
        wait_for(mount.main.exists, "the mount")
        yield slow
    finally:
        try:
            slow.end()
            daemon.terminate()
            daemon.wait(PATIENCE)
        finally:
            daemon.kill()
            daemon.wait()
            os.close(bell)


def said(program: "subprocess.Popen[str]") -> str:
    """What a program says until it ends, which it does by itself and in good order."""
    output, _ = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0
    return output


@pytest.fixture
def stored(mount: Mount) -> Mount:
    """A repository with 200 committed files and some that are not; not mounted any more."""
    for number in range(READERS):
        (mount.main / f"cold {number}").write_bytes(content(number))
    mount.commit("cold")
    (mount.main / "warm").mkdir()
    for number in range(50):
        (mount.main / f"warm/{number}").write_text(str(number % 10))
    mount.umount()
    return mount


@pytest.mark.mounted
def test_stat_and_ls_answer_beside_200_reads_of_a_slow_disk_p46(stored: Mount):
    with slow_disk(stored) as slow:
        reader = slow.start(READ)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        slow.wait()
        assert said(slow.start(LOOK)) == ""
        assert "cold" in done(stored.ana("log"))
        assert reader.poll() is None, "nobody waited for the disk"
        slow.answer()
        assert said(reader) == f"{READERS} True\n"


@pytest.mark.mounted
def test_writers_statuses_and_a_commit_that_wait_for_a_slow_disk_are_all_served_p46(stored: Mount):
    """Laundering waits for writes, writes for chunks, and the chunks' readers crowd them: nobody starves."""
    with slow_disk(stored) as slow:
        writer = slow.start(WRITE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        statuses = [slow.start("print(open('.ana/status').read().count('M  '))") for _ in range(20)]
        committing = slow.start(COMMIT)
        reader = slow.start(READ.replace("range(200)", "range(50, 200)"))
        slow.wait()
        assert said(slow.start(LOOK)) == ""
        assert committing.poll() is None, "nobody waited for the disk"
        slow.answer()
        assert said(committing) == "committed\n"
        assert said(reader) == f"reading\n{READERS - 50} True\n"
        assert {said(status) for status in statuses} <= {"0\n", "50\n"}, "before the commit or after it"
        writer.communicate("\n", timeout=PATIENCE)
        for number in range(50):
            written = content(number)[:4096] + bytes(4096) + content(number)[8192:]
            for top in ("main", "main@2"):
                assert (stored.root / top / f"cold {number}").read_bytes() == written
