"""Importing a folder, or a single file: read as cp -a would, without following symbolic links."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from anabranch.errors import NotFoundError, RefusedError, UsageError
from anabranch.repo import Repository
from anabranch.transfer.intake import SMALL, Attributes, Imported, Intake, Progress, Taken, entry_of
from anabranch.transfer.sieve import Sieve
from anabranch.versions.objects import Entry
from anabranch.worktree.ignore import NAME as RULES
from anabranch.worktree.ignore import SIZE_MAX as RULES_MAX

_BATCH = 64
"""Small files that one thread takes in one go."""

Found = tuple[bytes, bytes, os.stat_result]
"""A file: its path from the top of the folder, its place on the disk, and what lstat(2) says."""


def take_folder(
    repository: Repository, source: Path, top: bytes, dress: Entry, sieve: Sieve, progress: Progress
) -> Imported:
    """Read and store a folder that is to become the path `top` of a branch, but for what the sieve leaves out. `dress`
    is how directories above look that the branch lacks. Raises NotFoundError, UsageError, RefusedError when it cannot
    be read at all.
    """
    place = os.fsencode(os.path.abspath(source))
    try:
        of = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{source} does not exist") from None
    except OSError as error:
        raise RefusedError(f"{source} cannot be read: {error.strerror}") from error
    if not top and not stat.S_ISDIR(of.st_mode):
        raise UsageError(f"{source} is no folder, which a branch is", hint=f"give it a name: {source.name}")
    with Intake(repository, top, dress, progress) as intake:
        _Walk(repository, intake).run(place, of, sieve)
        done = intake.finish()
    for path, why in done.failed:
        if not path:
            raise RefusedError(f"{source} cannot be read: {why}")
    return done


def measure(source: Path) -> Iterator[int]:
    """The bytes of each file of a folder, as far as they can be seen: what `progress` is called with in all."""
    yield _size(source)
    todo = [os.fspath(source)]  # os.walk goes no deeper than Python's stack
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    yield _size(entry.path)


def _size(path: str | Path) -> int:
    try:
        of = os.lstat(path)
    except OSError:
        return 0
    return of.st_size if stat.S_ISREG(of.st_mode) else 0


class _UnreadableError(Exception):
    """A file failed while it was being stored. What the store itself raises is another thing: it ends the import."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Walk:
    """One walk through a folder, in one thread; the threads of the intake read small files."""

    def __init__(self, repository: Repository, intake: Intake) -> None:
        here = repository.layout.path.stat()
        self._repository = here.st_dev, here.st_ino
        self._intake = intake
        self._batch: list[Found] = []

    def run(self, place: bytes, of: os.stat_result, sieve: Sieve) -> None:
        """Take a folder with all that is below it, or one file."""
        if not stat.S_ISDIR(of.st_mode):
            self._other(b"", place, of)
            self._submit()
            return
        stack = [(b"", self._directory(b"", place, of, sieve))]
        while stack:
            path, below = stack[-1]
            found = next(below, None)
            if found is not None:
                stack.append((found[0], self._directory(*found)))
                continue
            stack.pop()
            self._submit()
            self._intake.close(path)

    def _directory(
        self, path: bytes, place: bytes, of: os.stat_result, sieve: Sieve
    ) -> Iterator[tuple[bytes, bytes, os.stat_result, Sieve]]:
        """Take what is in a directory; yields those below it."""
        try:
            if (of.st_dev, of.st_ino) == self._repository:
                raise OSError(errno.ELOOP, "is the repository itself")
            with os.scandir(place) as children:
                found = [(path + b"/" + child.name if path else child.name, child) for child in children]
            attributes = self._attributes(place, of)
            sieve = sieve.within(self._intake.place(path), _rules([child for _, child in found]))
        except OSError as error:
            self._intake.fail(path, error)
            return
        self._intake.add(Taken(path, entry_of(attributes)))
        for below, child in found:
            try:
                of = child.stat(follow_symlinks=False)
            except OSError as error:
                self._intake.fail(below, error)
                continue
            inside = sieve.passed(self._intake.place(below), is_directory=stat.S_ISDIR(of.st_mode))
            if inside is None:
                self._intake.left_out += 1
            elif stat.S_ISDIR(of.st_mode):
                yield below, child.path, of, inside
            else:
                self._other(below, child.path, of)

    def _other(self, path: bytes, place: bytes, of: os.stat_result) -> None:
        if stat.S_ISREG(of.st_mode) and of.st_size <= SMALL:
            self._batch.append((path, place, of))
            if len(self._batch) == _BATCH:
                self._submit()
            return
        try:
            if stat.S_ISREG(of.st_mode):
                taken = self._large(path, place, of)
            else:
                with _telling():
                    attributes = self._attributes(place, of)
                taken = _taken(path, of, entry_of(attributes, target=_target(place, of)))
        except (_UnreadableError, UsageError) as error:
            self._intake.fail(path, error.error if isinstance(error, _UnreadableError) else error)
            return
        self._intake.add(taken)

    def _attributes(self, place: bytes, of: os.stat_result) -> Attributes:
        held = self._intake.xattrs(partial(_xattrs, place))
        return Attributes(of.st_mode, of.st_uid, of.st_gid, of.st_mtime_ns, of.st_rdev, held)

    def _submit(self) -> None:
        if self._batch:
            self._intake.submit(partial(self._small, self._batch))
            self._batch = []

    def _small(self, batch: list[Found]) -> list[Taken]:
        taken = []
        for path, place, of in batch:
            try:
                data = _read(place, of.st_size)
                attributes = self._attributes(place, of)
            except OSError as error:
                self._intake.fail(path, error)
                continue
            taken.append(_taken(path, of, entry_of(attributes, self._intake.whole(data))))
        return taken

    def _large(self, path: bytes, place: bytes, of: os.stat_result) -> Taken:
        with _telling():
            descriptor = _open(place)
        try:
            sparse = of.st_blocks * 512 < of.st_size
            stored = self._intake.stream(partial(_exactly, descriptor), _holes(descriptor) if sparse else lambda _: 0)
        finally:
            os.close(descriptor)
        with _telling():
            attributes = self._attributes(place, of)
        return _taken(path, of, entry_of(attributes, stored))


def _rules(children: list[os.DirEntry[bytes]]) -> bytes | None:
    """The text of a file of rules among the children of a directory."""
    for child in children:
        if child.name == RULES and child.is_file(follow_symlinks=False):
            return _read(child.path, child.stat().st_size)[:RULES_MAX]
    return None


def _taken(path: bytes, of: os.stat_result, entry: Entry) -> Taken:
    return Taken(path, entry, (of.st_dev, of.st_ino) if of.st_nlink > 1 else None)


def _xattrs(place: bytes) -> dict[bytes, bytes]:
    """The extended attributes of a place; none where the filesystem has none."""
    try:
        names = [os.fsencode(name) for name in os.listxattr(place, follow_symlinks=False)]
        return {name: os.getxattr(place, name, follow_symlinks=False) for name in names}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise


@contextmanager
def _telling() -> Iterator[None]:
    """Tell what a source raises from what the store does."""
    try:
        yield
    except OSError as error:
        raise _UnreadableError(error) from error


def _target(place: bytes, of: os.stat_result) -> bytes:
    if not stat.S_ISLNK(of.st_mode):
        return b""
    with _telling():
        return os.readlink(place)  # noqa: PTH115  (bytes)


def _open(place: bytes) -> int:
    """Never waits: what was a file a moment ago may be a FIFO now."""
    return os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(place: bytes, size: int) -> bytes:
    """A whole small file; `size` is what it should have."""
    descriptor = _open(place)
    try:
        data = os.read(descriptor, size + 1)
        if len(data) != size:
            while more := os.read(descriptor, SMALL):
                data += more
        return data
    finally:
        os.close(descriptor)


def _exactly(descriptor: int, offset: int, length: int) -> bytes:
    with _telling():
        data = os.pread(descriptor, length, offset)
        while 0 < len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data))):
            data += more
        return data


def _holes(descriptor: int) -> Callable[[int], int]:
    def hole(offset: int) -> int:
        size = os.fstat(descriptor).st_size
        try:
            return os.lseek(descriptor, offset, os.SEEK_DATA) - offset
        except OSError as error:
            return max(0, size - offset) if error.errno == errno.ENXIO else 0

    return hole
