"""Which calls are made: strategies of Hypothesis over the vocabulary."""

import fcntl
import os
import stat
from functools import reduce
from operator import or_
from typing import Any

from hypothesis import strategies as st

from tests.posix import files, mappings, names, streams
from tests.posix.calls import Call, Long
from tests.posix.libc import EXCHANGE, NOREPLACE

Calls = st.SearchStrategy[Call]

PLAIN = [b"a", b"b", b"dir", b"dir/a", b"dir/b", b"dir/sub", b"dir/sub/a", b"other", b"other/a", b"link"]
ODD = [
    b"", b".", b"..", b"../a", b"dir/", b"a/", b"a/.", b"dir/.", b"dir/..", b"dir/../b", b"dir/sub/../a", b"./a",
    b"dir//a", b"none/a", b"link/", b"link/a", b"link/../a", b"dir/\xff\xfe", b"\xc3\xa9", b".ana",
    *map(Long, (b"x" * 255, b"x" * 256, b"dir/" + b"x" * 256, b"./" * 2047 + b"a", b"./" * 2048 + b"a")),
]  # fmt: skip
TEXTS = [b"a", b"b", b"dir", b"dir/sub", b"sub/a", b"../a", b"../dir", b"link", b"none/none", Long(b"x" * 4095), b""]
SIZES = [0, 1, 2, 511, 512, 513, 4095, 4096, 4097, 40_000, 65_536, 65_537, 70_000, 131_072, 300_000]
FAR = [-1, 1_200_000]
"""Offsets and sizes that are seldom asked for."""
TOO_FAR = 1 << 62
"""A size that no file has. Only a truncation fails at once: the kernel takes writes far beyond what we can have."""
BLOCKS = [0, 4096, 8192, 65_536, 131_072]
"""What O_DIRECT takes everywhere."""
OTHERS = [0, 1234, 1235]
"""Users. Each has the group of its number, and all but root are in the shared one."""
MOMENTS = [0, 1, 999_999_999, -1, 981_173_106_123_456_789, 4_102_444_800_000_000_001]
"""Far from now, so that a time that was set is told from one that a call made."""
UMASKS = [0o000, 0o000, 0o022, 0o027]
MODES = [0o000, 0o400, 0o600, 0o640, 0o644, 0o755, 0o777, 0o1777, 0o2775]
FLAGS = [
    os.O_APPEND, os.O_TRUNC, os.O_NOFOLLOW, os.O_DIRECTORY, os.O_SYNC, os.O_DSYNC, os.O_NOATIME, os.O_EXCL, os.O_CREAT,
    os.O_CREAT | os.O_EXCL,
]  # fmt: skip
SLOTS = range(4)
ALIGNED = 9
"""The slot of descriptors with O_DIRECT."""

plain = st.sampled_from(PLAIN)
paths = st.one_of(plain, plain, plain, st.sampled_from(ODD))
sizes = st.sampled_from(SIZES)
offsets = st.one_of(sizes, sizes, sizes, st.sampled_from(SIZES + FAR))
lengths = st.one_of(sizes, sizes, sizes, st.sampled_from([*SIZES, *FAR, TOO_FAR]))
seeds = st.integers(0, 999)
slots = st.sampled_from(SLOTS)
modes = st.sampled_from(MODES)
users = st.sampled_from([*OTHERS, -1])
groups = st.sampled_from([*OTHERS, 5, -1])
moments: st.SearchStrategy[int | str] = st.sampled_from([*MOMENTS, "now", "omit"])
flags = st.builds(
    lambda access, more: reduce(or_, more, access),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_PATH]),
    st.lists(st.sampled_from(FLAGS), max_size=3),
)
counts = st.lists(sizes, min_size=1, max_size=4).map(tuple)
blocks = st.sampled_from(BLOCKS)
kinds = st.sampled_from([stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, 0])
booleans = st.booleans()


def of(call: Any, *arguments: Any) -> Calls:
    """A call with arguments from strategies."""
    return st.builds(call, *arguments)


made: list[Calls] = [
    of(names.put, paths, seeds, sizes),
    of(names.put, plain, seeds, sizes),
    of(names.mkdir, paths, modes),
    of(names.mkdir, plain, st.just(0o777)),
    of(names.symlink, st.sampled_from(TEXTS), paths),
    of(names.link, paths, paths, booleans),
    of(names.mknod, paths, st.builds(or_, kinds, modes), st.sampled_from([0, os.makedev(1, 3)])),
    of(names.rename, paths, paths, st.sampled_from([0, 0, 0, NOREPLACE, EXCHANGE, 3])),
    of(names.unlink, paths),
    of(names.rmdir, paths),
]
attributes: list[Calls] = [
    of(names.truncate, paths, lengths),
    of(names.chmod, paths, modes),
    of(names.chown, paths, users, groups, booleans),
    of(names.utime, paths, moments, booleans),
    of(names.umask, st.sampled_from(UMASKS)),
    of(names.chdir, st.sampled_from([b".", b"dir", b"dir/sub", b"link", b"a"])),
]
looking: list[Calls] = [
    of(names.lstat, paths),
    of(names.follow, paths),
    of(names.readlink, paths),
    of(names.access, paths, st.sampled_from([os.F_OK, os.R_OK, os.W_OK, os.X_OK, 7])),
    of(names.listdir, paths),
    of(streams.seekdir, paths, st.integers(0, 20)),
    of(names.statvfs, paths),
    of(streams.stream_open, st.just(0), paths),
    of(streams.stream_read, st.just(0), st.integers(1, 4)),
    of(streams.stream_end, st.just(0)),
    st.just(names.getcwd()),
]
opening: list[Calls] = [
    of(names.open_file, slots, paths, flags, modes),
    of(names.open_file, slots, plain, st.just(os.O_RDWR | os.O_CREAT), st.just(0o644)),
    of(names.open_file, slots, plain, st.just(os.O_RDWR | os.O_APPEND), st.just(0)),
    of(names.open_file, st.just(ALIGNED), plain, st.just(os.O_RDWR | os.O_CREAT | os.O_DIRECT), st.just(0o644)),
    of(names.open_file, slots, plain, st.sampled_from([os.O_DIRECTORY, os.O_PATH, os.O_RDONLY]), st.just(0)),
]


def content(slot: st.SearchStrategy[int]) -> list[Calls]:
    """Calls on open files."""
    return [
        of(files.read, slot, sizes),
        of(files.pread, slot, offsets, sizes),
        of(files.readv, slot, counts),
        of(files.write, slot, seeds, sizes),
        of(files.writev, slot, seeds, counts),
        of(files.pwrite, slot, seeds, offsets, sizes),
        of(files.ftruncate, slot, lengths),
        of(files.fallocate, slot, sizes, sizes),
        of(files.copy_file_range, slot, slot, sizes, st.none() | offsets, st.none() | offsets),
        of(files.sendfile, slot, slot, st.none() | offsets, sizes),
        of(files.lseek, slot, offsets, st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])),
        of(files.seek_data, slot, offsets),
        of(files.fsync, slot),
        of(files.fdatasync, slot),
    ]


def held(slot: st.SearchStrategy[int]) -> list[Calls]:
    """Calls on descriptors, of which not all need a file."""
    return [
        of(files.fstat, slot),
        of(files.fchmod, slot, st.sampled_from([mode for mode in MODES if not mode & stat.S_ISGID])),
        of(files.fchown, slot, users, groups),
        of(files.futime, slot, moments),
        of(files.dup, slot, slots),
        of(files.close, slot),
        of(files.fchdir, slot),
        of(files.flist, slot),
        of(files.openat, slot, slots, plain, flags, modes),
        of(files.link_open, slot, paths),
        of(files.flock, slot, st.sampled_from([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN])),
        of(files.lock, slot, st.sampled_from([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]), sizes, sizes, booleans),
        of(files.locked, slot, sizes, sizes),
        of(mappings.map_file, slot, st.sampled_from([1, 4096, 10_000, 300_000]), booleans, booleans),
        of(mappings.map_file, slot, st.just(70_000), st.just(True), st.just(True)),
    ]


direct: list[Calls] = [
    of(files.pread, st.just(ALIGNED), blocks, blocks),
    of(files.pwrite, st.just(ALIGNED), seeds, blocks, blocks),
    of(files.ftruncate, st.just(ALIGNED), lengths),
    of(files.fsync, st.just(ALIGNED)),
    of(files.fstat, st.just(ALIGNED)),
    of(files.close, st.just(ALIGNED)),
]


def mapped(slot: st.SearchStrategy[int]) -> list[Calls]:
    """Calls on mappings."""
    return [
        of(mappings.load, slot, sizes, sizes.map(lambda size: size + 1)),
        of(mappings.store, slot, seeds, sizes, st.sampled_from([1, 10, 5000, 40_000])),
        of(mappings.msync, slot),
        of(mappings.munmap, slot),
    ]
