"""Framing of stored objects: identity, compression, checksum. Pure; docs/format.md, "Record", has every byte.

`frame` and `unframe` are each other's inverse, `seal` and `unseal` too. Every length is checked before it is trusted,
and the checksum covers id, header and payload, so a record that was stored under another id is damage too. Whatever
bytes a reader is given, it returns what was stored or raises DamagedError. Any thread may call any of this.
"""

import struct
import threading
from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3
from xxhash import xxh3_64, xxh3_64_intdigest

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId

FORMAT = 1
HEADER = struct.Struct("<BBBBIIIQ")
_PLACE = struct.Struct("<Q")
MAX_RAW = 32 * 1024 * 1024
LEVEL = 1
"""Of compression, unless somebody asks for more."""
_RAW, _ZSTD = 0, 1
_UNKNOWN_SIZE = -1
"""What zstandard says of a frame that does not name the size of its content."""


class Kind(IntEnum):
    """The type of an object; part of its identity."""

    CHUNK = 1
    MANIFEST = 2
    TREE = 3
    COMMIT = 4
    ROW = 5
    """A row of a branch log: never stored as an object, but chained by its id."""
    XATTRS = 6
    """Extended attributes that are too many for an entry."""


class Header(NamedTuple):
    """What a record says of itself, as far as readers need it."""

    codec: int
    raw_size: int
    stored_size: int
    check: int


class _PerThread(threading.local):
    """zstandard's objects must not be used by two threads at once."""

    def __init__(self) -> None:
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        """That of a level, which is slow to make."""
        if level not in self._compressors:
            made = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)
            self._compressors[level] = made
        return self._compressors[level]


_zstd = _PerThread()


@cache
def _key(kind: Kind, repository_key: bytes) -> bytes:
    return blake3(repository_key, derive_key_context=f"anabranch 2026-11 object {kind.name.lower()}").digest()


DEFAULT_KEY = bytes(32)


def object_id(kind: Kind, raw: bytes | memoryview) -> ObjectId:
    """The identity of an object: keyed BLAKE3-256 of its canonical bytes."""
    return ObjectId(blake3(raw, key=_key(kind, DEFAULT_KEY)).digest())


def frame(kind: Kind, identity: ObjectId, raw: bytes | memoryview, level: int = LEVEL) -> bytes:
    """The record of an object: header and payload, compressed at a level of zstd. Raw when that saves less than 5 %.

    Raises ValueError on more bytes than a reader takes: what could not be read again is not written.
    """
    if len(raw) > MAX_RAW:
        raise ValueError(f"{len(raw)} bytes are more than a record may hold")
    payload: bytes | memoryview = _zstd.compressor(level).compress(raw)
    codec = _ZSTD
    if len(payload) * 20 > len(raw) * 19:
        payload, codec = raw, _RAW
    head = HEADER.pack(FORMAT, kind, codec, 0, 0, len(raw), len(payload), 0)[:16]
    return b"".join((head, checksum(identity, head, payload).to_bytes(8, "little"), payload))


def unframe(kind: Kind, identity: ObjectId, record: bytes | memoryview) -> bytes:
    """The canonical bytes of a record. Raises DamagedError."""
    header = verify(kind, identity, record)
    payload = memoryview(record)[HEADER.size :]
    if header.codec == _RAW:
        return bytes(payload)
    try:
        if zstandard.frame_content_size(payload) not in (_UNKNOWN_SIZE, header.raw_size):
            raise _damaged(kind, identity, "the content has a wrong length")
        raw = _zstd.decompressor.decompress(payload, max_output_size=header.raw_size)
    except zstandard.ZstdError as error:
        raise _damaged(kind, identity, str(error)) from error
    if len(raw) != header.raw_size:
        raise _damaged(kind, identity, "the content has a wrong length")
    return raw


def verify(kind: Kind, identity: ObjectId, record: bytes | memoryview) -> Header:
    """The header of a whole record with a right checksum; the payload is not looked into. Raises DamagedError."""
    header = read_header(kind, identity, record)
    payload = memoryview(record)[HEADER.size :]
    if header.stored_size != len(payload):
        raise _damaged(kind, identity, "the record has a wrong length")
    if header.check != checksum(identity, record[:16], payload):
        raise _damaged(kind, identity, "the checksum does not match")
    return header


def read_header(kind: Kind, identity: ObjectId, record: bytes | memoryview) -> Header:
    """The header at the start of a record, if it is one that a writer makes. Raises DamagedError."""
    if len(record) < HEADER.size:
        raise _damaged(kind, identity, "the record is cut off")
    version, stored_kind, codec, reserved, dictionary, raw_size, stored_size, check = HEADER.unpack_from(record)
    if version != FORMAT or stored_kind != kind or dictionary or reserved or codec not in (_RAW, _ZSTD):
        raise _damaged(kind, identity, "the record has an unknown header")
    if max(raw_size, stored_size) > MAX_RAW or (codec == _RAW and raw_size != stored_size):
        raise _damaged(kind, identity, "the record has a wrong length")
    return Header(codec, raw_size, stored_size, check)


def kind_of(identity: ObjectId, record: bytes | memoryview) -> Kind:
    """The kind of a record with a right checksum. Raises DamagedError."""
    try:
        kind = Kind(record[1])
    except (IndexError, ValueError):
        raise DamagedError(f"object {identity.hex()}: the record has an unknown header") from None
    verify(kind, identity, record)
    return kind


def holds(identity: bytes, record: bytes | memoryview) -> bool:
    """Whether a record is whole, and its content hashes to its id."""
    try:
        kind = kind_of(ObjectId(identity), record)
        return object_id(kind, unframe(kind, ObjectId(identity), record)) == identity
    except DamagedError:
        return False


def checksum(*parts: bytes | memoryview) -> int:
    """xxh3-64 over the parts joined: guards every record and every mutable row."""
    if len(parts) == 1:
        return xxh3_64_intdigest(parts[0])
    return checksum_of(parts)


def checksum_of(parts: Iterable[bytes | memoryview]) -> int:
    """The same of parts that come one by one."""
    digest = xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest()


def seal(row: bytes, key: bytes = b"") -> bytes:
    """A mutable row with its checksum in front (8 bytes, little-endian): of its key, where the format says so, and
    of itself. Under another key it is damage then.
    """
    return checksum(key + row).to_bytes(8, "little") + row


def unseal(sealed: bytes, what: str, key: bytes = b"") -> bytes:
    """The row inside. Raises DamagedError, naming what it was. A row that was sealed without its key is taken, too."""
    row, expected = sealed[8:], int.from_bytes(sealed[:8], "little")
    if len(sealed) < 8 or expected not in (checksum(key + row), checksum(row)):
        raise DamagedError(f"{what}: the checksum does not match")
    return row


def unseal_fixed(shape: struct.Struct, sealed: bytes, what: str, key: bytes = b"") -> tuple[Any, ...]:
    """The fields of a row that is no MessagePack. Raises DamagedError."""
    row = unseal(sealed, what, key)
    if len(row) != shape.size:
        raise DamagedError(f"{what} has a wrong length")
    return shape.unpack(row)


def unseal_counter(sealed: bytes, size: int, what: str, key: bytes = b"") -> int:
    """A number of so many bytes, in whose two highest bits no counting arrives. Raises DamagedError."""
    row = unseal(sealed, what, key)
    number = int.from_bytes(row, "little")
    if len(row) != size or number >> (8 * size - 2):
        raise DamagedError(f"{what} cannot be {row[:16].hex()}")
    return number


def hash_name(name: bytes, seed: int) -> int:
    """xxh3-64 of a key with a seed: where trees are cut."""
    return xxh3_64_intdigest(name, seed)


def hash_place(directory: int, name: bytes) -> int:
    """xxh3-64 of a name in a directory, for numbers of inodes.

    The directory's number is part of the key and no seed: xxh3 mixes a seed into short keys by a few additions, so that
    `19` in one directory had the number of `18` in the next one.
    """
    return xxh3_64_intdigest(_PLACE.pack(directory) + name)


def _damaged(kind: Kind, identity: ObjectId, why: str) -> DamagedError:
    return DamagedError(f"{kind.name.lower()} {identity.hex()}: {why}")
