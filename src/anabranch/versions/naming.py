"""Names for commits: the version of a log that holds one, as `main@12`, or `exp@3` of a commit that was merged.

Logs are read from their newest rows, and only as far back as the commits that were asked for: so the newest few of a
history of any length cost a few rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

from anabranch.ids import ObjectId, RefName
from anabranch.versions.graph import APART
from anabranch.versions.objects import Commit
from anabranch.versions.refs import LogRow, Operation, Refs


class Named(NamedTuple):
    """A version that holds a commit, and the time of its row."""

    name: RefName
    number: int
    time_ns: int


class _Holds(NamedTuple):
    """Which rows of a log hold a commit: the newest, and the first one; a time is that of the row."""

    number: int
    time_ns: int
    first_number: int
    first_ns: int


class _Log:
    """A log, as far as it was read. Rows that gave the name up are no versions, nor are those of a tag."""

    def __init__(self, name: RefName, rows: Iterator[tuple[int, LogRow]]) -> None:
        self.name = name
        self._rows = ((number, row) for number, row in rows if not row.ends and row.operation != Operation.TAG)
        self._next = next(self._rows, None)
        self._held: dict[bytes, _Holds] = {}

    def take(self, commit: ObjectId, since_ns: int) -> _Holds | None:
        """Which row holds a commit, of those since a time."""
        while self._next and self._next[1].time_ns >= since_ns:
            number, row = self._next
            newer = self._held.get(row.commit, _Holds(number, row.time_ns, number, row.time_ns))
            self._held[row.commit] = newer._replace(first_number=number, first_ns=row.time_ns)
            self._next = next(self._rows, None)
        return self._held.pop(commit, None)


class Naming:
    """Names for the commits of a history, each asked for once: what was given is forgotten.

    Of the versions of a log that hold a commit, as after a reset, the newest names it, or with `first` the first.
    """

    def __init__(self, refs: Refs, branch: RefName | None, *, first: bool = False) -> None:
        self._refs = refs
        self._branch = branch
        self._first = first
        self._own = None if branch is None else _Log(branch, refs.log(branch))
        self._others: list[_Log] | None = None

    def of(self, identity: ObjectId, commit: Commit) -> Named | None:
        """The version of the branch that holds a commit; else of the branch that had it first, be it gone."""
        newest = None if self._first else self._since(identity, commit.time_ns)
        return newest or self._since(identity, commit.time_ns - APART)

    def _since(self, commit: ObjectId, time_ns: int) -> Named | None:
        """The same of the rows since a time: no clock but a wrong one makes a row older than its commit."""
        if self._own is not None and (holds := self._own.take(commit, time_ns)) is not None:
            return self._named(self._own.name, holds)
        holding = [(log.take(commit, time_ns), log.name) for log in self._other_logs()]
        first = min(((holds.first_ns, name, holds) for holds, name in holding if holds), default=None)
        return None if first is None else self._named(first[1], first[2])

    def _named(self, name: RefName, holds: _Holds) -> Named:
        if self._first:
            return Named(name, holds.first_number, holds.first_ns)
        return Named(name, holds.number, holds.time_ns)

    def _other_logs(self) -> list[_Log]:
        if self._others is None:
            found = [(name, number, row) for name, number, row in self._refs.newest() if name != self._branch]
            some = [name for name, number, row in found if number or row.operation != Operation.TAG]
            self._others = [_Log(name, self._refs.log(name)) for name in some]
        return self._others
