"""A backup: a copy of a repository that is a repository itself, made while the source is in use, again and again.

First what changes comes to a standstill for as long as it takes to copy it: the meta environment and the overlay files
(`take_snapshot`). Then chunks are copied, which are never rewritten (`finish`), and at last the backup goes over to the
new state in one step (store/arrival.py). Until then it is the one that it was, with more chunks. docs/design/008.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError, DeniedError, RefusedError, UsageError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.store import arrival
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.layout import Layout, check, check_path, demand, read_record, write_json
from anabranch.store.meta import LOGS, TABLES, ObjectStore
from anabranch.transfer.copying import Advance, Reached, copy_chunks, copy_overlays, mend_rows
from anabranch.versions.refs import LOG_ROW, LogRow, Refs

MARK = "backup.json"


class Mark(msgspec.Struct, frozen=True):
    """What a folder is a backup of, and how far it has the chunks of it; JSON."""

    id: str
    volumes: list[Reached] = []


@dataclass(slots=True)
class BackedUp:
    """What a backup came to. `bytes` were written, `chunks` were not there before."""

    path: Path
    versions: int = 0
    chunks: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)


def make_place(source: Layout, place: Path) -> Layout:
    """The folder of a backup, made if it is not there. Raises UsageError, RefusedError, DeniedError, FormatError."""
    check_path(place)
    if place.is_relative_to(source.path):
        raise UsageError(f"{place} is in the repository itself", hint="choose a folder elsewhere, on another disk")
    layout, identity = Layout(place), read_record(source).id
    try:
        mark = _read_mark(layout)
        if mark is None:
            _make_folder(layout, identity)
        elif mark.id != identity:
            raise RefusedError(f"{place} is a backup of another repository", hint="choose another folder")
        if layout.record.exists():
            check(place, writable=True)
        layout.volumes.mkdir(mode=0o700, exist_ok=True)
    except PermissionError as error:
        raise DeniedError(f"cannot write in {place}: {error.strerror}") from error
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{place} is not a folder") from None
    return layout


def _read_mark(layout: Layout) -> Mark | None:
    try:
        return msgspec.json.decode((layout.path / MARK).read_bytes(), type=Mark)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _make_folder(layout: Layout, identity: str) -> None:
    if layout.record.exists():
        raise RefusedError(f"{layout.path} is a repository, but no backup", hint="choose a folder that is not there")
    layout.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = layout.path / MARK
    if {path.name for path in layout.path.iterdir()} - {mark.name, mark.with_suffix(".new").name}:
        raise UsageError(f"{layout.path} is not empty", hint="a backup wants a folder of its own")
    layout.path.chmod(0o700)
    write_json(mark, Mark(identity))


class Backup:
    """One backup of a repository, by whoever owns the folder that `make_place` gave."""

    def __init__(self, source: Repository, layout: Layout) -> None:
        """Raises RefusedError when the folder holds what the source does not, DeniedError, DamagedError."""
        self._source = source
        self._layout = layout
        self._done = BackedUp(layout.path)
        with self._filling():
            arrival.settle(layout)
            if layout.record.exists():
                self._check_behind()
                for feature in read_record(source.layout).read_only:
                    demand(layout, feature)

    def _check_behind(self) -> None:
        for name, number, row in self._newest():
            if self._source.refs.row(name, number) != row:
                raise RefusedError(
                    f"{self._layout.path} is no older state of the repository: {name}@{number} is another there",
                    hint="somebody has worked in the backup, or the repository went back; choose another folder",
                )

    def _newest(self) -> list[tuple[RefName, int, LogRow]]:
        try:
            meta = Environment(self._layout.meta, TABLES, writable=False)
            try:
                return list(Refs(meta, ObjectStore(meta)).newest())
            finally:
                meta.close()
        except DamagedError as error:
            raise DamagedError(f"the backup is damaged: {error.message}", hint="choose another folder") from error

    def size(self) -> int:
        """About how many bytes there are to look at."""
        source, reached = self._source, {each.volume: each.end for each in self._mark().volumes}
        volumes = source.chunks.volumes
        log = sum(max(volumes.size(number) - reached.get(number, 0), 0) for number in volumes.numbers())
        return log + sum(map(_room, [source.layout.meta, *source.layout.overlays.iterdir()]))

    def _mark(self) -> Mark:
        return _read_mark(self._layout) or Mark(read_record(self._source.layout).id)

    def take_snapshot(self, go_on: Callable[[], None], advance: Advance) -> None:
        """Copy what must be of one instant: the meta environment as it is now, and then, after `go_on`, the overlay
        files that it names. Raises DamagedError, OSError.
        """
        with self._filling():
            incoming = arrival.gather(self._layout)
            with self._source.meta.standing() as copy:
                go_on()
                copy(incoming.meta)
            size = incoming.meta.stat().st_size
            advance(size)
            self._done.bytes += size + copy_overlays(self._source.layout, incoming, self._done.damaged, advance)

    def finish(self, advance: Advance) -> BackedUp:
        """Copy the chunks that are missing, and let the backup be as the snapshot. Raises DamagedError, OSError."""
        with self._filling():
            self._copy_chunks(advance)
            incoming = arrival.incoming(self._layout)
            write_json(incoming.record, read_record(self._source.layout))
            self._look_through(incoming)
            arrival.arrive(self._layout)
        return self._done

    def _copy_chunks(self, advance: Advance) -> None:
        mark = self._mark()
        reached = {each.volume: each for each in mark.volumes}

        def note(each: Reached) -> None:
            reached[each.volume] = each
            write_json(self._layout.path / MARK, Mark(mark.id, list(reached.values())))

        chunks = ChunkStore(self._layout.path, writable=True)
        try:
            for item in copy_chunks(self._source.chunks.volumes, chunks, dict(reached), note, advance):
                if isinstance(item, int):
                    self._done.chunks += 1
                    self._done.bytes += item
                else:
                    self._done.damaged.append(str(item))
        finally:
            chunks.close()

    def _look_through(self, incoming: Layout) -> None:
        """Check what came, with the help of what is there already."""
        there = self._layout.record.exists()
        before = Environment(self._layout.meta, TABLES, writable=False) if there else None
        meta = Environment(incoming.meta, TABLES, create=False)
        try:
            self._done.damaged += mend_rows(meta, before)
            self._done.versions = len(_versions(meta))
        finally:
            meta.close()
            if before is not None:
                before.close()

    @contextmanager
    def _filling(self) -> Iterator[None]:
        """What the disk refuses is told as what it means here."""
        try:
            yield
        except PermissionError as error:
            raise DeniedError(f"cannot write in {self._layout.path}: {error.strerror}") from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            why = f"the disk of {self._layout.path} is full; the backup is as it was"
            raise OSError(error.errno, why) from error


def _room(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:  # the source is in use
        return 0


def _versions(meta: Environment) -> set[bytes]:
    """The commits that a log names; damaged rows name none."""
    found: set[bytes] = set()
    for _, sealed in meta.scan(LOGS):
        with suppress(DamagedError):
            row = LOG_ROW.unseal(sealed, "a row of a log")
            found |= set() if row.ends else {row.commit}
    return found
