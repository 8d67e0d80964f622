"""Kernels as the mounted tests do not have them: that forget no names (Linux about 6.19), that wait for us."""

import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from anabranch.fuse import commits
from anabranch.fuse.absence import PROBE, UNSURE, Absence
from anabranch.fuse.areas import FOREVER, ROOT
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.commits import Committer
from anabranch.fuse.control import of_branch
from anabranch.fuse.handles import Caller, Handles
from anabranch.fuse.outcomes import Outcome
from anabranch.fuse.outside import Outside
from anabranch.fuse.refused import Refused
from anabranch.fuse.saver import Saver
from anabranch.repo import Repository
from anabranch.worktree.inodes import Inode
from tests.harness import PATIENCE
from tests.unit.helpers import MAIN, Branch


class Kernel:
    """Takes notes, and does nothing."""

    def __init__(self) -> None:
        self.dropped: list[tuple[Inode, bytes]] = []
        self.forgotten: list[Inode] = []

    def forget_attributes(self, ino: Inode) -> None:
        self.forgotten.append(ino)

    def launder(self, ino: Inode) -> None:
        raise AssertionError("nothing is open")

    def write_back_all(self) -> None:
        raise AssertionError("nothing is open")

    def drop_name(self, parent: Inode, name: bytes) -> None:
        self.dropped.append((parent, name))


@pytest.fixture
def area(repository: Repository) -> BranchArea:
    branch = repository.branch(MAIN)
    return BranchArea(branch, of_branch(repository, branch, Outcome()))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def outside(repository: Repository, kernel: Kernel) -> Outside:
    handles = Handles(100)
    committer = Committer(repository, kernel, handles, Saver(repository, handles), Refused())
    return Outside(repository, kernel, committer, Absence())


def test_names_that_are_not_there_are_trusted_for_ever_only_where_the_kernel_forgets_them(
    area: BranchArea, kernel: Kernel, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absence = Absence()
    assert absence.answer(area, area.tree.root, b"x") == UNSURE
    absence.probe(place, kernel)
    assert kernel.dropped == [(ROOT, PROBE)]
    assert absence.answer(area, area.tree.root, b"x") == UNSURE
    monkeypatch.setattr(os.path, "lexists", lambda path: absence.answer(area, ROOT, os.fsencode(path.name)))
    absence.probe(place, kernel)
    assert absence.answer(area, area.tree.root, b"x") == FOREVER


def test_a_restore_returns_when_no_process_can_see_an_old_name_any_more(
    outside: Outside, area: BranchArea, kernel: Kernel, main: Branch
) -> None:
    main.write("a", b"one")
    main.write("unknown", b"one")
    main.commit()
    main.unlink("a")
    area.remembered(area.tree.root)

    async def run(clock: trio.testing.MockClock) -> float:
        before = trio.current_time()
        await outside.restore(area, main.repository.version(main.repository.resolve("main").id), [b""])
        return trio.current_time() - before

    clock = trio.testing.MockClock(autojump_threshold=0.01)
    assert trio.run(run, clock, clock=clock) >= UNSURE
    assert kernel.dropped == [(area.tree.root, b"a")]
    assert kernel.forgotten == [area.tree.root]
    assert main.read("a") == b"one"


class Stuck(Kernel):
    """What programs have written does not come before somebody has got an answer."""

    def __init__(self, answered: threading.Event) -> None:
        super().__init__()
        self._answered = answered
        self.laundered = 0

    def write_back_all(self) -> None:
        pass

    def launder(self, _: Inode) -> None:
        self.laundered += 1
        if self.laundered > 1:  # once before answers are held
            assert self._answered.wait(PATIENCE)


def test_answers_that_a_commit_waits_for_are_let_go_and_held_again(
    repository: Repository, area: BranchArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "HOLD_LIMITS", (0.05, PATIENCE))
    answered = threading.Event()
    handles = Handles(100)
    committer = Committer(repository, Stuck(answered), handles, Saver(repository, handles), Refused())
    handles.open(area, area.tree.root, Caller(0, 0, 0), writable=True)

    async def ask() -> None:
        while not committer.holds(area):
            await trio.sleep(0.001)
        await committer.passage(area)
        answered.set()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            async with committer.instant([area]):
                assert answered.is_set()
                assert committer.holds(area)
        assert not committer.holds(area)

    trio.run(run)
