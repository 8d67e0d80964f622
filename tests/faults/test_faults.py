"""Faults at the boundary of store, journal, overlays, LMDB, codecs and threads, while programs work.

Calls of programs may fail then, and none succeeds that does not do what it says; the mount lives; what was committed,
fsynced or closed before is there, byte by byte; and when the fault is lifted, all goes on.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.faults.switch import ALWAYS, Kind, Switch
from tests.faults.work import LARGE, Work, content, usable
from tests.harness import Mount, check_log, done, errno_of, run_ana, wait_for

pytestmark = pytest.mark.mounted

REMOUNT = 16
"""Rounds after which all is unmounted and mounted."""


@pytest.fixture
def faulty(switch: Switch, mountable: Mount) -> Iterator[Mount]:
    """A mount whose calls can be made to fail. All faults are lifted at the end."""
    mountable.mount("--memory", "1")
    try:
        yield mountable
    finally:
        switch.lift()


def forget_log(mount: Mount) -> None:
    """What nobody foresaw has left a stack in the log, as it should."""
    assert "BUG: " in mount.log_text()
    os.truncate(mount.path / "daemon.log", 0)


def reached(switch: Switch, calls: int) -> bool:
    """Whether there were so many calls."""
    return switch.calls >= calls


@contextmanager
def failing(switch: Switch, *boundaries: str) -> Iterator[None]:
    """Inside, all calls of some boundaries fail."""
    switch.arm(1, ALWAYS, Kind.BROKEN, boundaries)
    try:
        yield
    finally:
        switch.lift()


class Rounds:
    """One after the other on one mount, which is unmounted and mounted now and then."""

    def __init__(self, mount: Mount, switch: Switch) -> None:
        self._mount = mount
        self._switch = switch
        self._works: list[Work] = []
        self._made = 0
        self.injected = 0

    def count(self) -> dict[str, int]:
        """How often the work calls each boundary."""
        work = self._begun()
        self._switch.watch()
        work.run()
        counts = self._switch.counts
        work.check()
        assert not work.errors
        return counts

    def one(self, boundary: str, first: int, times: int, kind: Kind) -> None:
        """The work with a fault; then, without, everything is as it must be."""
        print(f"{boundary} fails at call {first}, {'once' if times == 1 else 'until lifted'}: {kind.name}")
        work = self._begun()
        self._switch.arm(first, times, kind, [boundary])
        try:
            work.run()
        finally:
            injected = self._switch.lift()
        usable(self._mount, work.name)
        work.check()
        assert injected or not work.errors, work.errors
        self.injected += injected
        self._look_at_the_log(kind is not Kind.UNFORESEEN and not boundary.startswith("thread"))
        self._made += 1
        if self._made % REMOUNT == 0:
            self.remount()

    def remount(self) -> None:
        """All is there after an unmount, which works."""
        self._mount.remount()
        for work in self._works:
            work.check()
        self._works.clear()

    def _begun(self) -> Work:
        work = Work(self._mount, f"round-{self._made}-{len(self._works)}")
        work.prepare()
        self._works.append(work)
        return work

    def _look_at_the_log(self, foreseen: bool) -> None:
        if foreseen:
            check_log(self._mount)
        os.truncate(self._mount.path / "daemon.log", 0)


def test_whatever_fails_the_mount_lives_and_keeps_what_it_said(faulty: Mount, switch: Switch):
    """P75, P76: a sample, of each boundary one call."""
    chance = random.Random(75)
    rounds = Rounds(faulty, switch)
    for index, (boundary, calls) in enumerate(rounds.count().items()):
        rounds.one(boundary, chance.randint(1, calls), (1, ALWAYS)[index % 2], Kind(index % len(Kind)))
    rounds.remount()
    assert rounds.injected


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, ALWAYS], ids=["once", "until lifted"])
def test_whichever_call_fails_the_mount_lives_and_keeps_what_it_said(faulty: Mount, switch: Switch, times: int):
    """P75, P76: every call of a run."""
    rounds = Rounds(faulty, switch)
    for boundary, calls in rounds.count().items():
        for first in range(1, calls + 1):
            rounds.one(boundary, first, times, Kind(first % len(Kind)))
    rounds.remount()
    print(f"{rounds.injected} calls failed")


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_an_unmount_and_a_mount_that_fail_leave_what_was_said_to_be_kept(faulty: Mount, switch: Switch, every: int):
    """P75, P76: the first call of each boundary fails, of those that an unmount and a mount make."""
    work = Work(faulty, "work")
    work.prepare()
    switch.watch()
    faulty.remount()
    for index, boundary in enumerate(list(switch.counts)[::every]):
        work = Work(faulty, f"work-{index}")
        work.prepare()
        (work.place / "unsaved").write_bytes(content("unsaved", LARGE))
        switch.arm(1, ALWAYS, Kind(index % 2), [boundary])
        ended = run_ana("umount", faulty.root, cwd=Path("/"))
        assert "Traceback" not in ended.stderr, ended.stderr
        begun = run_ana("mount", faulty.path, faulty.root, cwd=Path("/"))
        assert "Traceback" not in begun.stderr, begun.stderr
        switch.lift()
        if begun.returncode:
            faulty.mount()
        usable(faulty, work.name)
        work.check()
        os.truncate(faulty.path / "daemon.log", 0)


def test_background_tasks_that_fail_end_nothing(faulty: Mount, switch: Switch):
    """P75: bringing in what is written to open files, making chunks of what is idle, letting cold files go."""
    for number in range(300):
        (faulty.main / f"cold-{number}").touch()
    with (faulty.main / "open").open("wb", buffering=0) as file:
        for boundary, calls in (("process.start", 2), ("chunk.frame", 1), ("thread.worker", 8)):
            (faulty.main / f"idle-{boundary}").write_bytes(content(boundary, LARGE))
            switch.arm(1, ALWAYS, Kind.UNFORESEEN, [boundary])
            file.write(b"more")
            wait_for(partial(reached, switch, calls), f"calls of {boundary}")
            switch.lift()
            usable(faulty, boundary)
    forget_log(faulty)
    faulty.remount()
    assert (faulty.main / "open").read_bytes() == b"more" * 3
    for path in faulty.main.glob("idle-*"):
        assert path.read_bytes() == content(path.name.removeprefix("idle-"), LARGE)


def test_a_client_of_the_socket_that_cannot_be_served_is_told_and_the_next_one_is(faulty: Mount, switch: Switch):
    """P75."""
    switch.arm(1, 1, Kind.BROKEN, ["thread.client"])
    failed = faulty.ana("status")
    assert failed.returncode not in (0, None)
    assert "Traceback" not in failed.stderr
    done(faulty.ana("status"))


def test_an_eio_is_a_line_of_the_log_with_what_is_damaged_and_the_path(faulty: Mount, switch: Switch):
    """P77."""
    (faulty.main / "folder").mkdir()
    (faulty.main / "folder/file").write_bytes(content("file", LARGE))
    version = faulty.commit()
    faulty.remount()
    with failing(switch, "chunk.unframe"):
        for place in (faulty.main, version):
            with pytest.raises(OSError, match="Input/output error"):
                (place / "folder/file").read_bytes()
    os.truncate(faulty.main / "folder/file", LARGE - 1)
    with failing(switch, "chunk.unframe"), pytest.raises(OSError, match="Input/output error"):
        faulty.commit()
    assert "folder/file: chunk 0123: injected" in (faulty.main / ".ana/error").read_text()
    with failing(switch, "space.statvfs"):
        assert errno_of(os.mkdir, faulty.main / "new")
    text = faulty.log_text()
    for path in ("main/folder/file", "main@1/folder/file"):
        assert f"read of {path}: chunk 0123: injected" in text
    assert "write of main/.ana/commit: folder/file: chunk 0123: injected" in text
    assert "of main/new: " in text
