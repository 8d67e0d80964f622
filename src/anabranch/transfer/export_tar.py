"""Writing what a version holds as a tar file, or stream; no mount is needed."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from anabranch.errors import ExistsError, UsageError
from anabranch.escape import show_path
from anabranch.repo import Repository
from anabranch.transfer.export import Exported, Failed, Item, Progress, beside, items
from anabranch.transfer.tar import BYTES, xattr_key
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.trees import Version


def to_file(repository: Repository, version: Version, top: Entry, place: Path, progress: Progress) -> Exported:
    """Make a tar file. Raises what `to_stream` and `to_directory` raise."""
    place = Path(os.path.abspath(place))
    if os.path.lexists(place):
        raise ExistsError(f"{place} exists already", hint="export to a new place")
    with beside(place) as partial:
        with partial.open("wb") as stream:
            exported = to_stream(repository, version, top, stream, progress)
        partial.rename(place)
    return exported


def to_stream(repository: Repository, version: Version, top: Entry, stream: BinaryIO, progress: Progress) -> Exported:
    """Write a tar stream (POSIX.1-2001, pax) of what is below a directory. Raises UsageError, DamagedError, OSError."""
    if top.kind is not EntryKind.DIRECTORY:
        raise UsageError("only a directory can become a tar stream", hint="'ana cat' writes a file")
    exported = Exported()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, errors=BYTES) as tar:
        for item in items(version, top, exported.failed):
            if (why := _is_not_for_tar(item.entry)) is not None:
                exported.failed.append((item.path, why))
                continue
            source = _Source(repository.read(item.entry), progress) if item.entry.kind is EntryKind.FILE else None
            header = _header(item)
            if item.twin is None:
                header.pax_headers = {**header.pax_headers, **_xattr_headers(repository, item, exported.failed)}
            tar.addfile(header, None if item.twin else source)
            if item.entry.kind is not EntryKind.DIRECTORY:
                exported.files += 1
                exported.size += 0 if item.twin or source is None else item.entry.size
    return exported


def _is_not_for_tar(entry: Entry) -> str | None:
    """Why tar cannot hold something; None if it can."""
    if entry.kind is EntryKind.SOCKET:
        return "tar knows no sockets"
    device = entry.tag(Tag.DEVICE)
    if max(os.major(device), os.minor(device)) > _TAR_DEVICE_MAX:
        return "its device number is too large for tar"
    return None


_TAR_DEVICE_MAX = 0o7777777
_TAR_TYPES = {
    EntryKind.FILE: tarfile.REGTYPE,
    EntryKind.DIRECTORY: tarfile.DIRTYPE,
    EntryKind.SYMLINK: tarfile.SYMTYPE,
    EntryKind.FIFO: tarfile.FIFOTYPE,
    EntryKind.CHARACTER: tarfile.CHRTYPE,
    EntryKind.BLOCK: tarfile.BLKTYPE,
}


def _header(item: Item) -> tarfile.TarInfo:
    entry, header = item.entry, tarfile.TarInfo(os.fsdecode(item.path) or ".")
    header.type = _TAR_TYPES[entry.kind] if item.twin is None else tarfile.LNKTYPE
    header.mode, header.uid, header.gid = entry.mode, entry.uid, entry.gid
    seconds, rest = divmod(abs(entry.mtime_ns), 10**9)
    header.mtime = entry.mtime_ns // 10**9
    header.pax_headers = {"mtime": f"{'-' if entry.mtime_ns < 0 else ''}{seconds}.{rest:09}"}
    header.size = entry.size if header.type == tarfile.REGTYPE else 0
    device = entry.tag(Tag.DEVICE)
    header.devmajor, header.devminor = os.major(device), os.minor(device)
    if item.twin is not None:
        header.linkname = os.fsdecode(item.twin)
    elif entry.kind is EntryKind.SYMLINK:
        header.linkname = os.fsdecode(entry.content)
    return header


def _xattr_headers(repository: Repository, item: Item, failed: Failed) -> dict[str, str]:
    headers = {}
    for name, value in repository.xattrs(item.entry).items():
        try:
            headers[xattr_key(name)] = value.decode(errors=BYTES)
        except UnicodeDecodeError:
            failed.append((item.path, f"its attribute {show_path(name)}: tar knows only names in UTF-8"))
    return headers


class _Source:
    """The pieces of a file as tarfile wants to read them."""

    def __init__(self, pieces: Iterator[bytes], progress: Progress) -> None:
        self._pieces = pieces
        self._rest = b""
        self._progress = progress

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, fewer only at the end."""
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        self._progress(len(data))
        return data
