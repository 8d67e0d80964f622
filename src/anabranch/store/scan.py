"""Finding the records in a log of which nothing is trusted. Pure; one scan belongs to one thread.

A record is believed when its header is one that a writer makes and its checksum is right. Where none begins, the next
one is looked for byte by byte, by the fixed bytes of a header: so a damaged length, or a hole, loses nothing of what
comes after. Found so, a record may as well be part of a file's content that someone chose; from the first damage
on, records are therefore believed only if their content has the id, too. Memory is bounded: a window of at most one
record and one block.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.records import FORMAT, HEADER, Kind, object_id, read_header, unframe, verify

_HEAD = ID_SIZE + HEADER.size
_HEADER_START = re.compile(bytes([FORMAT, Kind.CHUNK]) + rb"[\0\1]" + bytes(5))
"""Version, kind, codec, reserved byte, dictionary: all that comes before the lengths."""
_HEADER_START_SIZE = 8


class Found(NamedTuple):
    """An intact record, with its id in front."""

    identity: ObjectId
    position: int
    length: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.position + self.length


class Lost(NamedTuple):
    """A stretch of a log without an intact record: a damaged one, or several in a row."""

    position: int
    end: int


class _Window:
    """The bytes of a log from `start` on that were read and not yet dropped; they never reach over a gap."""

    def __init__(self, blocks: Iterable[tuple[int, bytes]], start: int) -> None:
        self._blocks = iter(blocks)
        self._next = next(self._blocks, None)
        self.start = start
        self.bytes = bytearray()

    @property
    def end(self) -> int:
        return self.start + len(self.bytes)

    def more(self) -> bool:
        """Take in the next block, unless there is a gap before it or none."""
        if self._next is None or self._next[0] != self.end:
            return False
        self.bytes += self._next[1]
        self._next = next(self._blocks, None)
        return True

    def has(self, size: int) -> bool:
        while len(self.bytes) < size:
            if not self.more():
                return False
        return True

    def drop(self, size: int) -> None:
        del self.bytes[:size]
        self.start += size

    def leap(self) -> bool:
        """Go on behind a gap, with nothing in the window; False at the end of the log."""
        self.drop(len(self.bytes))
        if self._next is None:
            return False
        self.start = self._next[0]
        return self.more()


def scan(blocks: Iterable[tuple[int, bytes]], start: int = 0) -> Iterator[Found | Lost]:
    """The records of a log and what is damaged between them, in order, from its blocks by ascending position; from
    `start` on, where a record begins.
    """
    window = _Window(blocks, start)
    lost: int | None = None
    damaged = False
    while True:
        found = _record(window, deep=damaged)
        if found is not None:
            if lost is not None:
                yield Lost(lost, window.start)
                lost = None
            yield found
            window.drop(found.length)
            continue
        lost_from = window.start if lost is None else lost
        if window.bytes:
            lost, more = lost_from, _seek(window)
        elif more := window.leap():
            lost = lost_from
        if not more:
            break
        damaged = True
    if lost is not None:
        yield Lost(lost, window.end)


def _record(window: _Window, *, deep: bool) -> Found | None:
    """The record at the start of the window, if an intact one is there."""
    if not window.has(_HEAD):
        return None
    identity = ObjectId(bytes(window.bytes[:ID_SIZE]))
    try:
        length = _HEAD + read_header(Kind.CHUNK, identity, bytes(window.bytes[ID_SIZE:_HEAD])).stored_size
        if not window.has(length):
            return None
        record = bytes(memoryview(window.bytes)[ID_SIZE:length])
        if not deep:
            verify(Kind.CHUNK, identity, record)
        elif object_id(Kind.CHUNK, unframe(Kind.CHUNK, identity, record)) != identity:
            return None
    except DamagedError:
        return None
    return Found(identity, window.start, length)


def _seek(window: _Window) -> bool:
    """Go to the next position, after this one, where a record could begin; False when there is none."""
    window.drop(min(1, len(window.bytes)))
    while True:
        match = _HEADER_START.search(window.bytes, ID_SIZE)
        if match is not None:
            window.drop(match.start() - ID_SIZE)
            return True
        window.drop(max(0, len(window.bytes) - (ID_SIZE + _HEADER_START_SIZE - 1)))
        if not window.more() and not window.leap():
            return False
