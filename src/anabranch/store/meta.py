"""The meta environment: its tables, and the immutable objects in it (tree and manifest nodes, commits).

`ObjectStore.put` collects in memory. Many objects are written ahead in batches, so that the transaction that names them
stays small; the last few go into it (`write`), so a small commit is one transaction. Safe for use by several threads.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from anabranch.errors import AmbiguousError, DamagedError, NotFoundError
from anabranch.ids import ObjectId
from anabranch.store.env import Batch, Environment, View
from anabranch.store.records import Kind, frame, kind_of, object_id, unframe, unseal

OBJECTS = "objects"
REFS = "refs"
LOGS = "logs"
WORKTREES = "worktrees"
NODES = "nodes"
NAMES = "names"
NUMBERS = "numbers"
SETTINGS = "settings"
TABLES = (OBJECTS, REFS, LOGS, WORKTREES, NODES, NAMES, NUMBERS, SETTINGS)
"""What each table holds, to the byte: docs/format.md."""

KEYED = (WORKTREES, NODES, NAMES, NUMBERS, SETTINGS)
"""Tables whose rows are sealed with their keys."""
BATCH = 4 * 1024 * 1024


Rows = Sequence[tuple[bytes, bytes]]
"""Ids and records of objects."""


def check_row(table: str, key: bytes, value: bytes) -> None:
    """Raises DamagedError for a row whose checksum is wrong."""
    if table == OBJECTS:
        kind_of(ObjectId(key), value)
    else:
        unseal(value, f"row {key!r} of {table}", key if table in KEYED else b"")


def damaged_rows(view: View, table: str) -> Iterator[tuple[bytes | None, str]]:
    """The keys of a table's rows whose checksums are wrong, and why; None for rows that are not there any more."""
    found = 0
    for key, value in view.scan(table):
        found += 1
        try:
            check_row(table, key, value)
        except DamagedError as error:
            yield key, error.message
    if found != (expected := view.count(table)):
        yield None, f"{expected - found} of {expected} rows of {table} are lost"


class ObjectStore:
    """Small immutable objects over one LMDB table. Without the right to write there, they are put through a sink."""

    def __init__(self, meta: Environment, sink: Callable[[Rows], None] | None = None) -> None:
        self._meta = meta
        self._sink = sink or self._keep
        self._lock = threading.Lock()
        self._pending: dict[ObjectId, bytes] = {}
        self._pending_size = 0
        self.pace: Callable[[], None] = lambda: None
        """Called now and then by whoever puts many objects: a mount lets him give way to requests."""

    def put(self, kind: Kind, raw: bytes) -> ObjectId:
        """Store an object unless it is there; durable after `flush`."""
        self.pace()
        identity = object_id(kind, raw)
        with self._lock:
            known = identity in self._pending
        if known or self._meta.get(OBJECTS, identity) is not None:
            return identity
        record = frame(kind, identity, raw)
        with self._lock:
            if identity in self._pending:
                return identity
            self._pending[identity] = record
            self._pending_size += len(record)
            full = self._pending_size >= BATCH
        if full:
            self.flush()
        return identity

    def get(self, kind: Kind, identity: ObjectId) -> bytes:
        """The canonical bytes of an object. Raises DamagedError when missing: a referenced id is always there."""
        with self._lock:
            record = self._pending.get(identity)
        if record is None:
            record = self._meta.get(OBJECTS, identity)
        if record is None:
            raise DamagedError(f"{kind.name.lower()} {identity.hex()} is missing")
        return unframe(kind, identity, record)

    def flush(self) -> None:
        """Make every object put so far durable."""
        with self._lock:
            batch = dict(self._pending)
        if not batch:
            return
        self._sink(list(batch.items()))
        self.written(batch)

    def take(self, rows: Rows) -> None:
        """Make another process's objects durable. Raises DamagedError on one that is not whole."""
        for identity, record in rows:
            kind_of(ObjectId(identity), record)
        self._keep(rows)

    def _keep(self, rows: Rows) -> None:
        self._meta.put_all(OBJECTS, rows)

    def write(self, batch: Batch) -> list[ObjectId]:
        """Put what is not yet durable into the caller's transaction; `written` is to be told when that has ended."""
        with self._lock:
            pending = sorted(self._pending.items())
        for identity, record in pending:
            batch.put(OBJECTS, identity, record)
        return [identity for identity, _ in pending]

    def written(self, identities: Iterable[ObjectId]) -> None:
        """These are durable: their records need not be kept."""
        with self._lock:
            for identity in identities:
                if identity in self._pending:
                    self._pending_size -= len(self._pending.pop(identity))

    def find(self, kind: Kind, digits: str) -> ObjectId:
        """The one object of a kind whose id starts with hexadecimal digits.

        Raises NotFoundError, AmbiguousError when there are several, DamagedError when one that starts so is damaged.
        """
        prefix = bytes.fromhex(digits[: len(digits) // 2 * 2])
        matches = []
        for key, record in self._meta.scan(OBJECTS, prefix):
            if key.hex().startswith(digits) and kind_of(ObjectId(key), record) == kind:
                matches.append(ObjectId(key))
            if len(matches) > 1:
                raise AmbiguousError(
                    f"'@{digits}' is ambiguous: several {kind.name.lower()}s start so",
                    hint=f"give more digits, such as @{matches[0].hex()[: len(digits) + 8]}",
                )
        if not matches:
            raise NotFoundError(
                f"no {kind.name.lower()} has an id that starts with {digits}",
                hint="'ana log' shows ids",
            )
        return matches[0]
