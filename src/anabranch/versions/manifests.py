"""Manifests: the content of a file as a list of chunks, and reading ranges of it.

A row is (chunk id, length, repeat); rows are cut into nodes by bits of the chunk's id. ZERO is the reserved id of a
maximal chunk of zeros: it is never stored, so a hole of any size is one row. docs/format.md, "Manifest".
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.chunker import MAX_SIZE
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind, hash_name
from anabranch.versions import prolly
from anabranch.versions.objects import INLINE_MAX, Entry, Form, encode

ZERO = ObjectId(bytes(ID_SIZE))
_MEAN_ROWS = 128
_MAX_ROWS = 512


class Piece(NamedTuple):
    """A run of equal chunks: id, length of one in bytes, how many times it stands there."""

    chunk: ObjectId
    length: int
    repeat: int


class Part(NamedTuple):
    """A range inside one chunk."""

    chunk: ObjectId
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Stored:
    """How an entry holds content: the fields `size`, `form` and `content` of an Entry."""

    size: int
    form: Form
    content: bytes


EMPTY = Stored(0, Form.EMPTY, b"")


class _ManifestShape:
    single = 0

    def size(self, root: prolly.Node) -> int:
        raise NotImplementedError("BUG: manifests are built whole, never edited as maps")

    def cuts(self, level: int, key: bytes, size: int) -> bool:
        return hash_name(key, level) < (1 << 64) // _MEAN_ROWS

    def full(self, rows: int, size: int) -> bool:
        return rows >= _MAX_ROWS

    def above(self, level: int, rows: Sequence[prolly.Row], child: ObjectId) -> prolly.Row:
        return child, encode((child, sum(_bytes(level, row) for row in rows)))


_SHAPE = _ManifestShape()
_leaf = msgspec.msgpack.Decoder(tuple[int, int])
_interior = msgspec.msgpack.Decoder(tuple[bytes, int])


def _bytes(level: int, row: prolly.Row) -> int:
    if level:
        return _interior.decode(row[1])[1]
    length, repeat = _leaf.decode(row[1])
    return length * repeat


def store(objects: ObjectStore, pieces: Sequence[Piece]) -> Stored:
    """The content of a file made of these pieces: one chunk, or a manifest."""
    if not pieces:
        return EMPTY
    size = sum(piece.length * piece.repeat for piece in pieces)
    if len(pieces) == 1 and pieces[0].repeat == 1 and pieces[0].chunk != ZERO:
        return Stored(size, Form.CHUNK, pieces[0].chunk)
    builder = prolly.Builder(prolly.NodeStore(objects, Kind.MANIFEST), _SHAPE)
    for piece in pieces:
        builder.add((piece.chunk, encode((piece.length, piece.repeat))))
    return Stored(size, Form.MANIFEST, builder.finish())


def inline(data: bytes) -> Stored:
    """The content of a small file, held in its entry."""
    assert len(data) <= INLINE_MAX, "BUG: too large for an entry"
    return Stored(len(data), Form.INLINE, data) if data else EMPTY


def of(entry: Entry) -> Stored:
    """The content of a file's entry."""
    return Stored(entry.size, Form(entry.form), entry.content)


class Manifests:
    """Reading manifests. Not for several threads at once."""

    def __init__(self, objects: ObjectStore) -> None:
        self._nodes = prolly.NodeStore(objects, Kind.MANIFEST, cache=256)

    def pieces(self, manifest: ObjectId) -> Iterator[Piece]:
        """The pieces of a file in order. Raises DamagedError."""
        return self._pieces(self._nodes.get(manifest))

    def _pieces(self, node: prolly.Node) -> Iterator[Piece]:
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            if node.level:
                child = self._nodes.get(node.child(index))
                if child.level != node.level - 1:
                    raise DamagedError(f"manifest node {node.child(index).hex()} stands at a wrong level")
                yield from self._pieces(child)
                continue
            try:
                length, repeat = _leaf.decode(value)
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                raise DamagedError(f"a row of a manifest cannot be read: {error}") from error
            if not 1 <= length <= MAX_SIZE or repeat < 1 or len(key) != ID_SIZE:
                raise DamagedError("a row of a manifest has a wrong length")
            yield Piece(ObjectId(key), length, repeat)


class Extents:
    """Where each byte of a file lies: the pieces with their offsets, for fast look-ups."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = list(pieces)
        self.starts: list[int] = []
        offset = 0
        for piece in self.pieces:
            self.starts.append(offset)
            offset += piece.length * piece.repeat
        self.size = offset

    def parts(self, offset: int, length: int) -> list[Part]:
        """The ranges of chunks that make up a range of the file, cut off at its end."""
        parts: list[Part] = []
        end = min(offset + length, self.size)
        index = bisect_right(self.starts, offset) - 1
        while offset < end:
            piece = self.pieces[index]
            within = (offset - self.starts[index]) % piece.length
            take = min(piece.length - within, end - offset)
            parts.append(Part(piece.chunk, within, take))
            offset += take
            if offset >= self.starts[index] + piece.length * piece.repeat:
                index += 1
        return parts

    def zeros_from(self, offset: int) -> int:
        """How many bytes from an offset on are known to be a hole."""
        if offset >= self.size:
            return 0
        index = bisect_right(self.starts, offset) - 1
        piece = self.pieces[index]
        return self.starts[index] + piece.length * piece.repeat - offset if piece.chunk == ZERO else 0
