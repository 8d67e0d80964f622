"""What the C library has and Python has not."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

NOREPLACE, EXCHANGE = 1, 2
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MS_SYNC = 4

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.argtypes = [ctypes.c_char_p]
libc.opendir.restype = libc.readdir.restype = libc.mmap.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.closedir.argtypes = libc.rewinddir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.dirfd.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.seekdir.restype = libc.rewinddir.restype = None
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

MAP_FAILED = ctypes.c_void_p(-1).value


class Timespec(ctypes.Structure):
    """What utimensat(2) takes."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Dirent(ctypes.Structure):
    """What readdir(3) gives."""

    _fields_ = (
        ("number", ctypes.c_uint64), ("offset", ctypes.c_int64), ("length", ctypes.c_ushort),
        ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256),
    )  # fmt: skip


class DirectoryStream:
    """What opendir(3) gives."""

    def __init__(self, path: bytes) -> None:
        self._stream = done(libc.opendir(path))

    def __enter__(self) -> "DirectoryStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """The names that are left."""
        return iter(self.read, None)

    def read(self) -> tuple[bytes, int] | None:
        """A name and its type."""
        ctypes.set_errno(0)
        found = libc.readdir(self._stream)
        if not found and ctypes.get_errno():  # else it is the end
            done(-1)
        entry = ctypes.cast(found, ctypes.POINTER(Dirent)).contents if found else None
        return None if entry is None else (entry.name, entry.type)

    def tell(self) -> int:
        """The place of the next name."""
        return done(libc.telldir(self._stream))

    def seek(self, place: int) -> None:
        """Go to a place that was told."""
        libc.seekdir(self._stream, place)

    def rewind(self) -> None:
        """Go to the beginning, and see what is there now."""
        libc.rewinddir(self._stream)

    def descriptor(self) -> int:
        """Which stays the stream's."""
        return done(libc.dirfd(self._stream))

    def close(self) -> None:
        """Let go of it."""
        libc.closedir(self._stream)


def timespec(moment: int | str) -> Timespec:
    """A moment as utimensat(2) takes it: nanoseconds, `now`, or `omit`."""
    if isinstance(moment, int):
        return Timespec(*divmod(moment, 1_000_000_000))
    return Timespec(0, UTIME_NOW if moment == "now" else UTIME_OMIT)


def done(result: int | None) -> int:
    """The result of a function that did not fail. Raises OSError."""
    if result in (-1, MAP_FAILED, None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    assert result is not None
    return result


def renameat2(old: str | bytes | Path, new: str | bytes | Path, flags: int) -> None:
    """rename(2) with flags."""
    done(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))
