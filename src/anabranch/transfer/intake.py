"""Taking files into a repository: contents are cut, compressed and stored by several threads, entries are collected.

The walker of a source calls from one thread. What cannot be read is listed, and the rest goes on.
"""

import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from anabranch.errors import UsageError
from anabranch.repo import Repository
from anabranch.settings import ON, XATTR
from anabranch.transfer.building import Building
from anabranch.transfer.sieve import Sieve
from anabranch.versions import xattrs
from anabranch.versions.manifests import EMPTY, Stored
from anabranch.versions.objects import KIND_OF_TYPE, TARGET_MAX, Entry, EntryKind, Form, Tag, fresh_link_id
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.versions.xattrs import NO_XATTRS, Xattrs
from anabranch.worktree.ignore import SIZE_MAX as RULES_MAX
from anabranch.worktree.ingest import Ingest
from anabranch.worktree.tree import TIME_MAX

THREADS = 4
SMALL = 1024 * 1024
"""Files up to this many bytes are read whole; the chunks of larger ones are compressed by several threads."""
_OWNER_MAX = 0xFFFFFFFF
_WAITING = 32
"""Batches of small files that may wait to be taken."""

Progress = Callable[[int], None]
"""Called with the number of bytes that were read since the last time, by any thread."""
Failed = list[tuple[bytes, str]]
"""Paths, and why each was left out."""


@dataclass(slots=True)
class Imported:
    """What was read of a source, and is stored."""

    version: Version
    files: int
    size: int
    """Bytes in them."""
    added: int
    """Bytes that were new to the store."""
    failed: Failed
    kept: list[bytes]
    """Where the failed ones are in the branch: what is there stays."""
    left_out: int
    """How many paths were ignored; a directory counts once."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was read: its entry, and if it may have other names, what they have in common."""

    path: bytes
    entry: Entry
    twins: object = None


@dataclass(slots=True)
class _Counts:
    files: int = 0
    size: int = 0
    failed: Failed = field(default_factory=list)


class Intake:
    """One import of what becomes the path `top` of a branch; paths count from there.

    Use it as a context manager: leaving it early drops what waits.
    """

    def __init__(self, repository: Repository, top: bytes, dress: Entry, progress: Progress) -> None:
        self.progress = progress
        self.left_out = 0
        self._repository = repository
        self._top = top
        self._building = Building(repository.trees, dress)
        self._counts = _Counts()
        self._links: dict[object, bytes] = {}
        self._waiting: deque[Callable[[], None]] = deque()
        """What is to be done in order, when the batches of files before it have come."""
        self._files = ThreadPoolExecutor(THREADS, "files")
        self._chunks = ThreadPoolExecutor(THREADS, "chunks")
        self._local = threading.local()
        self._ingests: list[Ingest] = []
        self._stopped = False
        self._has_xattrs = repository.settings.get(XATTR) == ON

    def __enter__(self) -> "Intake":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads."""
        self._stopped = True
        self._files.shutdown(cancel_futures=True)
        self._chunks.shutdown(cancel_futures=True)

    def fail(self, path: bytes, error: OSError | UsageError) -> None:
        """A path is left out."""
        why = error.message if isinstance(error, UsageError) else error.strerror or str(error)
        self._counts.failed.append((path, why))

    def submit(self, call: Callable[[], list[Taken]]) -> None:
        """Have a batch of small files taken by a thread."""
        batch = self._files.submit(call)
        self._in_order(lambda: self._put(batch.result()))

    def close(self, path: bytes) -> None:
        """A directory is complete when all that was submitted so far has come."""

        def put() -> None:
            with suppress(UsageError):  # it never came
                self._building.close(self.place(path))

        self._in_order(put)

    def whole(self, data: bytes) -> Stored:
        """Store a small content. Any thread."""
        self._check()
        self.progress(len(data))
        return self._ingest().whole(data)

    def stream(self, read: Callable[[int, int], bytes], hole: Callable[[int], int] = lambda _: 0) -> Stored:
        """Store a large content; see Ingest.stream. In the walker's thread."""
        done = 0

        def reading(offset: int, length: int) -> bytes:
            nonlocal done
            data = read(offset, length)
            self.progress(max(0, offset + len(data) - done))
            done = max(done, offset + len(data))
            return data

        return self._ingest().stream(reading, hole, self._chunks)

    def xattrs(self, found: Callable[[], Mapping[bytes, bytes]]) -> Xattrs:
        """Store the extended attributes that are found, if the repository is to have any. Any thread.

        Raises OSError(ENOSPC) on more than a file may have.
        """
        if not self._has_xattrs:
            return NO_XATTRS
        made = xattrs.made({name: value for name, value in found().items() if xattrs.is_kept(name)})
        xattrs.put(self._repository.objects, made)
        return made

    def add(self, taken: Taken) -> None:
        """Put what was read in its place."""
        self._in_order(lambda: self._put([taken]))

    def _put(self, taken: Iterable[Taken]) -> None:
        for each in taken:
            path = self.place(each.path)
            try:
                if each.twins is None:
                    self._building.add(path, each.entry)
                else:
                    self._building.add_name(path, self._links.setdefault(each.twins, fresh_link_id()), each.entry)
            except UsageError as error:
                self.fail(each.path, error)
                continue
            self._counts.files += each.entry.kind is not EntryKind.DIRECTORY
            self._counts.size += each.entry.size if each.entry.kind is EntryKind.FILE else 0

    def link(self, path: bytes, target: bytes) -> None:
        """Make a path another name of the file that came at `target`."""

        def put() -> None:
            try:
                self._building.link(self.place(path), self.place(target))
            except UsageError as error:
                self.fail(path, error)
                return
            self._counts.files += 1

        self._in_order(put)

    def finish(self, sieve: Sieve | None = None) -> Imported:
        """Wait for everything; what was read is durable then. With a sieve, what it leaves out goes again."""
        self._settle(0)
        if sieve is not None:
            self.left_out += self._building.sift(self._top, sieve, self._text)
        version = self._building.finish()
        self._repository.chunks.flush()
        self._repository.objects.flush()
        counts = self._counts
        added = sum(ingest.added for ingest in self._ingests)
        kept = [self.place(path) for path, _ in counts.failed]
        return Imported(version, counts.files, counts.size, added, counts.failed, kept, self.left_out)

    def _text(self, entry: Entry) -> bytes:
        return b"".join(self._repository.read(entry))[:RULES_MAX]

    def place(self, path: bytes) -> bytes:
        """A path from the top of the branch."""
        return b"/".join(filter(None, (self._top, path)))

    def _in_order(self, put: Callable[[], None]) -> None:
        self._waiting.append(put)
        self._settle(_WAITING)

    def _settle(self, waiting: int) -> None:
        while len(self._waiting) > waiting:
            self._waiting.popleft()()

    def _ingest(self) -> Ingest:
        ingest: Ingest | None = getattr(self._local, "ingest", None)
        if ingest is None:
            ingest = self._local.ingest = self._repository.ingest(self._check)
            self._ingests.append(ingest)
        return ingest

    def _check(self) -> None:
        if self._stopped:
            raise InterruptedError


def entry_of(of: "Attributes", stored: Stored = EMPTY, target: bytes = b"") -> Entry:
    """The entry of what stat(2), or a tar header, describes. Raises UsageError on what no entry can be."""
    kind = KIND_OF_TYPE[stat.S_IFMT(of.mode)]
    mtime_ns = min(max(of.mtime_ns, -TIME_MAX - 1), TIME_MAX)  # as filesystems do it with times that they cannot keep
    common = (kind, stat.S_IMODE(of.mode), of.uid, of.gid, mtime_ns)
    tags = of.xattrs.tags()
    extra = tags or None
    if kind is EntryKind.FILE:
        return Entry(*common, stored.size, stored.form, stored.content, extra)
    if kind is EntryKind.SYMLINK:
        if not 0 < len(target) <= TARGET_MAX or b"\0" in target:
            raise UsageError("leads to what is no path")
        return Entry(*common, len(target), Form.EMPTY, target, extra)
    if kind is EntryKind.DIRECTORY:
        return Entry(*common, content=EMPTY_TREE, extra=extra)
    device: dict[int, int | bytes] = {Tag.DEVICE: of.device} if of.device else {}
    return Entry(*common, extra=device | tags or None)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What there is to say of a file beside its content: type and permissions, owners, time, device.

    Raises UsageError on owners that cannot be.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int = 0
    xattrs: Xattrs = NO_XATTRS

    def __post_init__(self) -> None:
        if not (0 <= self.uid <= _OWNER_MAX and 0 <= self.gid <= _OWNER_MAX):
            raise UsageError(f"has no possible owner: {self.uid}:{self.gid}")
