"""An environment's file gives back what it does not need, while readers of other processes come and go."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from anabranch.store import replace
from anabranch.store.env import Environment
from tests.unit.helpers import random_bytes

KEPT = 50
"""Rows that are still there when most were deleted."""


def fill_and_delete(path: Path) -> None:
    """A file of some megabytes of which nearly all is free; not yet made smaller."""
    environment = Environment(path, ["rows"])
    environment.put_all("rows", [(b"%06d" % n, random_bytes(n, 2_000)) for n in range(3_000)])
    with environment.write() as batch:
        for n in range(KEPT, 3_000):
            batch.delete("rows", b"%06d" % n)
    environment._handle.close()


@pytest.fixture
def path(place: Path) -> Path:
    """A wasteful environment."""
    fill_and_delete(place / "test.mdb")
    return place / "test.mdb"


def rows(path: Path) -> list[tuple[bytes, bytes]]:
    environment = Environment(path, ["rows"], writable=False)
    try:
        return list(environment.scan("rows"))
    finally:
        environment.close()


def test_a_file_of_which_most_is_free_is_small_when_its_writer_has_closed_it(path: Path) -> None:
    before, size = rows(path), path.stat().st_size
    assert size > 6_000_000
    Environment(path, ["rows"]).close()
    assert path.stat().st_size < size // 20
    assert rows(path) == before
    assert len(before) == KEPT
    assert not path.with_name("test.mdb.new").exists()


def test_a_reader_leaves_the_file_as_it_is(path: Path) -> None:
    size = path.stat().st_size
    rows(path)
    assert path.stat().st_size == size


def test_a_file_without_waste_is_not_copied(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(place / "full.mdb", ["rows"])
    environment.put_all("rows", [(b"%06d" % n, random_bytes(n, 2_000)) for n in range(3_000)])
    monkeypatch.setattr("anabranch.store.env.compact", lambda _: pytest.fail("copied"))
    environment.close()


def test_without_room_for_the_copy_everything_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, size = rows(path), path.stat().st_size

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replace, "replace", full)
    Environment(path, ["rows"]).close()
    assert path.stat().st_size == size
    assert rows(path) == before
    assert [file.name for file in path.parent.iterdir() if ".new" in file.name] == []


def test_what_a_crash_left_of_a_copy_is_in_nobodys_way(path: Path) -> None:
    before = rows(path)
    path.with_name("test.mdb.new").write_bytes(b"half a copy")
    Environment(path, ["rows"]).close()
    assert rows(path) == before
    assert not path.with_name("test.mdb.new").exists()


READER = """
import sys
from pathlib import Path
from anabranch.store.env import Environment

environment = Environment(Path(sys.argv[1]), ["rows"], writable=False)
print(len(list(environment.scan("rows"))), flush=True)
for line in sys.stdin:
    print(len(list(environment.scan("rows"))), flush=True)
"""


@pytest.fixture
def reader(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the environment open, and counts its rows whenever it is asked."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.communicate(timeout=30)


def ask(reader: subprocess.Popen[str]) -> int:
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("?\n")
    reader.stdin.flush()
    return int(reader.stdout.readline())


def test_a_reader_that_came_before_goes_over_to_the_new_file(path: Path, reader: subprocess.Popen[str]) -> None:
    assert reader.stdout is not None
    assert int(reader.stdout.readline()) == KEPT
    Environment(path, ["rows"]).close()
    assert ask(reader) == KEPT
    writer = Environment(path, ["rows"])
    for n in range(20):
        with writer.write() as batch:
            batch.put("rows", b"new%d" % n, b"value")
        assert ask(reader) == KEPT + n + 1
    writer.close()
    assert len(rows(path)) == KEPT + 20


@pytest.mark.parametrize("renamed", [False, True])
def test_a_crash_while_a_file_is_replaced_harms_no_reader(
    path: Path, reader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, *, renamed: bool
) -> None:
    """The lock file was set aside: before the new file took the place, and after."""
    assert reader.stdout is not None
    assert int(reader.stdout.readline()) == KEPT
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        if self.name.endswith(".new") and not renamed:
            raise KeyboardInterrupt
        return rename(self, target)

    def crash_later(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    if renamed:
        monkeypatch.setattr(replace, "sync_directory", crash_later)
    with pytest.raises(KeyboardInterrupt):
        replace.compact(path)
    monkeypatch.undo()
    assert path.with_name("test.mdb-lock.old").exists()
    writer = Environment(path, ["rows"])
    for n in range(200):
        with writer.write() as batch:
            batch.put("rows", b"%06d" % (n % KEPT), random_bytes(n, 3_000))
        assert ask(reader) == KEPT
    writer.close()
    assert {file.name for file in path.parent.iterdir()} <= {"test.mdb", "test.mdb-lock"}


OPENER = """
import sys
from pathlib import Path
from anabranch.store.env import Environment

while not Path(sys.argv[2]).exists():
    environment = Environment(Path(sys.argv[1]), ["rows"], writable=False)
    assert len(list(environment.scan("rows", b"00"))) == 50, "rows are missing"
    environment.close()
"""


def test_processes_that_open_a_file_while_it_is_replaced_again_and_again_always_find_all_rows(path: Path) -> None:
    stop = path.with_name("stop")
    openers = [subprocess.Popen([sys.executable, "-c", OPENER, path, stop]) for _ in range(3)]
    for n in range(60):
        replace.compact(path)
        writer = Environment(path, ["rows"])
        with writer.write() as batch:
            batch.put("rows", b"other%d" % n, b"value")
        writer.close()
    stop.touch()
    assert [opener.wait(timeout=30) for opener in openers] == [0, 0, 0]
    assert len(rows(path)) == KEPT + 60


def test_damage_is_left_for_whoever_reads_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise lmdb.CorruptedError("a page is damaged")

    monkeypatch.setattr("anabranch.store.env.free_bytes", broken)
    size = path.stat().st_size
    Environment(path, ["rows"]).close()
    assert path.stat().st_size == size
