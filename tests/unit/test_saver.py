"""The saver beside failures and the end of the mount: nothing that was fsynced is forgotten, and saving goes on."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from anabranch.fuse.handles import Handles
from anabranch.fuse.saver import Saver
from anabranch.repo import Repository
from anabranch.worktree import settle
from anabranch.worktree.keeper import Keeper, Taken
from tests.unit.helpers import Branch, make_repository


@pytest.fixture
def repository(place: Path) -> Iterator[Repository]:
    made = make_repository(place / "repository")
    yield made
    made.close()


def test_what_could_not_be_taken_in_while_the_mount_ends_is_there_the_next_time(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_repository(place / "repository") as repository:
        branch, saver = Branch(repository), Saver(repository, Handles(100))

        async def end_in_the_middle() -> None:
            branch.write("file", b"content")
            await saver.fsync()
            with trio.CancelScope() as scope:

                def fail(keeper: Keeper, taken: Taken) -> None:
                    trio.from_thread.run_sync(scope.cancel)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                monkeypatch.setattr(Keeper, "take_in", fail)
                with pytest.raises(OSError, match="No space"):
                    await saver._take_in()
            monkeypatch.undo()

        trio.run(end_in_the_middle)
        repository.settle_down()
    with Repository(place / "repository", writable=True) as again:
        assert Branch(again).read("file") == b"content"


def test_a_file_that_cannot_be_ingested_does_not_keep_the_rest_from_being_saved(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "damaged")

    async def run(clock: trio.testing.MockClock) -> None:
        Branch(repository).write("file", bytes(5_000))
        with trio.move_on_after(3):
            await saver.run()

    saver = Saver(repository, Handles(100))
    monkeypatch.setattr(settle, "store", fail)
    clock = trio.testing.MockClock(autojump_threshold=0.05)
    trio.run(run, clock, clock=clock)
    assert not repository.keeper.has_unsaved()


def test_an_error_of_the_disk_that_nobody_heard_is_told_to_the_next_fsync_once(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = Saver(repository, Handles(100))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "lost")

    async def run() -> None:
        Branch(repository).write("file", b"x")
        with monkeypatch.context() as patch, trio.move_on_after(3):
            patch.setattr(os, "fdatasync", fail)
            await saver.run()
        with pytest.raises(OSError, match="lost"):
            await saver.fsync()
        await saver.fsync()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.05))
