"""Carrying a transaction out: its steps in their order over what the branch has, then all of it at one instant."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anabranch.api.files import Read
from anabranch.api.links import follow, follow_above
from anabranch.daemon.client import Service
from anabranch.errors import ExistsError, NotFoundError, UsageError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.transfer import building
from anabranch.transfer.intake import Attributes, entry_of
from anabranch.versions.objects import Entry, EntryKind
from anabranch.worktree.inodes import now_ns


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file, in the place of one that is there unless it is to be `fresh`."""

    read: Read
    """Gives no more than asked for, but maybe what lies behind its end."""
    size: int
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class NewDirectory:
    """An empty directory."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A symbolic link."""

    target: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing, where there was something."""


Step = NewFile | NewDirectory | NewLink | Gone


class Putting:
    """One transaction on its way into a branch."""

    def __init__(self, service: Service, core: Repository, branch: RefName) -> None:
        self._service = service
        self._core = core
        self._branch = branch
        self._ingest = core.ingest(lambda: None)
        self._mask = _umask()
        self._there: dict[bytes, Entry | None] = {}
        """What the branch has, as far as it was looked at."""
        self._made: dict[bytes, Entry] = {}
        self._above_made: set[bytes] = set()
        """Directories that there must be."""
        self._gone: set[bytes] = set()
        """What the branch has had; something else may be made there."""

    def run(self, steps: Iterable[tuple[bytes, Step]]) -> None:
        """Do all of it, or raise and do nothing."""
        for path, step in steps:
            self._do(path, step)
        paths = [*self._gone, *(path for path in self._made if path not in self._gone)]
        if not paths:
            return
        built = building.Building(self._core.trees, self.directory())
        for path, entry in self._made.items():
            built.add(path, entry)
        version = built.finish()
        self._core.chunks.flush()
        self._core.objects.flush()
        self._service.restore(self._branch, version, paths, new_too=True)

    def directory(self) -> Entry:
        """How directories look that are made."""
        return building.directory(0o777 & ~self._mask, os.geteuid(), os.getegid(), now_ns())

    def _do(self, path: bytes, step: Step) -> None:
        if isinstance(step, NewFile):
            path, old = follow(path, self._look)
            self._make(path, self._file(self._checked(path), step, old))
            return
        path = follow_above(path, self._look)
        old = self._look(path)
        if isinstance(step, Gone):
            self._remove(self._checked(path), old)
            return
        if old is not None:
            raise ExistsError(f"{_shown(path)} exists already")
        if isinstance(step, NewDirectory):
            self._make(self._checked(path), self.directory())
        else:
            of = Attributes(stat.S_IFLNK | 0o777, os.geteuid(), os.getegid(), now_ns())
            self._make(self._checked(path), entry_of(of, target=step.target))

    def _make(self, path: bytes, entry: Entry) -> None:
        self._made[path] = entry
        self._above_made.update(_above(path))

    def _file(self, path: bytes, step: NewFile, old: Entry | None) -> Entry:
        """A file that is there keeps its permissions and owners."""
        if old is not None and step.fresh:
            raise ExistsError(f"{_shown(path)} exists already")
        if old is not None and old.kind is EntryKind.DIRECTORY:
            raise UsageError(f"{_shown(path)} is a directory")
        dress = Attributes(stat.S_IFREG | (0o666 & ~self._mask), os.geteuid(), os.getegid(), now_ns())
        if old is not None and old.kind is EntryKind.FILE:
            dress = Attributes(stat.S_IFREG | old.mode, old.uid, old.gid, now_ns())
        return entry_of(dress, self._ingest.stream(_bounded(step), lambda _: 0))

    def _remove(self, path: bytes, old: Entry | None) -> None:
        if old is None:
            raise NotFoundError(f"{self._branch} has no {_shown(path)}")
        if path in self._made or path in self._above_made:
            self._made = {each: entry for each, entry in self._made.items() if path not in (each, *_above(each))}
            self._above_made = {above for each in self._made for above in _above(each)}
        if self._in_branch(path) is not None:
            self._gone.add(path)

    # --- what is at a path, as the steps so far have it ---

    def _look(self, path: bytes) -> Entry | None:
        if path in self._made:
            return self._made[path]
        if path in self._above_made:
            return self.directory()
        if any(each in self._gone for each in (path, *_above(path))):
            return None
        return self._in_branch(path)

    def _in_branch(self, path: bytes) -> Entry | None:
        if path not in self._there:
            self._there[path] = self._service.look(self._branch, path)
        return self._there[path]

    def _checked(self, path: bytes) -> bytes:
        """A path at which something may be made. Raises UsageError."""
        if not path:
            raise UsageError("the top of a branch cannot be replaced")
        if path.split(b"/")[0] == b".ana":
            raise UsageError(f"{_shown(path)}: .ana at the top of a branch is the mount's", hint="use another name")
        for above in _above(path):
            entry = self._look(above)
            if entry is not None and entry.kind is not EntryKind.DIRECTORY:
                raise UsageError(f"{_shown(path)}: {_shown(above)} is not a directory")
            if entry is not None:
                break
        return path


def _above(path: bytes) -> Iterator[bytes]:
    """The directories that a path is in, from the nearest on, but the top."""
    while path := path.rpartition(b"/")[0]:
        yield path


def _bounded(file: NewFile) -> Read:
    return lambda offset, length: file.read(offset, max(0, min(length, file.size - offset)))


def _shown(path: bytes) -> str:
    return path.decode(errors="replace")


def _umask() -> int:
    """The process's mask, which can only be asked for by setting it: Linux tells it in /proc."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next((int(line.split()[1], 8) for line in status if line.startswith("Umask:")), 0o022)
