"""Calls on descriptors and mappings."""

import errno
import fcntl
import mmap
import os
import stat
import struct
from typing import Any

from tests.posix.calls import Held, Row, call, pattern, row, shown
from tests.posix.libc import Timespec, done, libc, timespec
from tests.posix.names import opened

PAGE = mmap.PAGESIZE
LOCK = "hhqqi4x"
"""struct flock."""
F_OFD_SETLK = 37


def _buffer(size: int) -> mmap.mmap:
    """Memory as O_DIRECT wants it."""
    return mmap.mmap(-1, max(size, PAGE))


# --- content ---


@call
def read(held: Held, slot: int, size: int) -> Any:
    return shown(os.read(held.descriptors[slot], size))


@call
def pread(held: Held, slot: int, offset: int, size: int) -> Any:
    with _buffer(size) as buffer:
        view = memoryview(buffer)[:size]
        try:
            return shown(bytes(view[: os.preadv(held.descriptors[slot], [view], offset)]))
        finally:
            view.release()


@call
def readv(held: Held, slot: int, sizes: tuple[int, ...]) -> Any:
    buffers = [bytearray(size) for size in sizes]
    return os.readv(held.descriptors[slot], buffers), [shown(bytes(buffer)) for buffer in buffers]


@call
def write(held: Held, slot: int, seed: int, size: int) -> int:
    return os.write(held.descriptors[slot], pattern(seed, size))


@call
def writev(held: Held, slot: int, seed: int, sizes: tuple[int, ...]) -> int:
    return os.writev(held.descriptors[slot], [pattern(seed + number, size) for number, size in enumerate(sizes)])


@call
def pwrite(held: Held, slot: int, seed: int, offset: int, size: int) -> int:
    with _buffer(size) as buffer:
        buffer[:size] = pattern(seed, size)
        view = memoryview(buffer)[:size]
        try:
            return os.pwritev(held.descriptors[slot], [view], offset)
        finally:
            view.release()


@call
def ftruncate(held: Held, slot: int, size: int) -> None:
    os.ftruncate(held.descriptors[slot], size)


@call
def fallocate(held: Held, slot: int, offset: int, size: int) -> None:
    """posix_fallocate(3) of what can be read and written; the times are those of a truncation to the same size."""
    descriptor = held.descriptors[slot]
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDWR and not flags & (os.O_APPEND | os.O_DIRECT | os.O_PATH):
        os.posix_fallocate(descriptor, offset, size)
        os.ftruncate(descriptor, os.fstat(descriptor).st_size)


@call
def copy_file_range(held: Held, source: int, target: int, size: int, from_: int | None, to: int | None) -> int:
    return os.copy_file_range(held.descriptors[source], held.descriptors[target], size, from_, to)


@call
def sendfile(held: Held, target: int, source: int, offset: int | None, size: int) -> int:
    return os.sendfile(held.descriptors[target], held.descriptors[source], offset, size)


@call
def lseek(held: Held, slot: int, offset: int, whence: int) -> int:
    """In files: places in a directory are the filesystem's own."""
    descriptor = held.descriptors[slot]
    return -1 if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.lseek(descriptor, offset, whence)


@call
def seek_data(held: Held, slot: int, offset: int) -> tuple[Any, ...]:
    """SEEK_DATA and SEEK_HOLE: where there may be none but the one at the end. Is what they tell true?"""
    descriptor = held.descriptors[slot]
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return ()
    before, size = os.lseek(descriptor, 0, os.SEEK_CUR), os.fstat(descriptor).st_size
    try:
        hole = os.lseek(descriptor, offset, os.SEEK_HOLE)
        try:
            data = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size
        return offset <= hole <= size, offset <= data <= size, data == offset or hole == offset
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


# --- attributes ---


@call
def fstat(held: Held, slot: int) -> Row:
    return row(os.fstat(held.descriptors[slot]))


@call
def fchmod(held: Held, slot: int, mode: int) -> None:
    os.fchmod(held.descriptors[slot], mode)


@call
def fchown(held: Held, slot: int, uid: int, gid: int) -> None:
    os.fchown(held.descriptors[slot], uid, gid)


@call
def futime(held: Held, slot: int, moment: int | str) -> None:
    done(libc.futimens(held.descriptors[slot], (Timespec * 2)(timespec("omit"), timespec(moment))))


@call
def fsync(held: Held, slot: int) -> None:
    os.fsync(held.descriptors[slot])


@call
def fdatasync(held: Held, slot: int) -> None:
    os.fdatasync(held.descriptors[slot])


# --- descriptors ---


@call
def dup(held: Held, slot: int, other: int) -> None:
    if slot != other:
        descriptor = os.dup(held.descriptors[slot])
        if other in held.descriptors:
            os.close(held.descriptors[other])
        held.descriptors[other] = descriptor


@call
def close(held: Held, slot: int) -> None:
    os.close(held.descriptors.pop(slot))


@call
def fchdir(held: Held, slot: int) -> None:
    os.fchdir(held.descriptors[slot])


@call
def flist(held: Held, slot: int) -> list[str]:
    return sorted(os.listdir(held.descriptors[slot]))


@call
def openat(held: Held, slot: int, other: int, path: bytes, flags: int, mode: int) -> str:
    """From the directory that is open in a slot; what was in the other slot is closed."""
    descriptor = opened(path, flags, mode, held.descriptors[slot])
    if other in held.descriptors:
        os.close(held.descriptors[other])
    held.descriptors[other] = descriptor
    return "open"


@call
def link_open(held: Held, slot: int, path: bytes) -> None:
    """A name for an open file, by /proc; for one without names ENOENT."""
    os.link(f"/proc/self/fd/{held.descriptors[slot]}", path)


# --- locks ---


@call
def flock(held: Held, slot: int, kind: int) -> None:
    fcntl.flock(held.descriptors[slot], kind | fcntl.LOCK_NB)


@call
def lock(held: Held, slot: int, kind: int, start: int, length: int, of_file: bool) -> None:
    """Of this process, or of the open file description; it never waits."""
    command = F_OFD_SETLK if of_file else fcntl.F_SETLK
    fcntl.fcntl(held.descriptors[slot], command, struct.pack(LOCK, kind, os.SEEK_SET, start, length, 0))


@call
def locked(held: Held, slot: int, start: int, length: int) -> tuple[int, ...]:
    """Which lock is in the way of one for writing; without the process, whose number is its own on each side."""
    asked = struct.pack(LOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, whence, first, count, _ = struct.unpack(LOCK, fcntl.fcntl(held.descriptors[slot], fcntl.F_GETLK, asked))
    return (kind,) if kind == fcntl.F_UNLCK else (kind, whence, first, count)
