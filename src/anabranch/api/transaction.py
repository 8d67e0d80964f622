"""Several changes of a branch that are seen all at once, or not at all."""

import os
import tempfile
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, cast, overload

from anabranch.api import files
from anabranch.api.files import Written, WrittenText
from anabranch.api.opened import translated
from anabranch.api.paths import Place
from anabranch.api.putting import Gone, NewDirectory, NewFile, NewLink, Step
from anabranch.errors import ExistsError, RefusedError, UsageError

if TYPE_CHECKING:
    from anabranch.api.branch import Branch, BranchPath

WriteText = Literal["w", "wt", "x", "xt", "a", "at", "r+", "w+", "x+", "a+"]
WriteBytes = Literal["wb", "xb", "ab", "r+b", "rb+", "w+b", "wb+", "x+b", "xb+", "a+b", "ab+"]
_MODES = ("w", "x", "a", "r+", "w+", "x+", "a+")


class Transaction:
    """Collects changes, in a temporary file if they are large. Leaving the `with` block does all of them, in their
    order; an exception drops them. For one thread.
    """

    def __init__(self, branch: "Branch") -> None:
        self._branch = branch
        self._steps: list[tuple[bytes, Step]] = []
        self._contents: IO[bytes] | None = None
        """Of all files, one behind the other, while the block lasts."""
        self._written: list[Written | WrittenText] = []
        self._has_ended = False

    def __enter__(self) -> "Transaction":
        """Itself. Raises RefusedError when it has ended."""
        if self._has_ended:
            raise _ended()
        spool = tempfile.SpooledTemporaryFile(files.IN_MEMORY)
        self._contents = cast(IO[bytes], spool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do it, or drop it. File objects that are still open are closed before."""
        try:
            for file in self._written:
                file.close() if kind is None else file.abandon()
            if kind is None and self._steps:
                self._branch._put(self._steps)
        finally:
            for file in self._written:
                file.abandon()
            self._has_ended = True
            if self._contents is not None:
                self._contents.close()

    def write_bytes(self, path: Place, data: bytes) -> None:
        """Make a file of bytes, in the place of a file that is there. Directories above are made."""
        self._keep(self._at(path), [data])

    def write_text(self, path: Place, text: str, encoding: str = "utf-8") -> None:
        """Make a file of text, as `write_bytes`."""
        self.write_bytes(path, text.encode(encoding))

    @overload
    def open(self, path: Place, mode: WriteText = "w", *, encoding: str = ..., newline: str | None = ...) -> TextIO: ...
    @overload
    def open(self, path: Place, mode: WriteBytes, *, encoding: str = ..., newline: str | None = ...) -> BinaryIO: ...
    @overload
    def open(self, path: Place, mode: str, *, encoding: str = ..., newline: str | None = ...) -> IO[Any]: ...

    def open(self, path: Place, mode: str = "w", *, encoding: str = "utf-8", newline: str | None = None) -> IO[Any]:
        """A file object for writing: `w`, `x`, `a` or `r+`, each with `b` for bytes.

        What was written counts when it is closed. Raises UsageError, NotFoundError (`r+`), ExistsError (`x`).
        """
        self._check_open()
        plain, there = mode.replace("b", "", 1).replace("t", "", 1), self._at(path)
        if plain not in _MODES or {"b", "t"} <= set(mode):
            raise UsageError(f"{mode!r} is no mode for writing", hint="w, x, a or r+, with b for bytes")
        start = self._start(there, plain)
        written = Written(partial(self._take, there, plain[0] == "x"), str(there), mode)
        try:
            if start is not None:
                written.fill(start)
            file = written if "b" in mode else WrittenText(written, encoding=encoding, newline=newline)
        except BaseException:
            written.abandon()
            raise
        self._remember(file)
        return cast(IO[Any], file)

    def mkdir(self, path: Place) -> None:
        """Make an empty directory, and those above it. Raises ExistsError at the end when something is there."""
        self._add(self._at(path), NewDirectory())

    def symlink(self, path: Place, target: str) -> None:
        """Make a symbolic link. Raises ExistsError at the end when something is there."""
        self._add(self._at(path), NewLink(os.fsencode(target)))

    def remove(self, path: Place) -> None:
        """Take a path away, with all that is below it. Raises NotFoundError at the end if there is nothing."""
        self._add(self._at(path), Gone())

    def _start(self, there: "BranchPath", mode: str) -> BinaryIO | None:
        """What the file begins with. What is wrong already is told before anything is written."""
        if not self._steps:
            if mode[0] == "x" and there.exists():
                raise ExistsError(f"{there} exists already")
            if there.is_dir():
                raise UsageError(f"{there} is a directory")
        mine = next((step for path, step in reversed(self._steps) if path == there._inside), None)
        if mode[0] in "wx" or isinstance(mine, Gone):
            return None
        if isinstance(mine, NewFile):
            return files.reading(mine.read, mine.size, str(there))
        return there.open("rb") if mode[0] == "r" or there.exists() else None

    def _remember(self, file: Written | WrittenText) -> None:
        self._written = [*(other for other in self._written if not other.closed), file]

    def _take(self, there: "BranchPath", fresh: bool, file: IO[bytes]) -> None:
        """The content of a file that was closed."""
        self._keep(there, iter(partial(file.read, files.PIECE), b""), fresh)

    def _keep(self, there: "BranchPath", pieces: Iterable[bytes], fresh: bool = False) -> None:
        self._check_open()
        assert self._contents is not None
        with translated():
            start = self._contents.seek(0, os.SEEK_END)
            for piece in pieces:
                self._contents.write(piece)
            size = self._contents.tell() - start
        self._add(there, NewFile(partial(read_at, self._contents, start), size, fresh))

    def _add(self, there: "BranchPath", step: Step) -> None:
        self._check_open()
        self._steps.append((there._inside, step))

    def _at(self, path: Place) -> "BranchPath":
        return self._branch.path(path)

    def _check_open(self) -> None:
        if self._has_ended:
            raise _ended()
        if self._contents is None:
            raise UsageError("a transaction is used in a with block")


class Alone(Transaction):
    """A transaction of one file, which is done when that is closed."""

    def _remember(self, file: Written | WrittenText) -> None:
        """Nobody else closes it."""

    def _check_open(self) -> None:
        """It always is."""

    def _take(self, there: "BranchPath", fresh: bool, file: IO[bytes]) -> None:
        with self:
            size = file.seek(0, os.SEEK_END)
            self._add(there, NewFile(partial(read_at, file, 0), size, fresh))


def read_at(file: IO[bytes], start: int, offset: int, length: int) -> bytes:
    """Some bytes of a content that begins somewhere in a file."""
    file.seek(start + offset)
    return file.read(length)


def _ended() -> RefusedError:
    return RefusedError("the transaction has ended", hint="begin another one")
