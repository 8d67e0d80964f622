"""Importing a tar stream, compressed or not, from a file or a pipe."""

import lzma
import os
import tarfile
import zlib
from functools import partial
from typing import IO, BinaryIO

from anabranch.errors import AnabranchError, UsageError
from anabranch.repo import Repository
from anabranch.transfer.intake import SMALL, Attributes, Imported, Intake, Progress, Taken, entry_of
from anabranch.versions.objects import MODE_TYPE, Entry, EntryKind

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
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


def take_tar(repository: Repository, stream: BinaryIO, top: bytes, dress: Entry, progress: Progress) -> Imported:
    """Read and store what is in a tar stream, which is to become the path `top` of a branch. `dress` is how directories
    look that the stream does not describe. Raises UsageError when it is no whole tar stream.
    """
    with Intake(repository, top, dress, progress) as intake:
        intake.add(Taken(b"", dress))
        try:
            with tarfile.open(fileobj=stream, mode="r|*", errors=BYTES) as tar:
                for member in tar:
                    _take(intake, tar, member)
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UsageError(
                f"this is no whole tar stream: {error}", hint="tar, plain or compressed with gzip, bzip2 or xz"
            ) from error
        return intake.finish()


def _take(intake: Intake, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = _clean(member.name)
    try:
        if member.islnk():
            intake.link(path, _clean(member.linkname))
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            _file(intake, path, _attributes(intake, member, EntryKind.FILE), member.size, source)
        elif member.type in _KINDS:
            kind = _KINDS[member.type]
            target = os.fsencode(member.linkname) if kind is EntryKind.SYMLINK else b""
            intake.add(Taken(path, entry_of(_attributes(intake, member, kind), target=target)))
        else:
            raise UsageError(f"is of a type that no filesystem has ({member.type!r})")
    except (OSError, AnabranchError) as error:
        intake.fail(path, error)


def _file(intake: Intake, path: bytes, attributes: Attributes, size: int, source: IO[bytes]) -> None:
    if size > SMALL:
        intake.add(Taken(path, entry_of(attributes, intake.stream(_Window(source).read))))
        return
    data = source.read()

    def take(data: bytes) -> list[Taken]:
        return [Taken(path, entry_of(attributes, intake.whole(data)))]

    intake.submit(partial(take, data))


def _clean(name: str) -> bytes:
    """A member's path: `./` and slashes at its start mean nothing. What leads out of the top is refused later."""
    return b"/".join(part for part in os.fsencode(name).split(b"/") if part not in (b"", b"."))


def _attributes(intake: Intake, member: tarfile.TarInfo, kind: EntryKind) -> Attributes:
    device = os.makedev(member.devmajor, member.devminor) if member.isdev() and not member.isfifo() else 0
    held = intake.xattrs(partial(_xattrs, member))
    return Attributes(MODE_TYPE[kind] | member.mode & 0o7777, member.uid, member.gid, _mtime_ns(member), device, held)


def xattr_key(name: bytes) -> str:
    """Where the pax header of a member has an extended attribute, as GNU tar and star write it."""
    return _XATTR + name.decode().replace("%", "%25").replace("=", "%3D")


def _xattrs(member: tarfile.TarInfo) -> dict[bytes, bytes]:
    return {
        key.removeprefix(_XATTR).replace("%3D", "=").replace("%25", "%").encode(): value.encode(errors=BYTES)
        for key, value in member.pax_headers.items()
        if key.startswith(_XATTR)
    }


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """To the nanosecond, where the stream has it: a float would round it."""
    text = member.pax_headers.get("mtime", "")
    seconds, _, rest = text.partition(".")
    try:
        sign = -1 if seconds.startswith("-") else 1
        return int(seconds) * 10**9 + sign * int(rest[:9].ljust(9, "0")) if text else int(member.mtime) * 10**9
    except ValueError:
        return int(member.mtime) * 10**9


class _Window:
    """Reads a stream by offset, which only grows."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from an offset on, fewer only at the end."""
        self._data = self._data[offset - self._start :]
        self._start = offset
        while len(self._data) < length and (more := self._source.read(length - len(self._data))):
            self._data += more
        return self._data[:length]
