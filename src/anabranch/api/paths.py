"""Paths in versions and branches, used as those of pathlib: `version / "raw" / "a.csv"`."""

import io
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, TypeVar

from anabranch.api import files
from anabranch.errors import NotFoundError, UsageError
from anabranch.versions.objects import Entry, EntryKind

_LINKS_MAX = 40
"""Symbolic links on the way of one path, as on Linux."""

P = TypeVar("P", bound="TreePath")


@dataclass(frozen=True, slots=True)
class Stat:
    """What there is to know of a path beside its content. `size` in bytes, of a directory that of all files below."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int

    @property
    def mtime(self) -> datetime:
        """When it was last modified, UTC."""
        return datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)


class TreePath(ABC):
    """A path in a version or a branch. Names that are not UTF-8 have surrogates in them, as in `os.fsdecode`."""

    def __init__(self, *segments: "str | PurePosixPath | TreePath") -> None:
        joined = PurePosixPath("/", *(str(each).lstrip("/") for each in segments))
        self._pure = joined.relative_to("/")
        if ".." in self._pure.parts:
            raise UsageError(f"{self._pure} leads up, where nothing follows symbolic links", hint="write it without ..")

    @abstractmethod
    def _with(self: P, path: PurePosixPath) -> P:
        """Another path of the same version or branch."""

    @abstractmethod
    def _where(self) -> str:
        """What the path is in, for messages."""

    @abstractmethod
    def _look(self, path: bytes) -> Entry | None:
        """What is at a path; symbolic links are not followed."""

    @abstractmethod
    def _list(self, path: bytes) -> list[tuple[bytes, Entry]]:
        """What is in a directory, in order of names."""

    @abstractmethod
    def _reader(self, path: bytes, entry: Entry) -> files.Read:
        """What reads a file."""

    # --- the path itself ---

    @property
    def name(self) -> str:
        """The last part; empty at the top."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """`.csv`, or nothing."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The names on the way."""
        return self._pure.parts

    @property
    def parent(self: P) -> P:
        """The directory above; of the top the top itself."""
        return self._with(self._pure.parent)

    def __truediv__(self: P, other: str) -> P:
        """A path below."""
        return self._with(self._pure / other.lstrip("/"))

    def __str__(self) -> str:
        """`raw/a.csv`; the top is `.`."""
        return str(self._pure)

    def __repr__(self) -> str:
        """`VersionPath('main@3:raw/a.csv')`."""
        return f"{type(self).__name__}('{self._where()}:{self}')"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same path of the same version or branch."""
        return type(self) is type(other) and repr(self) == repr(other)

    def __lt__(self, other: "TreePath") -> bool:
        """By the parts of the path."""
        return self.parts < other.parts

    def __hash__(self) -> int:
        """As equality."""
        return hash(repr(self))

    def _bytes(self) -> bytes:
        return b"" if self._pure == PurePosixPath() else os.fsencode(str(self._pure))

    # --- looking ---

    def _found(self) -> tuple[bytes, Entry]:
        """Where the path leads when symbolic links are followed, and what is there. Raises NotFoundError."""
        entry = self._look(self._bytes())
        if entry is not None and entry.kind is not EntryKind.SYMLINK:
            return self._bytes(), entry
        return self._follow()

    def _follow(self) -> tuple[bytes, Entry]:
        todo, done, links = deque(filter(None, self._bytes().split(b"/"))), list[bytes](), 0
        entry = self._look(b"")
        while todo:
            name = todo.popleft()
            if name == b"..":
                if not done:
                    raise NotFoundError(f"{self} leads out of {self._where()}")
                done.pop()
                continue
            entry = self._look(b"/".join((*done, name)))
            if entry is None:
                break
            if entry.kind is not EntryKind.SYMLINK:
                done.append(name)
                continue
            links += 1
            if links > _LINKS_MAX:
                raise UsageError(f"{self}: too many symbolic links")
            if entry.content.startswith(b"/"):
                raise NotFoundError(f"{self} leads out of {self._where()}")
            todo.extendleft(part for part in reversed(entry.content.split(b"/")) if part not in (b"", b"."))
        if entry is None:
            raise NotFoundError(f"{self._where()} has no {self}")
        path = b"/".join(done)
        at = self._look(path)
        if at is None:
            raise NotFoundError(f"{self._where()} has no {self}")
        return path, at

    def _kind(self) -> EntryKind | None:
        try:
            return self._found()[1].kind
        except NotFoundError:
            return None

    def exists(self) -> bool:
        """Whether there is something; symbolic links are followed, as in all but `is_symlink` and `readlink`."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self._kind() is EntryKind.FILE

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self._kind() is EntryKind.DIRECTORY

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link itself."""
        entry = self._look(self._bytes())
        return entry is not None and entry.kind is EntryKind.SYMLINK

    def readlink(self) -> str:
        """The target of a symbolic link. Raises UsageError on anything else."""
        entry = self._look(self._bytes())
        if entry is None or entry.kind is not EntryKind.SYMLINK:
            raise UsageError(f"{self} is no symbolic link")
        return os.fsdecode(entry.content)

    def stat(self) -> Stat:
        """Kind, mode, owners, size, time. Raises NotFoundError."""
        entry = self._found()[1]
        return Stat(entry.kind.name.lower(), entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns)

    def iterdir(self: P) -> Iterator[P]:
        """The paths in a directory, by name. Raises NotFoundError, UsageError."""
        return (self / name for name, _ in self._children())

    def walk(self: P) -> Iterator[tuple[P, list[str], list[str]]]:
        """Each directory, from here down, with the names of its directories and of all else: as `os.walk`.

        Names that are taken out of the first list are not walked into; symbolic links never are.
        """
        todo = [self]
        while todo:
            here = todo.pop()
            children = here._children()
            directories = [name for name, kind in children if kind is EntryKind.DIRECTORY]
            yield here, directories, [name for name, kind in children if kind is not EntryKind.DIRECTORY]
            todo += (here / name for name in reversed(directories))

    def rglob(self: P, pattern: str) -> Iterator[P]:
        """All paths below whose names match a pattern such as `*.csv`, directories too."""
        for here, directories, others in self.walk():
            yield from (here / name for name in sorted([*directories, *others]) if fnmatchcase(name, pattern))

    def _children(self) -> list[tuple[str, EntryKind]]:
        path, entry = self._found()
        if entry.kind is not EntryKind.DIRECTORY:
            raise UsageError(f"{self} is not a directory")
        return [(os.fsdecode(name), child.kind) for name, child in self._list(path)]

    # --- reading ---

    def open(self, mode: str = "r", *, encoding: str = "utf-8", newline: str | None = None) -> IO[str] | IO[bytes]:
        """A file object, seekable: text, or with `b` bytes. Raises NotFoundError, UsageError."""
        if mode not in ("r", "rb", "rt"):
            raise UsageError(f"{self} cannot be opened with mode {mode!r}: versions are read-only")
        path, entry = self._found()
        if entry.kind is not EntryKind.FILE:
            raise UsageError(f"{self} is not a file")
        raw = files.reading(self._reader(path, entry), entry.size, str(self))
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding=encoding, newline=newline)

    def read_bytes(self) -> bytes:
        """The content of a file."""
        with self.open("rb") as file:
            data = file.read()
        assert isinstance(data, bytes)
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content of a file as text."""
        return self.read_bytes().decode(encoding)
