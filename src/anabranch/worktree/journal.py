"""The journal: rows of the working trees, appended and synced, until the meta environment takes them in.

The rows of one instant are one record, and a record is on disk before the next is begun. So what a crash cuts short
is the end of the last file; anything else that cannot be read is damage. Files are named by the number of their first
record; what stands in a file from the number on that names the next file counts for nothing. docs/format.md, "Journal".
"""

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from anabranch.errors import DamagedError
from anabranch.store import private
from anabranch.store.codec import Codec
from anabranch.store.layout import sync_directory
from anabranch.store.records import checksum, checksum_of
from anabranch.worktree.cuts import Row

_HEAD = struct.Struct("<4sIQQ")
_CHECKSUM = 8
_MAGIC = b"AnaJ"
_START = _MAGIC[:3]
"""Of records and marks alike."""
_MARK = struct.Struct("<4sQQQ")
_MARK_MAGIC = b"AnaM"
MENDABLE = 128 * 1024
"""Bytes of a record in which a flipped bit can be looked for in reasonable time."""
_PIECE = 1024 * 1024
_Table = Literal["worktrees", "nodes", "names"]
_ROWS: Codec[list[Row]] = Codec(list[tuple[_Table, bytes, bytes | None]], "a record of the journal")


def encode_record(number: int, rows: list[Row]) -> bytes:
    """The bytes of a record."""
    body = _ROWS.encode(rows)
    start = _HEAD.pack(_MAGIC, len(body), number, 0)[:-_CHECKSUM]
    return b"".join((start, checksum(start, body).to_bytes(_CHECKSUM, "little"), body))


def read_record(file: int, offset: int, number: int) -> tuple[list[Row], int] | None:
    """The record of a number at a place of a file, and its length; None if there is no whole one.

    Nothing is read into memory at once before its checksum is known to be right: a length may say anything.
    """
    head = os.pread(file, _HEAD.size, offset)
    if len(head) < _HEAD.size:
        return None
    magic, length, found, expected = _HEAD.unpack(head)
    if magic != _MAGIC or found != number or offset + _HEAD.size + length > os.fstat(file).st_size:
        return None
    body = offset + _HEAD.size
    pieces = (os.pread(file, min(_PIECE, length - at), body + at) for at in range(0, length, _PIECE))
    if checksum_of(chain([head[:-_CHECKSUM]], pieces)) != expected:
        return None
    return _ROWS.decode(os.pread(file, length, body)), _HEAD.size + length


def is_record(data: memoryview, number: int) -> bool:
    """Whether some bytes are the whole record of a number, and nothing else."""
    if len(data) < _HEAD.size:
        return False
    magic, length, found, expected = _HEAD.unpack_from(data)
    if (magic, length, found) != (_MAGIC, len(data) - _HEAD.size, number):
        return False
    return checksum(data[: _HEAD.size - _CHECKSUM], data[_HEAD.size :]) == int(expected)


def encode_mark(record: bytes) -> bytes:
    """What follows a record that is on disk as a whole: if that cannot be read later, it was no crash.

    It has the record's number and checksum: in the content of a file, there may be marks of other journals.
    """
    _, _, number, check = _HEAD.unpack_from(record)
    start = _MARK.pack(_MARK_MAGIC, number, check, 0)[:-_CHECKSUM]
    return start + checksum(start).to_bytes(_CHECKSUM, "little")


def find_mark(data: bytes, number: int, head: bytes) -> int:
    """Where the mark of a record is in some bytes, -1 without one. `head` is what stands where the record should be:
    if it looks like the head of one, its checksum must be that of the mark, but for a bit that was flipped.
    """
    magic, _, _, check = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
    at = data.find(_MARK_MAGIC)
    while at >= 0:
        mark = data[at : at + _MARK.size]
        if len(mark) == _MARK.size:
            _, found, marked, own = _MARK.unpack(mark)
            ours = found == number and (magic != _MAGIC or (marked ^ check).bit_count() <= 1)
            if ours and own == checksum(mark[:-_CHECKSUM]):
                return at
        at = data.find(_MARK_MAGIC, at + 1)
    return -1


def end_of(data: bytes, position: int, number: int) -> int:
    """Where a damaged record at a position ends, as far as its mark tells; else where the file does."""
    mark = find_mark(data[position:], number, data[position : position + _HEAD.size])
    return len(data) if mark < 0 else position + mark


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
        self._mark(encode_mark(record))
        self.next += 1
        return len(record)

    def _mark(self, mark: bytes) -> None:
        """Say of the record at the end that it is on disk. This need not be: without it, a crash is believed."""
        assert self._file is not None
        with contextlib.suppress(OSError):
            if os.pwrite(self._file, mark, self._end) == len(mark):
                self._end += len(mark)

    def _give_up(self) -> None:
        """Nobody knows what is at the end of the file now: take it away, and let the next record begin another."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            with contextlib.suppress(OSError):
                self.close()

    def _begin(self) -> int:
        descriptor = private.open_file(self._directory / f"{self.next:020}", os.O_WRONLY | os.O_TRUNC)
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
            descriptor, self._file = self._file, None
            os.close(descriptor)


class BrokenJournalError(DamagedError):
    """A record is damaged or missing: its number, the records before, and if it is there, its file and position."""

    def __init__(
        self, directory: Path, what: str, number: int, before: "list[list[Row]]", path: Path | None = None,
        position: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(what, hint=f"what is committed can still be read; ana fsck --repair -R {directory.parent}")
        self.number = number
        self.before = before
        self.path = path
        self.position = position


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
            what = f"the journal lacks records {expected} to {number - 1}"
            raise BrokenJournalError(directory, what, expected, records)
        private.check_file(path)
        with path.open("rb", buffering=0) as file:
            offset = 0
            while number != stop and (found := read_record(file.fileno(), offset, number)) is not None:
                rows, length = found
                mark = encode_mark(os.pread(file.fileno(), _HEAD.size, offset))
                offset += length
                offset += _MARK.size if os.pread(file.fileno(), _MARK.size, offset) == mark else 0
                number += 1
                if number > first:
                    records.append(rows)
            expected, dropped = number, os.fstat(file.fileno()).st_size - offset
            if stop is None and _goes_on(file.fileno(), offset, max(number, first - 1)):
                what = f"record {number} of the journal is damaged: {path}"
                raise BrokenJournalError(directory, what, number, records, path, offset)
    saved = files[-1][1].stat().st_mtime_ns if files else 0
    return Journaled(records, dropped, saved)


def rewrite(directory: Path, first: int, records: list[list[Row]]) -> None:
    """Have the journal hold these records, and no others. A crash leaves the old ones, or what is to be."""
    old = [path for _, path in _files(directory)]
    numbered = enumerate(records, first)
    encoded = (encode_record(number, rows) for number, rows in numbered)
    whole = b"".join(record + encode_mark(record) for record in encoded)
    replace_file(directory / f"{first:020}", whole)
    for path in reversed(old):  # the last first: what is left then goes on, or is damaged, but lacks nothing
        if path.name != f"{first:020}":
            path.unlink()
    sync_directory(directory)


def replace_file(path: Path, content: bytes) -> None:
    """Have a file of the journal hold this, durably; a crash leaves the old content or the new."""
    new = path.with_suffix(".new")
    descriptor = private.open_file(new, os.O_WRONLY | os.O_TRUNC)
    try:
        _write(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(path)
    sync_directory(path.parent)


def first(directory: Path) -> int:
    """The number of the first record that there is a file for; 0 without any."""
    return next((number for number, _ in _files(directory)), 0)


def _goes_on(file: int, offset: int, number: int) -> bool:
    """Whether its mark or a whole later record follows: then the record of that number was on disk once.

    What lies inside of it may be the content of somebody's file, and look like anything.
    """
    head = os.pread(file, _HEAD.size, offset)
    length = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))[1]
    end = offset + _HEAD.size + length if head.startswith(_MAGIC) else offset
    for at in _starts(file, offset):
        piece = os.pread(file, max(_HEAD.size, _MARK.size), at)
        if find_mark(piece[: _MARK.size], number, head) == 0:
            return True
        if at >= end and piece.startswith(_MAGIC) and len(piece) >= _HEAD.size:
            found = _HEAD.unpack_from(piece)[2]
            if found > number and read_record(file, at, found) is not None:
                return True
    return False


def _starts(file: int, offset: int) -> Iterator[int]:
    """Where records and marks may begin from an offset on. Holes are passed over: a file may say that it is long."""
    while (offset := _data_from(file, offset)) >= 0:
        piece = os.pread(file, _PIECE, offset)
        at = piece.find(_START)
        while at >= 0:
            yield offset + at
            at = piece.find(_START, at + 1)
        offset += max(len(piece) - len(_START) + 1, 1)


def _data_from(file: int, offset: int) -> int:
    """The first byte from an offset on that is not in a hole; -1 without any."""
    try:
        return os.lseek(file, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return -1


def _files(directory: Path) -> Iterator[tuple[int, Path]]:
    """The files by the number of their first record."""
    return ((number, directory / f"{number:020}") for number in sorted(private.numbered(directory)))


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
