"""Requests that no sane program makes: each is answered, and none ends the mount or leaves a stack in the log. P75."""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import signal
import socket
import stat
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.harness import Mount, done, errno_of, python, wait_for

pytestmark = pytest.mark.mounted

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000
LONG_MAX = (1 << 63) - 1
NAMES = [
    b"\xff", b"\xed\xa0\x80", b"a" * 255, b"a" * 256, b"\x01\n\x7f", b" ", b"-rf", b"~", b"...", b"@", b"main@",
    b"main@-1", b"main@99999999999999999999999", b"main@0", b"main@head", b"@" + b"f" * 64, b"@" + b"0" * 65, b"@zz",
    b"main@2026-13-45", b"main@9999999-01-01", b"main@2026-01-01T000000Z", b".ana", b".ana-probe", b"main:x", b"%s%n",
    b"\\", "é".encode(),
]  # fmt: skip
IOCTLS = [0x80086601, 0x40086602, 0x5828, 0x40049409, 0xC0185879, 0xFFFFFFFF]
"""Of attributes, of freezing and cloning, and one that there is not."""
SYNC_AS = [0, 0x2000, 0x4000, 0x6000, 0x80000000]
"""How fresh statx(2) wants its answer."""


def checked(result: int) -> int:
    """The result of a call of the C library."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@contextmanager
def opened(path: Path | bytes, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def on_names(directory: bytes, name: bytes) -> Iterator[Callable[[], object]]:
    """What can be asked about a name."""
    path = directory + b"/" + name
    yield lambda: os.lstat(path)
    yield lambda: os.listdir(path)
    yield lambda: os.readlink(path)
    yield lambda: os.statvfs(path)
    yield lambda: os.mkdir(path)
    yield lambda: os.symlink(b"x" * 4095, path + b"s")
    yield lambda: os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    yield lambda: os.close(os.open(path, os.O_RDWR | os.O_TRUNC | os.O_APPEND))
    yield lambda: os.close(os.open(path, os.O_TMPFILE | os.O_RDWR))
    yield lambda: os.close(os.open(path, os.O_PATH))
    yield lambda: os.mknod(path, 0o644 | stat.S_IFCHR, LONG_MAX & 0xFFFFFFFF)
    yield lambda: os.mknod(path, 0)
    yield lambda: os.truncate(path, LONG_MAX)
    yield lambda: os.chmod(path, 0o7777)
    yield lambda: os.chown(path, 0xFFFFFFFE, 0xFFFFFFFE)
    yield lambda: os.utime(path, ns=(-(1 << 62), LONG_MAX))
    yield lambda: os.link(path, path + b"l")
    yield lambda: os.getxattr(path, b"user." + name[:200])
    yield lambda: os.setxattr(path, b"user." + name[:200], bytes(65_536))
    yield lambda: os.setxattr(path, b"fuse_stacktrace", b"")
    yield lambda: os.removexattr(path, b"security.capability")
    yield lambda: os.listxattr(path)
    for flags in (1, 2, 3, 4, 8, 0xFFFFFFFF):
        yield partial(rename, path, path + b"r", flags)
    yield lambda: os.rename(path, directory)
    yield lambda: os.rename(directory, path)
    yield lambda: os.unlink(path)
    yield lambda: os.rmdir(path)
    yield lambda: os.unlink(path + b"s")


def rename(old: bytes, new: bytes, flags: int) -> None:
    checked(libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags))


def on_descriptors(descriptor: int) -> Iterator[Callable[[], object]]:
    """What can be asked about an open file or directory."""
    for offset in (0, 1, 1 << 44, 1 << 62, LONG_MAX - 1, LONG_MAX):
        yield partial(os.pread, descriptor, 1 << 20, offset)
        yield partial(os.pwrite, descriptor, b"", offset)
        yield partial(os.pwrite, descriptor, b"x", offset)
        yield partial(os.ftruncate, descriptor, offset)
        for whence in (os.SEEK_SET, os.SEEK_DATA, os.SEEK_HOLE, 77):
            yield partial(os.lseek, descriptor, offset, whence)
        for mode in (0, 1, 2, 3, 8, 16, 32, 64, 128):
            yield partial(fallocate, descriptor, mode, offset)
        yield partial(os.posix_fadvise, descriptor, offset, 0, os.POSIX_FADV_DONTNEED)
        yield partial(os.copy_file_range, descriptor, descriptor, 1 << 20, offset, 0)
        yield partial(fcntl.lockf, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    yield partial(os.ftruncate, descriptor, 100)
    yield partial(os.fsync, descriptor)
    yield partial(os.listdir, descriptor)
    yield lambda: mmap.mmap(descriptor, 100, mmap.MAP_SHARED)[:]
    yield partial(select.select, [descriptor], [descriptor], [descriptor], 0)
    for request in (termios.FIONREAD, termios.TCGETS, *IOCTLS):
        yield partial(fcntl.ioctl, descriptor, request, struct.pack("Q", 8).ljust(128, b"\0"))
    for flags in SYNC_AS:
        yield partial(statx, descriptor, AT_EMPTY_PATH | flags)
    yield partial(by_handle, descriptor)


def fallocate(descriptor: int, mode: int, offset: int) -> None:
    checked(libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(1 << 20)))


def statx(descriptor: int, flags: int) -> None:
    checked(libc.statx(descriptor, b"", flags, 0x7FFFFFFF, ctypes.create_string_buffer(256)))


def by_handle(descriptor: int) -> None:
    """Open an inode by the number that the kernel gives out for it, right and wrong."""
    handle, number = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136), ctypes.c_int()
    checked(libc.name_to_handle_at(descriptor, b"", handle, ctypes.byref(number), AT_EMPTY_PATH))
    os.close(checked(libc.open_by_handle_at(descriptor, handle, os.O_RDONLY)))
    for byte in range(8, 24):
        handle[byte] = bytes([handle[byte][0] ^ 0x55])
        with suppress(OSError):
            os.close(checked(libc.open_by_handle_at(descriptor, handle, os.O_RDWR)))


@pytest.mark.parametrize("xattr", ["--xattr", "--no-xattr"])
def test_odd_names_and_flags(mountable: Mount, xattr: str):
    """P75."""
    mountable.mount(xattr)
    (mountable.main / "file").write_bytes(b"content")
    mountable.commit()
    root = os.fsencode(mountable.root)
    for directory in (
        root,
        root + b"/main",
        root + b"/main@1",
        root + b"/.ana",
        root + b"/main/.ana",
        root + b"/main/file",
    ):
        for name in NAMES:
            for call in on_names(root + directory, name):
                with suppress(OSError):
                    call()
            assert os.path.isdir(mountable.main)
    assert (mountable.main / "file").read_bytes() == b"content"


def test_odd_offsets_and_modes_of_open_files(mount: Mount):
    """P75."""
    (mount.main / "file").write_bytes(b"content")
    version = mount.commit()
    for path in (
        mount.main / "file",
        version / "file",
        mount.main / ".ana/commit",
        mount.main / ".ana/log",
        mount.main,
        mount.root,
    ):
        for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDONLY | os.O_DIRECT, os.O_PATH):
            with suppress(OSError), opened(path, flags) as descriptor:
                for call in on_descriptors(descriptor):
                    with suppress(OSError, ValueError, OverflowError):
                        call()
            assert os.path.isdir(mount.main)
    (mount.main / "file").write_bytes(b"new")
    mount.commit()
    assert (version / "file").read_bytes() == b"content"


def test_a_file_that_is_open_under_no_name_any_more(mount: Mount):
    """P75: nor is its directory, its branch is renamed, and it gets a name again."""
    branch = mount.root / "exp"
    (branch / "directory").mkdir(parents=True)
    with (
        opened(branch / "directory/file", os.O_RDWR | os.O_CREAT) as file,
        opened(branch / "directory", os.O_RDONLY) as place,
    ):
        os.write(file, bytes(100_000))
        (branch / "directory/file").unlink()
        (branch / "directory").rmdir()
        assert errno_of(os.mkdir, "new", dir_fd=place) == errno.ENOENT
        assert os.listdir(place) == []
        branch.rename(mount.root / "other")
        old, new = f"/proc/self/fd/{file}".encode(), os.fsencode(mount.root / "other/again")
        assert errno_of(lambda: checked(libc.linkat(AT_FDCWD, old, AT_FDCWD, new, AT_SYMLINK_FOLLOW))) == errno.ENOENT
        os.pwrite(file, b"still", 50)
        os.fsync(file)
        assert os.pread(file, 5, 50) == b"still"
    assert os.listdir(mount.root / "other") == []


def test_requests_of_processes_that_are_killed_in_the_middle_stop_nothing(mount: Mount):
    """P75: the daemon serves its socket too, though nobody asks it anything on the mount."""
    chance = random.Random(75)
    for number in range(60):
        busy = [forked(mount.main) for _ in range(6)]
        time.sleep(chance.random() * 0.02)  # any moment will do
        for pid in busy:
            os.kill(pid, signal.SIGKILL)
        for pid in busy:
            os.waitpid(pid, 0)
        if number % 6 == 0:
            done(mount.ana("status"))


def forked(directory: Path) -> int:
    """A process that asks for names, one after the other."""
    pid = os.fork()
    if pid == 0:
        number = 0
        while True:
            number += 1
            os.path.exists(f"{directory}/{os.getpid()}-{number}")
    return pid


def test_a_process_that_is_stopped_holds_nobody_up(mount: Mount):
    """P75: in the middle of writes, and of names."""
    code = "import os\nfor number in range(10**9):\n open('%d' % (number % 50), 'wb').write(bytes(100000))"
    with python(code, cwd=mount.main) as writer:
        try:
            for number in range(5):
                wait_for(lambda: (mount.main / "49").exists(), "files")
                writer.send_signal(signal.SIGSTOP)
                (mount.main / "beside").write_text(f"{number}")
                mount.commit()
                assert len(os.listdir(mount.main)) == 51
                (mount.main / "beside").unlink()
                writer.send_signal(signal.SIGCONT)
        finally:
            writer.kill()


def test_a_client_of_the_socket_that_says_nonsense_is_told_so(mount: Mount):
    """P75."""
    chance = random.Random(75)
    for size in (0, 1, 4, 8, 9, 100, 70_000):
        for head in (b"", b"\0\0\0\0", b"\xff\xff\xff\xff", struct.pack("<Q", 5), struct.pack(">I", 5)):
            with socket.socket(socket.AF_UNIX) as client:
                here = os.open(mount.path, os.O_PATH)
                client.connect(f"/proc/self/fd/{here}/socket")
                os.close(here)
                with suppress(OSError):
                    client.sendall(head + chance.randbytes(size))
                    client.shutdown(socket.SHUT_WR)
                    client.recv(100)
    done(mount.ana("status"))
