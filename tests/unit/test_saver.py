"""The saver beside failures and the end of the mount: nothing that was fsynced is forgotten, and saving goes on."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from anabranch.fuse import chores
from anabranch.fuse.handles import Handles
from anabranch.fuse.saver import Saver
from anabranch.repo import Repository
from anabranch.worktree import settle
from anabranch.worktree.content import Overlays
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

    async def run() -> None:
        Branch(repository).write("file", bytes(5_000))
        with trio.fail_after(1_000):  # of a clock that goes on while a worker thread is slow
            async with trio.open_nursery() as nursery:
                nursery.start_soon(saver.run)
                while repository.keeper.has_unsaved():
                    await trio.sleep(1)
                nursery.cancel_scope.cancel()

    saver = Saver(repository, Handles(100))
    monkeypatch.setattr(settle, "store", fail)
    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.05))
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


def test_what_the_kernel_could_not_write_is_given_to_it_again_before_a_sync_is_believed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P76: after an error, it takes the bytes for written."""
    data, calls = os.urandom(100_000), list[bytes]()
    sync, write = os.fdatasync, os.pwrite

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "lost")

    def note_write(descriptor: int, part: bytes, offset: int) -> int:
        calls.append(bytes(part))
        return write(descriptor, part, offset)

    def note_sync(descriptor: int) -> None:
        calls.append(b"sync")
        sync(descriptor)

    Branch(repository).write("file", data)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="lost"):
        repository.save()
    monkeypatch.setattr(os, "pwrite", note_write)
    monkeypatch.setattr(os, "fdatasync", note_sync)
    repository.save()
    assert calls[:2] == [data, b"sync"]


def test_a_commit_whose_overlay_file_cannot_be_deleted_is_made_and_the_file_goes_later(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = Branch(repository)
    branch.write("file", bytes(100_000))
    repository.save()

    unlink = Path.unlink

    def fail(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent.name == "overlays":
            raise OSError(errno.EIO, "not now")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        assert branch.commit() == 1
    assert repository.overlays.numbers() != []
    repository.save()
    assert repository.overlays.numbers() == []


def test_a_deleted_file_is_not_brought_to_disk_any_more(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the disk cannot take must not keep the others from it for ever."""
    branch = Branch(repository)
    branch.write("bad", bytes(100_000))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "bad block")

    with monkeypatch.context() as patch:
        patch.setattr(Overlays, "sync", lambda overlays, number: fail(number))
        with pytest.raises(OSError, match="bad block"):
            repository.save()
        branch.unlink("bad")
        branch.forget_all()
        branch.write("good", b"content")
        repository.save()
    assert not repository.keeper.has_unsaved()


def test_memory_that_cannot_move_into_an_overlay_file_leaves_none_behind(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = Branch(repository)
    branch.write("file", bytes(60_000))

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match="full"):
            branch.write("file", bytes(60_000), 60_000)
    assert repository.overlays.numbers() == []
    assert branch.read("file") == bytes(60_000)


def test_a_task_beside_the_requests_that_fails_is_logged_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    """P75."""
    turns: list[int] = []

    async def task() -> None:
        turns.append(len(turns))
        raise ValueError("odd")

    async def run() -> None:
        with trio.move_on_after(2.5 * chores.PAUSE):
            await chores.for_ever(task)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert turns == [0, 1, 2]
    assert "BUG: " in caplog.text
    assert "ValueError: odd" in caplog.text
