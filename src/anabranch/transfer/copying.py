"""The parts of a backup: chunks from volumes, overlay files with their holes, and rows of the meta environment.

What is damaged in the source is named and left out; all else is copied. Nothing that the copy has is lost by damage.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.layout import Layout
from anabranch.store.meta import LOGS, OBJECTS, TABLES, check_row, damaged_rows
from anabranch.store.records import kind_of, unframe
from anabranch.store.reindex import Damage, walk
from anabranch.store.scan import Found
from anabranch.store.volumes import LOG_MAX, Place, Volumes
from anabranch.worktree.cuts import overlays_in
from anabranch.worktree.pins import put_aside

Advance = Callable[[int], None]
"""Told how many bytes more are done."""

BATCH = 16 * 1024 * 1024
"""Bytes of records that become durable together."""
_PIECE = 1024 * 1024
_ID = re.compile(rb"(?=\xc4\x20(.{%d}))" % ID_SIZE, re.DOTALL)
"""An id in a record: bytes as MessagePack has them, within others too."""


# --- chunks ---


class Reached(msgspec.Struct, frozen=True):
    """How far a volume of the source is copied: up to this record of its log, which is copied, too."""

    volume: int
    position: int
    length: int
    chunk: str

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.position + self.length


def copy_chunks(
    volumes: Volumes, store: ChunkStore, reached: dict[int, Reached], note: Callable[[Reached], None], advance: Advance
) -> Iterator[int | Damage]:
    """Copy the chunks that come after what was reached and that the store lacks; yields the length of each, and damage.

    `note` is told what is durable: up to the first damage of a volume, so that the next time finds it again.
    """
    for number, items in walk(volumes, lambda number: _part(volumes, reached.get(number), number)):
        batch: list[bytes] = []
        size, done = 0, reached[number].end if number in reached else 0
        sound, last = True, None
        for item in items:
            advance(max(item.end - done, 0))
            done = max(item.end, done)
            if isinstance(item, Damage):
                sound = False
                yield item
                continue
            last = item if sound else last
            if not store.has(item.identity):
                batch.append(volumes.read(Place(number, item.position, item.length)))
                size += item.length
                yield item.length
            if size >= BATCH:
                _keep(store, batch, number, last, note)
                size = 0
        _keep(store, batch, number, last, note)


def _keep(
    store: ChunkStore, batch: list[bytes], number: int, last: Found | None, note: Callable[[Reached], None]
) -> None:
    store.take(batch)
    batch.clear()
    if last is not None:
        note(Reached(number, last.position, last.length, last.identity.hex()))


def _part(volumes: Volumes, reached: Reached | None, number: int) -> tuple[int, int]:
    """Where to go on in a volume's log, and its end now. From the start, if it is not the log that it was: a repository
    that was made from a backup has its chunks in another order.
    """
    try:
        end = volumes.end(number)
    except DamagedError:
        end = LOG_MAX
    if reached is not None and reached.end <= end:
        with contextlib.suppress(DamagedError):
            if volumes.read(Place(number, reached.position, ID_SIZE)).hex() == reached.chunk:
                return reached.end, end
    return 0, end


# --- overlay files ---


def copy_overlays(source: Layout, incoming: Layout, damaged: list[str], advance: Advance) -> int:
    """Copy the overlay files that the meta environment of `incoming` names, as they were when they were pinned; returns
    how many bytes that was. What cannot be read is added to `damaged`.
    """
    meta = Environment(incoming.meta, TABLES, writable=False)
    try:
        numbers = overlays_in(meta)
    finally:
        meta.close()
    size, copied = 0, set()
    for number in sorted(numbers):
        try:
            size += copy_sparse(source.overlays / str(number), incoming.overlays / str(number), advance)
            copied.add(number)
        except DamagedError as error:
            damaged.append(error.message)
    for number, offset, data in put_aside(source.overlays):
        if number in copied:
            with (incoming.overlays / str(number)).open("r+b") as file:
                file.seek(offset)
                file.write(data)
    return size


def copy_sparse(source: Path, place: Path, advance: Advance) -> int:
    """Copy a file, but for its holes; returns how many bytes that was. Raises DamagedError when it cannot be read."""
    copied = 0
    with place.open("xb") as copy:
        for offset, data in _pieces(source):
            copy.seek(offset)
            copy.write(data)
            advance(len(data))
            copied += len(data)
        copy.truncate()
    place.chmod(0o600)
    return copied


def _pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    """What a file holds outside of its holes, and at last its end, with no bytes."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            offset = _data(file.fileno(), 0, size)
            while offset < size:
                end = min(os.lseek(file.fileno(), offset, os.SEEK_HOLE), size)
                while offset < end:
                    data = os.pread(file.fileno(), min(_PIECE, end - offset), offset)
                    yield offset, data
                    offset += len(data)
                offset = _data(file.fileno(), end, size)
            yield size, b""
    except OSError as error:
        raise DamagedError(f"overlay file {path.name} cannot be read: {error.strerror}") from error


def _data(descriptor: int, offset: int, size: int) -> int:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) if offset < size else size
    except OSError as error:
        if error.errno == errno.ENXIO:  # a hole up to the end
            return size
        raise


# --- rows ---


def mend_rows(meta: Environment, before: Environment | None) -> list[str]:
    """Check every row that was copied; returns what is damaged or lost. Of what never changes, and is never deleted,
    the intact rows of `before` take their places.
    """
    said: list[str] = []
    damaged: set[tuple[str, bytes | None]] = set()
    for table in TABLES:
        with meta.view() as view:
            for key, why in damaged_rows(view, table):
                said.append(why)
                damaged.add((table, key))
    if before is None:
        return said
    for table in (LOGS, OBJECTS):
        keys = [key for of, key in damaged if of == table and key is not None]
        damaged -= {(table, key) for key in _put_intact(meta, before, table, keys)}
    for table in (LOGS, OBJECTS):
        lost = {key for key, _ in before.scan(table) if meta.get(table, key) is None}
        if table == OBJECTS and lost and not damaged:  # what is damaged may name any of them
            lost = _named(meta, before, lost)
        for key in _put_intact(meta, before, table, sorted(lost)):
            said.append(f"a row of {table} is lost, and stays as the backup has it: {key.hex()}")
    return said


def _put_intact(meta: Environment, before: Environment, table: str, keys: Iterable[bytes]) -> list[bytes]:
    """Put rows of `before`; returns the keys of those that it has intact."""
    put = []
    with meta.write() as batch:
        for key in keys:
            row = before.get(table, key)
            if row is not None and _is_intact(table, key, row):
                batch.put(table, key, row)
                put.append(key)
    return put


def _is_intact(table: str, key: bytes, row: bytes) -> bool:
    try:
        check_row(table, key, row)
    except DamagedError:
        return False
    return True


def _named(meta: Environment, before: Environment, missing: set[bytes]) -> set[bytes]:
    """Those of the missing objects that something names. The others are no loss: whoever has had the backup mounted
    has stored them there.
    """
    found = {key for table in TABLES for of, row in meta.scan(table) for key in _ids(table, of, row) if key in missing}
    todo = list(found)
    while todo:
        key = todo.pop()
        row = before.get(OBJECTS, key)
        below = {each for each in _ids(OBJECTS, key, row) if each in missing} - found if row else set()
        found |= below
        todo += below
    return found


def _ids(table: str, key: bytes, row: bytes) -> Iterator[bytes]:
    """The ids that a row holds, and what looks like one; of an object that is damaged, none."""
    if table == OBJECTS:
        identity = ObjectId(key)
        try:
            row = unframe(kind_of(identity, row), identity, row)
        except DamagedError:
            return
    yield from (match[1] for match in _ID.finditer(row))
