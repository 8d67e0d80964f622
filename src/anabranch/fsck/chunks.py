"""Looking at the index and at every volume, and at what each says of the other. Only reads, beside the owner too."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from anabranch.errors import DamagedError
from anabranch.fsck.findings import Finding, Sort, Tally, Thing
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.index import Index
from anabranch.store.layout import Layout
from anabranch.store.records import Kind, holds, verify
from anabranch.store.scan import Lost, scan
from anabranch.store.volumes import Place, Volumes

_STEP = 16 * 1024 * 1024
"""Bytes of a volume between two words on how far it is."""


class Indexed(NamedTuple):
    """How many rows of the index lead to each volume."""

    rows: dict[int, int]


class Confirmed(NamedTuple):
    """How many records of a volume lie where the index says."""

    rows: int


class Far(NamedTuple):
    """So many bytes of a volume were read."""

    position: int


def look_at_index(layout: Layout) -> Iterator[Finding | Tally | Indexed]:
    """Each row of the index by itself."""
    index = Index(layout.path, writable=False, create=False)
    try:
        rows: Counter[int] = Counter()
        found = 0
        for identity, place in index.rows():
            found += 1
            if isinstance(place, DamagedError):
                yield Finding("index.mdb", place.message, Thing(Sort.CHUNK, identity))
            else:
                rows[place.volume] += 1
        if found != (expected := index.count()):
            yield Finding("index.mdb", f"{expected - found} of {expected} rows are lost")
        yield Tally(rows=found)
        yield Indexed(dict(rows))
    finally:
        index.close()


def look_at_volume(layout: Layout, number: int, *, deep: bool) -> Iterator[Finding | Tally | Confirmed | Far]:
    """Each record of a volume; `deep`: its content, too, which is hashed anew."""
    volumes, index = Volumes(layout.volumes, writable=False), _index(layout)
    where = f"volume {number}"
    try:
        confirmed = chunks = size = told = 0
        for item in scan(volumes.blocks(number)):
            if isinstance(item, Lost):  # a damage if something leads here: see `look_for_places`
                continue
            chunks += 1
            size += item.length
            place = Place(number, item.position, item.length)
            if _place(index, item.identity) == place:
                confirmed += 1
                if deep:
                    yield from _deeply(where, volumes.read(place))
            if item.end - told >= _STEP:
                told = item.end
                yield Far(told)
        yield Tally(chunks=chunks, bytes=size)
        yield Confirmed(confirmed)
    finally:
        volumes.close()
        if index is not None:
            index.close()


def look_for_places(layout: Layout, numbers: Collection[int]) -> Iterator[Finding]:
    """The chunks that the index has in some volumes, and that are not there as they should be."""
    volumes = Volumes(layout.volumes, writable=False)
    index = Index(layout.path, writable=False, create=False)
    try:
        for identity, place in index.rows():
            if isinstance(place, DamagedError) or place.volume not in numbers:
                continue
            try:
                stored = volumes.read(place)
                verify(Kind.CHUNK, ObjectId(stored[:ID_SIZE]), memoryview(stored)[ID_SIZE:])
            except DamagedError as error:
                yield Finding(f"volume {place.volume}", error.message, Thing(Sort.CHUNK, identity))
            else:
                if stored[:ID_SIZE] != identity:
                    yield Finding("index.mdb", f"the row of chunk {identity.hex()} leads to another one")
    finally:
        index.close()
        volumes.close()


def _index(layout: Layout) -> Index | None:
    """The index, which has a look of its own."""
    with suppress(DamagedError):
        return Index(layout.path, writable=False, create=False)
    return None


def _place(index: Index | None, identity: ObjectId) -> Place | None:
    with suppress(DamagedError):
        return None if index is None else index.get(identity)
    return None


def _deeply(where: str, stored: bytes) -> Iterator[Finding]:
    identity = ObjectId(stored[:ID_SIZE])
    if not holds(identity, memoryview(stored)[ID_SIZE:]):
        what = f"chunk {identity.hex()} holds other bytes than its id says"
        yield Finding(where, what, Thing(Sort.CHUNK, identity))
