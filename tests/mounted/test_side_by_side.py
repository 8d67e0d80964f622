"""File work on a mount and on an ordinary filesystem: the same calls, results and errnos.

Each function below does something in the directory that it is given and returns what it saw; it runs on both. What it
leaves there is compared in the branch and in a version of it, and in both again after a remount.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Mount, below, done, errno_of, shell
from tests.posix.libc import AT_FDCWD, EXCHANGE, NOREPLACE, Timespec, libc, renameat2, timespec
from tests.posix.libc import done as libc_done
from tests.posix.sides import tick

pytestmark = pytest.mark.mounted

WORK: list[Callable[[Path], Any]] = []


def work(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A function that is run on both filesystems."""
    WORK.append(function)
    return function


def seen(path: Path) -> Any:
    """What must be the same of a file: its type and mode, owners, links, size but of a directory, content."""
    try:
        of = path.lstat()
    except OSError as error:
        return error.errno
    if stat.S_ISREG(of.st_mode):
        content: Any = path.read_bytes()
    elif stat.S_ISLNK(of.st_mode):
        content = os.readlink(path)
    else:
        content = sorted(os.listdir(os.fsencode(path))) if stat.S_ISDIR(of.st_mode) else None
    size = None if stat.S_ISDIR(of.st_mode) else of.st_size
    return oct(of.st_mode), of.st_uid, of.st_gid, of.st_nlink, size, of.st_rdev, content


def all_seen(directory: Path) -> dict[str, Any]:
    """`seen` of everything below."""
    return {str(path.relative_to(directory)): seen(path) for path in below(directory)}


@work
def creating_and_reading(top: Path) -> Any:
    """P21."""
    (top / "empty").touch()
    (top / "text").write_text("text")
    results: list[Any] = [
        errno_of(os.open, top / "empty", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        errno_of(os.open, top / "none", os.O_RDONLY),
        errno_of(os.open, top / "text/below", os.O_RDONLY),
        errno_of(os.open, top, os.O_WRONLY),
        errno_of(os.open, top / "none/none", os.O_CREAT | os.O_WRONLY),
        errno_of(os.listdir, top / "text"),
    ]
    with (top / "text").open("rb") as file:
        results += [file.read(2), file.read(), file.read(), file.seek(1), file.read(1), os.pread(file.fileno(), 9, 100)]
        results += [errno_of(os.write, file.fileno(), b"x")]
    with (top / "text").open("ab") as file:
        results += [errno_of(os.read, file.fileno(), 1)]
    return results


@work
def writing_at_any_offset(top: Path) -> Any:
    """P21."""
    results: list[Any] = []
    for number, size in enumerate((0, 10, 512, 513, 4095, 4097, 70_000, 300_000, 1_200_000)):
        path = top / f"{number}"
        path.write_bytes(bytes(n % 251 for n in range(min(size, 5000))) * (size // 5000 or 1))
        for offset in (0, 3, 511, 4096, 65_535, 65_536, 262_144, 1_048_575, size, size + 10_000):
            with path.open("r+b", buffering=0) as file:
                results.append(os.pwrite(file.fileno(), b"<%d>" % offset, offset))
        results.append(path.stat().st_size)
    return results


@work
def appending(top: Path) -> Any:
    """P21."""
    path = top / "log"
    for number in range(50):
        with path.open("a") as file:
            file.write(f"line {number}\n")
    with path.open("ab", buffering=0) as one, path.open("ab", buffering=0) as two:
        one.write(b"one\n"), two.write(b"two\n"), one.write(b"three\n")
        os.pwrite(one.fileno(), b"appended whatever the offset\n", 0)
        return one.tell(), path.read_bytes()


@work
def truncating_and_extending(top: Path) -> Any:
    """P21."""
    results: list[Any] = []
    for start in (10, 5_000, 200_000, 1_500_000):
        path = top / f"{start}"
        path.write_bytes(b"abcdefgh" * (start // 8))
        for size in (start // 2, start, start * 2, 3, 0, 100_000, 5):
            os.truncate(path, size)
            results.append((size, path.stat().st_size, hash(path.read_bytes())))
        with path.open("r+b") as file:
            file.write(b"xy")
            file.truncate(1)
            results += [file.tell(), os.fstat(file.fileno()).st_size]
            os.ftruncate(file.fileno(), 10)
            results.append(os.pread(file.fileno(), 20, 0))
        path.open("w").close()
        results.append(path.stat().st_size)
    (top / "dir").mkdir()
    results += [errno_of(os.truncate, top / "dir", 0), errno_of(os.truncate, top / "none", 0)]
    with (top / "10").open("rb") as file:
        results.append(errno_of(os.ftruncate, file.fileno(), 0))
    results.append(errno_of(os.truncate, top / "10", -1))
    return results


@work
def holes(top: Path) -> Any:
    """P21."""
    path = top / "sparse"
    with path.open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
    os.truncate(path, 4_000_000)
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"middle", 1_500_000)
    data = path.read_bytes()
    os.truncate(path, 1_500_003)
    os.truncate(path, 3_500_000)
    with (top / "allocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000)
    zeros = path.read_bytes().count(b"\0")
    return data.count(b"\0"), data[1_500_000:1_500_006], zeros, (top / "allocated").read_bytes()


@work
def lists_of_buffers(top: Path) -> Any:
    """P21."""
    descriptor = os.open(top / "file", os.O_RDWR | os.O_CREAT)
    try:
        results: list[Any] = [os.writev(descriptor, [b"one", b"two", b"three"]), os.lseek(descriptor, 0, os.SEEK_SET)]
        buffers = [bytearray(4), bytearray(100)]
        results += [os.readv(descriptor, buffers), os.lseek(descriptor, -3, os.SEEK_END)]
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        return [*results, bytes(buffers[0]), bytes(buffers[1]), errno_of(os.lseek, descriptor, -1, os.SEEK_SET)]
    finally:
        os.close(descriptor)


@work
def copying_ranges(top: Path) -> Any:
    """P21."""
    (top / "from").write_bytes(b"0123456789" * 50_000)
    done(shell("cp from copied; cp --sparse=always from sparse; dd if=from of=dd bs=777 status=none", top))
    done(shell("cat from >> dd; cat from from > twice", top))
    return None


@work
def renaming_files(top: Path) -> Any:
    """P22."""
    for name in "abcde":
        (top / name).write_text(name)
    (top / "dir").mkdir()
    (top / "dir/inside").write_text("x")
    os.link(top / "a", top / "a too")
    os.rename(top / "b", top / "c")
    os.rename(top / "d", top / "dir/d")
    os.rename(top / "a", top / "a too")
    return [
        errno_of(os.rename, top / "e", top / "dir"),
        errno_of(os.rename, top / "dir", top / "e"),
        errno_of(os.rename, top / "none", top / "new"),
        errno_of(os.rename, top / "e", top / "none/new"),
        errno_of(os.rename, top / "e", top / "c/new"),
        errno_of(os.rename, top / "e", top / "e"),
        errno_of(os.rename, top / "e", top / ("x" * 256)),
    ]


@work
def renaming_directories(top: Path) -> Any:
    """P22."""
    for name in ("a/b/c", "empty", "full/x", "other"):
        (top / name).mkdir(parents=True)
    (top / "a/b/c/file").write_text("deep")
    results = [
        errno_of(os.rename, top / "a", top / "a/b/inside itself"),
        errno_of(os.rename, top / "a", top / "full"),
        errno_of(os.rename, top / "a", top / "empty"),
        errno_of(os.rename, top / "full/x", top / "full"),
        errno_of(os.rename, top / "empty/b", top / "other/moved"),
        (top / "other/moved/c/file").read_text(),
        os.path.realpath(top / "other/moved/c/../.."),
    ]
    results[-1] = os.path.relpath(str(results[-1]), os.path.realpath(top))
    return results


@work
def renaming_with_flags(top: Path) -> Any:
    """P22."""
    for name in "ab":
        (top / name).write_text(name)
    (top / "dir/below").mkdir(parents=True)
    (top / "other").mkdir()
    return [
        errno_of(renameat2, top / "a", top / "b", NOREPLACE),
        errno_of(renameat2, top / "a", top / "new", NOREPLACE),
        errno_of(renameat2, top / "new", top / "b", EXCHANGE),
        errno_of(renameat2, top / "new", top / "none", EXCHANGE),
        errno_of(renameat2, top / "none", top / "new", NOREPLACE),
        errno_of(renameat2, top / "new", top / "dir", EXCHANGE),
        errno_of(renameat2, top / "new/below", top / "other", EXCHANGE),
        errno_of(renameat2, top / "new", top / "new/below", EXCHANGE),
        errno_of(renameat2, top / "b", top / "new", NOREPLACE | EXCHANGE),
    ]


@work
def unlinked_while_open(top: Path) -> Any:
    """P23."""
    path = top / "file"
    path.write_bytes(b"x" * 100_000)
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        results: list[Any] = [path.exists(), os.fstat(file.fileno()).st_nlink, len(file.read())]
        file.write(b"more")
        os.ftruncate(file.fileno(), 2_000_000)
        os.fchmod(file.fileno(), 0o600)
        results += [os.fstat(file.fileno()).st_size, os.pread(file.fileno(), 4, 100_000)]
        path.write_text("another")
        results += [os.pread(file.fileno(), 2, 0), errno_of(os.link, f"/proc/self/fd/{file.fileno()}", top / "again")]
    (top / "new").write_text("new")
    with path.open() as file:
        os.rename(top / "new", path)
        results += [file.read(), path.read_text(), os.fstat(file.fileno()).st_nlink]
    (top / "dir").mkdir()
    directory = os.open(top / "dir", os.O_RDONLY)
    try:
        (top / "dir").rmdir()
        results += [os.listdir(directory), errno_of(os.open, "new", os.O_CREAT | os.O_WRONLY, dir_fd=directory)]
        results += [errno_of(os.mkdir, "new", dir_fd=directory), os.fstat(directory).st_nlink]
    finally:
        os.close(directory)
    return results


@work
def hard_links(top: Path) -> Any:
    """P24."""
    (top / "one").write_bytes(b"x" * 70_000)
    (top / "dir").mkdir()
    os.link(top / "one", top / "two")
    os.link(top / "two", top / "dir/three")
    with (top / "dir/three").open("r+b") as file:
        file.write(b"y")
    (top / "one").unlink()
    os.chmod(top / "two", 0o640)
    os.symlink("two", top / "link")
    os.link(top / "link", top / "link too", follow_symlinks=False)
    same = (top / "two").stat().st_ino == (top / "dir/three").stat().st_ino
    return [
        same,
        errno_of(os.link, top / "dir", top / "new"),
        errno_of(os.link, top / "two", top / "dir"),
        errno_of(os.link, top / "none", top / "new"),
        errno_of(os.link, top / "two", top / "none/new"),
    ]


@work
def symbolic_links(top: Path) -> Any:
    """P24."""
    (top / "dir").mkdir()
    (top / "dir/file").write_text("through links")
    os.symlink("dir", top / "to dir")
    os.symlink("to dir/file", top / "to file")
    os.symlink("loop", top / "loop")
    os.symlink("x" * 4095, top / "long")
    os.symlink(b"\xff\xfe", os.fsencode(top / "not text"))
    with (top / "to file").open("a") as file:
        file.write(" and appended")
    return [
        (top / "to file").read_text(),
        errno_of(os.stat, top / "loop"),
        errno_of(os.symlink, "x", top / "dir"),
        errno_of(os.symlink, "", top / "new"),
        errno_of(os.symlink, "x" * 4096, top / "new"),
        errno_of(os.readlink, top / "dir"),
        errno_of(os.rmdir, top / "to dir"),
        errno_of(os.open, top / "to file", os.O_RDONLY | os.O_NOFOLLOW),
        errno_of(os.truncate, top / "to file", 4),
    ]


@work
def directories(top: Path) -> Any:
    """P24."""
    (top / "a/b").mkdir(parents=True)
    (top / "a/file").touch()
    results: list[Any] = [
        errno_of(os.mkdir, top / "a"),
        errno_of(os.rmdir, top / "a"),
        errno_of(os.rmdir, top / "a/file"),
        errno_of(os.rmdir, top / "none"),
        errno_of(os.unlink, top / "a"),
        errno_of(os.mkdir, top / "a/file/below"),
        errno_of(os.mkdir, top / ("x" * 256)),
        errno_of(os.rmdir, f"{top}/a/b/."),
        errno_of(os.rmdir, f"{top}/a/b/.."),
        (top / "a").stat().st_nlink,
    ]
    (top / "a/b").rmdir()
    return [*results, (top / "a").stat().st_nlink]


@work
def listing_while_it_changes(top: Path) -> Any:
    """P27: every name that is there all the time is listed once."""
    for number in range(600):
        (top / f"kept {number:04}").touch()
        (top / f"gone {number:04}").touch()
    names = []
    with os.scandir(top) as entries:
        for count, entry in enumerate(entries):
            names.append(entry.name)
            if count == 100:
                for number in range(600):
                    (top / f"gone {number:04}").unlink()
                    (top / f"new {number:04}").touch()
    kept = [name for name in names if name.startswith("kept")]
    done(shell("rm -r new*", top))
    return len(kept), len(set(kept)), len(names) == len(set(names))


@work
def modes_and_owners(top: Path) -> Any:
    """P24."""
    (top / "file").write_text("x")
    (top / "dir").mkdir()
    results: list[Any] = []
    for mode in (0, 0o777, 0o4755, 0o2755, 0o1777, 0o6711, 0o640):
        for name in ("file", "dir"):
            os.chmod(top / name, mode)
            results.append(oct((top / name).stat().st_mode))
    if os.geteuid() == 0:
        for owner in ((1, 2), (-1, 3), (4, -1), (4_000_000_000, 4_000_000_001)):
            os.chown(top / "file", *owner)
            results.append(((top / "file").stat().st_uid, (top / "file").stat().st_gid))
        os.chmod(top / "file", 0o6755)
        os.chown(top / "file", 5, 5)
        results.append(oct((top / "file").stat().st_mode))
        os.symlink("file", top / "link")
        os.lchown(top / "link", 7, 8)
        os.chown(top / "dir", 9, 10)
        os.chmod(top / "dir", 0o2775)
        (top / "dir/file").touch()
        (top / "dir/below").mkdir()
    old = os.umask(0o027)
    (top / "masked").touch()
    (top / "masked dir").mkdir()
    os.umask(old)
    return [*results, errno_of(os.chmod, top / "none", 0o600), errno_of(os.chown, top / "none", 1, 1)]


@work
def times(top: Path) -> Any:
    """P24, P30."""
    (top / "file").write_text("x")
    (top / "dir").mkdir()
    os.symlink("file", top / "link")
    results: list[Any] = []
    for moment in (0, 1, 999_999_999, -1, -(10**18) - 1, 1_795_229_397_821_005_684, 9 * 10**18 + 1):
        for name in ("file", "dir", "link"):
            os.utime(top / name, ns=(moment + 5, moment), follow_symlinks=False)
            results.append(((top / name).lstat().st_atime_ns, (top / name).lstat().st_mtime_ns))
    with (top / "file").open("r+b") as file:
        file.write(b"y")
        file.flush()
        os.utime(file.fileno(), ns=(7, 7))
        results.append(os.fstat(file.fileno()).st_mtime_ns)
    results.append((top / "file").stat().st_mtime_ns)
    os.utime(top / "file", ns=(1, 1))
    (top / "file").write_text("z")
    os.utime(top / "dir", ns=(1, 1))
    (top / "dir/new").touch()
    results += [(top / name).stat().st_mtime_ns > 1 for name in ("file", "dir")]
    os.utime(top / "file", ns=(1, 1))
    (top / "file").chmod(0o600)
    (top / "file").read_text()
    os.rename(top / "file", top / "moved")
    return [*results, (top / "moved").stat().st_mtime_ns, errno_of(os.utime, top / "none")]


@work
def mappings(top: Path) -> Any:
    """P25."""
    path = top / "mapped"
    path.write_bytes(b"0123456789" * 20_000)
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED) as shared:
            shared[100_000:100_006] = b"shared"
            results: list[Any] = [os.pread(file.fileno(), 6, 100_000)]
            os.pwrite(file.fileno(), b"by write", 50_000)
            results.append(shared[50_000:50_008])
            shared.flush()
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as private:
            private[0:7] = b"private"
            results += [private[:7], os.pread(file.fileno(), 7, 0)]
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as read:
            results.append(read.find(b"by write"))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as stays:
        file.close()
        path.unlink()
        stays[:4] = b"gone"
        results.append(stays[:8])
    (top / "copied").write_bytes(b"x")
    return results


@work
def space(top: Path) -> Any:
    """P24."""
    found = os.statvfs(top)
    assert 0 < found.f_bavail <= found.f_bfree <= found.f_blocks
    assert found.f_bsize
    return found.f_namemax, found.f_blocks * found.f_frsize > 1 << 30


@work
def special_files(top: Path) -> Any:
    """P24."""
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "plain", stat.S_IFREG | 0o600)
    os.mknod(top / "socket", stat.S_IFSOCK | 0o600)
    if os.geteuid() == 0:
        os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    reader = subprocess.Popen(["cat", top / "fifo"], stdout=subprocess.PIPE)
    with (top / "fifo").open("wb") as file:
        file.write(b"through a fifo")
    output, _ = reader.communicate(timeout=30)
    os.link(top / "fifo", top / "fifo too")
    return output, errno_of(os.open, top / "fifo", os.O_WRONLY | os.O_NONBLOCK), errno_of(os.mkfifo, top / "fifo")


LOCKER = """
import errno, fcntl, sys
file = open(sys.argv[1], "r+b")
for call in (lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.flock(file, fcntl.LOCK_UN),
             lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0),
             lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)):
    try:
        call()
        print("taken")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@work
def locks(top: Path) -> Any:
    """P25: of one process against another, whole files and ranges."""
    path = top / "locked"
    path.write_bytes(b"x" * 1000)

    def other() -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", LOCKER, path], capture_output=True, text=True, timeout=30, check=True
        ).stdout.split()

    with path.open("r+b") as file:
        results = [other()]
        fcntl.flock(file, fcntl.LOCK_SH)
        results.append(other())
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.lockf(file, fcntl.LOCK_EX, 5, 5)
        results.append(other())
    return [*results, other()]


@work
def locks_of_open_files(top: Path) -> Any:
    """P25: OFD locks belong to what was opened, not to the process; the last close gives them back, and no other."""
    path = top / "locked"
    path.write_bytes(b"x" * 1000)

    def lock(descriptor: int, kind: int, start: int, length: int) -> int:
        wanted = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
        return errno_of(fcntl.fcntl, descriptor, fcntl.F_OFD_SETLK, wanted)

    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    results = [lock(one, fcntl.F_WRLCK, 0, 100), lock(two, fcntl.F_WRLCK, 50, 100), lock(two, fcntl.F_RDLCK, 100, 0)]
    results += [lock(one, fcntl.F_RDLCK, 100, 0), lock(one, fcntl.F_WRLCK, 100, 0), lock(two, fcntl.F_UNLCK, 0, 0)]
    results += [errno_of(fcntl.flock, one, fcntl.LOCK_EX), errno_of(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)]
    os.close(os.open(path, os.O_RDWR))
    results.append(lock(two, fcntl.F_WRLCK, 0, 1))
    again = os.dup(one)
    os.close(one)
    results.append(lock(two, fcntl.F_WRLCK, 0, 1))
    os.close(again)
    results += [lock(two, fcntl.F_WRLCK, 0, 1), errno_of(fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)]
    os.close(two)
    return results


@work
def direct_input_and_output(top: Path) -> Any:
    """P21: O_DIRECT beside cached and mapped reads and writes of the same file."""
    page, path = mmap.mmap(-1, 4096), top / "file"
    path.write_bytes(b"a" * 100_000)
    direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    with path.open("r+b", buffering=0) as file, mmap.mmap(file.fileno(), 0) as mapped:
        results: list[Any] = [os.preadv(direct, [page], 4096), page[:9]]
        file.write(b"cached")
        mapped[4096:4102] = b"mapped"
        results += [os.preadv(direct, [page], 0), page[:9], os.preadv(direct, [page], 4096), page[:9]]
        page[:6] = b"direct"
        results += [os.pwritev(direct, [page], 8192), mapped[8192:8200], os.pread(file.fileno(), 8, 8192)]
        results += [os.pwritev(direct, [page], 98_304), os.fstat(direct).st_size, mapped[98_304:98_310]]
        results += [os.pwritev(direct, [page], 1 << 20), path.stat().st_size, os.pread(file.fileno(), 8, 1 << 20)]
    os.close(direct)
    return results


@work
def sockets(top: Path) -> Any:
    """P24: names of the mount lead to sockets that programs listen at."""
    results: list[Any] = []
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        here = os.open(top, os.O_RDONLY)
        name = f"/proc/self/fd/{here}/socket"  # a socket's path has but 108 bytes
        server.bind(name)
        results += [errno_of(client.connect, name), errno_of(server.bind, name), errno_of(os.open, name, os.O_RDONLY)]
        server.listen()
        os.rename(name, name + " moved")
        client.connect(name + " moved")
        client.sendall(b"through a socket")
        with server.accept()[0] as taken:
            results.append(taken.recv(100))
        os.link(name + " moved", name)
        os.unlink(name + " moved")
        with socket.socket(socket.AF_UNIX) as another:
            results += [errno_of(another.connect, name + " moved"), errno_of(another.connect, name)]
        os.close(here)
    return results


@work
def exclusive_creation(top: Path) -> Any:
    """P21: of many that make the same name at the same time, one does."""
    ends = [os.pipe() for _ in range(4)]
    children = []
    for _, writing in ends:
        if (child := os.fork()) == 0:
            made = [
                number
                for number in range(300)
                if errno_of(os.open, top / f"{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY) == 0
                and errno_of(os.mkdir, top / f"{number} dir") in (0, errno.EEXIST)
            ]
            os.write(writing, bytes(str(made), "ascii"))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    made = [number for reading, _ in ends for number in json.loads(os.read(reading, 1 << 16))]
    for pair in ends:
        for end in pair:
            os.close(end)
    return sorted(made) == list(range(300))


@work
def odd_names(top: Path) -> Any:
    """P28: names are bytes, up to 255 of them."""
    base = os.fsencode(top)
    names = [b"\xff\xfe", b"new\nline", b"a" * 255, "ä".encode() * 127, b".a", b"..."]
    names += [bytes([number]) for number in range(1, 256) if number not in b"./"]
    for name in names:
        with open(os.path.join(base, name), "wb") as file:
            file.write(name)
    os.mkdir(os.path.join(base, b"e\xcc\x81"))
    os.mkdir(os.path.join(base, b"\xc3\xa9"))
    return [
        sorted(os.listdir(base)) == sorted([*names, b"e\xcc\x81", b"\xc3\xa9"]),
        errno_of(os.mkdir, os.path.join(base, b"a" * 256)),
        errno_of(os.stat, os.path.join(base, b"a" * 256)),
        errno_of(os.stat, os.path.join(base, b"A" * 255)),
    ]


@work
def deep_paths(top: Path) -> Any:
    """200 directories deep, past what one path may hold."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d" * 40, dir_fd=here)
        below = os.open("d" * 40, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    descriptor = os.open("file", os.O_CREAT | os.O_RDWR, 0o644, dir_fd=here)
    os.write(descriptor, b"deep")
    result = os.pread(descriptor, 10, 0), errno_of(os.stat, os.path.join(top, *["d" * 40] * 200))
    os.close(descriptor)
    os.close(here)
    done(shell("rm -r d*", top))  # what Python can walk is not that deep
    return result


@work
def the_longest_paths(top: Path) -> Any:
    """P28: 4,095 bytes are a path, and a symbolic link's target; one more is not."""
    here = os.getcwd()
    os.chdir(top)
    try:
        longest = "/".join(["d" * 254] * 16)
        os.makedirs(longest[:-255])
        assert len(longest) == 4079
        file = longest[:-254] + "f" * 255 + "/" + "x" * 14
        assert len(file) == 4095
        os.mkdir(os.path.dirname(file))
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY))
        results = [errno_of(os.rename, file, file[:-1] + "y"), errno_of(os.stat, file), errno_of(os.stat, file + "x")]
        os.symlink("t" * 4095, "link")
        results += [len(os.readlink("link")), errno_of(os.stat, "link"), errno_of(os.symlink, "t" * 4096, "longer")]
        shutil.rmtree("d" * 254)
    finally:
        os.chdir(here)
    return results


@work
def a_small_git_of_tools(top: Path) -> Any:
    """What tools do to files: rename over, sort in place, archives, find."""
    commands = """
        for n in 1 2 3 4 5; do echo line $n; done > list
        sort -r -o list list; sed -i s/line/row/ list; cp -p list copy; mkdir -p x/y; mv copy x/y; ln x/y/copy hard
        tar cf all.tar list x hard; mkdir out; tar xf all.tar -C out; rm -r x; diff -r out/list list
        find . -type f | sort; split -b 7 list part.; cat part.*; install -m 600 list installed; wc -c < list
        truncate -s 100 list; du -b list; touch -d 2001-02-03 list; date -r list +%s
        gzip -k installed; gzip -t installed.gz
    """
    output = done(shell(commands, top))
    done(shell("rm all.tar installed.gz", top))
    return output


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, fresh_repository: Path) -> Iterator[Mount]:
    """One mount for all the functions; each works in a directory of its own, and they do not meet."""
    root = tmp_path_factory.mktemp("shared") / "mnt"
    root.mkdir()
    with Mount(shutil.copytree(fresh_repository, root.with_name("repo")), root).kept_tidy() as mount:
        mount.mount()
        yield mount


@pytest.fixture(scope="module")
def expected(shared: Mount) -> dict[str, dict[str, Any]]:
    """What the functions left behind on the ordinary filesystem, for the last test."""
    return {}


@pytest.mark.parametrize("function", WORK, ids=lambda function: function.__name__)
def test_both_do_the_same(
    function: Callable[[Path], Any], shared: Mount, expected: dict[str, dict[str, Any]], beside: Path
):
    """P21, P22, P23, P24, P25, P28: what works on ext4 works in a branch, what fails there fails alike."""
    branch = shared.main / function.__name__
    branch.mkdir()
    results = [function(beside), function(branch)]
    assert results[1] == results[0]
    left = expected[function.__name__] = all_seen(beside)
    assert all_seen(branch) == left
    assert all_seen(shared.commit() / function.__name__) == left


def test_all_that_is_the_same_after_a_remount_p31(shared: Mount, expected: dict[str, dict[str, Any]]):
    """In the branch, in a version of each directory, and on a branch made from it."""
    shared.remount()
    (shared.root / "exp").mkdir()
    for top in (shared.main, shared.root / "main@head", shared.root / "exp"):
        assert {name: all_seen(top / name) for name in expected} == expected


def test_work_on_committed_files_p21(mount: Mount, beside: Path):
    """Writing at offsets, truncating and extending files that lie in chunks, of every size."""
    sizes = [0, 10, 512, 513, 5_000, 66_000, 300_000, 2_000_000]
    for size in sizes:
        data = os.urandom(size)
        for top in (mount.main, beside):
            (top / f"{size}").write_bytes(data)

    def writing(path: Path) -> None:
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), b"written", path.stat().st_size // 2)

    def appending(path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"appended")

    def moving_away_and_back(path: Path) -> None:
        os.rename(path, path.with_suffix(".moved"))
        os.rename(path.with_suffix(".moved"), path)

    changes: list[Callable[[Path], object]] = [
        writing,
        appending,
        lambda path: os.truncate(path, path.stat().st_size // 3),
        lambda path: os.truncate(path, path.stat().st_size * 2 + 70_000),
        lambda path: path.open("r+b").close(),
        moving_away_and_back,
        lambda path: path.write_bytes(b""),
    ]
    for number, change in enumerate(changes):
        if changed := not number or not mount.json("status")["clean"]:
            mount.commit()
        assert changed == (number not in (5, 6)), "opening and closing, and moving away and back, are no change"
        for size in sizes:
            for top in (mount.main, beside):
                change(top / f"{size}")
            assert (mount.main / f"{size}").read_bytes() == (beside / f"{size}").read_bytes(), (number, size)
    mount.remount()
    assert all_seen(mount.main) == all_seen(beside)


def test_a_truncation_to_the_size_that_a_file_has_leaves_its_times(mount: Mount):
    """P73: the kernel keeps those that it has, and they are the same when it has forgotten the file."""
    path = mount.main / "file"
    path.write_text("x")
    os.utime(path, ns=(5, 7))
    before = path.stat()
    os.truncate(path, 1)
    mount.remount()
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    with path.open("r+b") as file:
        os.ftruncate(file.fileno(), 1)
    assert path.stat().st_mtime_ns > 7


@pytest.mark.parametrize("kind", ["file", "dir"])
def test_the_change_time_moves_with_calls_that_change_nothing_that_is_kept_p73(mount: Mount, beside: Path, kind: str):
    """An owner that stays, and an access time."""
    for top in (beside, mount.main):
        path = top / kind
        path.touch() if kind == "file" else path.mkdir()
        for change in (lambda path: os.chown(path, -1, -1), access_time_alone):
            tick()
            before = path.stat()
            change(path)
            after = path.stat()
            assert after.st_ctime_ns > before.st_ctime_ns, (top, change)
            assert after.st_mtime_ns == before.st_mtime_ns


def access_time_alone(path: Path) -> None:
    """Which Python cannot set without the other."""
    times = (Timespec * 2)(timespec(1_000_000_000), timespec("omit"))
    libc_done(libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


def test_reading_leaves_access_times_alone_and_what_a_program_sets_stays_p30(mount: Mount):
    def times(path: Path) -> tuple[int, int]:
        of = path.lstat()
        return of.st_atime_ns, of.st_mtime_ns

    for name in ("read", "set", "alone", "moved"):
        (mount.main / name).write_text("x")
    (mount.main / "dir").mkdir()
    os.symlink("read", mount.main / "link")
    os.link(mount.main / "set", mount.main / "dir/too")
    mtime = (mount.main / "read").stat().st_mtime_ns
    (mount.main / "read").read_text()
    assert times(mount.main / "read") == (mtime, mtime)
    set_to = {"set": (5, 7), "dir/too": (5, 7), "dir": (-1, 10**18), "link": (0, 3), "moved": (8 * 10**18, 1)}
    for name, both in set_to.items():
        os.utime(mount.main / name, ns=both, follow_symlinks=False)
    mtime = (mount.main / "alone").stat().st_mtime_ns
    done(shell("touch -a -d @77 alone; cat set; ls dir", mount.main))
    set_to["alone"] = (77 * 10**9, mtime)

    def check() -> None:
        for name, both in set_to.items():
            assert times(mount.main / name) == both, name

    check()
    mount.remount()
    check()
    version = mount.commit()
    check()
    (mount.main / "moved").rename(mount.main / "dir/moved")
    set_to["dir/moved"] = set_to.pop("moved")
    os.utime(mount.main / "dir", ns=set_to["dir"])
    done(shell("sync dir", mount.main))
    mount.crash()
    check()
    mount.commit()
    mount.remount()
    check()
    for name, (_, mtime) in set_to.items():
        if name != "dir/moved":
            assert times(version / name) == (mtime, mtime), name
    done(shell("rm alone && touch -d @5 new && mv new alone", mount.main))  # of another file in its place
    mount.commit()
    mount.remount()
    assert times(mount.main / "alone") == (5 * 10**9, 5 * 10**9)


def test_what_is_not_supported_says_so(mount: Mount):
    path = mount.main / "file"
    path.write_text("x")
    assert errno_of(os.setxattr, path, "user.x", b"y") == errno.ENOTSUP
    assert errno_of(os.getxattr, path, "user.x") == errno.ENOTSUP
    assert errno_of(os.open, mount.main, os.O_TMPFILE | os.O_RDWR) in (errno.ENOTSUP, errno.EISDIR)
    with path.open("r+b") as file, (mount.main / "other").open("wb") as other:
        ficlone = 0x40049409
        assert errno_of(fcntl.ioctl, other.fileno(), ficlone, file.fileno()) in (errno.ENOTSUP, errno.ENOTTY)
        assert libc.fallocate(file.fileno(), 3, ctypes.c_long(0), ctypes.c_long(1)) == -1
        assert ctypes.get_errno() == errno.ENOTSUP
