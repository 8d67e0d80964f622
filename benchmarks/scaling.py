"""One repository with many files, and what is measured in it: time, and nodes read and written.

The files are of 32 bytes, which lie in their entries: a row is then as long as one that names a chunk, and filling
costs no time for contents that no figure depends on.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from anabranch.commit import Note
from anabranch.ids import ObjectId
from anabranch.merging.proposal import Propose, conclude
from anabranch.moves import Move
from anabranch.repo import Repository
from anabranch.versions.merge import unresolved
from anabranch.versions.objects import EntryKind, Tag, get_commit
from anabranch.versions.refs import Operation
from benchmarks.branch import MAIN, WHO, OpenBranch
from benchmarks.scenarios import expect
from benchmarks.timing import Stopwatch

FEW = 10  # changes on each side of a merge
MANY = 1000  # changes of a large commit, and folders of a spread repository
LOG_ROWS = 1000

_FILES_A_COMMIT = 50_000
_CONTENT = 32
_PAGE = 4096

COMMIT, COMMIT_MANY = "commit of 1 change", f"commit of {MANY:,} changes"
DIFF, DIFF_MANY = "diff of 1 change", f"diff of {MANY:,} changes"
DIFF_FEW, MERGE = f"diff of {FEW} changes", f"merge of {FEW} changes"
BRANCH, LOOK_UP = "branch", "look-up by time"
FSYNC, TRANSACTION = "write + fsync", "SQLite transaction"
PEERS = (FSYNC, TRANSACTION)
CASES = (COMMIT, COMMIT_MANY, DIFF, DIFF_MANY, DIFF_FEW, MERGE, BRANCH, LOOK_UP, *PEERS)


@dataclass(slots=True)
class Measure:
    """One thing in one repository, round by round."""

    seconds: list[float] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """How many files, and in how many folders: 1 is the root alone."""

    files: int
    folders: int

    def path(self, number: int) -> tuple[bytes, ...]:
        name = b"%08d" % number
        return (name,) if self.folders == 1 else (self.folder(number * self.folders // self.files), name)

    @staticmethod
    def folder(number: int) -> bytes:
        return b"d%04d" % number


def node_counts(repository: Repository) -> tuple[int, int]:
    """Nodes of trees looked at and put so far, whether they were in a cache or not."""
    nodes = repository.trees.nodes
    return nodes.reads, nodes.writes


def fill(branch: OpenBranch, place: Place, content: Callable[[], bytes]) -> int:
    """Make all the files, and commit them; the number of commits that it took."""
    commits, last, parent = 0, [b""], branch.tree.root
    for number in range(place.files):
        *folder, name = place.path(number)
        if folder and folder != last:
            parent, last = branch.make_folder(folder[0]), folder
        branch.write(branch.make_file(parent, name), 0, content())
        if (number + 1) % _FILES_A_COMMIT == 0 or number + 1 == place.files:
            branch.commit()
            commits += 1
            branch.forget()
            parent = branch.find(*folder)
    return commits


class ScalingRepository:
    """A repository that is filled when it is made, and then opened anew."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place = place
        folder.mkdir()
        self._folder = folder
        self._rng = random.Random(place.files)
        self._branches = 0
        self._branch = OpenBranch(folder / "repository", create=True)
        with Stopwatch() as watch:
            self.commits = fill(self._branch, place, self._content)
            self._lengthen_log()
        self.fill_seconds = watch.seconds
        with self._branch.closed():
            pass
        expect("the number of files", self._count(), place.files)
        self._old = self._new = self._head()

    def round(self, measures: dict[str, Measure]) -> None:
        """Measure everything once, the peers right beside what they are compared with."""
        with self._timed(measures[COMMIT]):
            self._commit(self._some(1))
        self._peers(measures[FSYNC], measures[TRANSACTION])
        self._diff(measures[DIFF], 1)
        with self._timed(measures[COMMIT_MANY]):
            self._commit(self._some(MANY))
        self._diff(measures[DIFF_MANY], MANY)
        self._merge(measures[DIFF_FEW], measures[MERGE])
        self._branches += 1
        with self._timed(measures[BRANCH]):
            self._branch.repository.create_branch(f"other{self._branches}", self._new, WHO)
        self._look_up(measures[LOOK_UP])

    # --- filling ---

    def _lengthen_log(self) -> None:
        """Rows that name the same commit again: a look-up reads rows, whatever they name."""
        repository = self._branch.repository
        ref = repository.refs.get(MAIN)
        for number in range(ref.number, LOG_ROWS):
            with repository.meta.write() as batch:
                repository.refs.advance(batch, MAIN, number, ref.commit, WHO)

    # --- measuring ---

    def _some(self, count: int) -> list[int]:
        return self._rng.sample(range(self.place.files), count)

    def _commit(self, numbers: list[int]) -> None:
        for number in numbers:
            self._branch.write(self._branch.find(*self.place.path(number)), 0, self._content())
        committed = self._branch.commit()
        expect("the number of files of a commit", committed.files, len(numbers))
        self._old, self._new = self._new, committed.id
        self._branch.forget()

    def _merge(self, diff: Measure, merge: Measure) -> None:
        """Two versions that were made of one, of other files each."""
        repository, numbers, base = self._branch.repository, self._some(2 * FEW), self._new
        self._commit(numbers[:FEW])
        self._diff(diff, FEW)
        theirs = repository.resolve(f"@{self._new.hex()}")
        self._move(Move(repository.refs.get(MAIN).number, base, Operation.RESET))
        self._commit(numbers[FEW:])
        with self._timed(merge):
            proposal = Propose(repository, MAIN, unresolved).merge(theirs)
            self._move(conclude(repository, proposal, Note(""), WHO.actor))
        expect("the number of files of a merge", len(proposal.changes), FEW)

    def _move(self, wanted: Move) -> None:
        self._new = self._branch.repository.move(MAIN, wanted, WHO).id
        self._branch.forget()

    def _peers(self, fsync: Measure, transaction: Measure) -> None:
        """What the same disk makes others wait for."""
        with _stopped(fsync):
            _write_and_sync(self._folder / "peer")
        with closing(sqlite3.connect(self._folder / "peer.sqlite", isolation_level=None)) as database:
            database.execute("pragma synchronous = full")
            database.execute("create table if not exists rows (number integer primary key, content blob)")
            with _stopped(transaction):
                database.execute("insert into rows (content) values (?)", (self._content(),))

    def _diff(self, measure: Measure, changes: int) -> None:
        """Of the last two commits."""
        with self._timed(measure):
            found = list(self._branch.repository.diff(self._old, self._new))
        expect("the number of differences", sum(change.kind == EntryKind.FILE for change in found), changes)

    def _look_up(self, measure: Measure) -> None:
        refs = self._branch.repository.refs
        number = self._rng.randrange(1, LOG_ROWS)
        row = refs.row(MAIN, number)
        assert row is not None
        revision = f"{MAIN}@{_time_text(row.time_ns)}"
        with self._timed(measure):
            version = self._branch.repository.resolve(revision)
        expect(f"the version at {revision}", version.number, number)

    @contextmanager
    def _timed(self, measure: Measure) -> Iterator[None]:
        before = node_counts(self._branch.repository)
        with _stopped(measure):
            yield
        after = node_counts(self._branch.repository)
        measure.read.append(after[0] - before[0])
        measure.written.append(after[1] - before[1])

    def _content(self) -> bytes:
        return self._rng.randbytes(_CONTENT)

    def _head(self) -> ObjectId:
        return self._branch.repository.refs.get(MAIN).commit

    def _count(self) -> int:
        repository = self._branch.repository
        return get_commit(repository.objects, self._head()).root.tag(Tag.FILES)


@contextmanager
def _stopped(measure: Measure) -> Iterator[None]:
    with Stopwatch() as watch:
        yield
    measure.seconds.append(watch.seconds)


def _write_and_sync(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(descriptor, bytes(_PAGE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _time_text(time_ns: int) -> str:
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"
