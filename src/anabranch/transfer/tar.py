"""Importing a tar stream, compressed or not, from a file or a pipe."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from tarfile import EOFHeaderError  # type: ignore[attr-defined]  # typeshed has only its base
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from anabranch.errors import AnabranchError, UsageError
from anabranch.repo import Repository
from anabranch.transfer.intake import SMALL, Attributes, Imported, Intake, Progress, Taken, entry_of
from anabranch.transfer.sieve import Sieve
from anabranch.versions.objects import MODE_TYPE, Entry, EntryKind

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""How names of tar files end."""
BYTES = "surrogateescape"
"""How a pax header holds what is not UTF-8."""
_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.DIRTYPE: EntryKind.DIRECTORY,
    tarfile.SYMTYPE: EntryKind.SYMLINK,
    tarfile.FIFOTYPE: EntryKind.FIFO,
    tarfile.CHRTYPE: EntryKind.CHARACTER,
    tarfile.BLKTYPE: EntryKind.BLOCK,
}
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""By how a stream begins. Each checks what it reads, as tarfile's own reading of gzip does not."""
_BUFFER = 128 * 1024
_PIECE = 1024 * 1024


def take_tar(
    repository: Repository, stream: BinaryIO, top: bytes, dress: Entry, sieve: Sieve, progress: Progress
) -> Imported:
    """Read and store what is in a tar stream, which is to become the path `top` of a branch, but for what the sieve
    leaves out. `dress` is how directories look that the stream does not describe; `progress` is told of the bytes of
    the stream itself. Raises UsageError when it is no whole tar stream, or there is nothing in it.
    """
    with Intake(repository, top, dress, lambda _: None) as intake:
        intake.add(Taken(b"", dress))
        with _reading():
            plain = _decompressed(io.BufferedReader(_Told(stream, progress), _BUFFER))
            tar = tarfile.TarFile.open(fileobj=plain, mode="r|", errors="surrogateescape", tarinfo=_Member)
        empty = True
        while (member := _next(tar)) is not None:
            _take(intake, tar, member)
            empty = False
        if empty:  # as tar makes it of a folder that it does not find
            raise UsageError("there is nothing in the tar stream")
        with _reading():  # to the end, where checksums are; and who writes it is not cut off
            while plain.read(_PIECE):
                pass
        return intake.finish(sieve)


class _Told(io.RawIOBase):
    """A stream, and who is told of what was read of it."""

    def __init__(self, stream: BinaryIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        data = self._stream.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(data)] = data
        self._progress(len(data))
        return len(data)


def _decompressed(stream: io.BufferedReader) -> IO[bytes]:
    head = stream.peek(1)
    for start, opened in _COMPRESSED.items():
        if head.startswith(start):
            plain: IO[bytes] = opened(stream)
            return plain
    return stream


class _Member(tarfile.TarInfo):
    """A header. Where a stream breaks off, or makes no sense, tarfile would stop as at its end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, at byte {archive.offset}") from error


@contextmanager
def _reading() -> Iterator[None]:
    """What is wrong with a stream ends the import, as what is wrong with one member does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise AnabranchError(f"the tar stream cannot be read: {error.strerror}") from error
        raise _broken(error) from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> UsageError:
    return UsageError(f"this is no whole tar stream: {error}", hint="tar, plain or compressed with gzip, bzip2 or xz")


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    with _reading():
        return tar.next()


def _take(intake: Intake, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = _clean(member.pax_headers.get("GNU.sparse.name", member.name))  # else tarfile may take that of the header
    try:
        if not path and not member.isdir():
            raise UsageError("is no directory, and has no name")
        if member.islnk():
            intake.link(path, _clean(member.linkname))
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            _file(intake, path, member, source)
        elif member.type in _KINDS:
            kind = _KINDS[member.type]
            target = os.fsencode(member.linkname) if kind is EntryKind.SYMLINK else b""
            intake.add(Taken(path, entry_of(_attributes(intake, member, kind), target=target)))
        else:
            raise UsageError(f"is of a type that no filesystem has ({member.type!r})")
    except UsageError as error:
        intake.fail(path, error)


def _file(intake: Intake, path: bytes, member: tarfile.TarInfo, source: IO[bytes]) -> None:
    attributes = _attributes(intake, member, EntryKind.FILE)
    if member.size > SMALL:
        stored = intake.stream(_Window(source).read, _holes(member))
        intake.add(Taken(path, entry_of(attributes, stored)))
        return
    with _reading():
        data = source.read()
    intake.submit(lambda: [Taken(path, entry_of(attributes, intake.whole(data)))])


def _clean(name: str) -> bytes:
    """A member's path: `./` and slashes at its start mean nothing. What leads out of the top is refused later."""
    return b"/".join(part for part in os.fsencode(name).split(b"/") if part not in (b"", b"."))


def xattr_key(name: bytes) -> str:
    """Where the pax header of a member has an extended attribute, as GNU tar and star write it."""
    return _XATTR + name.decode().replace("%", "%25").replace("=", "%3D")


def _xattrs(member: tarfile.TarInfo) -> dict[bytes, bytes]:
    return {
        key.removeprefix(_XATTR).replace("%3D", "=").replace("%25", "%").encode(): value.encode(errors=BYTES)
        for key, value in member.pax_headers.items()
        if key.startswith(_XATTR)
    }


def _attributes(intake: Intake, member: tarfile.TarInfo, kind: EntryKind) -> Attributes:
    device = 0
    if member.ischr() or member.isblk():
        try:
            device = os.makedev(member.devmajor, member.devminor)
        except (OverflowError, ValueError):
            raise UsageError("has no possible device number") from None
    held = intake.xattrs(partial(_xattrs, member))
    return Attributes(MODE_TYPE[kind] | member.mode & 0o7777, member.uid, member.gid, _mtime_ns(member), device, held)


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """To the nanosecond, where the stream has it: a float would round it."""
    text = member.pax_headers.get("mtime", "")
    seconds, _, rest = text.partition(".")
    try:
        sign = -1 if seconds.startswith("-") else 1
        return int(seconds) * 10**9 + sign * int(rest[:9].ljust(9, "0")) if text else int(member.mtime) * 10**9
    except (ValueError, OverflowError):
        raise UsageError(f"has no possible time: {text or member.mtime}") from None


def _holes(member: tarfile.TarInfo) -> Callable[[int], int]:
    """How many zeros a sparse member is known to have from an offset on."""
    known: Any = member.sparse  # bytes, says typeshed
    pieces = [(start, start + length) for start, length in known or [(0, member.size)] if length]
    starts = [start for start, _ in pieces]

    def hole(offset: int) -> int:
        at = bisect_right(starts, offset)
        if at and offset < pieces[at - 1][1]:
            return 0
        return (starts[at] if at < len(starts) else member.size) - offset

    return hole


class _Window:
    """Reads a stream by offset, which only grows."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from an offset on, fewer only at the end."""
        with _reading():
            while (end := self._start + len(self._data)) < offset:  # over a hole: tarfile cannot seek in a stream
                self._start, self._data = end, self._source.read(min(offset - end, _PIECE))
            self._data = self._data[offset - self._start :]
            self._start = offset
            while len(self._data) < length and (more := self._source.read(length - len(self._data))):
                self._data += more
            return self._data[:length]
