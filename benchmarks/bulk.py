"""One large file: copied and synced, committed, read cold, warm and at random."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks import data
from benchmarks.filesystems import Filesystem
from benchmarks.scenarios import MIB_A_SECOND, READS_A_SECOND, Case, Scenario, count_wrong, expect, make_cold
from benchmarks.timing import Stopwatch

_PIECE = data.MIB
_RANDOM_READS = 2000
_PAGE = 4096


class BulkScenario(Scenario):
    """The life of one file of `size` bytes, which `write` makes."""

    def __init__(self, name: str, size: int, write: Callable[[Path, int], None]) -> None:
        self.name = name
        self._file_name = f"{name}.data"
        self._size = size
        self._write_source = write
        written = (f"{name}-write", f"{name}-commit")
        self.cases = (
            Case(f"{name}-write", MIB_A_SECOND, self._copy),
            Case(f"{name}-commit", MIB_A_SECOND, self._commit, written[:1], is_commit=True),
            Case(f"{name}-read-cold", MIB_A_SECOND, self._read_cold, written, is_cold=True),
            Case(f"{name}-version-cold", MIB_A_SECOND, self._read_version_cold, written, is_cold=True),
            Case(f"{name}-read-warm", MIB_A_SECOND, self._read_warm, written),
            Case(f"{name}-random-cold", READS_A_SECOND, self._read_random_cold, written, is_cold=True),
        )

    def prepare(self, folder: Path) -> None:
        self._source = folder / self._file_name
        self._write_source(self._source, self._size)
        self._checksum = data.checksum(self._source)

    def _copy(self, filesystem: Filesystem) -> float:
        target = filesystem.tree / self._file_name
        _read_whole(self._source)  # into the page cache
        os.sync()
        with Stopwatch() as watch:
            subprocess.run(["cp", self._source, target], check=True)
            _fsync(target)
        expect(f"the size of {target}", target.stat().st_size, self._size)
        return self._rate(watch)

    def _commit(self, filesystem: Filesystem) -> float:
        with Stopwatch() as watch:
            filesystem.commit()
        version = filesystem.last_version() / self._file_name
        expect(f"the size of {version}", version.stat().st_size, self._size)
        return self._rate(watch)

    def _read_cold(self, filesystem: Filesystem) -> float:
        make_cold(filesystem)
        return self._read(filesystem, filesystem.tree)

    def _read_version_cold(self, filesystem: Filesystem) -> float:
        make_cold(filesystem)
        return self._read(filesystem, filesystem.last_version())

    def _read_warm(self, filesystem: Filesystem) -> float:
        _read_whole(filesystem.tree / self._file_name)
        return self._read(filesystem, filesystem.tree)

    def _read(self, filesystem: Filesystem, tree: Path) -> float:
        path = tree / self._file_name
        with Stopwatch() as watch:
            count = _read_whole(path)
        expect(f"the bytes read of {path}", count, self._size)
        if filesystem.keeps_content:  # a second read, of the pages that the first one left in the cache
            expect(f"the checksum of {path}", data.checksum(path), self._checksum)
        return self._rate(watch)

    def _read_random_cold(self, filesystem: Filesystem) -> float:
        offsets = self._random_offsets()
        path = filesystem.tree / self._file_name
        make_cold(filesystem)
        with Stopwatch() as watch:
            got = _read_pages(path, offsets)
        if filesystem.keeps_content:
            expect(f"the number of wrong pages of {path}", count_wrong(got, _read_pages(self._source, offsets)), 0)
        expect(f"the bytes read of {path}", sum(map(len, got)), len(offsets) * _PAGE)
        return len(offsets) / watch.seconds

    def _random_offsets(self) -> list[int]:
        pages = self._size // _PAGE
        return [page * _PAGE for page in random.Random(data.SEED).sample(range(pages), min(pages, _RANDOM_READS))]

    def _rate(self, watch: Stopwatch) -> float:
        return self._size / data.MIB / watch.seconds


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_whole(path: Path) -> int:
    """Read in pieces of 1 MiB into one buffer; gives the number of bytes."""
    buffer = bytearray(_PIECE)
    total = 0
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += count
    return total


def _read_pages(path: Path, offsets: list[int]) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [os.pread(descriptor, _PAGE, offset) for offset in offsets]
    finally:
        os.close(descriptor)
