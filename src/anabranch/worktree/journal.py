"""The journal: rows of the working trees, appended and synced, until the meta environment takes them in.

The rows of one instant are one record, and a record is on disk before the next is begun. So what a crash cuts short
is the end of the last file; anything else that cannot be read is damage. Files are named by the number of their first
record; what stands in a file from the number on that names the next file counts for nothing. docs/format.md, "Journal".
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.store.codec import Codec
from anabranch.store.layout import sync_directory
from anabranch.store.records import checksum
from anabranch.worktree.cuts import Row

_HEAD = struct.Struct("<4sIQQ")
_CHECKSUM = 8
_MAGIC = b"AnaJ"
_ROWS: Codec[list[Row]] = Codec(list[Row], "a record of the journal")


def encode_record(number: int, rows: list[Row]) -> bytes:
    """The bytes of a record."""
    body = _ROWS.encode(rows)
    start = _HEAD.pack(_MAGIC, len(body), number, 0)[:-_CHECKSUM]
    return b"".join((start, checksum(start, body).to_bytes(_CHECKSUM, "little"), body))


def decode_record(data: memoryview, number: int) -> tuple[list[Row], int] | None:
    """The record of a number at the start of some bytes, and its length; None if there is no whole one."""
    if len(data) < _HEAD.size:
        return None
    magic, length, found, expected = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if (
        magic != _MAGIC
        or found != number
        or len(body) < length
        or checksum(data[: _HEAD.size - _CHECKSUM], body) != expected
    ):
        return None
    return _ROWS.decode(body), _HEAD.size + length


class Journal:
    """Appends records. One thread at a time."""

    def __init__(self, directory: Path, first: int) -> None:
        self._directory = directory
        self._file: int | None = None
        self._end = 0
        self.next = first
        """The number of the next record."""

    def append(self, rows: list[Row]) -> int:
        """Make rows durable, as one record; returns its length in bytes. Raises OSError; then nothing was appended."""
        record = encode_record(self.next, rows)
        try:
            if self._file is None:
                self._file = self._begin()
            _write(self._file, record, self._end)
            os.fdatasync(self._file)
        except OSError:
            self._give_up()
            raise
        self._end += len(record)
        self.next += 1
        return len(record)

    def _give_up(self) -> None:
        """Nobody knows what is at the end of the file now: take it away, and let the next record begin another."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
        self.close()

    def _begin(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(self._directory / f"{self.next:020}", flags, 0o600)
        try:
            sync_directory(self._directory)
        except OSError:
            os.close(descriptor)
            raise
        self._end = 0
        return descriptor

    def turn(self) -> int:
        """Let the next record begin another file; returns its number."""
        self.close()
        return self.next

    def forget(self, before: int) -> None:
        """Delete the files of records before a number at which the journal was turned: they are kept elsewhere.

        What cannot be deleted now is deleted the next time.
        """
        with contextlib.suppress(OSError):
            for number, path in _files(self._directory):
                if number < before:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the next record begins another."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class Journaled:
    """What a journal holds from a record on."""

    records: list[list[Row]]
    dropped: int
    """How many bytes at the end are no whole record: a crash cut an append short."""
    saved_ns: int = field(default=0, compare=False)
    """When its last file was written to."""


def read(directory: Path, first: int) -> Journaled:
    """The records from a number on, in their order. Raises DamagedError when one is damaged or missing."""
    files = [*_files(directory)]
    ends = [number for number, _ in files[1:]]
    records: list[list[Row]] = []
    expected, dropped = first, 0
    for index, (number, path) in enumerate(files):
        stop = ends[index] if index < len(ends) else None
        if stop is not None and stop <= first:
            continue
        if number > expected:
            raise _damaged(directory, f"the journal lacks records {expected} to {number - 1}")
        data = memoryview(path.read_bytes())
        while number != stop and (found := decode_record(data, number)) is not None:
            rows, length = found
            data, number = data[length:], number + 1
            if number > first:
                records.append(rows)
        expected, dropped = number, len(data)
        if stop is None and _goes_on(data, max(number, first - 1)):
            raise _damaged(directory, f"record {number} of the journal is damaged: {path}")
    saved = files[-1][1].stat().st_mtime_ns if files else 0
    return Journaled(records, dropped, saved)


def _damaged(directory: Path, what: str) -> DamagedError:
    hint = f"what is committed can still be read; to give up what is not, and to write again: mv {directory} away"
    return DamagedError(what, hint=hint)


def _goes_on(data: memoryview, number: int) -> bool:
    """Whether a whole later record follows: then what comes before it was on disk once."""
    raw = bytes(data)
    at = raw.find(_MAGIC)
    while at >= 0:
        if len(raw) - at >= _HEAD.size:
            found = _HEAD.unpack_from(raw, at)[2]
            if found > number and decode_record(memoryview(raw)[at:], found) is not None:
                return True
        at = raw.find(_MAGIC, at + 1)
    return False


def _files(directory: Path) -> Iterator[tuple[int, Path]]:
    """The files by the number of their first record."""
    names = sorted(path.name for path in directory.iterdir() if path.name.isdigit())
    return ((int(name), directory / name) for name in names)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
