"""File objects: reading what is stored by offset, and writing what becomes a file when it is closed."""

import io
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, BinaryIO, cast

_BUFFER = 256 * 1024
_IN_MEMORY = 4 * 1024 * 1024
"""Bytes of a file that is being written; more go to a temporary file."""

Read = Callable[[int, int], bytes]
"""Gives so many bytes from an offset on, fewer only at the end."""


class _Stored(io.RawIOBase):
    """A content of a fixed size, seekable."""

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
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "memoryview | bytearray", /) -> int:  # type: ignore[override]  # typeshed: any buffer
        data = self._read(self._position, min(len(buffer), max(0, self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def reading(read: Read, size: int, name: str) -> BinaryIO:
    """A seekable file object over a stored content."""
    return cast(BinaryIO, io.BufferedReader(_Stored(read, size, name), _BUFFER))


class Written:
    """A file object for writing, seekable, in a temporary file. On close its content is handed over; a `with` block
    that ends by an exception hands nothing over.
    """

    def __init__(self, hand_over: Callable[[IO[bytes]], None], start: BinaryIO | None = None) -> None:
        self._hand_over = hand_over
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  (closed by `close` or `abandon`)
        if start is not None:
            while piece := start.read(_IN_MEMORY):
                self._file.write(piece)

    def __getattr__(self, name: str) -> object:
        """Everything else is the temporary file's: read, write, seek, tell, truncate, flush ..."""
        return getattr(self._file, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file.readline, b"")

    def __enter__(self) -> "Written":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def close(self) -> None:
        """Hand the content over, once."""
        if not self._file.closed:
            try:
                self._file.seek(0)
                self._hand_over(cast(IO[bytes], self._file))
            finally:
                self._file.close()

    def abandon(self) -> None:
        """Forget it."""
        self._file.close()


class WrittenText(io.TextIOWrapper):
    """Text over a `Written`."""

    def __init__(self, written: Written, *, encoding: str, newline: str | None) -> None:
        super().__init__(cast(IO[bytes], written), encoding=encoding, newline=newline)
        self._written = written

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._written.abandon()
            self.detach()
        else:
            self.close()
