"""Paths in versions and branches, used as those of pathlib: `version / "raw" / "a.csv"`."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, Literal, TextIO, TypeAlias, TypeVar, overload

from anabranch.api import files
from anabranch.api.links import follow
from anabranch.api.times import utc
from anabranch.errors import NotFoundError, UsageError
from anabranch.versions.objects import Entry, EntryKind

P = TypeVar("P", bound="TreePath")
Place: TypeAlias = "str | os.PathLike[str] | TreePath"
"""Names a path: text, counted from the top of a branch, or a path of this library."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What there is to know of a path beside its content."""

    kind: str
    """`file`, `directory`, `fifo` ..."""
    mode: int
    """Permissions, as 0o644."""
    uid: int
    gid: int
    size: int
    """Bytes of a file; 0 of everything else."""
    mtime_ns: int
    """When it was last modified, in nanoseconds since 1970."""

    @property
    def mtime(self) -> datetime:
        """When it was last modified, UTC, to the microsecond."""
        return utc(self.mtime_ns)


class TreePath(ABC):
    """A path in a version or a branch. Names that are not UTF-8 have surrogates in them, as in `os.fsdecode`."""

    def __init__(self, *segments: Place) -> None:
        joined = PurePosixPath("/", *(_text(each).lstrip("/") for each in segments))
        self._pure = joined.relative_to("/")
        if ".." in self._pure.parts:
            raise UsageError(f"{self._pure} leads up, where nothing follows symbolic links", hint="write it without ..")
        try:
            self._inside = b"" if self._pure == PurePosixPath() else os.fsencode(str(self._pure))
        except UnicodeEncodeError:
            raise UsageError(f"{str(self._pure)!r} is no path: a name is UTF-8, or from os.fsdecode") from None
        if b"\0" in self._inside:
            raise UsageError(f"{str(self._pure)!r} is no path: a name has no NUL in it")

    @abstractmethod
    def _with(self: P, path: PurePosixPath) -> P:
        """Another path of the same version or branch."""

    @property
    @abstractmethod
    def _tree(self) -> Hashable:
        """The version or branch that the path is in; as a text its name."""

    @abstractmethod
    def _look(self, path: bytes) -> Entry | None:
        """What is at a path; symbolic links are not followed."""

    @abstractmethod
    def _list(self, path: bytes) -> list[tuple[bytes, EntryKind]]:
        """The names in a directory, in order, and what each is."""

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

    def __truediv__(self: P, other: "str | os.PathLike[str]") -> P:
        """A path below."""
        if not isinstance(other, str | os.PathLike):
            return NotImplemented
        return self._with(self._pure / _text(other).lstrip("/"))

    def __str__(self) -> str:
        """`raw/a.csv`; the top is `.`."""
        return str(self._pure)

    def __repr__(self) -> str:
        """`VersionPath('main@3:raw/a.csv')`."""
        return f"{type(self).__name__}({f'{self._tree}:{self}'!r})"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same path of the same version or branch."""
        return isinstance(other, TreePath) and (self._tree, self._pure) == (other._tree, other._pure)

    def __lt__(self, other: "TreePath") -> bool:
        """By the parts of the path."""
        return self.parts < other.parts if isinstance(other, TreePath) else NotImplemented

    def __hash__(self) -> int:
        """As equality."""
        return hash((self._tree, self._pure))

    # --- looking ---

    def _found(self) -> tuple[bytes, Entry]:
        """Where the path leads when symbolic links are followed, and what is there. Raises NotFoundError."""
        path, entry = follow(self._inside, self._look)
        if entry is None:
            raise NotFoundError(f"{self._tree} has no {self}")
        return path, entry

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
        entry = self._look(self._inside)
        return entry is not None and entry.kind is EntryKind.SYMLINK

    def readlink(self) -> str:
        """The target of a symbolic link. Raises UsageError on anything else."""
        entry = self._look(self._inside)
        if entry is None or entry.kind is not EntryKind.SYMLINK:
            raise UsageError(f"{self} is no symbolic link")
        return os.fsdecode(entry.content)

    def stat(self) -> Stat:
        """Kind, mode, owners, size, time. Raises NotFoundError."""
        entry = self._found()[1]
        size = entry.size if entry.kind is EntryKind.FILE else 0
        return Stat(entry.kind.name.lower(), entry.mode, entry.uid, entry.gid, size, entry.mtime_ns)

    def iterdir(self: P) -> Iterator[P]:
        """The paths in a directory, by name. Raises NotFoundError, UsageError."""
        return (self / name for name, _ in self._children())

    def walk(self: P) -> Iterator[tuple[P, list[str], list[str]]]:
        """Each directory, from here down, with the names of its directories and of all else: as `os.walk`.

        Names that are taken out of the first list are not walked into; symbolic links never are. What goes away in a
        branch meanwhile is left out. Raises NotFoundError, UsageError when this is no directory.
        """
        todo = [self]
        while todo:
            here = todo.pop()
            try:
                children = here._children()
            except (NotFoundError, UsageError):
                if here is self:
                    raise
                continue
            directories = [name for name, kind in children if kind is EntryKind.DIRECTORY]
            yield here, directories, [name for name, kind in children if kind is not EntryKind.DIRECTORY]
            todo += (here / name for name in reversed(directories))

    def rglob(self: P, pattern: str) -> Iterator[P]:
        """All paths below whose names match a pattern such as `*.csv`, directories too. Raises as `walk`."""
        if "/" in pattern or not pattern:
            raise UsageError(f"{pattern!r} is no pattern of a name", hint='(path / "raw").rglob("*.csv")')
        return (
            here / name
            for here, directories, others in self.walk()
            for name in sorted([*directories, *others])
            if fnmatchcase(name, pattern)
        )

    def _children(self) -> list[tuple[str, EntryKind]]:
        path, entry = self._found()
        if entry.kind is not EntryKind.DIRECTORY:
            raise UsageError(f"{self} is not a directory")
        return [(os.fsdecode(name), kind) for name, kind in self._list(path)]

    # --- reading ---

    @overload
    def open(self, mode: Literal["r", "rt"] = "r", *, encoding: str = ..., newline: str | None = ...) -> TextIO: ...
    @overload
    def open(self, mode: Literal["rb"], *, encoding: str = ..., newline: str | None = ...) -> BinaryIO: ...
    @overload
    def open(self, mode: str, *, encoding: str = ..., newline: str | None = ...) -> IO[Any]: ...

    def open(self, mode: str = "r", *, encoding: str = "utf-8", newline: str | None = None) -> IO[Any]:
        """A file object, seekable: text, or with `b` bytes. Raises NotFoundError, UsageError."""
        if mode not in ("r", "rb", "rt", "br", "tr"):
            raise UsageError(f"{self} cannot be opened with mode {mode!r}", hint="r is for text, rb for bytes")
        path, entry = self._found()
        if entry.kind is not EntryKind.FILE:
            raise UsageError(f"{self} is not a file")
        raw = files.reading(self._reader(path, entry), entry.size, str(self))
        if "b" in mode:
            return raw
        text = io.TextIOWrapper(raw, encoding=encoding, newline=newline)
        text.mode = "r"  # type: ignore[misc]  # open() sets it, too
        return text

    def read_bytes(self) -> bytes:
        """The content of a file. Raises NotFoundError, UsageError."""
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content of a file as text; each end of a line is a newline. Raises as `read_bytes`."""
        with self.open("r", encoding=encoding) as file:
            return file.read()


def _text(place: Place) -> str:
    text = str(place) if isinstance(place, TreePath) else os.fspath(place)
    if not isinstance(text, str):
        raise TypeError(f"a path is text, not {type(text).__name__}")
    return text
