"""Turning a flipped bit back: with a checksum of 64 bits, the one bit that makes a record right is the one that was.

Costs a checksum for each bit: a second for 64 KiB. Pure.
"""

from collections.abc import Callable

from anabranch.ids import ID_SIZE
from anabranch.store.records import Kind, checksum, holds, seal

_SEAL = 8


def turned_back(data: bytes, is_right: Callable[[memoryview], bool]) -> bytes | None:
    """The bytes with the one bit turned that makes them right, if there is one."""
    tried = bytearray(data)
    view = memoryview(tried)
    for bit in range(8 * len(tried)):
        tried[bit // 8] ^= 1 << bit % 8
        if is_right(view):
            return bytes(tried)
        tried[bit // 8] ^= 1 << bit % 8
    return None


def mended_row(key: bytes, sealed: bytes, *, keyed: bool) -> tuple[bytes, bytes] | None:
    """Key and value of a sealed row, as they were before a bit was flipped in either."""
    expected, row = int.from_bytes(sealed[:_SEAL], "little"), sealed[_SEAL:]
    for guarded in (key, b"") if keyed else (b"",):  # once, rows were sealed without their keys
        if (checksum(guarded + row) ^ expected).bit_count() == 1:
            return key, seal(row, guarded)
        whole = turned_back(guarded + row, lambda tried: checksum(tried) == expected)
        if whole is not None:
            return whole[: len(guarded)] or key, sealed[:_SEAL] + whole[len(guarded) :]
    return None


def mended_record(identity: bytes, record: bytes) -> tuple[bytes, bytes] | None:
    """Id and record of an object, as they were before a bit was flipped in either."""
    whole = turned_back(identity + record, lambda tried: holds(bytes(tried[:ID_SIZE]), tried[ID_SIZE:]))
    return None if whole is None else (whole[:ID_SIZE], whole[ID_SIZE:])


def is_chunk(stored: memoryview) -> bool:
    """Whether this is a chunk's id and its record, whole."""
    return stored[ID_SIZE + 1 : ID_SIZE + 2] == bytes([Kind.CHUNK]) and holds(bytes(stored[:ID_SIZE]), stored[ID_SIZE:])
