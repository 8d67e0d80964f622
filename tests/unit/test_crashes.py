"""A process ends without warning: what the last checkpoint or commit held is there, whole, and nothing half.

A crash is closing a repository without a checkpoint: LMDB and the overlay files keep what they had.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anabranch.commit import Note
from anabranch.errors import DamagedError, NotFoundError, NothingToCommitError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.refs import Refs
from anabranch.worktree.cuts import overlays_of
from tests.unit.helpers import MAIN, WHO, Branch, make_repository, random_bytes

EXP = RefName("exp")
LARGE = random_bytes(1, 100_000)


class Process:
    """A repository that can crash and start again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repository = make_repository(path)

    def crash(self) -> None:
        self.repository.close()
        self.repository = Repository(self.path, writable=True)

    def end(self) -> None:
        self.repository.save()
        self.crash()

    def branch(self, name: RefName = MAIN) -> Branch:
        return Branch(self.repository, name)

    @property
    def main(self) -> Branch:
        return self.branch()

    def overlay_files(self) -> set[str]:
        return set(os.listdir(self.path / "overlays"))


@contextmanager
def process_in(path: Path) -> Iterator[Process]:
    process = Process(path)
    try:
        yield process
    finally:
        process.repository.close()
    with Repository(path) as reader:
        consistency.check(reader)


@pytest.fixture
def process(place: Path) -> Iterator[Process]:
    with process_in(place / "repository") as made:
        yield made


def test_what_a_checkpoint_held_is_there_and_what_came_after_is_not(process: Process) -> None:
    process.main.mkdir("d")
    process.main.write("d/large", LARGE)
    process.main.write("d/small", b"small")
    process.main.link("d/small", "linked")
    process.repository.save()
    process.main.write("later", b"later")
    process.main.unlink("d/large")
    process.crash()
    assert process.main.names() == ["d", "linked"]
    assert process.main.read("d/large") == LARGE
    assert process.main.read("linked") == b"small"
    assert process.main.tree.getattr(process.main.find("linked")).links == 2


def test_unmounting_keeps_everything_that_is_uncommitted(process: Process) -> None:
    """P31, P26."""
    process.main.write("committed", LARGE)
    process.main.commit()
    process.main.rename("committed", "moved")
    process.main.write("new", b"new", 70_000)
    process.main.chmod("new", 0o600)
    before = [process.main.tree.lookup(process.main.tree.root, name) for name in (b"moved", b"new")]
    status = process.main.changed()
    process.end()
    after = [process.main.tree.lookup(process.main.tree.root, name) for name in (b"moved", b"new")]
    for old, new in zip(before, after, strict=True):
        assert (old.ino, old.mode, old.size, old.mtime_ns, old.ctime_ns, old.links) == (
            (new.ino, new.mode, new.size, new.mtime_ns, new.ctime_ns, new.links)
        )
    assert process.main.changed() == status
    assert process.main.read("moved") == LARGE
    assert process.main.read("new") == bytes(70_000) + b"new"


def test_a_commit_is_there_after_a_crash(process: Process) -> None:
    """P33."""
    process.main.write("file", LARGE)
    process.main.commit()
    process.crash()
    assert process.main.read("file") == process.main.at("main@1", "file") == LARGE
    assert process.main.changed() == []


def test_a_file_that_was_truncated_after_the_checkpoint_has_its_bytes_again(process: Process) -> None:
    """The bytes cut off may leave the disk only after the row that says so is there."""
    process.main.write("file", LARGE)
    process.repository.save()
    process.main.truncate("file", 10)
    process.main.truncate("file", 0)
    process.main.write("file", b"other")
    process.crash()
    assert process.main.read("file") == LARGE


def test_a_checkpoint_during_a_commit_holds_what_was_frozen_before_it(process: Process) -> None:
    """P32: fsync may come while a commit is made, and what it covers may never have been cut before."""
    process.main.mkdir("d")
    process.main.write("d/file", LARGE)
    process.repository.commits.freeze(MAIN)
    process.main.chmod("d", 0o700)
    process.repository.save()
    process.crash()
    assert process.main.names() == ["d"]
    assert process.main.read("d/file") == LARGE
    assert process.main.changed() == [("added", "d"), ("added", "d/file")]


def test_a_checkpoint_that_fails_beside_a_freeze_loses_nothing_of_either(process: Process) -> None:
    process.main.write("cut", b"cut")
    cut = process.repository.keeper.cut()
    process.main.write("frozen", b"frozen")
    process.repository.commits.freeze(MAIN)
    process.main.write("live", b"live")
    process.repository.keeper.keep(cut)
    process.end()
    assert [process.main.read(name) for name in ("cut", "frozen", "live")] == [b"cut", b"frozen", b"live"]


def test_a_crash_in_the_middle_of_a_commit_leaves_everything_uncommitted(process: Process) -> None:
    """P17."""
    process.main.write("file", LARGE)
    process.repository.save()
    candidate = process.repository.commits.build(process.repository.commits.freeze(MAIN))
    process.repository.commits.conclude(candidate, Note("a message"), WHO)
    process.crash()
    assert process.repository.refs.get(MAIN).number == 0
    assert process.main.changed() == [("added", "file")]
    assert process.main.commit() == 1
    assert process.main.at("main@1", "file") == LARGE


def test_a_crash_right_after_the_transaction_of_a_commit_finds_later_changes_on_top_of_it(process: Process) -> None:
    repository = process.repository
    process.main.write("file", LARGE)
    frozen = repository.commits.freeze(MAIN)
    process.main.write("file", b"later")
    process.main.write("new", b"new")
    built = repository.commits.conclude(repository.commits.build(frozen), Note("a message"), WHO)
    cut = repository.commits.cut(MAIN, built)
    assert repository.commits.write(MAIN, 0, built, cut, WHO) == 1
    process.crash()
    assert process.main.at("main@1", "file") == LARGE
    assert process.main.read("file") == b"later" + LARGE[5:]
    assert process.main.changed() == [("modified", "file"), ("added", "new")]


def test_a_hard_linked_file_that_vanished_during_a_commit_that_crashed_is_gone(process: Process) -> None:
    process.main.write("a", b"content")
    process.main.link("a", "b")
    process.repository.save()
    process.repository.commits.freeze(MAIN)
    process.main.unlink("a")
    process.main.unlink("b")
    process.main.write("other", b"other")
    process.repository.save()
    process.crash()
    assert process.main.names() == ["other"]
    process.main.commit()  # the walk at the end finds link rows that nothing names


def test_a_committed_hard_link_that_vanishes_leaves_the_link_tree_after_a_crash_too(process: Process) -> None:
    process.main.write("a", b"content")
    process.main.link("a", "b")
    process.main.commit()
    process.main.unlink("a")
    process.main.unlink("b")
    process.end()
    process.main.write("other", b"other")
    process.main.commit()
    assert process.main.names() == ["other"]


def test_a_commit_that_fails_at_its_transaction_loses_nothing(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P17: not in this branch, nor in another one that is open."""
    process.main.write("file", LARGE)
    process.main.commit()
    process.repository.create_branch(EXP, process.repository.refs.get(MAIN).commit, WHO)
    process.branch(EXP).write("other", b"other branch")
    process.main.write("new", b"new")

    def no_space(*_: object) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(Refs, "advance", no_space)
        with pytest.raises(OSError, match="no space"):
            process.main.commit()
    assert process.main.changed() == [("added", "new")]
    process.end()
    assert process.main.changed() == [("added", "new")]
    assert process.branch(EXP).names() == ["file", "other"]
    assert process.main.commit() == 2


def test_overlay_files_that_no_row_names_are_removed_at_the_next_start(process: Process) -> None:
    process.main.write("kept", LARGE)
    process.repository.save()
    process.main.write("lost", LARGE)
    assert len(process.overlay_files()) == 2
    process.crash()
    assert process.main.names() == ["kept"]
    assert len(process.overlay_files()) == 1


def test_overlay_files_go_once_their_content_is_committed_or_unlinked(process: Process) -> None:
    process.main.write("file", LARGE)
    process.main.write("gone", LARGE)
    process.main.unlink("gone")
    process.main.commit()
    assert process.overlay_files() == set()


def test_a_failed_commit_leaves_no_overlay_file_that_nothing_names(process: Process) -> None:
    for name in ("small", "large", "gone"):
        process.main.write(name, LARGE)
    process.main.commit()
    for name in ("small", "large", "gone"):
        process.main.truncate(name, 5)
    process.repository.commits.freeze(MAIN)
    process.main.truncate("small", 4)
    process.main.write("large", LARGE)
    process.main.unlink("gone")
    process.repository.commits.thaw(MAIN)
    process.repository.save()
    assert len(process.overlay_files()) == len(overlays_of(process.main.tree.table)) == 2
    process.crash()
    assert process.main.read("small") == LARGE[:4]
    assert process.main.read("large") == LARGE


def test_a_file_that_shrank_into_memory_leaves_no_overlay_file_behind(process: Process) -> None:
    process.main.write("file", LARGE)
    process.main.truncate("file", 5)
    process.repository.commits.freeze(MAIN)
    process.main.chmod("file", 0o600)  # the same content in two generations
    process.repository.commits.thaw(MAIN)
    process.main.write("file", b"x")
    process.repository.save()
    assert process.overlay_files() == set()
    process.crash()
    assert process.main.read("file") == b"x" + LARGE[1:5]


def test_a_branch_renamed_while_a_checkpoint_is_written_keeps_its_changes_and_leaves_no_trace(process: Process) -> None:
    process.repository.create_branch(EXP, process.repository.refs.get(MAIN).commit, WHO)
    process.branch(EXP).write("file", LARGE)
    cut = process.repository.keeper.cut()
    process.repository.rename_branch(EXP, "new", WHO)
    process.repository.keeper.write(cut)
    process.repository.keeper.after(cut)
    process.crash()
    assert process.branch(RefName("new")).read("file") == LARGE
    with pytest.raises(NotFoundError):
        process.repository.branch(EXP)


def test_a_branch_deleted_while_a_checkpoint_is_written_leaves_no_trace(process: Process) -> None:
    process.repository.create_branch(EXP, process.repository.refs.get(MAIN).commit, WHO)
    process.branch(EXP).write("file", LARGE)
    process.branch(EXP).unlink("file")
    process.main.write("large", LARGE)  # with an overlay file on disk, the next start looks through all working trees
    cut = process.repository.keeper.cut()
    process.repository.delete_branch(EXP, WHO)
    process.repository.keeper.write(cut)
    process.repository.keeper.after(cut)
    process.crash()
    assert process.main.read("large") == LARGE


def on_a_new_branch(process: Process) -> Branch:
    """A branch whose inode numbers are hashes: nothing was written there yet."""
    process.main.write("x", b"the old x")
    process.main.write("y", b"the old y")
    process.main.commit()
    process.repository.create_branch(EXP, process.repository.refs.get(MAIN).commit, WHO)
    return process.branch(EXP)


def test_a_commit_that_was_never_made_changes_no_inode_number(process: Process) -> None:
    branch = on_a_new_branch(process)
    numbers = branch.find("x"), branch.find("y")
    process.repository.save()
    branch.rename("y", "x")
    process.repository.commits.build(process.repository.commits.freeze(EXP))
    process.crash()
    branch = process.branch(EXP)
    assert branch.names() == ["x", "y"]
    assert (branch.find("x"), branch.find("y")) == numbers


def test_a_commit_that_was_never_made_gives_no_name_the_content_of_another(process: Process) -> None:
    branch = on_a_new_branch(process)
    process.repository.save()
    branch.rename("y", "x")
    process.repository.commits.build(process.repository.commits.freeze(EXP))
    process.crash()
    branch = process.branch(EXP)
    assert branch.read("x") == b"the old x"
    assert branch.read("y") == b"the old y"


def test_nothing_to_commit_stays_so_after_a_crash(process: Process) -> None:
    process.main.write("file", b"content")
    process.main.commit()
    process.main.write("other", b"other")
    process.main.unlink("other")
    process.end()
    with pytest.raises(NothingToCommitError):
        process.main.commit()


@pytest.mark.parametrize("read_back", [True, False], ids=["read back from two files", "taken in the next time"])
def test_what_was_written_while_a_checkpoint_failed_is_the_newer(process: Process, read_back: bool) -> None:
    process.main.write("file", b"old")
    process.repository.save()
    keeper = process.repository.keeper
    taken = keeper.begin_checkpoint()
    process.main.write("file", b"new")
    process.repository.save()
    keeper.put_back(taken)
    if not read_back:
        keeper.checkpoint()
    process.crash()
    assert process.main.read("file") == b"new"


def test_what_a_crash_left_in_the_journal_is_told_once(process: Process) -> None:
    process.main.write("file", b"content")
    process.repository.save()
    process.crash()
    assert process.repository.recovered.records == 1
    process.repository.settle_down()
    process.crash()
    assert process.repository.recovered.records == 0


def test_a_damaged_journal_is_an_error_that_says_what_to_do_and_history_stays_readable(process: Process) -> None:
    """P44."""
    process.main.write("file", b"first")
    process.main.commit()
    for text in (b"one", b"two"):
        process.main.write("file", text)
        process.repository.save()
    process.repository.close()
    (path,) = (process.path / "journal").iterdir()
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match="record 1 of the journal is damaged") as caught:
        Repository(process.path, writable=True)
    assert caught.value.hint is not None
    assert "ana fsck --repair" in caught.value.hint
    with Repository(process.path) as reader:
        assert reader.resolve("main@1").number == 1
    (process.path / "journal").rename(process.path / "given up")
    process.repository = Repository(process.path, writable=True)
    assert process.main.read("file") == b"first"
    process.main.write("file", b"three")
    process.end()
    assert process.main.read("file") == b"three"


def test_a_record_whose_sync_failed_is_not_read_back_over_a_later_commit(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.main.mkdir("d")
    process.main.commit()
    process.main.write("small", b"content")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk said so once")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="the disk said so once"):
            process.repository.save()
    assert process.main.commit() == 2
    process.crash()
    assert process.main.changed() == []
    assert process.main.read("small") == b"content"


def test_commits_that_fail_beside_a_writer_do_not_pile_its_overlays_up(process: Process) -> None:
    """P17: after many, the file could not be kept."""
    held = bytearray(LARGE)
    process.main.write("large", LARGE)
    process.main.commit()
    process.main.write("large", b"before", 5)
    held[5:11] = b"before"
    for number in range(1_200):
        process.repository.commits.freeze(MAIN)
        if number % 100 == 50:
            process.main.truncate("large", len(held) - 700)
            del held[-700:]
        data, offset = b"%d" % number, 7 * number
        process.main.write("large", data, offset)
        held[offset : offset + len(data)] = data
        process.repository.commits.thaw(MAIN)
    process.repository.save()
    process.crash()
    assert process.main.read("large") == held
    process.main.commit()
    assert process.main.at("main", "large") == held
    assert process.overlay_files() == set()


def test_an_overlay_file_that_nobody_wrote_to_is_brought_to_disk_too(process: Process) -> None:
    """A row names it: without its name, the number would be given to another file."""
    process.main.write("large", LARGE)
    process.main.commit()
    process.main.truncate("large", 90_000)
    cut = process.repository.keeper.cut()
    assert cut.sync.keys() == {int(name) for name in process.overlay_files()} != set()
    process.repository.keeper.keep(cut)


def test_a_commit_is_made_though_the_journal_cannot_be_cleared(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.main.write("file", b"content")
    process.repository.save()

    def fail(path: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "not now")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        assert process.main.commit() == 1
    process.crash()
    assert process.main.changed() == []


def test_what_is_in_memory_only_is_counted_against_the_room_on_the_disk(process: Process) -> None:
    """P45: a row holds the whole of a small file, however little of it was written."""
    process.main.make("file")
    before = process.repository.space.pending
    process.main.truncate("file", 60_000)
    assert process.repository.space.pending - before >= 60_000
    process.repository.save()
    assert process.repository.space.pending == 0
    process.main.write("file", b"x")
    assert process.repository.space.pending >= 60_000


def test_a_copy_of_the_reserve_that_holds_nothing_is_filled_again(process: Process) -> None:
    process.repository.close()
    reserve = process.path / "reserve"
    size = reserve.stat().st_size
    reserve.unlink()
    with reserve.open("wb") as file:
        file.truncate(size)
    process.repository = Repository(process.path, writable=True)
    assert reserve.stat().st_blocks * 512 >= size
