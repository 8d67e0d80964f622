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
from anabranch.store.env import Batch, Environment, View
from anabranch.store.meta import LOGS, REFS, ObjectStore
from anabranch.store.records import Kind, object_id, unseal
from anabranch.versions.objects import Count, IdBytes, Time

_NUMBER = struct.Struct(">Q")
_LAST = (1 << 63) - 1
"""Number, and time, of a row: beyond, none could be read."""
DAY = 24 * 3600 * 1_000_000_000
"""How far behind the last row the clock may be for a commit, in nanoseconds."""


class Operation(StrEnum):
    """What a row of a log did to its name. Rows may hold others, of later versions: those move the name."""

    BIRTH = "birth"
    COMMIT = "commit"
    RESET = "reset"
    MERGE = "merge"
    REVERT = "revert"
    PICK = "cherry-pick"
    RENAME = "rename"
    DELETE = "delete"
    TAG = "tag"


_ENDS: tuple[str, ...] = (Operation.RENAME, Operation.DELETE)


class LogRow(msgspec.Struct, array_like=True, frozen=True):
    """One state of a name. Times are in nanoseconds since 1970: the effective one, and what the clock said.

    `detail` is of a renamed branch's old name the new one, and in the first row of the new name the old; of what came
    of another version, that.
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
        with self._meta.view() as view:
            ref = find_ref(view, name)
            check_ref(view, name, ref)
            return ref

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
        with self._meta.view() as view:
            refs = [_ref(_name(key), sealed) for key, sealed in view.scan(REFS)]
            if len(refs) != view.count(REFS):
                raise DamagedError("branches or tags are lost")
            for ref in refs:
                check_ref(view, ref.name, ref)
            return [ref for ref in refs if ref.is_tag == tags]

    def row(self, name: RefName, number: int) -> LogRow | None:
        """Row `number` of a name's log."""
        with self._meta.view() as view:
            return read_row(view, name, number)

    def log(self, name: RefName, newest: int | None = None) -> Iterator[tuple[int, LogRow]]:
        """The rows of a name's log, newest first, from a number on."""
        if newest is None:
            self.find(name)  # who stands where the log does not end has lost rows
        number = self._last_number(name) if newest is None else newest
        for n in range(number, -1, -1):
            row = self.row(name, n)
            if row is None:
                raise DamagedError(f"row {n} of the log of {name} is missing")
            yield n, row

    def newest(self) -> Iterator[tuple[RefName, int, LogRow]]:
        """The newest row of each log, by name, and its number; also of names that were given up."""
        key = b""
        while (found := self._meta.following(LOGS, key)) is not None:
            name = RefName(log_name(found[0]).decode())
            number, row = next(self.log(name))
            yield name, number, row
            key = name.encode() + b"\1"  # behind all rows of this log

    def check_clock(self, name: RefName) -> None:
        """Refuse a commit under a date that is plainly wrong, which would hide it from whoever looks for it by time.

        Raises NotFoundError, RefusedError when the clock is more than a day behind the last row.
        """
        row = self.row(name, self.get(name).number)
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
        with self._meta.view() as view:
            last = last_number(view, name)
            row = read_row(view, name, number) if number <= last else None
        if row is None:
            if self.find(name) is None and last < 0:
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
        with self._meta.view() as view:
            return last_number(view, name)

    # --- writing ---

    def create(self, batch: Batch, name: RefName, commit: ObjectId, who: Who, *, tag: bool, detail: str = "") -> int:
        """Make a name; returns the number of its first row. Raises ExistsError."""
        ref = find_ref(batch, name)
        check_ref(batch, name, ref)  # a birth would hide that a ref was lost
        if ref is not None:
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

    def advance(
        self, batch: Batch, name: RefName, expected: int, commit: ObjectId, who: Who, *,
        operation: Operation = Operation.COMMIT, detail: str = "",
    ) -> int:  # fmt: skip
        """Move a branch on if it still stands at row `expected`; returns the new number. Raises ConflictError."""
        ref = find_ref(batch, name)
        if ref is None or ref.is_tag or ref.number != expected:
            raise ConflictError(f"branch {name} was moved meanwhile", hint="try again")
        return self._append(batch, name, operation, commit, who, detail=detail)

    def end(self, batch: Batch, name: RefName, operation: Operation, who: Who, detail: str = "") -> None:
        """Give a name up; its log stays."""
        ref = find_ref(batch, name)
        if ref is None:
            raise NotFoundError(f"no branch or tag is called {name}")
        self._append(batch, name, operation, ref.commit, who, detail=detail)
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
            number, time_ns = log_number(last[0]) + 1, max(clock, before + 1)
            if max(number, time_ns) > _LAST:
                raise DamagedError(f"{what} is the last that can be")
            previous = object_id(Kind.ROW, raw)
        row = LogRow(operation, commit, who.actor, who.source, time_ns, clock, previous, detail)
        batch.put(LOGS, log_key(name.encode(), number), LOG_ROW.seal(row))
        batch.put(REFS, name.encode(), REF_ROW.seal(RefRow(is_tag, number, commit)))
        return number


def find_ref(view: View, name: RefName) -> Ref | None:
    """The branch or tag of a name, as its row alone tells. Raises DamagedError."""
    sealed = view.get(REFS, name.encode())
    return None if sealed is None else _ref(name, sealed)


def check_ref(view: View, name: RefName, ref: Ref | None) -> None:
    """A ref stands where its log ends; a name without one has no log, or was given up. Raises DamagedError."""
    number = last_number(view, name)
    row = None if number < 0 else read_row(view, name, number)
    if ref is None:
        agree = row is None or row.ends
    else:
        agree = row is not None and (number, row.commit) == (ref.number, ref.commit)
    if not agree:
        raise DamagedError(f"{name} does not stand where its log ends")


def last_number(view: View, name: RefName) -> int:
    """The number of the newest row of a name's log; -1 if it has none. Raises DamagedError."""
    if (found := view.last(LOGS, _log_prefix(name))) is None:
        view.check_order(LOGS, _log_prefix(name))
        return -1
    return log_number(found[0])


def read_row(view: View, name: RefName, number: int) -> LogRow | None:
    """Row `number` of a name's log, if the log has so many. Raises DamagedError.

    Rows are sealed without their keys: that one is where it belongs, the row before tells.
    """
    what = f"row {number} of the log of {name}"
    if (sealed := view.get(LOGS, log_key(name.encode(), number))) is None:
        if number < last_number(view, name):
            raise DamagedError(f"{what} is missing")
        return None
    row = LOG_ROW.unseal(sealed, what)
    before = view.get(LOGS, log_key(name.encode(), number - 1)) if number else None
    if row.previous != (b"" if before is None else object_id(Kind.ROW, unseal(before, f"the row before {what}"))):
        raise DamagedError(f"{what} does not follow the one before")
    return row


def _log_prefix(name: RefName) -> bytes:
    return name.encode() + b"\0"


def log_key(name: bytes, number: int) -> bytes:
    """Where row `number` of a name's log is kept."""
    return name + b"\0" + _NUMBER.pack(number)


def log_name(log_key: bytes) -> bytes:
    """The name whose log a row is in, as it is stored."""
    return log_key[: -_NUMBER.size - 1]


def log_number(log_key: bytes) -> int:
    """The number of a row in its log. Raises DamagedError."""
    if len(log_key) < _NUMBER.size:
        raise DamagedError(f"a row of a log has the key {log_key!r}")
    return int(_NUMBER.unpack(log_key[-_NUMBER.size :])[0])


def _name(key: bytes) -> RefName:
    try:
        return ref_name(key.decode())
    except (UnicodeDecodeError, UsageError) as error:
        raise DamagedError(f"{key!r} is no name of a branch or a tag") from error


def _ref(name: RefName, sealed: bytes) -> Ref:
    row = REF_ROW.unseal(sealed, f"ref {name}")
    return Ref(name, row.is_tag, row.number, ObjectId(row.commit))
