"""Branches and tags, and the log of every state a name ever had.

A log belongs to a name, its rows are numbered from 0 and never written again: deleting appends a row, making the name
again appends the next. Rows carry a strictly increasing effective time and are chained by the hash of the row before.
A row is appended inside a write transaction that looks at the newest one first, so of several writers one wins.
docs/format.md, "Branch log".
"""

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from anabranch.errors import ConflictError, DamagedError, ExistsError, NotFoundError, RefusedError, UsageError
from anabranch.ids import AtTime, Head, Numbered, ObjectId, Prefix, RefName, Revision, ref_name, short
from anabranch.store.codec import Codec
from anabranch.store.env import Batch, Environment
from anabranch.store.meta import LOGS, REFS, ObjectStore
from anabranch.store.records import Kind, object_id, unseal
from anabranch.versions.objects import Count, IdBytes, Time

_NUMBER = struct.Struct(">Q")
DAY = 24 * 3600 * 1_000_000_000
"""How far behind the last row the clock may be for a commit, in nanoseconds."""


class Operation(StrEnum):
    """What a row of a log did to its name. Rows may hold others, of later versions: those move the name."""

    BIRTH = "birth"
    COMMIT = "commit"
    RESET = "reset"
    RENAME = "rename"
    DELETE = "delete"
    TAG = "tag"


_ENDS: tuple[str, ...] = (Operation.RENAME, Operation.DELETE)


class LogRow(msgspec.Struct, array_like=True, frozen=True):
    """One state of a name. Times are in nanoseconds since 1970: the effective one, and what the clock said.

    The row of a renamed branch's old name notes the new one in `detail`, and the first row of the new name the old.
    """

    operation: str
    commit: IdBytes
    actor: str
    source: str
    time_ns: Time
    clock_ns: Time
    previous: bytes
    detail: str = ""

    @property
    def ends(self) -> bool:
        """Whether the name is gone after this row: then it is no version."""
        return self.operation in _ENDS


class RefRow(msgspec.Struct, array_like=True, frozen=True):
    """Where a name stands now: its newest log row and that row's commit."""

    is_tag: bool
    number: Count
    commit: IdBytes


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


LOG_ROW: Codec[LogRow] = Codec(LogRow, "a row of a log")
REF_ROW: Codec[RefRow] = Codec(RefRow, "a ref")


class Refs:
    """Names and their logs. Reading is free for every thread; writing takes the caller's batch."""

    def __init__(self, meta: Environment, objects: ObjectStore, clock: Callable[[], int] = time.time_ns) -> None:
        self._meta = meta
        self._objects = objects
        self.clock = clock

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

    def named(self, name: str, *, tag: bool) -> Ref:
        """The branch, or the tag, of a name. Raises NotFoundError, UsageError when it is the other."""
        ref = self.get(ref_name(name))
        if ref.is_tag != tag:
            is_one, not_other = ("tag", "branch") if ref.is_tag else ("branch", "tag")
            raise UsageError(f"{name} is a {is_one}, not a {not_other}")
        return ref

    def all(self, *, tags: bool) -> list[Ref]:
        """All branches, or all tags, by name."""
        refs = [_ref(RefName(key.decode()), sealed) for key, sealed in self._meta.scan(REFS)]
        return [ref for ref in refs if ref.is_tag == tags]

    def row(self, name: RefName, number: int) -> LogRow | None:
        """Row `number` of a name's log."""
        sealed = self._meta.get(LOGS, _log_key(name, number))
        return None if sealed is None else LOG_ROW.unseal(sealed, f"row {number} of the log of {name}")

    def log(self, name: RefName, newest: int | None = None) -> Iterator[tuple[int, LogRow]]:
        """The rows of a name's log, newest first, from a number on."""
        number = self._last_number(name) if newest is None else newest
        for n in range(number, -1, -1):
            row = self.row(name, n)
            if row is None:
                raise DamagedError(f"row {n} of the log of {name} is missing")
            yield n, row

    def check_clock(self, name: RefName) -> None:
        """Refuse a commit under a date that is plainly wrong, which would hide it from whoever looks for it by time.

        Raises RefusedError when the clock is more than a day behind the last row.
        """
        row = self.row(name, self._last_number(name))
        if row is not None and row.time_ns - self.clock() > DAY:
            raise RefusedError(
                f"the clock is more than a day behind the last version of {name}",
                hint="set the clock, or say 'ana commit --any-clock'",
            )

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
        if row.ends:
            raise NotFoundError(f"{name}@{number} is no version: there the name was given up ({row.operation})")
        return name, number, ObjectId(row.commit)

    def _at_time(self, revision: AtTime) -> tuple[RefName, int, ObjectId]:
        name = revision.ref
        low, high = 0, self._last_number(name) + 1
        if high == 0:
            self.get(name)
        if revision.time_ns >= self.clock():
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
        found = self._meta.last(LOGS, _log_prefix(name))
        return -1 if found is None else _number(found[0])

    # --- writing ---

    def create(self, batch: Batch, name: RefName, commit: ObjectId, who: Who, *, tag: bool, detail: str = "") -> int:
        """Make a name; returns the number of its first row. Raises ExistsError."""
        if batch.get(REFS, name.encode()) is not None:
            raise ExistsError(f"a branch or tag called {name} exists already")
        operation = Operation.TAG if tag else Operation.BIRTH
        return self._append(batch, name, operation, commit, who, is_tag=tag, detail=detail)

    def revive(self, batch: Batch, name: RefName, who: Who) -> int:
        """Make a deleted branch again, where it stood; returns the row's number. Raises ExistsError, NotFoundError."""
        rows = self.log(name)
        _, last = next(rows, (0, None))
        if last is None:
            raise NotFoundError(f"no branch was ever called {name}", hint="'ana branch' lists those that there are")
        if last.operation == Operation.RENAME:
            raise NotFoundError(f"{name} was not deleted but renamed", hint=f"it became {last.detail}")
        if last.ends and next(rows)[1].operation == Operation.TAG:
            raise NotFoundError(f"{name} was a tag", hint=f"ana tag {name} @{short(last.commit)}")
        return self.create(batch, name, ObjectId(last.commit), who, tag=False)

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
        clock = self.clock()
        number, time_ns, previous = 0, clock, b""
        if (last := batch.last(LOGS, _log_prefix(name))) is not None:
            what = f"the newest row of the log of {name}"
            raw = unseal(last[1], what)
            before = LOG_ROW.decode(raw, what).time_ns
            number, time_ns = _number(last[0]) + 1, max(clock, before + 1)
            previous = object_id(Kind.ROW, raw)
        row = LogRow(operation, commit, who.actor, who.source, time_ns, clock, previous, detail)
        batch.put(LOGS, _log_key(name, number), LOG_ROW.seal(row))
        batch.put(REFS, name.encode(), REF_ROW.seal(RefRow(is_tag, number, commit)))
        return number


def _log_prefix(name: RefName) -> bytes:
    return name.encode() + b"\0"


def _log_key(name: RefName, number: int) -> bytes:
    return _log_prefix(name) + _NUMBER.pack(number)


def _number(log_key: bytes) -> int:
    return int(_NUMBER.unpack(log_key[-_NUMBER.size :])[0])


def _ref(name: RefName, sealed: bytes) -> Ref:
    row = REF_ROW.unseal(sealed, f"ref {name}")
    return Ref(name, row.is_tag, row.number, ObjectId(row.commit))
