"""An export that is stopped leaves nothing behind, wherever the signal finds it."""

import itertools
import signal
import threading

import pytest

from anabranch.transfer import export
from tests.unit.helpers import Branch, make_repository, random_bytes, scratch

FILES = export.THREADS * 2
LONG = 0.5
"""Seconds that a thread goes on after the signal."""


def test_nothing_is_written_any_more_when_a_stopped_export_is_taken_away():
    gone = threading.Event()
    begun = itertools.count(1)
    late: list[str] = []

    def press(_: int) -> None:
        if next(begun) == FILES:  # by now the others wait for the threads
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if gone.wait(LONG):
                late.append(threading.current_thread().name)

    with scratch() as folder, make_repository(folder / "repo") as repository:
        branch = Branch(repository)
        for number in range(FILES):
            branch.write(str(number), random_bytes(number, 100_000))
        branch.commit()
        version = repository.version(repository.resolve("main").id)
        place = folder / "there"
        place.mkdir()
        with pytest.raises(KeyboardInterrupt):
            export.to_directory(repository, version, version.at(b""), place / "out", press)
        gone.set()
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join()
        assert late == []
        assert list(place.iterdir()) == []
