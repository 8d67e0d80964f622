"""Several changes of a branch that are seen all at once, or not at all."""

import os
import stat
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from anabranch import repo
from anabranch.api.files import Written, WrittenText
from anabranch.api.paths import TreePath
from anabranch.errors import UsageError
from anabranch.transfer import building
from anabranch.transfer.intake import Attributes, entry_of
from anabranch.versions.objects import Entry, EntryKind
from anabranch.worktree.inodes import now_ns

if TYPE_CHECKING:
    from anabranch.api.branch import Branch

Make = Callable[[repo.Repository], Entry]
"""Puts what is to be at a path into the store, and returns its entry."""


class Transaction:
    """Collects what is to be written; leaving the `with` block does it, an exception drops it."""

    def __init__(self, branch: "Branch") -> None:
        self._branch = branch
        self._made: dict[bytes, Make | None] = {}
        self._kept: list[IO[bytes]] = []

    def __enter__(self) -> "Transaction":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do it, or drop it."""
        try:
            if kind is None and self._made:
                self._branch._put(self._made)
        finally:
            for file in self._kept:
                file.close()

    def write_bytes(self, path: str | TreePath, data: bytes) -> None:
        """Make a file of bytes, in the place of what is there. Directories above are made."""
        inside = self._inside(path)
        dress = self._dress(inside)

        def make(core: repo.Repository) -> Entry:
            return entry_of(dress, core.ingest(lambda: None).whole(data))

        self._made[inside] = make

    def write_text(self, path: str | TreePath, text: str, encoding: str = "utf-8") -> None:
        """Make a file of text."""
        self.write_bytes(path, text.encode(encoding))

    def open(
        self, path: str | TreePath, mode: str = "w", *, encoding: str = "utf-8", newline: str | None = None
    ) -> IO[str] | IO[bytes]:
        """A file object for writing (`w`, `x`, `a`, `r+`, and each with `b`); closing it puts the file in place."""
        inside = self._inside(path)
        plain = mode.replace("b", "").replace("t", "")
        if plain not in ("w", "x", "a", "r+", "w+", "a+"):
            raise UsageError(f"{mode!r} is no mode for writing", hint="w, x, a or r+, with b for bytes")
        there = self._branch.path(os.fsdecode(inside))
        if plain == "x" and there.exists():
            raise UsageError(f"{there} exists already")
        start = there.open("rb") if plain == "r+" or (plain.startswith("a") and there.exists()) else None
        written = Written(partial(self._take, inside), start)  # type: ignore[arg-type]  # opened with b
        if plain == "r+":
            written._file.seek(0)
        if "b" in mode:
            return cast(IO[bytes], written)
        return WrittenText(written, encoding=encoding, newline=newline)

    def mkdir(self, path: str | TreePath) -> None:
        """Make an empty directory, in the place of what is there."""
        entry = building.directory(0o777 & ~_umask(), os.geteuid(), os.getegid(), now_ns())
        self._made[self._inside(path)] = lambda core: entry

    def symlink(self, path: str | TreePath, target: str) -> None:
        """Make a symbolic link."""
        of = Attributes(stat.S_IFLNK | 0o777, os.geteuid(), os.getegid(), now_ns())
        entry = entry_of(of, target=os.fsencode(target))
        self._made[self._inside(path)] = lambda core: entry

    def remove(self, path: str | TreePath) -> None:
        """Take a path away, with all that is below it. Raises NotFoundError at the end if there is nothing."""
        self._made[self._inside(path)] = None

    def _take(self, inside: bytes, file: IO[bytes]) -> None:
        """The content of a file that was closed: it is read again at the end."""
        descriptor = os.dup(file.fileno())  # a small one moves to the disk
        self._kept.append(os.fdopen(descriptor, "rb", buffering=0))
        dress = self._dress(inside)

        def make(core: repo.Repository) -> Entry:
            stored = core.ingest(lambda: None).stream(
                lambda offset, length: os.pread(descriptor, length, offset), lambda _: 0
            )
            return entry_of(dress, stored)

        self._made[inside] = make

    def _inside(self, path: str | TreePath) -> bytes:
        inside = self._branch.path(str(path))._bytes()
        if not inside:
            raise UsageError("the top of a branch cannot be replaced")
        return inside

    def _dress(self, inside: bytes) -> Attributes:
        """A file that is there keeps its permissions and owners."""
        old = self._branch._look(inside)
        if old is not None and old.kind is EntryKind.FILE:
            return Attributes(stat.S_IFREG | old.mode, old.uid, old.gid, now_ns())
        return Attributes(stat.S_IFREG | (0o666 & ~_umask()), os.geteuid(), os.getegid(), now_ns())


def _umask() -> int:
    """The process's mask, which can only be asked for by setting it: Linux tells it in /proc."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next((int(line.split()[1], 8) for line in status if line.startswith("Umask:")), 0o022)
