"""One process may have one LMDB file open several times, for reading and for writing."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.errors import DamagedError, RefusedError
from anabranch.store import handles, private
from anabranch.store.env import Environment
from tests.faults.roots import root_cannot_be_written


@pytest.fixture
def path(place: Path) -> Path:
    """An environment with one row."""
    environment = Environment(place / "test.mdb", ["rows"])
    put(environment, b"a", b"1")
    environment.close()
    return place / "test.mdb"


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    assert not handles._open


def put(environment: Environment, key: bytes, value: bytes) -> None:
    with environment.write() as batch:
        batch.put("rows", key, value)


def reader(path: Path) -> Environment:
    return Environment(path, ["rows"], writable=False)


def test_two_readers_of_one_process_read_one_file_and_one_may_leave(path: Path) -> None:
    first, second = reader(path), reader(path)
    first.close()
    assert second.get("rows", b"a") == b"1"
    second.close()


def test_a_writer_comes_and_goes_beside_a_reader_of_its_process(path: Path) -> None:
    reading = reader(path)
    assert reading.get("rows", b"a") == b"1"
    for number in (b"2", b"3"):
        writing = Environment(path, ["rows"])
        put(writing, b"a", number)
        assert reading.get("rows", b"a") == number
        writing.close()
    assert reading.get("rows", b"a") == b"3"
    reading.close()


def test_a_reader_in_the_writers_process_cannot_write(path: Path) -> None:
    writing, reading = Environment(path, ["rows"]), reader(path)
    with pytest.raises(PermissionError), reading.write():
        pass
    for environment in (reading, writing):
        environment.close()


def test_a_writer_waits_until_a_reading_transaction_of_its_process_has_ended(path: Path) -> None:
    reading = reader(path)
    scan = reading.scan("rows")
    assert next(scan) == (b"a", b"1")
    opened = threading.Event()
    writers: list[Environment] = []

    def write() -> None:
        writers.append(Environment(path, ["rows"]))
        opened.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not opened.wait(0.05)
    assert next(scan, None) is None
    thread.join()
    put(writers[0], b"b", b"2")
    assert reading.get("rows", b"b") == b"2"
    for environment in (reading, *writers):
        environment.close()


def test_a_writer_does_not_wait_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "_PATIENCE", 0.01)
    reading = reader(path)
    scan = reading.scan("rows")
    next(scan)
    with pytest.raises(RefusedError, match="still being read"):
        Environment(path, ["rows"])
    assert next(scan, None) is None
    assert reading.get("rows", b"a") == b"1"
    reading.close()


def test_a_file_that_was_open_at_a_fork_is_refused_in_the_new_process(path: Path) -> None:
    environment = reader(path)
    child = os.fork()
    if child == 0:
        try:
            reader(path)
        except RefusedError as error:
            os._exit(0 if "fork" in error.message else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    environment.close()


def test_when_a_root_could_not_be_written_the_next_transaction_goes_on_p76(path: Path) -> None:
    """LMDB itself begins none any more, neither to write nor to read."""
    writing, reading = Environment(path, ["rows"]), reader(path)
    for _ in range(2):
        with root_cannot_be_written(path), pytest.raises(OSError, match="Bad file descriptor"):
            put(writing, b"a", b"lost")
        assert reading.get("rows", b"a") == writing.get("rows", b"a") == b"1"
    put(writing, b"a", b"2")
    assert reading.get("rows", b"a") == b"2"
    for environment in (reading, writing):
        environment.close()


def test_a_transaction_that_goes_on_reading_keeps_the_file_as_it_is_until_it_ends_p76(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "_MEND_WITHIN", 0.01)
    writing = Environment(path, ["rows"])
    scan = writing.scan("rows")
    assert next(scan) == (b"a", b"1")
    with root_cannot_be_written(path), pytest.raises(OSError, match="Bad file descriptor"):
        put(writing, b"a", b"lost")
    with pytest.raises(OSError, match="is still being read"):
        writing.get("rows", b"a")
    assert list(scan) == []
    assert writing.get("rows", b"a") == b"1"
    writing.close()


def test_a_file_that_cannot_be_opened_again_is_tried_each_time_p76(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = Environment(path, ["rows"])
    with root_cannot_be_written(path), pytest.raises(OSError, match="Bad file descriptor"):
        put(writing, b"a", b"lost")
    with monkeypatch.context() as broken:
        broken.setattr(private, "make_file", failing)
        for _ in range(2):
            with pytest.raises(OSError, match="injected"):
                writing.get("rows", b"a")
    assert writing.get("rows", b"a") == b"1"
    put(writing, b"a", b"2")
    assert writing.get("rows", b"a") == b"2"
    writing.close()


def failing(path: Path) -> None:
    raise OSError(errno.EIO, f"injected: {path}")


def test_who_opens_a_file_that_was_given_up_finds_it_as_it_was_p76(path: Path) -> None:
    writing = Environment(path, ["rows"])
    with root_cannot_be_written(path), pytest.raises(OSError, match="Bad file descriptor"):
        put(writing, b"a", b"lost")
    reading = reader(path)
    assert reading.get("rows", b"a") == b"1"
    for environment in (reading, writing):
        environment.close()


def test_a_file_that_was_given_up_is_not_taken_for_another_in_its_place_p76(path: Path) -> None:
    writing = Environment(path, ["rows"])
    with root_cannot_be_written(path), pytest.raises(OSError, match="Bad file descriptor"):
        put(writing, b"a", b"lost")
    aside = path.rename(path.with_name("aside"))
    with pytest.raises(DamagedError, match="is not the file that was opened"):
        writing.get("rows", b"a")
    aside.rename(path)
    assert writing.get("rows", b"a") == b"1"
    writing.close()


def test_a_file_is_opened_once_more_while_somebody_writes(path: Path) -> None:
    """LMDB opens a table in a transaction that waits for the writer, and Python waits with it."""
    writing = Environment(path, ["rows"])
    with writing.write() as batch:
        opened: list[Environment] = []
        thread = threading.Thread(target=lambda: opened.append(reader(path)))
        thread.start()
        thread.join()
        batch.put("rows", b"a", b"2")
    assert opened[0].get("rows", b"a") == b"2"
    for environment in (*opened, writing):
        environment.close()
