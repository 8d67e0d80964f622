"""Random calls on a mount and on an ordinary filesystem, with commits in between: both look the same at every step.

P13, P14, P19, P21, P22, P23, P24, P26, P31. One mount serves all examples; each has a branch of its own.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.harness import Mount
from tests.posix.libc import EXCHANGE, NOREPLACE, renameat2

pytestmark = pytest.mark.mounted

NAMES = ["a", "b", "dir", "dir/a", "dir/b", "dir/sub", "dir/sub/a", "other", "other/a", "link"]
paths = st.sampled_from(NAMES)
sizes = st.sampled_from([0, 1, 511, 512, 513, 4096, 40_000, 70_000, 300_000])
Tree = dict[str, tuple[Any, ...]]


def tree(top: Path) -> Tree:
    """Everything below a directory but times and numbers."""
    found: Tree = {}
    for path in sorted(top.rglob("*")):
        of = path.lstat()
        content: Any = None
        if stat.S_ISREG(of.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(of.st_mode):
            content = os.readlink(path)
        size = None if stat.S_ISDIR(of.st_mode) else of.st_size
        found[str(path.relative_to(top))] = (of.st_mode, of.st_uid, of.st_gid, of.st_nlink, size, content)
    return found


def outcome(call: Callable[[Path], object], top: Path) -> object:
    """What a call gives: its result, or its errno by name."""
    try:
        return call(top)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class SideBySide(RuleBasedStateMachine):
    """A branch, and a directory beside it that has seen the same calls."""

    mount: Mount
    beside: Path
    numbers: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        number = next(self.numbers)
        self.name = f"example-{number}"
        self.branch = self.mount.root / self.name
        self.plain = self.beside / self.name
        self.branch.mkdir()
        self.plain.mkdir()
        self.open: list[tuple[int, int]] = []
        self.versions: list[tuple[Path, Tree]] = []

    def teardown(self) -> None:
        for pair in self.open:
            for descriptor in pair:
                os.close(descriptor)
        for version, expected in self.versions:
            assert tree(version) == expected, f"{version.name} is not what it was"
        shutil.rmtree(self.plain)

    def both(self, call: Callable[[Path], object]) -> object:
        """Do it on both; they must agree."""
        theirs, ours = outcome(call, self.plain), outcome(call, self.branch)
        assert ours == theirs
        return ours

    @invariant()
    def they_look_the_same(self) -> None:
        """Names, types, modes, owners, links, sizes, content."""
        assert tree(self.branch) == tree(self.plain)

    @rule(path=paths, size=sizes)
    def write_whole(self, path: str, size: int) -> None:
        data = os.urandom(size)
        self.both(lambda top: (top / path).write_bytes(data))

    @rule(path=paths, offset=sizes, size=sizes)
    def write_at(self, path: str, offset: int, size: int) -> None:
        data = os.urandom(size)

        def call(top: Path) -> int:
            with (top / path).open("r+b") as file:
                return os.pwrite(file.fileno(), data, offset)

        self.both(call)

    @rule(path=paths, size=sizes)
    def append(self, path: str, size: int) -> None:
        data = os.urandom(size)

        def call(top: Path) -> int:
            with (top / path).open("ab") as file:
                return file.write(data)

        self.both(call)

    @rule(path=paths, size=sizes)
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda top: os.truncate(top / path, size))

    @rule(path=paths)
    def create_exclusively(self, path: str) -> None:
        self.both(lambda top: os.close(os.open(top / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)))

    @rule(path=paths)
    def mkdir(self, path: str) -> None:
        self.both(lambda top: os.mkdir(top / path))

    @rule(path=paths)
    def rmdir(self, path: str) -> None:
        self.both(lambda top: os.rmdir(top / path))

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both(lambda top: os.unlink(top / path))

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        self.both(lambda top: os.rename(top / old, top / new))

    @rule(old=paths, new=paths, flags=st.sampled_from([NOREPLACE, EXCHANGE]))
    def rename_with_flags(self, old: str, new: str, flags: int) -> None:
        self.both(lambda top: renameat2(top / old, top / new, flags))

    @rule(old=paths, new=paths)
    def link(self, old: str, new: str) -> None:
        self.both(lambda top: os.link(top / old, top / new, follow_symlinks=False))

    @rule(path=paths, text=paths)
    def symlink(self, path: str, text: str) -> None:
        self.both(lambda top: os.symlink(text, top / path))

    @rule(path=paths, mode=st.sampled_from([0o600, 0o644, 0o755, 0o1711, 0o1777, 0o6755, 0o2640]))
    def chmod(self, path: str, mode: int) -> None:
        self.both(lambda top: os.chmod(top / path, mode))

    @rule(path=paths, uid=st.sampled_from([0, 1, 1234]), gid=st.sampled_from([0, 5]))
    @precondition(lambda self: os.geteuid() == 0)
    def chown(self, path: str, uid: int, gid: int) -> None:
        self.both(lambda top: os.lchown(top / path, uid, gid))

    @rule(path=paths, moment=st.integers(0, 2**61))
    def utime(self, path: str, moment: int) -> None:
        def call(top: Path) -> int:
            os.utime(top / path, ns=(moment, moment), follow_symlinks=False)
            return (top / path).lstat().st_mtime_ns

        self.both(call)

    @rule(path=paths)
    def open_and_keep(self, path: str) -> None:
        opened = [outcome(lambda top: os.open(top / path, os.O_RDWR), top) for top in (self.plain, self.branch)]
        match opened:
            case [int(theirs), int(ours)]:
                self.open.append((theirs, ours))
            case [theirs, ours]:
                assert theirs == ours

    @rule(data=st.data(), offset=sizes, size=sizes)
    @precondition(lambda self: self.open)
    def write_to_one_that_is_open(self, data: st.DataObject, offset: int, size: int) -> None:
        written = os.urandom(size)
        for descriptor in data.draw(st.sampled_from(self.open)):
            os.pwrite(descriptor, written, offset)

    @rule(data=st.data())
    @precondition(lambda self: self.open)
    def look_at_one_that_is_open_and_close_it(self, data: st.DataObject) -> None:
        pair = data.draw(st.sampled_from(self.open))
        theirs, ours = (
            (os.fstat(descriptor).st_size, os.fstat(descriptor).st_nlink, os.pread(descriptor, 1_000_000, 0))
            for descriptor in pair
        )
        assert ours == theirs
        self.open.remove(pair)
        for descriptor in pair:
            os.close(descriptor)

    @rule()
    def commit(self) -> None:
        """With files open, some of them written. The tree of before is what the version must hold, now and later."""
        made = outcome(lambda branch: self.mount.commit("a step", branch=branch.name), self.branch)
        if made == "ENODATA":
            return
        version = self.mount.root / os.path.basename(str(made))
        self.versions.append((version, tree(self.plain)))
        assert tree(version) == self.versions[-1][1]

    @rule()
    @precondition(lambda self: self.versions)
    def look_at_a_version(self) -> None:
        version, expected = self.versions[len(self.versions) // 2]
        assert tree(version) == expected

    @rule(dice=st.integers(1, 4))
    @precondition(lambda self: not self.open)
    def unmount_and_mount(self, dice: int) -> None:
        """Seldom, as it takes its time."""
        if dice > 1:
            return
        numbers = {path.relative_to(self.branch): path.lstat().st_ino for path in self.branch.rglob("*")}
        self.mount.remount()
        assert {path.relative_to(self.branch): path.lstat().st_ino for path in self.branch.rglob("*")} == numbers


def drive(mount: Mount, beside: Path, examples: int, steps: int) -> None:
    """Run the machine on a mount."""

    class Machine(SideBySide):
        pass

    Machine.mount, Machine.beside, Machine.numbers = mount, beside, count()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_random_calls_do_the_same_on_both(mount: Mount, beside: Path):
    drive(mount, beside, examples=25, steps=40)


@pytest.mark.slow
def test_very_many_random_calls_do_the_same_on_both(mount: Mount, beside: Path):
    drive(mount, beside, examples=400, steps=80)
