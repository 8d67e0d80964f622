"""ana diff --rows: changed tables row by row.

Both sides of a table are read through a live mount of the repository, if there is one, else they are written into a
temporary directory that is gone in the end, also after Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch import report, report_tables
from anabranch.cli.output import complain, page, show_json, tint_changes
from anabranch.cli.progress import busy
from anabranch.daemon import mounts
from anabranch.errors import AnabranchError, DamagedError, UsageError
from anabranch.escape import show_path
from anabranch.ids import ObjectId, RefName
from anabranch.tables import rows, source
from anabranch.tables.rows import Difference
from anabranch.tables.scratch import scratch
from anabranch.transfer import export
from anabranch.versions.diff import Change, ChangeKind
from anabranch.versions.objects import Entry, EntryKind

if TYPE_CHECKING:
    from anabranch.daemon.client import Service
    from anabranch.repo import Repository

_PIECE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Changed:
    """A table of which something changed, and the changes that are its."""

    path: bytes
    is_directory: bool
    changes: tuple[Change, ...]

    def fits(self, entry: Entry) -> bool:
        """Whether something is what the table is."""
        return entry.kind is (EntryKind.DIRECTORY if self.is_directory else EntryKind.FILE)


Side = Callable[[Changed], Path | None]
"""Gives where a table of one side can be read, or None where there is none."""


Shown = Callable[[Iterable[Change]], Iterable[str]]
"""How changes become text, where they are no tables."""


def among(changes: Iterable[Change]) -> list[Change | Changed]:
    """The changes, with those of tables that may be on both sides together, each table where the first of them was."""
    listed = list(changes)
    directories = _directories(listed)
    found: dict[bytes, list[Change]] = {}
    order: list[Change | bytes] = []
    for change in listed:
        path = _table(change, directories)
        if path is None:
            order.append(change)
            continue
        if path not in found:
            order.append(path)
        found.setdefault(path, []).append(change)
    return [
        Changed(item, item in directories, tuple(found[item])) if isinstance(item, bytes) else item for item in order
    ]


def _directories(changes: Iterable[Change]) -> set[bytes]:
    """The directories that are tables: parts of them changed, and they themselves are on both sides."""
    one_sided = (ChangeKind.ADDED, ChangeKind.DELETED, ChangeKind.RENAMED, ChangeKind.TYPE)
    known = {change.path for change in changes if change.change in one_sided}
    tops = {
        _above_parts(path)
        for change in changes
        if change.kind is EntryKind.FILE and change.change is not ChangeKind.ATTRIBUTES
        for path in (change.path, change.old_path or change.path)
    }
    return {top for top in tops if top and known.isdisjoint(_upwards(top))}


def _above_parts(path: bytes) -> bytes:
    """The table that a file is a part of: the directory above it and its partitions. Empty if it is no part."""
    above, _, name = path.rpartition(b"/")
    if not source.is_part(os.fsdecode(name)):
        return b""
    while source.is_partition(os.fsdecode(above.rpartition(b"/")[2])):
        above = above.rpartition(b"/")[0]
    return above


def _upwards(path: bytes) -> Iterator[bytes]:
    """A path, and the directories above it."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _table(change: Change, directories: set[bytes]) -> bytes | None:
    """The table that a change is of."""
    paths = {change.path, change.old_path or change.path}
    tops = {next(filter(directories.__contains__, _upwards(path)), None) for path in paths}
    if tops != {None}:
        return tops.pop() if len(tops) == 1 else None  # a file that came from elsewhere is told by itself
    is_file = change.change is ChangeKind.MODIFIED and change.kind is EntryKind.FILE
    name = os.fsdecode(change.path.rpartition(b"/")[2])
    return change.path if is_file and source.format_of(name) is not None else None


class Rows:
    """One `ana diff --rows`: what was asked for, and where tables are read: through a mount, or in a folder."""

    def __init__(self, repository: Path, folder: Path, key: tuple[str, ...], sample: int) -> None:
        self._key, self._sample = key, sample
        self._mount = next((mount for mount in mounts.of(repository) if not mount.is_dead()), None)
        self._folders = (folder / str(number) for number in count())

    def in_version(self, history: Repository, identity: ObjectId) -> Side:
        """The side of a version."""
        version = history.version(identity)

        def place(table: Changed) -> Path | None:
            entry = version.find(table.path)
            if entry is None or not table.fits(entry):
                return None
            if (mounted := self._mounted(f"@{identity.hex()}", table.path)) is not None:
                return mounted
            new = self._new(table.path)
            done = export.to_directory(history, version, entry, new, lambda _: None)
            if (missing := done.missing()) is not None:
                raise DamagedError(f"{show_path(missing[0] or table.path)}: {missing[1]}")
            return new

        return place

    def in_branch(self, service: Service, branch: RefName, changes: Iterable[Change]) -> Side:
        """The side of a working tree. All is read now, or nothing: whoever looks must not hold up the owner."""
        places: dict[bytes, Path] = {}
        for table in among(changes):
            if isinstance(table, Changed) and (entry := service.look(branch, table.path)) and table.fits(entry):
                place = self._mounted(branch, table.path)
                if place is None:
                    place = self._new(table.path)
                    _read(service, branch, table.path, entry.kind, place)
                places[table.path] = place
        return lambda table: places.get(table.path)

    def _mounted(self, name: str, path: bytes) -> Path | None:
        if self._mount is None:
            return None
        place = self._mount.directory / name / os.fsdecode(path)
        return place if os.access(place, os.R_OK) else None

    def _new(self, path: bytes) -> Path:
        """A new path with the name of another one."""
        folder = next(self._folders)
        folder.mkdir()
        return folder / os.fsdecode(path.rpartition(b"/")[2])

    def show(
        self, old: str, new: str, changes: Iterable[Change], sides: tuple[Side, Side], shown: Shown, *, as_json: bool
    ) -> None:
        """Print the changes, and what changed in the tables among them. Ends with 2 when a table could not be read."""
        failed: list[tuple[bytes, AnabranchError]] = []
        listed = list(changes)
        found = self._compared(among(listed), *sides, failed)
        if as_json:
            tables = [
                report_tables.difference_json(change.path, difference, self._key)
                for change, difference in found
                if isinstance(change, Changed) and difference is not None
            ]
            show_json({**report.diff_json(old, new, listed), "tables": tables})
        else:
            page(tint_changes(text) for change, difference in found for text in _text(change, difference, shown))
        for path, error in failed:
            complain(f"{show_path(path)}: {error.message}", error.hint)
        if failed:
            sys.exit(UsageError.exit_code)

    def _compared(
        self, changes: list[Change | Changed], old: Side, new: Side, failed: list[tuple[bytes, AnabranchError]]
    ) -> Iterator[tuple[Change | Changed, Difference | AnabranchError | None]]:
        """Each change; of a table that both sides have with what differs in it, or why that cannot be told."""
        for change in changes:
            difference: Difference | AnabranchError | None = None
            if isinstance(change, Changed):
                try:
                    before, after = old(change), new(change)
                    if before is not None and after is not None:
                        with busy(f"comparing {show_path(change.path)}"):
                            difference = rows.compare(before, after, self._key, self._sample)
                except (UsageError, DamagedError) as error:
                    difference = error
                    failed.append((change.path, error))
            yield change, difference


def _read(service: Service, branch: RefName, path: bytes, kind: EntryKind, place: Path) -> None:
    """Copy a file, or the files and directories in a directory, of a working tree."""
    if kind is EntryKind.DIRECTORY:
        place.mkdir()
        for name, below in service.listing(branch, path):
            _read(service, branch, path + b"/" + name, below, place / os.fsdecode(name))
    elif kind is EntryKind.FILE:
        with place.open("xb") as stream:
            while piece := service.read(branch, path, stream.tell(), _PIECE):
                stream.write(piece)


def _text(change: Change | Changed, found: Difference | AnabranchError | None, shown: Shown) -> Iterator[str]:
    changes = change.changes if isinstance(change, Changed) else [change]
    if not isinstance(change, Changed) or not isinstance(found, Difference):
        yield from shown(changes)
        return
    if change.is_directory:
        yield f"{report.LETTERS[ChangeKind.MODIFIED]}  {show_path(change.path)}/\n"
    else:
        yield from (report.change_line(one) + "\n" for one in changes)
    yield from report_tables.difference_text(found)


@contextmanager
def rows_of(repository: Path, key: tuple[str, ...], sample: int | None) -> Iterator[Rows]:
    """What `--rows` needs, with a folder that is gone in the end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    with scratch("rows") as folder:
        yield Rows(repository, folder, key, rows.SAMPLE if sample is None else sample)
