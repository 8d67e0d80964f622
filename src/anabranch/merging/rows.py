"""Tables that both sides changed, merged row by row: a conflict less where they changed different rows.

The three tables are written into a folder, merged there (tables/merge.py), and the result is stored. What cannot be
merged so stays the conflict that it was, and `told` says why.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError, DeniedError, RefusedError, UsageError
from anabranch.repo import Repository
from anabranch.tables import merge as tables
from anabranch.tables.scratch import scratch
from anabranch.tables.source import format_of, is_partition
from anabranch.transfer.building import own_directory
from anabranch.transfer.export import to_directory
from anabranch.transfer.folder import take_folder
from anabranch.transfer.sieve import Sieve
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.threeway import Conflict
from anabranch.worktree.ignore import Rules

_TOP = b"table"


@dataclass(frozen=True, slots=True)
class RowsTold:
    """What became of a table: rows were merged, or keys are conflicts, or it could not be read."""

    path: bytes
    merged: tables.Merged | None
    why: str = ""


@dataclass(slots=True)
class TableMerging:
    """Merges the tables of conflicts by a key, in a folder of its own."""

    repository: Repository
    key: tuple[str, ...]
    folder: Path
    told: list[RowsTold] = field(default_factory=list)

    def __call__(self, conflict: Conflict) -> Entry | None:
        """What a table becomes; None where it is none, or stays a conflict."""
        sides = (conflict.base, conflict.ours, conflict.theirs)
        name = os.fsdecode(conflict.path.rpartition(b"/")[2])
        if not _are_tables(name, *sides):
            return None
        if is_partition(name):
            why = "it is a partition of a table, and a row may have moved to another"
            self.told.append(RowsTold(conflict.path, None, why))
            return None
        try:
            return self._merged(conflict, name, self.folder / str(len(self.told)))
        except DeniedError:  # nothing can be merged so
            raise
        except (UsageError, RefusedError, DamagedError) as error:
            self.told.append(RowsTold(conflict.path, None, error.message))
            return None

    def _merged(self, conflict: Conflict, name: str, folder: Path) -> Entry | None:
        base, ours, theirs = (
            self._written(entry, folder / side / name)
            for side, entry in (("base", conflict.base), ("ours", conflict.ours), ("theirs", conflict.theirs))
        )
        out = folder / "out" / name
        out.parent.mkdir()
        merged = tables.merge(base, ours, theirs, self.key, out)
        self.told.append(RowsTold(conflict.path, merged))
        if merged.conflicts:
            return None
        is_as_ours = not (merged.added or merged.removed or merged.changed)
        return conflict.ours if is_as_ours else self._taken(out, conflict.ours)

    def _written(self, entry: Entry | None, place: Path) -> Path:
        assert entry is not None
        place.parent.mkdir(parents=True)
        done = to_directory(self.repository, self.repository.nothing(), entry, place, lambda _: None)
        if (missing := done.missing()) is not None:
            raise DamagedError(f"{os.fsdecode(missing[0])}: {missing[1]}")
        return place

    def _taken(self, out: Path, like: Entry | None) -> Entry:
        """What was written, with the attributes of ours."""
        sieve = Sieve(Rules(), lambda _: True)
        taken = take_folder(self.repository, out, _TOP, own_directory(), sieve, lambda _: None)
        entry = taken.version.named(_TOP)
        assert entry is not None, "BUG: a table that was just written is not there"
        assert like is not None
        return msgspec.structs.replace(entry, mode=like.mode, uid=like.uid, gid=like.gid)


@contextmanager
def merging_tables(key: Sequence[str]) -> Iterator[Callable[[Repository], TableMerging] | None]:
    """What merges tables by a key, in a folder that is gone in the end; nothing without a key."""
    if not key:
        yield None
        return
    with scratch("rows") as folder:
        yield lambda core: TableMerging(core, tuple(key), Path(tempfile.mkdtemp(dir=folder)))


def _are_tables(name: str, *sides: Entry | None) -> bool:
    """Whether all sides have a file with a table's name, or a directory, which may be one."""
    kinds = {None if side is None else side.kind for side in sides}
    return kinds == {EntryKind.DIRECTORY} or (kinds == {EntryKind.FILE} and format_of(name) is not None)
