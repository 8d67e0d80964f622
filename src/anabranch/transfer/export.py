"""Writing what a version holds into an ordinary directory, or as a tar stream; no mount is needed.

A directory is made under another name beside its place and renamed when it is whole, so nobody finds half of it. Files
are written by several threads, and read back: what is on the disk must have the bytes that were read from the store,
whose chunks are checked by their ids.
"""

import errno
import hashlib
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from anabranch.errors import AnabranchError, DamagedError, ExistsError, NotFoundError, UsageError
from anabranch.escape import show_path
from anabranch.repo import Repository
from anabranch.transfer.tar import BYTES, xattr_key
from anabranch.versions.objects import MODE_TYPE, Entry, EntryKind, Tag
from anabranch.versions.trees import Version

THREADS = 4
_PIECE = 1024 * 1024

Progress = Callable[[int], None]
"""Called with the number of bytes that were written since the last time, by any thread."""


Failed = list[tuple[bytes, str]]
"""Paths, and why each is not as in the version."""


@dataclass(slots=True)
class Exported:
    """What an export came to."""

    files: int = 0
    size: int = 0
    """Bytes in them."""
    failed: Failed = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Item:
    """A path below the top of an export, parents first. `twin` is an earlier path of the same file."""

    path: bytes
    entry: Entry
    twin: bytes | None = None


def items(version: Version, top: Entry, failed: Failed) -> Iterator[Item]:
    """Everything below a directory, in the order of a walk; the top itself is the empty path.

    What is damaged is added to `failed`, and left out.
    """
    first: dict[bytes, bytes] = {}
    stack: list[tuple[bytes, Iterator[tuple[bytes, Entry]]]] = [(b"", iter([(b"", top)]))]
    while stack:
        above, children = stack[-1]
        try:
            found = next(children, None)
            if found is None:
                stack.pop()
                continue
            path, entry = found
            resolved = version.resolve(entry)[0]
        except DamagedError as error:  # the rest of the directory cannot be read
            failed.append((above, error.message))
            stack.pop()
            continue
        twin = first.setdefault(entry.content, path) if entry.kind is EntryKind.LINK else path
        yield Item(path, resolved, None if twin == path else twin)
        if entry.kind is EntryKind.DIRECTORY:
            stack.append((path, _children(version, path + b"/" if path else b"", entry)))


def _children(version: Version, prefix: bytes, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
    return ((prefix + name, entry) for name, entry in version.trees.entries(directory.tree))


def to_directory(repository: Repository, version: Version, top: Entry, place: Path, progress: Progress) -> Exported:
    """Make a directory, or a file, of what an entry holds. Raises ExistsError, NotFoundError, OSError."""
    place = Path(os.path.abspath(place))
    inside = top.kind is EntryKind.DIRECTORY and _is_empty_directory(place)
    if os.path.lexists(place) and not inside:
        raise ExistsError(f"{place} exists already", hint="export to a new place, a directory also into an empty one")
    with _beside(place / "x" if inside else place) as partial:
        writing = _Writing(repository, partial, progress)
        writing.run(items(version, top, writing.exported.failed))
        if not os.path.lexists(partial):
            why = next(why for path, why in writing.exported.failed if not path)
            raise AnabranchError(f"{place} cannot be made: {why}")
        if inside:  # it may be a mount point, or all that we may write to
            for child in partial.iterdir():
                child.rename(place / child.name)
            partial.rmdir()
            writing.dress_top(place, top)
        else:
            partial.rename(place)
    return writing.exported


def to_tar_file(repository: Repository, version: Version, top: Entry, place: Path, progress: Progress) -> Exported:
    """Make a tar file. Raises what `to_tar` and `to_directory` raise."""
    place = Path(os.path.abspath(place))
    if os.path.lexists(place):
        raise ExistsError(f"{place} exists already", hint="export to a new place")
    with _beside(place) as partial:
        with partial.open("wb") as stream:
            exported = to_tar(repository, version, top, stream, progress)
        partial.rename(place)
    return exported


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A name beside a place, where nothing is left at the end. Raises NotFoundError."""
    if not place.parent.is_dir():
        raise NotFoundError(f"{place.parent} is no directory", hint=f"mkdir -p {place.parent}")
    partial = place.with_name(f".{place.name}.{os.getpid()}.ana-export")
    try:
        yield partial
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _is_empty_directory(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and not any(place.iterdir())


class _Writing:
    """One export into a directory."""

    def __init__(self, repository: Repository, top: Path, progress: Progress) -> None:
        self._repository = repository
        self._top = top
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = False
        self.exported = Exported()

    def run(self, found: Iterator[Item]) -> None:
        """Directories at once, files in threads; then what needs both: links, and the directories' own attributes."""
        later: list[Item] = []
        directories: list[Item] = []
        unforeseen: list[BaseException] = []
        waiting = threading.Semaphore(THREADS * 4)  # or a large tree would all be queued

        def settled(work: Future[None]) -> None:
            waiting.release()
            if (error := work.exception()) is not None:
                unforeseen.append(error)

        with ThreadPoolExecutor(THREADS) as pool:
            try:
                for item in found:
                    if item.entry.kind is EntryKind.DIRECTORY:
                        self._try(item, self._directory)
                        directories.append(item)
                    elif item.twin is not None:
                        later.append(item)
                    else:
                        waiting.acquire()
                        pool.submit(self._one, item).add_done_callback(settled)
            except BaseException:
                self._stopped = True
                raise
        if unforeseen:
            raise unforeseen[0]
        for item in later:
            self._try(item, self._link)
        for item in reversed(directories):
            self._try(item, self._dress)

    def dress_top(self, place: Path, top: Entry) -> None:
        """Give a directory that was there the attributes of the top."""
        self._top = place
        self._try(Item(b"", top), self._dress)

    def _directory(self, item: Item) -> None:
        self._at(item.path).mkdir(0o700)

    def _at(self, path: bytes) -> Path:
        return self._top / os.fsdecode(path)

    def _one(self, item: Item) -> None:
        self._try(item, self._file if item.entry.kind is EntryKind.FILE else self._special)

    def _try(self, item: Item, make: Callable[[Item], None]) -> None:
        try:
            make(item)
        except (OSError, AnabranchError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else error.message
            with self._lock:
                self.exported.failed.append((item.path, why))
            return
        if item.entry.kind is not EntryKind.DIRECTORY:
            with self._lock:
                self.exported.files += 1

    def _file(self, item: Item) -> None:
        place, entry = self._at(item.path), item.entry
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            digest = self._write(descriptor, entry)
            if _digest(descriptor) != digest:
                raise DamagedError("what was written cannot be read back")
            self._dress(item)
        except BaseException:
            place.unlink()
            raise
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, entry: Entry) -> bytes:
        """Holes stay holes."""
        digest, offset = hashlib.blake2b(), 0
        for piece in self._repository.read(entry):
            if self._stopped:
                raise InterruptedError
            digest.update(piece)
            if piece.count(0) != len(piece):
                view, start = memoryview(piece), offset
                while view:
                    written = os.pwrite(descriptor, view, start)
                    view, start = view[written:], start + written
            offset += len(piece)
            self._progress(len(piece))
        os.ftruncate(descriptor, offset)
        with self._lock:
            self.exported.size += offset
        return digest.digest()

    def _special(self, item: Item) -> None:
        place, entry = self._at(item.path), item.entry
        if entry.kind is EntryKind.SYMLINK:
            place.symlink_to(os.fsdecode(entry.content))
        else:
            os.mknod(place, MODE_TYPE[entry.kind] | 0o600, entry.tag(Tag.DEVICE))
        self._dress(item)

    def _link(self, item: Item) -> None:
        assert item.twin is not None
        os.link(self._at(item.twin), self._at(item.path), follow_symlinks=False)

    def _dress(self, item: Item) -> None:
        """Owners only root can give away; set-uid bits and capabilities go with them, so those come after."""
        place, entry = self._at(item.path), item.entry
        if os.geteuid() == 0:
            try:
                os.chown(place, entry.uid, entry.gid, follow_symlinks=False)
            except OSError as error:  # root of a container, or a disk that knows no owners: the content counts more
                with self._lock:
                    self.exported.failed.append((item.path, f"its owner: {error.strerror}"))
        self._set_xattrs(item)
        if entry.kind is not EntryKind.SYMLINK:
            place.chmod(entry.mode)
        os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _set_xattrs(self, item: Item) -> None:
        """Where the disk knows no extended attributes, they are left out, and so are those that only root can set."""
        for name, value in self._repository.xattrs(item.entry).items():
            try:
                os.setxattr(self._at(item.path), name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENOTSUP and (error.errno != errno.EPERM or os.geteuid() == 0):
                    with self._lock:
                        self.exported.failed.append((item.path, f"its attribute {show_path(name)}: {error.strerror}"))


def _digest(descriptor: int) -> bytes:
    digest, offset = hashlib.blake2b(), 0
    while piece := os.pread(descriptor, _PIECE, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.digest()


def to_tar(repository: Repository, version: Version, top: Entry, stream: BinaryIO, progress: Progress) -> Exported:
    """Write a tar stream (POSIX.1-2001, pax) of what is below a directory. Raises UsageError, DamagedError, OSError."""
    if top.kind is not EntryKind.DIRECTORY:
        raise UsageError("only a directory can become a tar stream", hint="'ana cat' writes a file")
    exported = Exported()
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, errors=BYTES) as tar:
        for item in items(version, top, exported.failed):
            if item.entry.kind is EntryKind.SOCKET:
                exported.failed.append((item.path, "tar knows no sockets"))
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
