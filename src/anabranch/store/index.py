"""The index: where each chunk lies. One LMDB environment, `index.mdb`; it owns no truth, for the volumes have it all.

An index that is missing, cut off or no LMDB file is never made anew behind the user's back, since every chunk would be
missing then: opening it says so, and `ana reindex` rebuilds it (`store/reindex.py`). Rows are sealed, and decoded with
every number checked. Safe for use by several threads; docs/format.md, "Volume".
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.env import Environment
from anabranch.store.records import HEADER, MAX_RAW, seal, unseal_fixed
from anabranch.store.volumes import LOG_MAX, Place

NAME = "index.mdb"
_TABLE = "chunks"
_PLACE = struct.Struct("<IQI")
_MIN, _MAX = ID_SIZE + HEADER.size, ID_SIZE + HEADER.size + MAX_RAW


def encode_place(place: Place) -> bytes:
    """The row of a chunk."""
    return seal(_PLACE.pack(*place))


def decode_place(row: bytes, what: str) -> Place:
    """The place that a row tells. Raises DamagedError, naming what it was, when no record can be there."""
    place = Place(*unseal_fixed(_PLACE, row, what))
    if not _MIN <= place.length <= _MAX or place.position + place.length > LOG_MAX:
        raise DamagedError(f"{what} names a place that cannot be")
    return place


class Index:
    """The places of a repository's chunks."""

    def __init__(self, directory: Path, *, writable: bool, create: bool, name: str = NAME) -> None:
        self._hint = f"ana reindex -R {directory}"
        try:
            self._env = Environment(directory / name, [_TABLE], writable=writable, create=create, whole=True)
        except DamagedError as error:
            raise DamagedError(error.message, hint=self._hint) from error

    def close(self) -> None:
        """Close the file."""
        self._env.close()

    def get(self, identity: ObjectId) -> Place | None:
        """Where a chunk lies, if it is here. Raises DamagedError."""
        try:
            row = self._env.get(_TABLE, identity)
            return None if row is None else _decode(identity, row)
        except DamagedError as error:
            raise DamagedError(error.message, hint=self._hint) from error

    def put(self, places: Iterable[tuple[ObjectId, Place]]) -> None:
        """Note many places, durably."""
        self._env.put_all(_TABLE, [(identity, encode_place(place)) for identity, place in places])

    def delete(self, identity: ObjectId) -> bool:
        """Forget where a chunk lies; returns whether it was here."""
        with self._env.write() as batch:
            there = batch.get(_TABLE, identity) is not None
            batch.delete(_TABLE, identity)
            return there

    def count(self) -> int:
        """The number of chunks."""
        return self._env.count(_TABLE)

    def rows(self) -> Iterator[tuple[ObjectId, Place | DamagedError]]:
        """All chunks with their places, or what is wrong with a row."""
        for key, row in self._env.scan(_TABLE):
            try:
                yield ObjectId(key), _decode(key, row)
            except DamagedError as error:
                yield ObjectId(key), error

    def sample(self, limit: int) -> Iterator[tuple[ObjectId, Place]]:
        """All chunks with their places; if there are more than the limit, about so many.

        Those are the chunks after ids at even distances: as ids are hashes, that is as good as chance, and the same
        every time. Raises DamagedError.
        """
        rows: Iterable[tuple[bytes, bytes] | None] = self._env.scan(_TABLE)
        if self.count() > limit:
            step = (1 << 8 * ID_SIZE) // limit
            starts = ((number * step).to_bytes(ID_SIZE, "big") for number in range(limit))
            rows = (self._env.following(_TABLE, start) for start in starts)
        for key, row in filter(None, rows):
            yield ObjectId(key), _decode(key, row)


def _decode(identity: bytes, row: bytes) -> Place:
    return decode_place(row, f"index row of chunk {identity.hex()}")
