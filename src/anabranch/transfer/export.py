"""Writing what a version holds into an ordinary directory; no mount is needed.

A directory is made under another name beside its place and renamed when it is whole, so nobody finds half of it. Files
are written by several threads, and read back: what is on the disk must have the bytes that were read from the store,
whose chunks are checked by their ids.
"""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anabranch.errors import AnabranchError, DamagedError, ExistsError, NotFoundError
from anabranch.escape import show_path
from anabranch.repo import Repository
from anabranch.versions.objects import MODE_TYPE, Entry, EntryKind, Tag
from anabranch.versions.trees import Version
from anabranch.versions.walks import Descent
from anabranch.worktree.ranges import Ranges

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

    def missing(self) -> tuple[bytes, str] | None:
        """The first path whose content is not there, and why: owners and attributes may not all have been taken."""
        return next((each for each in self.failed if not each[1].startswith(("its owner", "its attribute"))), None)


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
    descent = Descent()
    while stack:
        above, children = stack[-1]
        found = _next(above, children, version, failed)
        if found is None:
            stack.pop()
            if stack:
                descent.leave()
            continue
        path, entry, resolved = found
        if entry.kind is EntryKind.DIRECTORY:
            try:
                descent.enter(path, [entry.content])
            except DamagedError as error:
                failed.append((path, error.message))
                continue
            stack.append((path, _children(version, path + b"/" if path else b"", entry)))
        twin = first.setdefault(entry.content, path) if entry.kind is EntryKind.LINK else path
        yield Item(path, resolved, None if twin == path else twin)


def _next(
    above: bytes, children: Iterator[tuple[bytes, Entry]], version: Version, failed: Failed
) -> tuple[bytes, Entry, Entry] | None:
    """The next path in a directory, its entry, and what that leads to; None at the end, or where it is damaged."""
    try:
        found = next(children, None)
        return None if found is None else (*found, version.resolve(found[1])[0])
    except DamagedError as error:  # the rest of the directory cannot be read
        failed.append((above, error.message))
        return None


def _children(version: Version, prefix: bytes, directory: Entry) -> Iterator[tuple[bytes, Entry]]:
    return ((prefix + name, entry) for name, entry in version.trees.entries(directory.tree))


def to_directory(repository: Repository, version: Version, top: Entry, place: Path, progress: Progress) -> Exported:
    """Make a directory, or a file, of what an entry holds. Raises ExistsError, NotFoundError, OSError."""
    place = Path(os.path.abspath(place))
    inside = top.kind is EntryKind.DIRECTORY and _is_empty_directory(place)
    if os.path.lexists(place) and not inside:
        raise ExistsError(f"{place} exists already", hint="export to a new place, a directory also into an empty one")
    with beside(place / "x" if inside else place) as partial:
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


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A name beside a place, where nothing is left at the end. Raises NotFoundError."""
    if not place.parent.is_dir():
        raise NotFoundError(f"{place.parent} is no directory", hint=f"mkdir -p {place.parent}")
    partial = place.with_name(f".{place.name}.{os.getpid()}.ana-export")
    try:
        yield partial
    finally:
        if partial.is_dir():
            with contextlib.suppress(OSError):
                _remove(partial)
        else:
            partial.unlink(missing_ok=True)


def _remove(top: Path) -> None:
    """Delete a directory with all that is in it, which may lie deeper than Python's stack."""
    directories = [os.fspath(top)]
    for directory in directories:  # grows while it is walked
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108
    for directory in reversed(directories):
        os.rmdir(directory)  # noqa: PTH106


def _is_empty_directory(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and not any(place.iterdir())


class _Writing:
    """One export into a directory."""

    def __init__(self, repository: Repository, top: Path, progress: Progress) -> None:
        self._repository = repository
        self._top = top
        self._progress = progress
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy = 0
        """How many threads make something now."""
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

        try:
            with ThreadPoolExecutor(THREADS) as pool:
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
            self._stop()
            raise
        if unforeseen:
            raise unforeseen[0]
        for item in later:
            self._try(item, self._link)
        for item in reversed(directories):
            self._try(item, self._dress)

    def _stop(self) -> None:
        """From now on no thread makes anything, so what there is can be taken away.

        The pool cannot tell: Ctrl-C may have come while it waited, or before it knew a thread that it had started.
        """
        with self._idle:
            self._stopped = True
            self._idle.wait_for(lambda: not self._busy)

    def dress_top(self, place: Path, top: Entry) -> None:
        """Give a directory that was there the attributes of the top."""
        self._top = place
        self._try(Item(b"", top), self._dress)

    def _directory(self, item: Item) -> None:
        self._at(item.path).mkdir(0o700)

    def _at(self, path: bytes) -> Path:
        return self._top / os.fsdecode(path)

    def _one(self, item: Item) -> None:
        with self._lock:
            if self._stopped:
                return
            self._busy += 1
        try:
            self._try(item, self._file if item.entry.kind is EntryKind.FILE else self._special)
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify()

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
            digest, written = self._write(descriptor, entry)
            if _digest(descriptor, written) != digest:
                raise DamagedError("what was written cannot be read back")
            self._dress(item)
        except BaseException:
            place.unlink()
            raise
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, entry: Entry) -> tuple[bytes, Ranges]:
        """Holes stay holes. Returns a digest of what is in none, and where that is."""
        digest, ranges, told = hashlib.blake2b(), Ranges(), 0
        os.ftruncate(descriptor, entry.size)
        for offset, piece in self._repository.read_data(entry):
            if self._stopped:
                raise InterruptedError
            digest.update(piece)
            ranges.add(offset, offset + len(piece))
            if piece.count(0) != len(piece):
                view, start = memoryview(piece), offset
                while view:
                    written = os.pwrite(descriptor, view, start)
                    view, start = view[written:], start + written
            self._progress(offset + len(piece) - told)
            told = offset + len(piece)
        self._progress(entry.size - told)
        with self._lock:
            self.exported.size += entry.size
        return digest.digest(), ranges

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


def _digest(descriptor: int, written: Ranges) -> bytes:
    digest = hashlib.blake2b()
    for start, end in zip(written.starts, written.ends, strict=True):
        for offset in range(start, end, _PIECE):
            digest.update(os.pread(descriptor, min(_PIECE, end - offset), offset))
    return digest.digest()
