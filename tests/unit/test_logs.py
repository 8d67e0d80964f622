"""The daemon's log is bounded, whoever writes to it, and a disk that cannot take it ends nothing. P77."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.daemon import logs
from anabranch.daemon.logs import LogFile

STDERR = 2
LINE = "x" * 200


@pytest.fixture
def log(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """One that has stdout and stderr, too; small."""
    monkeypatch.setattr(logs, "SIZE", 1_000)
    kept = [os.dup(1), os.dup(STDERR)]
    handler, logger = LogFile(place / "daemon.log", alone=True), logging.Logger("test")
    logger.addHandler(handler)
    yield logger
    handler.close()
    for descriptor, original in zip((1, STDERR), kept, strict=True):
        os.dup2(original, descriptor)
        os.close(original)


def test_a_flood_of_lines_takes_so_much_room_and_no_more(place: Path, log: logging.Logger) -> None:
    for _ in range(1_000):
        log.error(LINE)
    files = list(place.iterdir())
    assert len(files) == 1 + logs.OLD
    assert all(path.stat().st_size <= 1_000 for path in files)


def test_what_is_written_to_stderr_is_in_the_newest_file(place: Path, log: logging.Logger) -> None:
    for number in range(20):
        log.error(LINE)
        os.write(STDERR, b"by somebody else %d\n" % number)
    assert "by somebody else 19" in (place / "daemon.log").read_text()
    assert len(list(place.iterdir())) == 1 + logs.OLD


def test_lines_that_a_full_disk_does_not_take_are_lost_and_later_ones_are_not(place: Path) -> None:
    handler = LogFile(place / "daemon.log", alone=False)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    room, full = handler.stream, Path("/dev/full").open("w")  # noqa: SIM115  (closing fails)
    handler.stream = full
    for _ in range(100):
        logger.error(LINE)
    handler.stream = room
    logger.error("there is room")
    handler.close()
    with pytest.raises(OSError, match="No space"):
        full.close()
    assert "there is room" in (place / "daemon.log").read_text()
