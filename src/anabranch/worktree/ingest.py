"""Turning the bytes of a file into chunks. Any thread may do it, with overlay descriptors of its own.

A cut depends on the bytes since the cut before, on the byte after it, and on whether one more follows. So the chunks of
the old content that no write came near are taken over unread, and only what surrounds a change is cut anew, until a cut
falls on an old one. Holes are never read. The cost follows what was written, not the size of the file.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from anabranch.store.chunker import MAX_SIZE, cut
from anabranch.store.chunks import ChunkStore
from anabranch.versions import manifests
from anabranch.versions.manifests import EMPTY, ZERO, Piece, Splice, Stored
from anabranch.versions.objects import INLINE_MAX, Form
from anabranch.worktree.content import Content, MemoryContent, OverlayContent, Sources, StoredContent, read_waiting
from anabranch.worktree.ranges import Ranges

WINDOW = 4 * 1024 * 1024
_FIRST_WINDOW = 2 * MAX_SIZE
"""After a change the old cuts are met again soon: less is read there."""
_AHEAD = 2
"""How many bytes after a cut it depends on, unless the chunk has the maximal size."""
_ZEROS = bytes(MAX_SIZE)


class Ingest:
    """Ingests contents one after the other; `done` counts the bytes that were read, `added` those new to the store.

    `check` is called every few MiB; what it raises ends the ingest.
    """

    def __init__(self, chunks: ChunkStore, sources: Sources, check: Callable[[], None] = lambda: None) -> None:
        self._chunks = chunks
        self._sources = sources
        self._check = check
        self._manifests = sources.contents.manifests
        self.done = 0
        self.added = 0

    def whole(self, data: bytes) -> Stored:
        """A content that is all in memory, stored. Durable after the store's flush."""
        if len(data) <= INLINE_MAX:
            return manifests.inline(data)
        view = memoryview(data)
        pieces = []
        for length in cut(view, final=True):
            pieces.append(self._store(view[:length]))
            view = view[length:]
        return self._manifests.store(pieces)

    def stream(
        self, read: Callable[[int, int], bytes], hole: Callable[[int], int], pool: Executor | None = None
    ) -> Stored:
        """A content that is read once, from its start; several threads may compress it. Durable after a flush.

        `read` gives as many bytes from an offset on as it is asked for, fewer only at the end; `hole` says how many
        zeros are known to follow.
        """
        pieces: list[Piece] = []
        offset, final = 0, False
        while not final:
            self._check()
            if repeat := hole(offset) // MAX_SIZE:
                pieces.append(Piece(ZERO, MAX_SIZE, repeat))
                offset += repeat * MAX_SIZE
                continue
            view = memoryview(read(offset, WINDOW))
            final = len(view) < WINDOW
            if final and offset + len(view) <= INLINE_MAX:
                return manifests.inline(bytes(view))
            parts = []
            for length in cut(view, final=final):
                parts.append(view[:length])
                view, offset = view[length:], offset + length
            pieces += pool.map(self._store, parts) if pool else map(self._store, parts)
        return self._manifests.store(pieces)

    def run(self, content: Content) -> Stored:
        """The content, stored. Durable after the store's flush."""
        if isinstance(content, StoredContent):
            return content.stored
        if content.size <= INLINE_MAX:
            self.done += content.size
            return manifests.inline(self._read(content, 0, content.size))
        old = _Old(content, self._sources)
        return self._manifests.splice(old.stored, list(self._splices(content, old)))

    def _splices(self, content: MemoryContent | OverlayContent, old: "_Old") -> Iterator[Splice]:
        offset = 0
        while offset < content.size:
            start = old.kept_up_to(offset)
            if start < content.size:
                offset, pieces = self._cut_anew(content, old, start)
                yield Splice(start, offset if offset < content.size else old.stored.size, pieces)
            else:
                yield Splice(start, old.stored.size, [])
                return

    def _cut_anew(self, content: MemoryContent | OverlayContent, old: "_Old", offset: int) -> tuple[int, list[Piece]]:
        """Pieces from an offset on, and where they end: at the end, or where old chunks go on."""
        pieces: list[Piece] = []
        window = _FIRST_WINDOW
        while offset < content.size:
            self._check()
            hole = _hole_at(content, self._sources, offset)
            if hole is not None:
                pieces.append(hole)
                offset += hole.length * hole.repeat
                if old.goes_on_at(offset):
                    break
                continue
            view = memoryview(self._read(content, offset, window))
            for length in cut(view, final=offset + len(view) == content.size):
                pieces.append(self._store(view[:length]))
                view = view[length:]
                offset += length
                self.done += length
                if old.goes_on_at(offset):
                    return offset, pieces
            window = min(2 * window, WINDOW)
        return offset, pieces

    def _store(self, chunk: memoryview) -> Piece:
        if len(chunk) == MAX_SIZE and chunk[0] == 0 and chunk == _ZEROS:
            return Piece(ZERO, MAX_SIZE, 1)
        identity, added = self._chunks.put(chunk)
        self.added += added
        return Piece(identity, len(chunk), 1)

    def _read(self, content: Content, offset: int, length: int) -> bytes:
        return read_waiting(content, self._sources, offset, length)


class _Old:
    """The stored content below what was written, and which of its chunks are still whole."""

    def __init__(self, content: MemoryContent | OverlayContent, sources: Sources) -> None:
        self._manifests = sources.contents.manifests
        self._size = content.size
        self._written = Ranges()
        self._limit = content.size
        """From here on nothing of the old content is left."""
        below: Content | None = content
        while isinstance(below, OverlayContent):
            for start, end in zip(below.ranges.starts, below.ranges.ends, strict=True):
                if start < self._limit:
                    self._written.add(start, min(end, self._limit))
            self._limit = min(self._limit, below.below_size)
            below = below.below
        cuttable = isinstance(below, StoredContent) and below.stored.form in (Form.CHUNK, Form.MANIFEST)
        self.stored = below.stored if cuttable and isinstance(below, StoredContent) else EMPTY
        self._limit = min(self._limit, self.stored.size)

    def goes_on_at(self, offset: int) -> bool:
        """Whether an old chunk starts here that is still whole."""
        return self.kept_up_to(offset) > offset

    def kept_up_to(self, offset: int) -> int:
        """The end of the old chunks from an offset on that are still whole; the offset itself if there are none."""
        if offset >= self._limit:
            return offset
        stop = min(self._written.next(offset, self._limit), self._limit)
        if stop == offset or self._manifests.chunk_start(self.stored, offset) != offset:
            return offset
        last = stop if stop == self.stored.size else self._manifests.chunk_start(self.stored, stop)
        if last <= offset or last == self._size or last + _AHEAD <= stop:
            return max(last, offset)
        before = self._manifests.chunk_start(self.stored, last - 1)
        return max(offset, last if last - before == MAX_SIZE else before)


def _hole_at(content: Content, sources: Sources, offset: int) -> Piece | None:
    """Whole maximal chunks of zeros that start here, as far as is known without reading."""
    repeat = _zeros_from(content, sources, offset) // MAX_SIZE
    return Piece(ZERO, MAX_SIZE, repeat) if repeat else None


def _zeros_from(content: Content, sources: Sources, offset: int) -> int:
    if offset >= content.size or isinstance(content, MemoryContent):
        return 0
    if isinstance(content, StoredContent):
        return sources.contents.manifests.zeros_from(content.stored, offset)
    start, stop, held = next(content.ranges.walk(offset, content.size))
    if held:
        return 0
    if content.below is not None and start < content.below_size:
        return min(_zeros_from(content.below, sources, offset), min(stop, content.below_size) - offset)
    return stop - offset
