"""The content of one file of a working tree, and the plain files that hold what is not yet chunked.

Small new content is in memory, all other new bytes are in an overlay file: sparse, byte n of the file at byte n, with
the ranges that hold. What no range holds is read from the content below, or is a hole. Stored content never changes.
A content belongs to one generation: after a freeze, the first write puts a new content on top of the frozen one.
"""

import contextlib
import errno
import os
import resource
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from anabranch.store import private
from anabranch.versions.contents import Contents, NotLoaded
from anabranch.versions.manifests import Stored
from anabranch.worktree.ranges import Ranges

MEMORY_MAX = 64 * 1024
"""Content up to this many bytes stays in memory and in its row."""
OPEN_FILES = 256
"""Overlay files that are kept open, where the limit on descriptors leaves three times as many for others."""
_EXISTING = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1024 * 1024
SEGMENT = 32 * 1024 * 1024
"""Bytes of an overlay file whose ranges are kept together: a change rewrites no others."""


class Pin(Protocol):
    """Has overlay files stay as they are, for whoever copies them; see pins.py."""

    def keep(self, number: int, offset: int, length: int) -> None:
        """Put aside what a file holds in a range, before it is overwritten."""

    def spares(self, number: int) -> bool:
        """Whether a file that is to be deleted stays for now."""


class Overlays:
    """The overlay files of a repository, by number. Keeps few of them open."""

    def __init__(self, directory: Path, *, open_files: int = OPEN_FILES) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = open_files if soft == resource.RLIM_INFINITY else min(open_files, soft // 4)
        private.make_directory(directory)
        self._directory = directory
        self._open: OrderedDict[int, int] = OrderedDict()
        self.unsynced: dict[int, Ranges] = {}
        """Files written since somebody last took these to sync them, and what of them was written."""
        self._next: int | None = None
        self.pin: Pin | None = None

    def numbers(self) -> list[int]:
        """The numbers of all overlay files on disk."""
        return list(private.numbered(self._directory))

    def usage(self) -> tuple[int, int]:
        """How many overlay files there are on disk, and how many bytes they take there: holes take none."""
        with os.scandir(self._directory) as entries:
            sizes = [entry.stat().st_blocks * 512 for entry in entries if entry.name.isdigit()]
        return len(sizes), sum(sizes)

    def next_number(self) -> int:
        """The number of the file that is made next."""
        if self._next is None:
            self._next = 1 + max(self.numbers(), default=0)
        return self._next

    def create(self) -> int:
        """Make an empty overlay file; its number is never used again while this process lives."""
        number = self.next_number()
        self._next = number + 1
        self.unsynced[number] = Ranges()  # its name must be on disk before a row has it
        self._keep(number, private.open_file(self._directory / str(number), os.O_RDWR | os.O_EXCL))
        return number

    def write(self, number: int, offset: int, data: bytes | memoryview) -> None:
        """Write all of the data. Raises OSError."""
        if self.pin is not None:
            self.pin.keep(number, offset, len(data))
        self.unsynced.setdefault(number, Ranges()).add(offset, offset + len(data))
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor(number), view, offset)
            view, offset = view[written:], offset + written

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Read a range, which the file holds."""
        return os.pread(self._descriptor(number), length, offset)

    def sync(self, number: int) -> None:
        """Bring a file's bytes to disk. Any thread may call this. Raises OSError: see `write_again`."""
        with contextlib.suppress(FileNotFoundError):  # unlinked meanwhile: nothing names it any more
            descriptor = os.open(self._directory / str(number), _EXISTING)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def write_again(self, number: int, written: Ranges) -> None:
        """After a sync that failed: the kernel says so once, and takes bytes that it could not write for written from
        then on. So they are given to it again, as it has them in memory, before the next sync.
        """
        with contextlib.suppress(FileNotFoundError):
            for start, end in zip(written.starts, written.ends, strict=True):
                for offset in range(start, end, _PIECE):
                    self.write(number, offset, self.read(number, offset, min(_PIECE, end - offset)))

    def sync_names(self) -> None:
        """Bring the directory of the overlay files to disk. Any thread may call this."""
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, number: int) -> bool:
        """Delete a file that no row names any more; returns whether it is gone, or somebody else sees to that."""
        if self.pin is not None and self.pin.spares(number):
            return True
        try:
            if (descriptor := self._open.pop(number, None)) is not None:
                os.close(descriptor)
            (self._directory / str(number)).unlink(missing_ok=True)
        except OSError:
            return False
        self.unsynced.pop(number, None)
        return True

    def close(self) -> None:
        """Close every descriptor."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, number: int) -> int:
        descriptor = self._open.get(number)
        if descriptor is None:
            private.check_file(self._directory / str(number))
            return self._keep(number, os.open(self._directory / str(number), _EXISTING))
        self._open.move_to_end(number)
        return descriptor

    def _keep(self, number: int, descriptor: int) -> int:
        self._open[number] = descriptor
        if len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])
        return descriptor


class Sources(NamedTuple):
    """Where content is read from. `overlays` is for one thread only: each has its own."""

    contents: Contents
    overlays: Overlays


class StoredContent:
    """Content that is in the store; shared freely, never written."""

    def __init__(self, stored: Stored, added: int = 0) -> None:
        self.stored = stored
        self.added = added
        """Bytes that were new to the store, for the commit that will be the first to have it."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.stored.size

    def room(self, sources: Sources) -> int:
        """About how many bytes it takes: holes take none."""
        return sources.contents.room(self.stored)

    def read(self, sources: Sources, offset: int, length: int) -> bytes:
        """A range, cut off at the end. Raises NotLoaded."""
        return sources.contents.read(self.stored, offset, length)


class MemoryContent:
    """A small file, in memory."""

    added = 0
    """As of stored content: nothing of it is stored."""

    def __init__(self, data: bytes, generation: int) -> None:
        self.data = bytearray(data)
        self.generation = generation
        self.version = 0

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def room(self, sources: Sources) -> int:
        """All of it: so small a file has no holes."""
        return len(self.data)

    def copy(self) -> "MemoryContent":
        """As it is now."""
        return MemoryContent(bytes(self.data), self.generation)

    def read(self, sources: Sources, offset: int, length: int) -> bytes:
        """A range, cut off at the end."""
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Write, filling a gap with zeros."""
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.version += 1

    def truncate(self, size: int) -> None:
        """Set the length."""
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))
        self.version += 1


class OverlayContent:
    """A file whose new bytes are in an overlay file, the others in the content below."""

    def __init__(
        self,
        number: int,
        generation: int,
        *,
        size: int,
        below: "Content | None" = None,
        below_size: int = 0,
        ranges: Ranges | None = None,
    ) -> None:
        self.number = number
        self.generation = generation
        self.size = size
        self.below = below
        self.below_size = below_size
        self.ranges = ranges or Ranges()
        self.segments: set[int] = set()
        """Those whose ranges are kept, or are to be."""
        self.touched: set[int] = set()
        """Those whose ranges are not as they are kept."""
        self.version = 0
        self.written_ns = 0
        """When it was last written to or truncated."""
        self._touch(0, self.ranges.end)

    def copy(self) -> "OverlayContent":
        """As it is now; but the bytes in the overlay file are those of the moment of reading."""
        ranges = Ranges(list(self.ranges.starts), list(self.ranges.ends))
        return OverlayContent(
            self.number, self.generation, size=self.size, below=self.below, below_size=self.below_size, ranges=ranges
        )

    @property
    def added(self) -> int:
        """As of the stored content that it lies over."""
        return 0 if self.below is None else self.below.added

    def room(self, sources: Sources) -> int:
        """About how many bytes it takes: at most those of the ranges and of what lies below."""
        below = 0 if self.below is None else min(self.below_size, self.below.room(sources))
        return min(self.size, self.ranges.total + below)

    def _changed(self) -> None:
        self.version += 1
        self.written_ns = time.monotonic_ns()

    def _touch(self, start: int, end: int) -> None:
        if start < end:
            segments = range(start // SEGMENT, (end - 1) // SEGMENT + 1)
            self.segments.update(segments)
            self.touched.update(segments)

    def read(self, sources: Sources, offset: int, length: int) -> bytes:
        """A range, cut off at the end. Raises NotLoaded."""
        end = min(offset + length, self.size)
        parts: list[bytes] = []
        for start, stop, held in self.ranges.walk(offset, end):
            if held:
                part = self._held(sources.overlays, start, stop)
            elif self.below is not None and start < self.below_size:
                part = self.below.read(sources, start, min(stop, self.below_size) - start)
            else:
                part = b""
            parts.append(part if len(part) == stop - start else part.ljust(stop - start, b"\0"))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _held(self, overlays: Overlays, start: int, stop: int) -> bytes:
        part = overlays.read(self.number, start, stop - start)
        if len(part) < stop - start:
            raise OSError(errno.EIO, f"overlay file {self.number} is shorter than its ranges")
        return part

    def become(self, above: "OverlayContent", overlays: Overlays) -> None:
        """Take over what lies above this content, which then is not needed. Raises OSError; then it still is."""
        self.truncate(min(self.size, above.below_size))
        for start, end in zip(above.ranges.starts, above.ranges.ends, strict=True):
            for offset in range(start, end, _PIECE):
                self.write(overlays, offset, above._held(overlays, offset, min(offset + _PIECE, end)))
        self.truncate(above.size)
        self.generation = above.generation

    def write(self, overlays: Overlays, offset: int, data: bytes) -> None:
        """Write into the overlay file."""
        overlays.write(self.number, offset, data)
        self._changed()
        self.ranges.add(offset, offset + len(data))
        self._touch(offset, offset + len(data))
        self.size = max(self.size, offset + len(data))

    def truncate(self, size: int) -> None:
        """Set the length; the bytes cut off are forgotten here, not yet on disk: a crash must find them."""
        self._changed()
        self._touch(size, self.ranges.end)
        self.ranges.cut(size)
        self.below_size = min(self.below_size, size)
        self.size = size

    def held(self, segment: int) -> tuple[list[int], list[int]]:
        """Where the ranges of a segment start and end, from its beginning."""
        start = segment * SEGMENT
        held = [(at - start, end - start) for at, end, held in self.ranges.walk(start, start + SEGMENT) if held]
        return [at for at, _ in held], [end for _, end in held]

    def hold(self, segment: int, starts: list[int], ends: list[int]) -> None:
        """Take over the kept ranges of a segment. Raises ValueError on such as cannot be."""
        Ranges(starts, ends).check(SEGMENT)
        for start, end in zip(starts, ends, strict=True):
            self.ranges.add(segment * SEGMENT + start, segment * SEGMENT + end)
        self.segments.add(segment)

    def overlays(self) -> "Iterator[OverlayContent]":
        """The contents in overlay files that make up this one, itself first."""
        content: Content | None = self
        while isinstance(content, OverlayContent):
            yield content
            content = content.below


Content = StoredContent | MemoryContent | OverlayContent


def read_waiting(content: Content, sources: Sources, offset: int, length: int) -> bytes:
    """A range of a content, cut off at its end, waiting for the disk."""
    while True:
        try:
            return content.read(sources, offset, length)
        except NotLoaded as missing:
            sources.contents.load(missing.chunks)
