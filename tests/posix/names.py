"""Calls on paths."""

import errno
import os
import stat
from contextlib import suppress
from typing import Any

from tests.posix.calls import Held, Row, call, pattern, row, shown
from tests.posix.libc import (
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    Timespec,
    done,
    libc,
    renameat2,
    timespec,
)

# --- what the machine itself asks for ---


@call
def begin(held: Held, base: str, start: str) -> None:
    """Let go of everything, and stand in a directory. Of what came before, closing may tell an error once more."""
    with suppress(OSError):
        held.let_go()
    held.base = base
    os.chdir(start)


@call
def leave(held: Held) -> None:
    """Let go of everything."""
    held.let_go()


@call
def look(held: Held, base: str | None = None) -> dict[str, Any]:
    """Everything below the base, or another directory; the names of one file together."""
    top = os.fsencode(held.base if base is None else base)
    rows: dict[bytes, Row] = {b".": row(os.lstat(top))}
    for parent, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            rows[os.path.relpath(path, top)] = _row_with_content(path)
    numbers: dict[int, list[str]] = {}
    for path, found in sorted(rows.items()):
        numbers.setdefault(found.ino, []).append(os.fsdecode(path))
    together = [paths for paths in numbers.values() if len(paths) > 1]
    return {**{os.fsdecode(path): found for path, found in sorted(rows.items())}, "": together}


def _row_with_content(path: bytes) -> Row:
    of = os.lstat(path)
    content: Any = None
    if stat.S_ISREG(of.st_mode):
        with open(path, "rb") as file:
            content = shown(file.read())
    elif stat.S_ISLNK(of.st_mode):
        content = os.readlink(path)
    return row(of, content)


def opened(path: bytes, flags: int, mode: int, directory: int | None = None) -> int:
    """open(2) of anything but a device, which mounts of FUSE do not allow; never waiting for a FIFO."""
    try:
        found = os.stat(path, dir_fd=directory).st_mode
    except OSError:
        found = 0
    if stat.S_ISCHR(found) or stat.S_ISBLK(found):
        raise OSError(errno.ENODEV, "a device")
    return os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=directory)


# --- names ---


@call
def put(held: Held, path: bytes, seed: int, size: int) -> int:
    """As `cp` does: make or empty the file, write it in pieces, close it."""
    data = memoryview(pattern(seed, size))
    descriptor = opened(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
    try:
        return sum(os.write(descriptor, data[start : start + 65_536]) for start in range(0, size, 65_536))
    finally:
        os.close(descriptor)


@call
def lstat(held: Held, path: bytes) -> Row:
    return _row_with_content(path) if not path.endswith(b"/") else row(os.lstat(path))


@call
def follow(held: Held, path: bytes) -> Row:
    """stat(2)."""
    return row(os.stat(path))


@call
def truncate(held: Held, path: bytes, size: int) -> None:
    """To another size: with the one that a file has, POSIX lets the times be, and ext4 does not."""
    if size < 0 or not os.path.isfile(path) or os.stat(path).st_size != size:
        os.truncate(path, size)


@call
def mkdir(held: Held, path: bytes, mode: int) -> None:
    os.mkdir(path, mode)


@call
def rmdir(held: Held, path: bytes) -> None:
    os.rmdir(path)


@call
def unlink(held: Held, path: bytes) -> None:
    os.unlink(path)


@call
def rename(held: Held, old: bytes, new: bytes, flags: int) -> None:
    if flags:
        renameat2(old, new, flags)
    else:
        os.rename(old, new)


@call
def link(held: Held, old: bytes, new: bytes, follow: bool) -> None:
    os.link(old, new, follow_symlinks=follow)


@call
def symlink(held: Held, text: bytes, path: bytes) -> None:
    os.symlink(text, path)


@call
def readlink(held: Held, path: bytes) -> bytes:
    return os.readlink(path)


@call
def mknod(held: Held, path: bytes, mode: int, device: int) -> None:
    os.mknod(path, mode, device)


@call
def chmod(held: Held, path: bytes, mode: int) -> None:
    """Set-gid for directories only: of files, writes clear it by rules of their own."""
    if mode & stat.S_ISGID and not stat.S_ISDIR(os.stat(path).st_mode):
        mode &= ~stat.S_ISGID
    os.chmod(path, mode)


@call
def chown(held: Held, path: bytes, uid: int, gid: int, follow: bool) -> None:
    os.chown(path, uid, gid, follow_symlinks=follow)


@call
def utime(held: Held, path: bytes, moment: int | str, follow: bool) -> None:
    """The modification time in nanoseconds, `now`, or `omit`, which sets the access time alone, that is not kept."""
    times = (Timespec * 2)(timespec("omit" if isinstance(moment, int) else "now"), timespec(moment))
    done(libc.utimensat(AT_FDCWD, path, times, 0 if follow else AT_SYMLINK_NOFOLLOW))


@call
def access(held: Held, path: bytes, mode: int) -> None:
    done(libc.access(path, mode))  # os.access tells no error from another


@call
def chdir(held: Held, path: bytes) -> None:
    os.chdir(path)


@call
def getcwd(held: Held) -> str:
    """From the base; who was not let in stands elsewhere."""
    path = os.path.relpath(os.getcwd(), held.base)
    return "elsewhere" if path.startswith("..") else path


@call
def umask(held: Held, mask: int) -> int:
    return os.umask(mask)


@call
def statvfs(held: Held, path: bytes) -> tuple[Any, ...]:
    found = os.statvfs(path)
    sound = 0 < found.f_bavail <= found.f_bfree <= found.f_blocks and found.f_bsize > 0
    return found.f_namemax, sound


# --- directories ---


@call
def listdir(held: Held, path: bytes) -> list[bytes]:
    return sorted(os.listdir(path))


# --- kept open ---


@call
def open_file(held: Held, slot: int, path: bytes, flags: int, mode: int) -> str:
    """What was in the slot is closed."""
    descriptor = opened(path, flags, mode)
    before = held.descriptors.get(slot)
    held.descriptors[slot] = descriptor
    if before is not None:
        os.close(before)
    return "open"
