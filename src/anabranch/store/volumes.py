"""Volumes: the bytes of chunks, as endless logs of records cut into LMDB values of one size.

A volume is one LMDB environment. Its log is cut into blocks of BLOCK bytes, keyed by number, so that every value has
the same size and free pages never fragment; a record may cross blocks. The last block is the only short one, and it
is written anew by the next append. A volume over SEAL bytes takes no more. docs/format.md, "Volume".
"""

import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from anabranch.errors import DamagedError
from anabranch.store.env import Environment

BLOCK = 64 * 1024 - 16
"""With LMDB's page header of 16 bytes, a block fills 16 pages exactly."""
SEAL = 4 << 30
_MAP_SIZE = 16 << 30
"""Address space is 128 TiB: thousands of volumes must fit."""
_TABLE = "blocks"
_KEY = struct.Struct(">I")


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
            number = max(self.numbers(), default=0)
            end = self.end(number) if number in self.numbers() else 0
            if end >= SEAL:
                number, end = number + 1, 0
            places, position = [], end
            for record in records:
                places.append(Place(number, position, len(record)))
                position += len(record)
            self._write(number, end, b"".join(records))
            return places

    def _write(self, number: int, end: int, data: bytes) -> None:
        with self._volume(number, create=True).write() as batch:
            block, within = divmod(end, BLOCK)
            if within:
                head = batch.get(_TABLE, _KEY.pack(block))
                if head is None or len(head) != within:
                    raise DamagedError(f"BUG: volume {number} does not end at {end}")
                data = head + data
            for start in range(0, len(data), BLOCK):
                batch.put(_TABLE, _KEY.pack(block + start // BLOCK), data[start : start + BLOCK])

    def read(self, place: Place) -> bytes:
        """The bytes at a place. Raises DamagedError when they are not all there."""
        volume = self._volume(place.volume)
        first, within = divmod(place.position, BLOCK)
        parts: list[bytes] = []
        missing = place.length
        with volume.reading() as transaction:
            while missing > 0:
                block = transaction.get(_KEY.pack(first), db=volume.tables[_TABLE])
                part = b"" if block is None else bytes(block[within : within + missing])
                if not part:
                    raise DamagedError(f"volume {place.volume} ends before {place.position + place.length}")
                parts.append(part)
                missing -= len(part)
                first, within = first + 1, 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self, number: int) -> int:
        """The length of a volume's log, in bytes."""
        volume = self._volume(number)
        with volume.reading() as transaction, transaction.cursor(db=volume.tables[_TABLE]) as cursor:
            if not cursor.last():
                return 0
            return int(_KEY.unpack(cursor.key())[0]) * BLOCK + len(cursor.value())

    def log(self, number: int) -> Iterator[bytes]:
        """The log of a volume, block by block."""
        for _, block in self._volume(number).scan(_TABLE):
            yield block

    def numbers(self) -> list[int]:
        """The numbers of the volumes that exist, in order."""
        return sorted(int(path.stem) for path in self._directory.glob("*.mdb"))

    def _volume(self, number: int, *, create: bool = False) -> Environment:
        with self._lock:
            if number not in self._open:
                path = self._directory / f"{number:06}.mdb"
                if not create and not path.exists():
                    raise DamagedError(f"volume {path.name} is missing")
                self._open[number] = Environment(path, [_TABLE], writable=self._writable, map_size=_MAP_SIZE)
            return self._open[number]
