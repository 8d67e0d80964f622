"""The library beside a mount: what one of them does, the other sees at once. P37, P49, P50."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from anabranch import AnabranchError, Branch, NotFoundError, RefusedError, Repository, UsageError
from tests.harness import Mount, done, python, run_ana, wait_for

pytestmark = pytest.mark.mounted

DATA = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def main(mount: Mount) -> Iterator[Branch]:
    """The branch of a mounted repository that is open in the library, too."""
    with Repository(mount.path) as repository:
        yield repository.branch()


def test_what_the_library_writes_is_seen_by_the_mount_at_once_p50(mount: Mount, main: Branch):
    for number in range(20):  # the kernel knows what it saw the last time
        (main / "raw/a").write_text(f"number {number}")
        assert (mount.main / "raw/a").read_text() == f"number {number}"
        assert (mount.main / "raw/a").stat().st_size == len(f"number {number}")
    with main.transaction() as made:
        made.write_bytes("big", DATA)
        made.symlink("link", "big")
        made.mkdir("empty")
        made.remove("raw")
    assert sorted(os.listdir(mount.main)) == ["big", "empty", "link"]
    assert (mount.main / "link").read_bytes() == DATA
    (mount.main / "big").write_bytes(b"by a program")
    assert (main / "link").read_text() == "by a program"


def test_a_handle_that_is_open_keeps_the_old_file_p49(mount: Mount, main: Branch):
    (main / "a").write_text("old")
    with (mount.main / "a").open("r+") as old:
        (main / "a").write_text("new, and longer")
        assert old.read() == "old"
        old.write(" and changed")
        old.flush()
        assert (mount.main / "a").read_text() == "new, and longer"
    assert (main / "a").read_text() == "new, and longer"


def test_what_a_program_has_written_to_an_open_file_is_read(mount: Mount, main: Branch):
    with (mount.main / "log").open("wb") as file:
        for number in range(5):
            os.write(file.fileno(), DATA[number * 100_000 : (number + 1) * 100_000])
            assert (main / "log").read_bytes() == DATA[: (number + 1) * 100_000]
            assert (main / "log").stat().size == (number + 1) * 100_000
    with (main / "log").open("rb") as read:
        read.seek(-10, os.SEEK_END)
        assert read.read() == DATA[499_990:500_000]
    assert [change.path for change in main.status()] == ["log"]


def test_commits_branches_and_restores_are_seen_by_both(mount: Mount, main: Branch):
    repository = main._repository
    (mount.main / "a").write_text("1")
    first = main.commit("by the library", metadata={"rows": "1"})
    assert (mount.root / "main@1/a").read_text() == "1"
    (main / "a").write_text("2")
    mount.commit("by the mount")
    assert [version.message for version in main.log()] == ["by the mount", "by the library", ""]
    main.restore("a", source=first)
    assert (mount.main / "a").read_text() == "1"
    main.discard()
    assert (mount.main / "a").read_text() == "2"
    repository.create_branch("exp", first)
    assert (mount.root / "exp/a").read_text() == "1"
    (mount.root / "exp/new").write_text("new")
    repository.rename_branch("exp", "trial")
    assert (mount.root / "trial/new").read_text() == "new"
    with pytest.raises(RefusedError):
        repository.delete_branch("trial")
    (mount.root / "trial/new").unlink()
    repository.delete_branch("trial")
    assert sorted(os.listdir(mount.root)) == ["main"]
    repository.set("author", "Ann Lee")
    assert main.commit("by the setting", allow_empty=True).author == "Ann Lee"


def test_a_folder_is_imported_while_it_is_mounted(mount: Mount, main: Branch, beside: Path):
    (beside / "d").mkdir()
    (beside / "d/a").write_bytes(DATA)
    assert main.import_files(beside, "raw") == []
    assert (mount.main / "raw/d/a").read_bytes() == DATA


def test_what_is_refused_does_nothing_in_the_mount(mount: Mount, main: Branch):
    (mount.main / "a").write_text("a")
    for path in ("a/b", ".ana/commit", "x" * 300):
        with pytest.raises(UsageError):
            (main / path).write_text("never")
    assert os.listdir(mount.main) == ["a"]
    with pytest.raises(NotFoundError):
        (main / ".ana/status").read_text()


def test_a_read_only_mount_refuses_writing_and_lets_read(mountable: Mount):
    done(run_ana("mount", "--read-only", mountable.path, mountable.root, cwd=Path("/")))
    with Repository(mountable.path) as repository:
        main = repository.branch()
        assert list(main.path().iterdir()) == []
        with pytest.raises(RefusedError, match="read-only"):
            (main / "a").write_text("a")
        with pytest.raises(RefusedError, match="read-only"):
            main.commit("x", allow_empty=True)
    mountable.umount()


def test_a_daemon_that_dies_is_an_error_and_what_was_written_before_stays(mount: Mount, main: Branch):
    """What comes after its death, the library does itself."""
    (main / "before").write_bytes(DATA)
    (mount.main / "open").write_bytes(DATA)
    stop, written, errors = threading.Event(), list[int](), list[BaseException]()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                (main / "during").write_bytes(b"%d" % number + DATA)
                written.append(number)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_for(lambda: bool(written), "the first write")
        mount.kill()
        before = len(written)
        wait_for(lambda: len(written) > before + 2, "a write without the daemon")
    finally:
        stop.set()
        thread.join()
    assert [error for error in errors if not isinstance(error, AnabranchError)] == []
    with pytest.raises(RefusedError, match="died"):
        main.commit("what?")
    mount.mount()
    assert (mount.main / "before").read_bytes() == DATA
    assert (mount.main / "during").read_bytes() == b"%d" % written[-1] + DATA


KILLED = """
import sys
from anabranch import Repository
with Repository(sys.argv[1]) as repository:
    main = repository.branch()
    for number in range(1000):
        with main.transaction() as made:
            for each in range(20):
                made.write_text(f"d/{each}", str(number))
        print(number, flush=True)
"""


def test_a_program_that_is_killed_in_the_middle_leaves_all_of_a_transaction_or_nothing(mount: Mount, main: Branch):
    for _ in range(3):
        program = python(KILLED, mount.path)
        assert program.stdout is not None
        for _ in range(3):
            program.stdout.readline()
        program.kill()
        program.communicate()
        for read in (lambda name: (mount.main / name).read_text(), lambda name: (main / name).read_text()):
            wait_for(partial(is_of_one_transaction, read), "the daemon to do what the program had asked for")


def is_of_one_transaction(read: Callable[[str], str]) -> bool:
    """Whether all files are; they are read one after the other."""
    return len({read(f"d/{each}") for each in range(20)}) == 1
