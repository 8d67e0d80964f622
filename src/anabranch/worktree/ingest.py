"""Turning the bytes of a file into chunks. Any thread may do it, with overlay descriptors of its own.

Cuts depend on the bytes after the cut before, so at a cut of the old content whose next chunk no write touched, that
chunk is taken over unread; only what surrounds a change is cut anew. Holes are never read.
"""

from anabranch.store.chunker import MAX_SIZE, cut
from anabranch.store.chunks import ChunkStore
from anabranch.store.meta import ObjectStore
from anabranch.versions import manifests
from anabranch.versions.contents import NotLoaded
from anabranch.versions.manifests import ZERO, Extents, Piece, Stored
from anabranch.versions.objects import INLINE_MAX, Form
from anabranch.worktree.content import Content, MemoryContent, OverlayContent, Sources, StoredContent

WINDOW = 4 * 1024 * 1024
_ZEROS = bytes(MAX_SIZE)


class Ingest:
    """Ingests contents one after the other; `added` counts the bytes that were new to the store."""

    def __init__(self, objects: ObjectStore, chunks: ChunkStore, sources: Sources) -> None:
        self._objects = objects
        self._chunks = chunks
        self._sources = sources
        self.added = 0

    def run(self, content: Content) -> Stored:
        """The content, stored. Durable after the store's flush."""
        if isinstance(content, StoredContent):
            return content.stored
        if content.size <= INLINE_MAX:
            return manifests.inline(self._read(content, 0, content.size))
        pieces: list[Piece] = []
        for piece in self._pieces(content):
            if pieces and pieces[-1][:2] == piece[:2]:
                piece = piece._replace(repeat=piece.repeat + pieces.pop().repeat)
            pieces.append(piece)
        return manifests.store(self._objects, pieces)

    def _pieces(self, content: MemoryContent | OverlayContent) -> "list[Piece]":
        pieces: list[Piece] = []
        old = _Untouched(content, self._sources)
        offset = 0
        while offset < content.size:
            piece = old.piece_at(offset) or _hole_at(content, self._sources, offset)
            if piece is not None:
                pieces.append(piece)
                offset += piece.length * piece.repeat
                continue
            window = memoryview(self._read(content, offset, WINDOW))
            for length in cut(window, final=offset + len(window) == content.size):
                pieces.append(self._store(window[:length]))
                window = window[length:]
                offset += length
                if old.piece_at(offset) is not None:
                    break
        return pieces

    def _store(self, chunk: memoryview) -> Piece:
        if len(chunk) == MAX_SIZE and chunk[0] == 0 and chunk == _ZEROS:
            return Piece(ZERO, MAX_SIZE, 1)
        identity, added = self._chunks.put(chunk)
        self.added += added
        return Piece(identity, len(chunk), 1)

    def _read(self, content: Content, offset: int, length: int) -> bytes:
        while True:
            try:
                return content.read(self._sources, offset, length)
            except NotLoaded as missing:
                self._sources.contents.load(missing.chunks)


class _Untouched:
    """The chunks of the stored content below an overlay that no write touched."""

    def __init__(self, content: MemoryContent | OverlayContent, sources: Sources) -> None:
        self._content = content
        self._extents: Extents | None = None
        self._starts: dict[int, int] = {}
        below = content.below if isinstance(content, OverlayContent) else None
        if isinstance(below, StoredContent) and below.stored.form in (Form.CHUNK, Form.MANIFEST):
            self._extents = sources.contents.extents(below.stored)
            self._starts = {start: index for index, start in enumerate(self._extents.starts)}

    def piece_at(self, offset: int) -> Piece | None:
        """The old chunk that starts here, if it is whole, unchanged, and was not cut by the old end of the file."""
        index = self._starts.get(offset)
        content = self._content
        if index is None or self._extents is None or not isinstance(content, OverlayContent):
            return None
        piece = self._extents.pieces[index]
        end = offset + piece.length
        if end > content.below_size or (end == self._extents.size and end != content.size):
            return None
        if next(content.ranges.walk(offset, end))[1:] != (end, False):
            return None
        last = min(offset + piece.length * piece.repeat, content.below_size)
        _, stop, _ = next(content.ranges.walk(offset, last))
        return piece._replace(repeat=(stop - offset) // piece.length)


def _hole_at(content: Content, sources: Sources, offset: int) -> Piece | None:
    """Whole maximal chunks of zeros that start here, as far as is known without reading."""
    repeat = _zeros_from(content, sources, offset) // MAX_SIZE
    return Piece(ZERO, MAX_SIZE, repeat) if repeat else None


def _zeros_from(content: Content, sources: Sources, offset: int) -> int:
    if offset >= content.size or isinstance(content, MemoryContent):
        return 0
    if isinstance(content, StoredContent):
        if content.stored.form not in (Form.CHUNK, Form.MANIFEST):
            return 0
        return sources.contents.extents(content.stored).zeros_from(offset)
    start, stop, held = next(content.ranges.walk(offset, content.size))
    if held:
        return 0
    if content.below is not None and start < content.below_size:
        return min(_zeros_from(content.below, sources, offset), min(stop, content.below_size) - offset)
    return stop - offset
