"""Reading stored content by offset.

`read` serves from memory only and raises NotLoaded when chunks are missing, so that a caller who must not wait can
have them loaded elsewhere (`load`) and try again. `read_all` is for those who may wait.
"""

from collections.abc import Iterator

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.chunks import ChunkStore
from anabranch.store.meta import ObjectStore
from anabranch.versions import xattrs
from anabranch.versions.manifests import ZERO, Manifests, Part, Stored
from anabranch.versions.objects import Form
from anabranch.versions.xattrs import Values, Xattrs

_PIECE = 1024 * 1024


class NotLoaded(Exception):  # noqa: N818  (a signal, not an error)
    """Chunks that a read needs are not in memory."""

    def __init__(self, chunks: list[ObjectId]) -> None:
        super().__init__(f"{len(chunks)} chunks")
        self.chunks = chunks


class Contents:
    """The content of files, by how an entry holds it. Safe for use by several threads."""

    def __init__(self, objects: ObjectStore, chunks: ChunkStore) -> None:
        self.chunks = chunks
        self.manifests = Manifests(objects)
        self._objects = objects

    def xattrs(self, held: Xattrs) -> Values:
        """The extended attributes of an inode, in order of their names. Raises DamagedError."""
        return xattrs.load(self._objects, held)

    def room(self, stored: Stored) -> int:
        """About how many bytes a content takes, without holes; of a damaged one its size: it can still be deleted."""
        try:
            return self.manifests.room(stored)
        except DamagedError:
            return stored.size

    def read(self, stored: Stored, offset: int, length: int) -> bytes:
        """A range of a content, cut off at its end. Raises NotLoaded, DamagedError."""
        if stored.form in (Form.EMPTY, Form.INLINE):
            return stored.content[offset : offset + length]
        data: list[bytes] = []
        missing: list[ObjectId] = []
        for part in self.manifests.parts(stored, offset, length):
            piece = self._part(part)
            if piece is None:
                missing.append(part.chunk)
            else:
                data.append(piece)
        if missing:
            raise NotLoaded(missing)
        return data[0] if len(data) == 1 else b"".join(data)

    def missing(self, stored: Stored, offset: int, length: int) -> list[ObjectId]:
        """The chunks of a range that are not in memory."""
        if stored.form in (Form.EMPTY, Form.INLINE):
            return []
        parts = self.manifests.parts(stored, offset, length)
        return [part.chunk for part in parts if part.chunk != ZERO and self.chunks.cache.get(part.chunk) is None]

    def _part(self, part: Part) -> bytes | None:
        if part.chunk == ZERO:
            return bytes(part.length)
        content = self.chunks.cache.get(part.chunk)
        if content is None:
            return None
        if len(content) < part.start + part.length:
            raise DamagedError(f"chunk {part.chunk.hex()} is shorter than its manifest says")
        return content if part.length == len(content) else content[part.start : part.start + part.length]

    def load(self, chunks: list[ObjectId]) -> None:
        """Bring chunks into memory; waits for the disk. Raises DamagedError."""
        self.chunks.load(chunks)

    def read_all(self, stored: Stored, offset: int, length: int) -> bytes:
        """Like `read`, waiting for the disk."""
        while True:
            try:
                return self.read(stored, offset, length)
            except NotLoaded as missing:
                self.load(missing.chunks)

    def data(self, stored: Stored, piece: int = _PIECE) -> Iterator[tuple[int, bytes]]:
        """A whole content but for its large holes, piece by piece, each with its offset."""
        offset = 0
        while offset < stored.size:
            hole = self.manifests.zeros_from(stored, offset)
            if hole < piece:
                data = self.read_all(stored, offset, piece)
                yield offset, data
            offset += hole if hole >= piece else len(data)

    def stream(self, stored: Stored, piece: int = _PIECE) -> Iterator[bytes]:
        """A whole content, piece by piece."""
        for offset in range(0, stored.size, piece):
            yield self.read_all(stored, offset, piece)
