"""One process may have one LMDB file open several times, for reading and for writing."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.errors import RefusedError
from anabranch.store import handles
from anabranch.store.env import Environment


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
