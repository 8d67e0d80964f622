"""`meta.mdb` written anew from what can be read of it, and of copies of it. Only for the owner.

All that the new file holds was sealed right, hashes to its id, or follows from such rows. Uncommitted changes of a
branch are taken whole or not at all, since what a lost row said cannot be guessed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.fsck import bits, logs
from anabranch.fsck.rows import trouble
from anabranch.ids import ObjectId
from anabranch.settings import DEFAULT_BRANCH
from anabranch.store.env import Environment
from anabranch.store.layout import Layout
from anabranch.store.meta import (
    KEYED,
    LOGS,
    NAMES,
    NODES,
    NUMBERS,
    OBJECTS,
    REFS,
    SETTINGS,
    TABLES,
    WORKTREES,
    ObjectStore,
)
from anabranch.store.records import holds, seal, unseal
from anabranch.store.replace import new_file, remove_new
from anabranch.versions.objects import Commit, get_commit
from anabranch.versions.refs import REF_ROW, log_key, log_name, log_number
from anabranch.worktree import checkpoint, journal
from anabranch.worktree.branch import WORKTREE_COUNTER
from anabranch.worktree.cuts import NUMBER, WORKTREE
from anabranch.worktree.numbers import INODE_COUNTER, number_in

_BATCH = 10_000
"""Rows in memory at a time."""
_LEAP = 1 << 32
"""Numbers of inodes, and of working trees a part of that, that are left out when a counter was lost."""
_WHAT_THAT_MEANS = {
    LOGS: ": perhaps versions, and names, that no copy has",
    WORKTREES: ": the uncommitted changes of as many branches are given up",
}
_ALL = -1
"""Every working tree."""
Row = tuple[bytes, bytes]


class Salvage:
    """One rewriting. `copies` are other files of this repository's meta, the best first."""

    def __init__(self, layout: Layout, copies: Sequence[Path], *, use_own: bool = True) -> None:
        self._layout = layout
        self._use_own = use_own
        self._paths = copies
        self._turned: Counter[str] = Counter()
        self._hurt: set[int] = set()
        """Working trees that lost a row."""
        self._largest = 0
        """Of the numbers of inodes that were seen."""
        self.mended: list[str] = []
        self.lost: list[str] = []

    def run(self) -> None:
        """Write the new file beside the old one. Raises DamagedError when there is nothing to write it from."""
        remove_new(self._layout.meta)
        own = self._open(self._layout.meta) if self._use_own else None
        opened = {path: copy for path in self._paths if (copy := self._open(path)) is not None}
        copies = list(opened.values())
        if own is None and not copies:
            raise DamagedError(f"{self._layout.meta} cannot be read, and there is no copy of it")
        if own is None:
            what = f"history is as of {next(iter(opened))}: later versions, and all uncommitted changes, are given up"
            self.lost.append(f"meta.mdb cannot be read; {what}")
        new = Environment(new_file(self._layout.meta), TABLES)
        try:
            self._objects(own, copies, new)
            self._logs(own, copies, new)
            new.put_all(NUMBERS, [*self._numbers(own)])
            self._working_trees(own, new)
            self._settings(own, copies, new)
        finally:
            for environment in (own, *copies, new):
                if environment is not None:
                    environment.close()
        for table, count in self._turned.items():
            self.mended.append(f"{table}: a flipped bit was turned back in {count} rows")

    @staticmethod
    def _open(path: Path) -> Environment | None:
        with suppress(DamagedError):
            return Environment(path, TABLES, writable=False, create=False)
        return None

    # --- reading ---

    def _good(self, own: Environment | None, table: str) -> Iterator[Row]:
        """The rows of our own file that are right, or were made so."""
        lost = [0]
        for key, value in _all(own, table, lost):
            if trouble(table, key, value, deep=True) is None:
                yield key, value
            elif (row := _mended(table, key, value)) is not None:
                self._turned[table] += 1
                yield row
            else:
                self._lose(table, key)
        if lost[0]:
            self._hurt.add(_ALL)
            self.lost.append(f"{table}: {lost[0]} rows are lost" + _WHAT_THAT_MEANS.get(table, ""))

    def _lose(self, table: str, key: bytes) -> None:
        if table in (NODES, NAMES):
            self._hurt.add(NUMBER.unpack_from(key)[0] if len(key) >= NUMBER.size else _ALL)
        elif table == WORKTREES:
            self.lost.append(f"the uncommitted changes of {key.decode(errors='replace')} are given up")
        elif table not in (OBJECTS, LOGS, REFS):  # these may be had from elsewhere, and are counted there
            self.lost.append(f"{table}: row {key!r} is lost")

    # --- history ---

    def _objects(self, own: Environment | None, copies: Sequence[Environment], new: Environment) -> None:
        for rows in _batches(self._good(own, OBJECTS)):
            new.put_all(OBJECTS, rows)
        had = 0
        for copy in copies:
            for rows in _batches(_all(copy, OBJECTS, [0])):
                missing = [row for row in rows if new.get(OBJECTS, row[0]) is None and holds(*row)]
                new.put_all(OBJECTS, missing)
                had += len(missing)
        if had:
            self.mended.append(f"objects: {had} were had from a copy")

    def _logs(self, own: Environment | None, copies: Sequence[Environment], new: Environment) -> None:
        ours = {key: unseal(sealed, "a row of a log") for key, sealed in self._good(own, LOGS)}
        places = [_places(ours.items()), *(_places(_unsealed(copy)) for copy in copies)]
        before = {key: REF_ROW.unseal(sealed, "a ref") for key, sealed in self._good(own, REFS)}
        found = logs.chained(places, before)
        objects = ObjectStore(new)
        standing = [logs.ref_of(log) for log in found.values()]
        strays = {name for name, ref in before.items() if name not in found and ref in standing}
        for name in (before.keys() | found.keys()) - strays:  # a stray is another name's ref
            log = found.get(name, [])
            whole = logs.completed(log, places[0].get(name, {}), before.get(name), partial(_commit_at, objects))
            if len(whole) > len(log):
                found[name] = whole
                self.mended.append(f"{name.decode(errors='replace')}: its log is made anew from row {len(log)} on")
        refs = {name: logs.ref_of(log) for name, log in found.items()}
        rows = {log_key(name, number): raw for name, log in found.items() for number, raw in enumerate(log)}
        new.put_all(LOGS, [(key, seal(raw)) for key, raw in rows.items()])
        with new.write() as batch:
            for name in found:
                if (ref := refs[name]) is not None:
                    batch.put(REFS, name, REF_ROW.seal(ref))
        if rows != ours:
            self.mended.append("logs: rows are where they belong again")
        if before != {name: ref for name, ref in refs.items() if ref is not None}:
            self.mended.append("refs: made anew from their logs")
        for name, row in before.items():
            if row not in refs.values():  # else it only had another name's place
                missing = range(len(found.get(name, ())), row.number + 1)
                self.lost += [f"{name.decode(errors='replace')}@{number} is lost" for number in missing]

    # --- working trees ---

    def _numbers(self, own: Environment | None) -> Iterator[Row]:
        for key, value in self._good(own, NUMBERS):
            ino = number_in(key, value)
            self._largest = max(self._largest, ino if ino < 1 << 63 else 0)
            yield key, value

    def _working_trees(self, own: Environment | None, new: Environment) -> None:
        rows = {table: list(self._good(own, table)) for table in (NODES, NAMES, WORKTREES)}
        for key, sealed in rows.pop(WORKTREES):
            number = WORKTREE.unseal(sealed, "a working tree", key).number
            if self._hurt & {number, _ALL}:
                self.lost.append(f"the uncommitted changes of {key.decode(errors='replace')} are given up")
            else:
                new.put_all(WORKTREES, [(key, sealed)])
        whole = _trees(new)
        for table, kept in rows.items():
            new.put_all(table, [row for row in kept if NUMBER.unpack_from(row[0])[0] in whole])

    def _settings(self, own: Environment | None, copies: Sequence[Environment], new: Environment) -> None:
        ours = dict(self._good(own, SETTINGS))
        settings = dict(ours)
        for copy in copies:
            settings = dict(_right(copy, SETTINGS)) | settings
        used = {INODE_COUNTER: self._largest, WORKTREE_COUNTER: max(self._hurt | _trees(new), default=0)}
        for counter, largest in used.items():
            if counter not in ours:
                copied = unseal(settings[counter], "a counter", counter) if counter in settings else b""
                before = int.from_bytes(copied, "little")
                size, leap = (8, _LEAP) if counter == INODE_COUNTER else (4, _LEAP >> 16)
                settings[counter] = seal((max(before, largest) + leap).to_bytes(size, "little"), counter)
        new.put_all(SETTINGS, list(settings.items()))
        with new.write() as batch:
            if checkpoint.POSITION not in ours:
                checkpoint.put_position(batch, journal.first(self._layout.journal))
            branches = [key for key, value in new.scan(REFS) if not REF_ROW.unseal(value, "a ref").is_tag]
            if DEFAULT_BRANCH.row not in settings and branches:
                name = b"main" if b"main" in branches else branches[0]
                batch.put(SETTINGS, DEFAULT_BRANCH.row, seal(name, DEFAULT_BRANCH.row))


def _commit_at(objects: ObjectStore, identity: bytes) -> Commit | None:
    with suppress(DamagedError):
        return get_commit(objects, ObjectId(identity))
    return None


def _all(environment: Environment | None, table: str, lost: list[int]) -> Iterator[Row]:
    """The rows that can be reached, from the front and then from the back; adds to `lost` how many cannot."""
    if environment is None:
        return
    last, found, expected = b"", 0, 1  # one, if not even their number can be read
    try:
        with environment.view() as view:
            expected = view.count(table)
            for row in view.scan(table):
                last, found = row[0], found + 1
                yield row
    except DamagedError:
        with suppress(DamagedError), environment.view() as view:
            for row in view.scan_back(table):
                if row[0] <= last:
                    break
                found += 1
                yield row
    lost[0] += expected - found


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _right(environment: Environment, table: str) -> Iterator[Row]:
    for key, value in _all(environment, table, [0]):
        if trouble(table, key, value, deep=True) is None:
            yield key, value


def _mended(table: str, key: bytes, value: bytes) -> Row | None:
    if table == OBJECTS:
        return bits.mended_record(key, value)
    return bits.mended_row(key, value, keyed=table in KEYED)


def _unsealed(copy: Environment) -> Iterator[Row]:
    return ((key, unseal(sealed, "a row of a log")) for key, sealed in _right(copy, LOGS))


def _places(rows: Iterable[Row]) -> dict[bytes, dict[int, bytes]]:
    places: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    for key, raw in rows:
        places[log_name(key)][log_number(key)] = raw
    return places


def _trees(new: Environment) -> set[int]:
    return {WORKTREE.unseal(sealed, "a working tree", key).number for key, sealed in new.scan(WORKTREES)}
