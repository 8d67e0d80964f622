"""Very many commits beside writers of several processes: each is one instant, and loses nothing. P14, P15, P16."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anabranch.commit import Note
from anabranch.daemon.client import connect
from anabranch.ids import RefName
from tests.harness import Mount, done, python, wait_for

pytestmark = pytest.mark.mounted

COUNTING = """
import os, sys, threading, time

def in_turns(a, b, slots):  # one process: a, then b
    for count in range(1, 1 << 60):
        yield lambda: os.pwrite(a, count.to_bytes(8, "little"), count % slots * 8)
        yield lambda: os.pwrite(b, count.to_bytes(8, "little"), count % slots * 8)

def hand_over(a, b, slots):  # two processes: the second writes b when it hears that the first has written a
    heard, say = os.pipe()
    answered, answer = os.pipe()
    if os.fork() == 0:
        os.close(say), os.close(answered)
        while number := os.read(heard, 8):
            os.pwrite(b, number, int.from_bytes(number, "little") % slots * 8)
            os.write(answer, number)
        os._exit(0)
    os.close(heard), os.close(answer)
    for count in range(1, 1 << 60):
        number = count.to_bytes(8, "little")
        yield lambda: os.pwrite(a, number, count % slots * 8)
        yield lambda: (os.write(say, number), os.read(answered, 8))

name, way, slots = sys.argv[1:]
a, b = (os.open(f"{name}.{end}", os.O_RDWR | os.O_CREAT) for end in "ab")
ended = threading.Event()
listener = threading.Thread(target=lambda: (sys.stdin.read(), ended.set()))
longest = calls = 0
for call in locals()[way](a, b, int(slots)):
    begun = time.perf_counter()
    call()
    longest = max(longest, time.perf_counter() - begun)
    calls += 1
    if calls == 2:
        listener.start()
        print("ready", flush=True)
    if calls % 2 == 0 and ended.is_set():
        break
print(calls // 2, longest, flush=True)
"""
"""Writes a number into a, then into b, as fast as it can, to the end of its input; then says the last one and its
longest wait. A file has a number of slots, which the numbers fill in turn: it holds the last so many of them."""


@dataclass
class Counter:
    """A pair of files that is counted in, and who counts."""

    name: str
    way: str
    slots: int
    process: "subprocess.Popen[str]" = field(repr=False)

    def numbers(self, top: Path) -> tuple[int, int]:
        """The last numbers of a and b, as a branch or a version has them; all before them must be there as well."""
        a, b = (self._number(top / f"{self.name}.{end}") for end in "ab")
        return a, b

    def _number(self, path: Path) -> int:
        content = path.read_bytes()
        last = max(int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8))
        assert content == self.content(last), f"{path} is neither at {last} nor before"
        return last

    def content(self, last: int) -> bytes:
        """What a file holds after a number was written."""
        numbers = [0] * min(self.slots, last + 1)
        for number in range(max(1, last - self.slots + 1), last + 1):
            numbers[number % self.slots] = number
        return b"".join(number.to_bytes(8, "little") for number in numbers)

    def stop(self) -> tuple[int, float]:
        """Have it end; the last number, and the longest wait in seconds."""
        output, _ = self.process.communicate(timeout=60)
        number, longest = output.split()
        return int(number), float(longest)


@contextmanager
def counting(directory: Path) -> Iterator[list[Counter]]:
    """Several processes, each at its own pair of files."""
    directory.mkdir()
    with ExitStack() as stack:
        counters = []
        for name, way, slots in (("one", "in_turns", 512), ("two", "hand_over", 1)):
            process = python(COUNTING, name, way, str(slots), cwd=directory)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            counters.append(Counter(f"{directory.name}/{name}", way, slots, process))
        for counter in counters:
            assert counter.process.stdout is not None
            assert counter.process.stdout.readline() == "ready\n"
        yield counters


class Committing:
    """Commits by each door in turn; around each one, something of its own is written, before or after the instant."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self.number = 0
        self.written = b""
        """What the file `own` holds that was written after the last instant."""

    def next(self) -> Path:
        """One commit; returns its version."""
        self.number += 1
        doors: list[Callable[[str], None]] = [self._by_file, self._by_socket]
        if self.number % 50 == 0:
            doors = [self._by_command]
        own, expected = self._mount.main / "own", self.written
        doors[self.number % len(doors)](f"commit {self.number}")
        if self.written == expected:
            self._write()
        version = self._mount.root / f"main@{self.number}"
        if expected:
            assert (version / "own").read_bytes() == expected, "a version has what was written after it, or lacks some"
        assert own.read_bytes() == self.written
        return version

    def _write(self) -> None:
        """From 8 to 8,000 bytes that differ from all before."""
        self.written = self.number.to_bytes(8, "little") * (self.number * 7 % 1000 + 1)
        (self._mount.main / "own").write_bytes(self.written)

    def _by_file(self, message: str) -> None:
        """The instant is the first write to the control file: what follows belongs to the next generation."""
        descriptor = os.open(self._mount.main / ".ana/commit", os.O_WRONLY)
        try:
            os.write(descriptor, message.encode())
            self._write()
        finally:
            os.close(descriptor)

    def _by_socket(self, message: str) -> None:
        with connect(self._mount.path) as service:
            service.commit(RefName("main"), Note(message), "tester")

    def _by_command(self, message: str) -> None:
        done(self._mount.ana("commit", "-m", message))


def changed(mount: Mount) -> dict[str, Any]:
    """The uncommitted changes of files, by path."""
    status = json.loads((mount.main / ".ana/status.json").read_text())
    return {change["path"]: change["change"] for change in status["changes"]}


@pytest.mark.parametrize(
    ("portions", "commits"), [(2, 50), pytest.param(10, 1000, marks=pytest.mark.slow)], ids=["100", "10_000"]
)
def test_commits_beside_writers_are_each_one_instant_and_lose_nothing_p14_p15_p16(
    mount: Mount, portions: int, commits: int
):
    """Never b ahead of a, a at most one ahead; what was written before is in it, what came after is in the next."""
    committing = Committing(mount)
    for portion in range(portions):
        with counting(mount.main / f"portion {portion}") as counters:
            last = {counter.name: (0, 0) for counter in counters}
            for _ in range(commits):
                one_commit(mount, committing, counters, last)
            ended = {counter.name: counter.stop() for counter in counters}
        look_at_the_end(mount, committing, counters, last, {name: number for name, (number, _) in ended.items()})
        longest = max(seconds for _, seconds in ended.values())
        print(f"portion {portion}: {commits} commits; a writer waited for at most {1000 * longest:.1f} ms")
        if portion % 3 == 2:
            mount.remount()
    assert mount.messages()[:-1] == [f"commit {number}" for number in range(committing.number, 0, -1)]


def gone_on(counter: Counter, top: Path, last: int) -> int:
    """The number in b, when it is greater than the one of the commit before."""
    wait_for(lambda: counter.numbers(top)[1] > last, "the program to go on after a commit")
    return counter.numbers(top)[1]


def one_commit(mount: Mount, committing: Committing, counters: list[Counter], last: dict[str, tuple[int, int]]) -> None:
    """Commit, and look at what each counter had come to; `last` is that of the commit before."""
    before = {counter.name: gone_on(counter, mount.main, last[counter.name][1]) for counter in counters}
    version = committing.next()
    for counter in counters:
        a, b = counter.numbers(version)
        assert a in (b, b + 1), f"torn: in {version.name} of {counter} a is {a} and b is {b}"
        assert b >= before[counter.name], f"{version.name} of {counter} lacks what was written before: {b}"
        last[counter.name] = a, b


def look_at_the_end(
    mount: Mount,
    committing: Committing,
    counters: list[Counter],
    last: dict[str, tuple[int, int]],
    ended: dict[str, int],
) -> None:
    """The writers have ended: what they wrote since the last commit is all that is dirty, and the next one has it."""
    assert {counter.name: counter.numbers(mount.main) for counter in counters} == {
        name: (number, number) for name, number in ended.items()
    }
    dirty = {
        f"{name}.{end}": "modified"
        for name, numbers in last.items()
        for end, number in zip("ab", numbers, strict=True)
        if number < ended[name]
    }
    found = changed(mount)
    assert found.pop("own") in ("added", "modified")
    assert found == dirty
    version = committing.next()
    assert {counter.name: counter.numbers(version) for counter in counters} == {
        name: (number, number) for name, number in ended.items()
    }
    assert set(changed(mount)) == {"own"}
