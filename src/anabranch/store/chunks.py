"""Chunks by id: put, get, has, over volumes and their index.

A put is durable after `flush`. The order is volume, then index: an index row always names bytes that are on disk.
Safe for use by several threads; hashing and compressing happen outside every lock and every transaction.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store import private
from anabranch.store.index import Index
from anabranch.store.records import HEADER, LEVEL, Kind, frame, object_id, read_header, unframe, verify
from anabranch.store.volumes import Volumes

BATCH = 4 * 1024 * 1024
CACHE = 64 * 1024 * 1024


class Cache:
    """A least-recently-used map from chunk id to content, bounded in bytes."""

    def __init__(self, limit: int = CACHE) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[ObjectId, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all contents."""
        return self._size

    def get(self, identity: ObjectId) -> bytes | None:
        """The content, if it is here."""
        with self._lock:
            found = self._entries.get(identity)
            if found is not None:
                self._entries.move_to_end(identity)
            return found

    def put(self, identity: ObjectId, content: bytes) -> None:
        """Keep a content, letting the oldest ones go."""
        with self._lock:
            if identity in self._entries:
                return
            self._entries[identity] = content
            self._size += len(content)
            while self._size > self._limit:
                _, dropped = self._entries.popitem(last=False)
                self._size -= len(dropped)


Sink = Callable[[list[bytes]], None]
"""Makes records durable: each an id and what `frame` made."""


class ChunkStore:
    """The chunks of a repository. One that is not writable puts through a sink, which leads to the one that is.

    Raises DamagedError when its index cannot be used.
    """

    def __init__(self, directory: Path, *, writable: bool, sink: Sink | None = None) -> None:
        if writable:
            private.make_directory(directory / "volumes")
        self.volumes = Volumes(directory / "volumes", writable=writable)
        self._index = Index(directory, writable=writable, create=not self.volumes.numbers())
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._pending: dict[ObjectId, bytes] = {}
        self._pending_size = 0
        self._sink = sink or self._keep
        self.cache = Cache()
        self.level = LEVEL
        """How hard new chunks are compressed; any thread may look."""

    def close(self) -> None:
        """Close the files; what was not flushed is dropped."""
        self._index.close()
        self.volumes.close()

    def put(self, raw: bytes | memoryview) -> tuple[ObjectId, int]:
        """Store a chunk unless it is there; returns its id and the bytes that it added."""
        identity = object_id(Kind.CHUNK, raw)
        with self._lock:
            known = identity in self._pending
        if known or self.has(identity):
            return identity, 0
        record = identity + frame(Kind.CHUNK, identity, raw, self.level)
        with self._lock:
            if identity in self._pending:
                return identity, 0
            self._pending[identity] = record
            self._pending_size += len(record)
            full = self._pending_size >= BATCH
        if full:
            self.flush()
        return identity, len(record)

    def flush(self) -> None:
        """Make every chunk put so far durable."""
        with self._flush_lock:
            with self._lock:
                batch = dict(self._pending)
            if not batch:
                return
            self._sink(list(batch.values()))
            with self._lock:
                for identity in batch:
                    self._pending_size -= len(self._pending.pop(identity))

    def take(self, records: list[bytes]) -> None:
        """Make another process's records durable. Raises DamagedError on one that is not whole."""
        for record in records:
            verify(Kind.CHUNK, ObjectId(record[:ID_SIZE]), memoryview(record)[ID_SIZE:])
        self._keep([record for record in records if not self.has(ObjectId(record[:ID_SIZE]))])

    def _keep(self, records: list[bytes]) -> None:
        if records:
            places = self.volumes.append(records)
            self._index.put(zip((ObjectId(record[:ID_SIZE]) for record in records), places, strict=True))

    def has(self, identity: ObjectId) -> bool:
        """Whether the chunk is in the index. Raises DamagedError when its row there is damaged."""
        return self._index.get(identity) is not None

    def get(self, identity: ObjectId) -> bytes:
        """The content of a chunk, checked. Raises DamagedError when it is missing or wrong."""
        cached = self.cache.get(identity)
        if cached is not None:
            return cached
        raw = unframe(Kind.CHUNK, identity, self._record(identity))
        self.cache.put(identity, raw)
        return raw

    def load(self, identities: Iterable[ObjectId]) -> None:
        """Bring chunks into the cache."""
        for identity in identities:
            self.get(identity)

    def count(self) -> int:
        """The number of chunks."""
        return self._index.count()

    def stored(self) -> int:
        """The bytes of all records of chunks, compressed."""
        return sum(map(self.volumes.end, self.volumes.numbers()))

    def sizes(self, limit: int) -> Iterator[tuple[int, int]]:
        """The bytes of each chunk before and after it was compressed; of about so many, if there are more.

        Only the heads of their records are read. Raises DamagedError.
        """
        for identity, place in self._index.sample(limit):
            head = self.volumes.read(place._replace(length=ID_SIZE + HEADER.size))
            yield read_header(Kind.CHUNK, identity, _of(identity, head)).raw_size, place.length

    def _record(self, identity: ObjectId) -> memoryview:
        with self._lock:
            pending = self._pending.get(identity)
        if pending is not None:
            return memoryview(pending)[ID_SIZE:]
        place = self._index.get(identity)
        if place is None:
            raise DamagedError(f"chunk {identity.hex()} is missing")
        return _of(identity, self.volumes.read(place))


def _of(identity: ObjectId, stored: bytes) -> memoryview:
    """The record after its id, which must be the right one."""
    if stored[:ID_SIZE] != identity:
        raise DamagedError(f"chunk {identity.hex()}: another record stands in its place")
    return memoryview(stored)[ID_SIZE:]
