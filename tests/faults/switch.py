"""What a test and the daemon share: which call of a boundary fails, how often and how, and how many there were."""

import fcntl
import mmap
import struct
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

VARIABLE = "ANABRANCH_FAULTS"
"""In the environment of a daemon: the file that is shared with it."""

_ENVIRONMENTS = ("meta", "index", "volume")
_LMDB = ("open", "begin", "get", "put", "delete", "cursor", "commit", "root")
BOUNDARIES = (
    *(f"overlay.{call}" for call in ("open", "pwrite", "pread", "fdatasync", "fsync", "unlink")),
    *(f"journal.{call}" for call in ("open", "pwrite", "fdatasync", "ftruncate", "fsync", "unlink")),
    *(f"space.{call}" for call in ("statvfs", "open", "posix_fallocate")),
    *(f"{environment}.{call}" for environment in _ENVIRONMENTS for call in _LMDB),
    "chunk.frame", "chunk.unframe", "thread.worker", "thread.client", "process.start",
)  # fmt: skip
"""Where the daemon's code ends and what may fail begins."""

ALWAYS = 1 << 62


class Kind(IntEnum):
    """How a call fails."""

    BROKEN = 0
    """As a disk that gives errors."""
    FULL = 1
    """As a disk without room."""
    ROTTEN = 2
    """As a disk with wrong bytes on it."""
    UNFORESEEN = 3
    """As nothing that anybody thought of."""


_FIELDS = struct.Struct("<QQQQQQ")
"""The first call that fails (0: none), how many do, their kind, which boundaries count; calls and failures so far."""
_COUNTER = struct.Struct("<Q")
_SIZE = _FIELDS.size + _COUNTER.size * len(BOUNDARIES)


class Switch:
    """One mapping of the file, in either process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.truncate(_SIZE)
        self._shared = mmap.mmap(self._file.fileno(), _SIZE)
        self._turn = threading.Lock()

    def close(self) -> None:
        """Let go of the file."""
        self._shared.close()
        self._file.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Among threads and processes: a failure that is counted while all is set anew would be lost."""
        with self._turn:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def arm(self, first: int, times: int, kind: Kind, boundaries: Collection[str] = BOUNDARIES) -> None:
        """From the next call on: the n-th of these boundaries fails, and so many in all."""
        chosen = sum(1 << BOUNDARIES.index(name) for name in boundaries)
        with self._alone():
            for index in range(len(BOUNDARIES)):
                _COUNTER.pack_into(self._shared, _FIELDS.size + _COUNTER.size * index, 0)
            _FIELDS.pack_into(self._shared, 0, first, times, kind, chosen, 0, 0)

    def watch(self, boundaries: Collection[str] = BOUNDARIES) -> None:
        """Count from 0; nothing fails."""
        self.arm(0, 0, Kind.BROKEN, boundaries)

    def lift(self) -> int:
        """Nothing fails any more; returns how many calls failed."""
        with self._alone():
            _, times, kind, chosen, calls, failed = _FIELDS.unpack_from(self._shared)
            _FIELDS.pack_into(self._shared, 0, 0, times, kind, chosen, calls, failed)
        return int(failed)

    @property
    def calls(self) -> int:
        """How many calls there were since it was armed."""
        return int(_FIELDS.unpack_from(self._shared)[4])

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return int(_FIELDS.unpack_from(self._shared)[5])

    @property
    def counts(self) -> dict[str, int]:
        """The same of each boundary that was called."""
        found = (
            _COUNTER.unpack_from(self._shared, _FIELDS.size + _COUNTER.size * index)[0]
            for index in range(len(BOUNDARIES))
        )
        return {name: count for name, count in zip(BOUNDARIES, found, strict=True) if count}

    def hit(self, boundary: str) -> Kind | None:
        """In the daemon, before a call: how it is to fail, if it is to."""
        index = BOUNDARIES.index(boundary)
        with self._alone():
            first, times, kind, chosen, calls, failed = _FIELDS.unpack_from(self._shared)
            if not chosen >> index & 1:
                return None
            calls += 1
            fails = 0 < first <= calls and failed < times
            place = _FIELDS.size + _COUNTER.size * index
            _COUNTER.pack_into(self._shared, place, _COUNTER.unpack_from(self._shared, place)[0] + 1)
            _FIELDS.pack_into(self._shared, 0, first, times, kind, chosen, calls, failed + fails)
            return Kind(kind) if fails else None
