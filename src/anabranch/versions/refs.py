"""Branches and tags, and the log of every state a name ever had.

A log belongs to a name, its rows are numbered from 0 and never written again: deleting appends a row, making the name
again appends the next. Rows carry a strictly increasing effective time and are chained by the hash of the row before.
docs/format.md, "Branch log".
"""

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from anabranch.errors import ConflictError, DamagedError, ExistsError, NotFoundError
from anabranch.ids import AtTime, Head, Numbered, ObjectId, Prefix, RefName, Revision
from anabranch.store.env import Batch, Environment
from anabranch.store.meta import LOGS, REFS, ObjectStore
from anabranch.store.records import Kind, object_id, seal, unseal

_NUMBER = struct.Struct(">Q")


class Operation(StrEnum):
    """What a row of a log did to its name."""

    BIRTH = "birth"
    COMMIT = "commit"
    RENAME = "rename"
    DELETE = "delete"
    TAG = "tag"


_ENDS = (Operation.RENAME, Operation.DELETE)
"""After such a row the name is gone."""


class LogRow(msgspec.Struct, array_like=True, frozen=True):
    """One state of a name. Times are in nanoseconds since 1970: the effective one, and what the clock said.

    The row of a renamed branch's old name notes the new one in `detail`, and the first row of the new name the old.
    """

    operation: Operation
    commit: bytes
    actor: str
    source: str
    time_ns: int
    clock_ns: int
    previous: bytes
    detail: str = ""


class RefRow(msgspec.Struct, array_like=True, frozen=True):
    """Where a name stands now: its newest log row and that row's commit."""

    is_tag: bool
    number: int
    commit: bytes


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a tag that exists."""

    name: RefName
    is_tag: bool
    number: int
    commit: ObjectId


@dataclass(frozen=True, slots=True)
class Who:
    """Who asked for a change, and by which door."""

    actor: str
    source: str


_ref_row = msgspec.msgpack.Decoder(RefRow).decode
_log_row = msgspec.msgpack.Decoder(LogRow).decode


class Refs:
    """Names and their logs. Reading is free for every thread; writing takes the caller's batch."""

    def __init__(self, meta: Environment, objects: ObjectStore) -> None:
        self._meta = meta
        self._objects = objects

    # --- reading ---

    def find(self, name: RefName) -> Ref | None:
        """The branch or tag of a name."""
        sealed = self._meta.get(REFS, name.encode())
        return None if sealed is None else _ref(name, sealed)

    def get(self, name: RefName) -> Ref:
        """The branch or tag of a name. Raises NotFoundError."""
        ref = self.find(name)
        if ref is None:
            raise NotFoundError(f"no branch or tag is called {name}", hint="'ana branch' and 'ana tag' list them")
        return ref

    def all(self, *, tags: bool) -> list[Ref]:
        """All branches, or all tags, by name."""
        refs = [_ref(RefName(key.decode()), sealed) for key, sealed in self._meta.scan(REFS)]
        return [ref for ref in refs if ref.is_tag == tags]

    def row(self, name: RefName, number: int) -> LogRow | None:
        """Row `number` of a name's log."""
        sealed = self._meta.get(LOGS, _log_key(name, number))
        return None if sealed is None else _decode_row(name, number, sealed)

    def log(self, name: RefName, newest: int | None = None) -> Iterator[tuple[int, LogRow]]:
        """The rows of a name's log, newest first, from a number on."""
        number = self._last_number(name) if newest is None else newest
        for n in range(number, -1, -1):
            row = self.row(name, n)
            if row is None:
                raise DamagedError(f"row {n} of the log of {name} is missing")
            yield n, row

    def resolve(self, revision: Revision) -> tuple[RefName | None, int | None, ObjectId]:
        """Name, number and commit of a revision. Raises NotFoundError, RefusedError on an ambiguous prefix."""
        if isinstance(revision, Head):
            ref = self.get(revision.ref)
            return ref.name, None if ref.is_tag else ref.number, ref.commit
        if isinstance(revision, Prefix):
            return None, None, self._objects.find(Kind.COMMIT, revision.digits)
        if isinstance(revision, Numbered):
            return self._numbered(revision.ref, revision.number)
        return self._at_time(revision)

    def _numbered(self, name: RefName, number: int) -> tuple[RefName, int, ObjectId]:
        row = self.row(name, number) if number < 1 << 63 else None
        if row is None:
            last = self._last_number(name)
            if last < 0:
                self.get(name)
            raise NotFoundError(f"{name} has no version {number}", hint=f"its versions go from 0 to {last}")
        if row.operation in _ENDS:
            raise NotFoundError(f"{name}@{number} is no version: there the name was given up ({row.operation})")
        return name, number, ObjectId(row.commit)

    def _at_time(self, revision: AtTime) -> tuple[RefName, int, ObjectId]:
        name = revision.ref
        low, high = 0, self._last_number(name) + 1
        if high == 0:
            self.get(name)
        if revision.time_ns >= time.time_ns():
            raise NotFoundError(f"that time of {name} is not yet past", hint=f"for its last commit, say {name}")
        while low < high:
            middle = (low + high) // 2
            row = self.row(name, middle)
            if row is None:
                raise DamagedError(f"row {middle} of the log of {name} is missing")
            low, high = (middle + 1, high) if row.time_ns <= revision.time_ns else (low, middle)
        if low == 0:
            raise NotFoundError(f"{name} did not exist yet at that time", hint=f"'ana log -b {name}' shows its times")
        return self._numbered(name, low - 1)

    def _last_number(self, name: RefName) -> int:
        found = self._meta.last(LOGS, name.encode() + b"\0")
        return -1 if found is None else int(_NUMBER.unpack(found[0][-8:])[0])

    # --- writing ---

    def create(self, batch: Batch, name: RefName, commit: ObjectId, who: Who, *, tag: bool, detail: str = "") -> int:
        """Make a name; returns the number of its first row. Raises ExistsError."""
        if batch.get(REFS, name.encode()) is not None:
            raise ExistsError(f"a branch or tag called {name} exists already")
        operation = Operation.TAG if tag else Operation.BIRTH
        return self._append(batch, name, operation, commit, who, is_tag=tag, detail=detail)

    def advance(self, batch: Batch, name: RefName, expected: int, commit: ObjectId, who: Who) -> int:
        """Move a branch on if it still stands at row `expected`; returns the new number. Raises ConflictError."""
        sealed = batch.get(REFS, name.encode())
        ref = None if sealed is None else _ref(name, sealed)
        if ref is None or ref.is_tag or ref.number != expected:
            raise ConflictError(f"branch {name} was moved meanwhile", hint="try again")
        return self._append(batch, name, Operation.COMMIT, commit, who)

    def end(self, batch: Batch, name: RefName, operation: Operation, who: Who, detail: str = "") -> None:
        """Give a name up; its log stays."""
        sealed = batch.get(REFS, name.encode())
        if sealed is None:
            raise NotFoundError(f"no branch or tag is called {name}")
        self._append(batch, name, operation, _ref(name, sealed).commit, who, detail=detail)
        batch.delete(REFS, name.encode())

    def _append(
        self, batch: Batch, name: RefName, operation: Operation, commit: ObjectId, who: Who, *,
        is_tag: bool = False, detail: str = "",
    ) -> int:  # fmt: skip
        number = self._last_number(name) + 1
        last = self.row(name, number - 1) if number else None
        clock = time.time_ns()
        row = LogRow(
            operation, commit, who.actor, who.source, max(clock, last.time_ns + 1) if last else clock, clock,
            object_id(Kind.ROW, msgspec.msgpack.encode(last)) if last else b"", detail,
        )  # fmt: skip
        batch.put(LOGS, _log_key(name, number), seal(msgspec.msgpack.encode(row)))
        batch.put(REFS, name.encode(), seal(msgspec.msgpack.encode(RefRow(is_tag, number, commit))))
        return number


def _log_key(name: RefName, number: int) -> bytes:
    return name.encode() + b"\0" + _NUMBER.pack(number)


def _ref(name: RefName, sealed: bytes) -> Ref:
    try:
        row = _ref_row(unseal(sealed, f"ref {name}"))
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"ref {name} cannot be read: {error}") from error
    return Ref(name, row.is_tag, row.number, ObjectId(row.commit))


def _decode_row(name: RefName, number: int, sealed: bytes) -> LogRow:
    what = f"row {number} of the log of {name}"
    try:
        return _log_row(unseal(sealed, what))
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"{what} cannot be read: {error}") from error
