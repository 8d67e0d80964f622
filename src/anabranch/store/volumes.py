"""Volumes: the bytes of chunks, as endless logs of records cut into LMDB values of one size.

A volume is one LMDB environment. Its log is cut into blocks of BLOCK bytes, keyed by number, so that every value has
the same size and free pages never fragment; a record may cross blocks. The last block is the only short one, and it
is written anew by the next append. A volume over SEAL bytes takes no more. docs/format.md, "Volume".

Safe for use by several threads; one at a time appends, in one transaction. Places and blocks are not trusted: what
does not fit raises DamagedError. Whether the bytes are the right ones is for those to say who know their checksums.
"""

import logging
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from anabranch.errors import DamagedError
from anabranch.store.env import Environment
from anabranch.store.private import check_file
from anabranch.store.replace import lock_file

log = logging.getLogger(__name__)

BLOCK = 64 * 1024 - 16
"""With LMDB's page header of 16 bytes, a block fills 16 pages exactly."""
SEAL = 4 << 30
_MAP_SIZE = 16 << 30
"""Address space is 128 TiB: thousands of volumes must fit."""
_TABLE = "blocks"
_KEY = struct.Struct(">I")
_NAME = re.compile(r"[0-9]{6,}\.mdb")
LOG_MAX = BLOCK << 32
"""No log is longer: keys have 32 bits."""


class Place(NamedTuple):
    """Where a record lies: volume number, byte position in its log, length in bytes."""

    volume: int
    position: int
    length: int


class Volumes:
    """All volumes of a repository; the last one is appended to. Safe for use by several threads."""

    def __init__(self, directory: Path, *, writable: bool) -> None:
        self._directory = directory
        self._writable = writable
        self._open: dict[int, Environment] = {}
        self._lock = threading.Lock()
        self._append_lock = threading.Lock()

    def close(self) -> None:
        """Close every volume."""
        for environment in self._open.values():
            environment.close()
        self._open.clear()

    def append(self, records: Sequence[bytes]) -> list[Place]:
        """Write records in one durable transaction; returns their places."""
        with self._append_lock:
            numbers = self.numbers()
            number = numbers[-1] if numbers else 0
            try:
                end = self.end(number) if numbers else 0
                if end < SEAL:
                    return self._append(number, end, records)
            except DamagedError as error:  # what can be read there stays; what is new goes where all can
                log.error("volume %d takes no more: %s", number, error)
            return self._append(number + 1, 0, records)

    def _append(self, number: int, end: int, records: Sequence[bytes]) -> list[Place]:
        ends = list(accumulate(map(len, records), initial=end))
        self._write(number, end, b"".join(records))
        return [Place(number, start, len(record)) for start, record in zip(ends, records, strict=False)]

    def _write(self, number: int, end: int, data: bytes) -> None:
        with self._volume(number, create=True).write() as batch:
            block, within = divmod(end, BLOCK)
            if within:
                head = batch.get(_TABLE, _KEY.pack(block))
                if head is None or len(head) != within:
                    raise DamagedError(f"volume {number} does not end at {end}")
                data = head + data
            for start in range(0, len(data), BLOCK):
                batch.put(_TABLE, _KEY.pack(block + start // BLOCK), data[start : start + BLOCK])

    def read(self, place: Place) -> bytes:
        """The bytes at a place. Raises DamagedError when they are not all there."""
        if place.position + place.length > LOG_MAX:
            raise _ends_before(place)
        volume = self._volume(place.volume)
        number, within = divmod(place.position, BLOCK)
        parts: list[bytes] = []
        missing = place.length
        with volume.reading() as transaction:
            while missing > 0:
                block = transaction.get(_KEY.pack(number), db=volume.tables[_TABLE])
                if block is None or not within < len(block) <= BLOCK:
                    raise _ends_before(place)
                parts.append(bytes(block[within : within + missing]))
                missing -= len(parts[-1])
                if missing > 0 and len(block) < BLOCK:
                    raise _ends_before(place)
                number, within = number + 1, 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self, number: int) -> int:
        """The length of a volume's log, in bytes. Raises DamagedError when its last row is no block."""
        volume = self._volume(number)
        with volume.reading() as transaction, transaction.cursor(db=volume.tables[_TABLE]) as cursor:
            if not cursor.last():
                return 0
            if len(cursor.key()) != _KEY.size or not 0 < len(cursor.value()) <= BLOCK:
                raise DamagedError(f"volume {number} does not end with a block")
            return int(_KEY.unpack(cursor.key())[0]) * BLOCK + len(cursor.value())

    def blocks(self, number: int, start: int = 0, end: int = LOG_MAX) -> Iterator[tuple[int, bytes]]:
        """What there is of a volume's log from `start` to `end`: positions and the bytes there, in order, with gaps
        where it is damaged.

        Each block is asked for by its number, since a cursor comes no further than the first damaged page. Where
        somebody appends meanwhile, `end` is to be the log's end as it was before.
        """
        volume = self._volume(number)
        for block in range(start // BLOCK, min(self.size(number), end - 1) // BLOCK + 1):
            try:
                content = volume.get(_TABLE, _KEY.pack(block))
            except DamagedError:
                continue
            if content is not None:
                first = max(start - block * BLOCK, 0)
                yield block * BLOCK + first, content[first : min(BLOCK, end - block * BLOCK)]

    def size(self, number: int) -> int:
        """The size of a volume's file, which is no less than that of its log."""
        return self._path(number).stat().st_size

    def numbers(self) -> list[int]:
        """The numbers of the volumes that exist, in order."""
        try:
            names = [path.name for path in self._directory.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(name[:-4]) for name in names if _NAME.fullmatch(name))

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:06}.mdb"

    def _volume(self, number: int, *, create: bool = False) -> Environment:
        with self._lock:
            if number not in self._open:
                path = self._path(number)
                if not create and not path.exists():
                    raise DamagedError(f"volume {path.name} is missing")
                for file in (path, lock_file(path)):
                    check_file(file)
                self._open[number] = Environment(path, [_TABLE], writable=self._writable, map_size=_MAP_SIZE)
            return self._open[number]


def _ends_before(place: Place) -> DamagedError:
    return DamagedError(f"volume {place.volume} ends before {place.position + place.length}, or has a hole there")
