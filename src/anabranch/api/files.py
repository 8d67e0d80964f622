"""File objects: reading what is stored by offset, and writing what becomes a file when it is closed."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from anabranch.errors import AnabranchError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_BUFFER = 256 * 1024
PIECE = 1024 * 1024
"""Bytes that are read at once, at most."""
IN_MEMORY = 4 * 1024 * 1024
"""Bytes of what is being written; more go to a temporary file."""

Read = Callable[[int, int], bytes]
"""Gives so many bytes from an offset on, fewer only at the end."""
Took = Callable[[IO[bytes]], None]
"""Takes what was written, from the start of a file that is closed afterwards."""


class _Stored(io.RawIOBase):
    """A content of a fixed size, seekable."""

    mode = "rb"

    def __init__(self, read: Read, size: int, name: str) -> None:
        self._read = read
        self._size = size
        self._position = 0
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = _target(offset, whence, self._position, self._size)
        return self._position

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]  # typeshed: any buffer
        data = self._read(self._position, min(len(buffer), PIECE, max(0, self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(PIECE) or b"", b""))


def reading(read: Read, size: int, name: str) -> BinaryIO:
    """A seekable file object over a stored content."""
    return cast(BinaryIO, io.BufferedReader(_Stored(read, size, name), _BUFFER))


def _target(offset: int, whence: int, position: int, size: int) -> int:
    """Where a seek leads."""
    bases = {io.SEEK_SET: 0, io.SEEK_CUR: position, io.SEEK_END: size}
    if whence not in bases or bases[whence] + offset < 0:
        raise ValueError(f"cannot seek to {offset} from {whence}")
    return bases[whence] + offset


class Written(io.BufferedIOBase):
    """A file object for writing, seekable, in a temporary file. On close its content is handed over, once.

    A `with` block that ends by an exception hands nothing over, nor does an object that is dropped without a close, nor
    one of which a write has failed: half a file is never seen.
    """

    def __init__(self, hand_over: Took, name: str, mode: str) -> None:
        self._hand_over = hand_over
        self.name = name
        self.mode = mode
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  (closed by `close`)
        self._failure: AnabranchError | None = None
        self._abandoned = False

    def fill(self, start: BinaryIO) -> None:
        """Begin with what was there before; `r+` writes over it, `a` behind it."""
        with start, self._noting():
            while piece := start.read(PIECE):
                self._file.write(piece)
        if "a" not in self.mode:
            self._file.seek(0)

    def readable(self) -> bool:
        return "+" in self.mode

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        self._check_readable()
        return self._file.read(-1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(io.DEFAULT_BUFFER_SIZE if size < 0 else size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._check_readable()
        return self._file.readline(-1 if size is None else size)

    def write(self, data: "ReadableBuffer", /) -> int:
        with self._noting():
            if "a" in self.mode:
                self._file.seek(0, io.SEEK_END)
            self._make_room(self._file.tell() + memoryview(data).nbytes)
            return self._file.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with self._noting():
            target = _target(offset, whence, self._file.tell(), self._end())
            self._make_room(target)
            self._file.seek(target)
        return target

    def tell(self) -> int:
        with self._noting():
            return self._file.tell()

    def truncate(self, size: int | None = None, /) -> int:
        with self._noting():
            position = self._file.tell()
            size = position if size is None else size
            self._make_room(size)
            if size > self._end():  # a file in memory does not grow by being cut
                self._file.seek(size - 1)
                self._file.write(b"\0")
            else:
                self._file.truncate(size)
            self._file.seek(position)
        return size

    def flush(self) -> None:
        """Nothing of it is seen before it is closed."""
        if not self._abandoned and self._failure is None:
            with self._noting():
                self._file.flush()

    def fileno(self) -> int:
        """The temporary file's."""
        with self._noting():
            return self._file.fileno()

    def close(self) -> None:
        """Hand the content over, once. Raises what that raises, or what a write has failed with."""
        if self.closed:
            return
        try:
            if self._failure is not None and not self._abandoned:
                raise self._failure
            if not self._abandoned:
                with self._noting():
                    self._file.seek(0)
                self._hand_over(cast(IO[bytes], self._file))
        finally:
            super().close()
            self._file.close()

    def abandon(self) -> None:
        """Close it, and forget what was written."""
        self._abandoned = True
        with contextlib.suppress(AnabranchError):
            self.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"{self.name} was not closed: nothing of it is written", ResourceWarning, 2, self)
            self.abandon()

    def _end(self) -> int:
        """The size so far, in bytes."""
        position = self._file.tell()
        self._file.seek(0, io.SEEK_END)
        end = self._file.tell()
        self._file.seek(position)
        return end

    def _make_room(self, size: int) -> None:
        """What becomes large is not in memory first."""
        if size > IN_MEMORY:
            self._file.rollover()

    def _check_readable(self) -> None:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """No room for the temporary file: then there is no content that could be handed over."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        try:
            yield
        except OSError as error:
            self._failure = AnabranchError(
                f"{self.name} cannot be kept until it is closed: {error.strerror or error}",
                hint=f"temporary files are in {tempfile.gettempdir()}; TMPDIR says where else",
            )
            raise self._failure from error


class WrittenText(io.TextIOWrapper):
    """Text over a `Written`."""

    def __init__(self, written: Written, *, encoding: str, newline: str | None) -> None:
        super().__init__(cast(BinaryIO, written), encoding=encoding, newline=newline)
        self._written = written
        self.mode = written.mode  # type: ignore[misc]  # open() sets it, too

    def abandon(self) -> None:
        """Close it, and forget what was written."""
        self._written.abandon()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        """What waits in the wrapper goes the way of the rest: `Written` says so."""
