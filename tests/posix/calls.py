"""A call: what a process is asked to do in its directory, and what came of it.

The calls themselves are in `names` and `files`, each a function of what the process holds. What it gives must be the
same on any two filesystems; what depends on the moment is in a `Row`.
"""

import errno
import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple

from tests.posix.libc import DirectoryStream, done, libc

SHOWN = 64
"""Content up to so many bytes is compared as it is, so that it can be read in a failure."""


class Row(NamedTuple):
    """What is compared of a file; times, and the inode's number, by what they mean."""

    mode: str
    nlink: int
    uid: int
    gid: int
    size: int | None
    rdev: int
    content: Any
    mtime_ns: int
    ctime_ns: int
    ino: int


@dataclass(frozen=True)
class Failed:
    """The errno that a call failed with."""

    name: str

    def __repr__(self) -> str:
        return self.name


class Long(bytes):
    """A name or path that is too long to be read in a failure."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@dataclass(frozen=True)
class Call:
    """One call; paths count from the directory where the process stands, descriptors are slots."""

    name: str
    arguments: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"


@dataclass(frozen=True)
class Mapping:
    """A file in memory."""

    address: int
    size: int
    inode: int
    """A descriptor that only names the file."""
    writable: bool

    def has(self, offset: int, size: int) -> bool:
        """Whether there are pages of the file in a range: beyond them, a process gets SIGBUS."""
        pages = -(-os.fstat(self.inode).st_size // mmap.PAGESIZE) * mmap.PAGESIZE
        return offset + size <= pages

    def unmap(self) -> None:
        """Give it up."""
        os.close(self.inode)
        done(libc.munmap(self.address, self.size))


@dataclass(frozen=True)
class Stream:
    """An open directory, of which some names have been read."""

    directory: DirectoryStream
    before: set[tuple[bytes, int]]
    """What was there when it was opened."""
    seen: list[bytes]


@dataclass
class Held:
    """What a process holds."""

    home: str
    """An ordinary directory to stand in between two histories."""
    base: str = ""
    """All that is compared is below."""
    descriptors: dict[int, int] = field(default_factory=dict)
    mappings: dict[int, Mapping] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)

    def let_go(self) -> None:
        """Hold nothing any more, and stand nowhere. Raises the first error of closing, when all is closed."""
        os.chdir(self.home)
        os.umask(0)
        for mapping in self.mappings.values():
            mapping.unmap()
        closing = [stream.directory.close for stream in self.streams.values()]
        closing += [partial(os.close, descriptor) for descriptor in self.descriptors.values()]
        self.mappings.clear()
        self.streams.clear()
        self.descriptors.clear()
        errors: list[OSError] = []
        for close in closing:
            try:
                close()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]


CALLS: dict[str, Callable[..., Any]] = {}


def call(function: Callable[..., Any]) -> Callable[..., Call]:
    """Make a function of `Held` and arguments a call: it is then called with the arguments, to be performed later."""
    CALLS[function.__name__] = function

    def asked(*arguments: Any) -> Call:
        return Call(function.__name__, arguments)

    asked.__name__ = function.__name__
    return asked


def perform(held: Held, asked: Call) -> Any:
    """Do it; returns what came of it."""
    try:
        return CALLS[asked.name](held, *asked.arguments)
    except KeyError:
        return Failed("nothing is held there")
    except OSError as error:
        return Failed(errno.errorcode.get(error.errno or 0, str(error)))


def pattern(seed: int, size: int) -> bytes:
    """Incompressible bytes, the same for a seed every time."""
    return Random(seed).randbytes(size)


def shown(data: bytes) -> Any:
    """Content as it is compared."""
    return data if len(data) <= SHOWN else (len(data), data[:8], blake2b(data, digest_size=8).hexdigest())


def row(of: os.stat_result, content: Any = None) -> Row:
    """What is compared of a stat; a directory's own size means nothing."""
    return Row(
        oct(of.st_mode), of.st_nlink, of.st_uid, of.st_gid, None if stat.S_ISDIR(of.st_mode) else of.st_size,
        of.st_rdev, content, of.st_mtime_ns, of.st_ctime_ns, of.st_ino,
    )  # fmt: skip
