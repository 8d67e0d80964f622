"""Manifests: the content of a file as a prolly sequence of chunks, read and edited by ranges of bytes.

A row is (chunk id, length, repeat); rows are cut into nodes by bits of the chunk's id. ZERO is the reserved id of a
maximal chunk of zeros: it is never stored, so a hole of any size is one row. Equal chunks side by side are one row.
docs/format.md, "Manifest".
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, NamedTuple

from msgspec import Meta

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.chunker import MAX_SIZE
from anabranch.store.codec import Codec, encode
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind, hash_name
from anabranch.versions import prolly
from anabranch.versions.objects import INLINE_MAX, MAX_FILE, Entry, Form
from anabranch.versions.prolly import Edit, Row

ZERO = ObjectId(bytes(ID_SIZE))
HOLES_FROM = 1024 * 1024
"""Smaller contents count whole: there are many of them, and their holes are small."""
_MEAN_ROWS = 128
_MAX_ROWS = 512


class Piece(NamedTuple):
    """A run of equal chunks: id, length of one in bytes, how many times it stands there."""

    chunk: ObjectId
    length: int
    repeat: int

    @property
    def bytes(self) -> int:
        """The length of the run."""
        return self.length * self.repeat


class Part(NamedTuple):
    """A range inside one chunk."""

    chunk: ObjectId
    start: int
    length: int


class Splice(NamedTuple):
    """The bytes from `start` up to `end`, whole chunks of the old content, give way to pieces."""

    start: int
    end: int
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Stored:
    """How an entry holds content: the fields `size`, `form` and `content` of an Entry."""

    size: int
    form: Form
    content: bytes


EMPTY = Stored(0, Form.EMPTY, b"")


def inline(data: bytes) -> Stored:
    """The content of a small file, held in its entry."""
    assert len(data) <= INLINE_MAX, "BUG: too large for an entry"
    return Stored(len(data), Form.INLINE, data) if data else EMPTY


def of(entry: Entry) -> Stored:
    """The content of a file's entry."""
    return Stored(entry.size, entry.form, entry.content)


# --- rows -------------------------------------------------------------------------------------------------------

_Positive = Annotated[int, Meta(ge=1, le=MAX_FILE)]
_LEAF: Codec[tuple[int, int]] = Codec(tuple[Annotated[int, Meta(ge=1, le=MAX_SIZE)], _Positive], "a manifest's row")
_INTERIOR: Codec[int] = Codec(_Positive, "an upper row of a manifest")


def encode_piece(piece: Piece) -> Row:
    """The row of a piece."""
    return piece.chunk, _LEAF.encode((piece.length, piece.repeat))


def decode_piece(row: Row) -> Piece:
    """The piece of a row. Raises DamagedError."""
    return Piece(ObjectId(row[0]), *_LEAF.decode(row[1]))


class _Shape:
    """Cut after a chunk whose id, hashed with the level as seed, is small: 128 rows in the mean, 512 at most."""

    origin = 0
    anchored = True
    single = 0

    def positions(self, level: int, rows: Sequence[Row]) -> list[int]:
        if any(len(key) != ID_SIZE for key, _ in rows):
            raise DamagedError("a row of a manifest has an id of a wrong length")
        if level:
            return list(accumulate(_INTERIOR.decode(value) for _, value in rows))
        return list(accumulate(decode_piece(row).bytes for row in rows))

    def absolute(self, base: int, position: int) -> int:
        return base + position

    def all_absolute(self, base: int, positions: list[int]) -> list[int]:
        return [base + position for position in positions]

    def relative(self, base: int, position: int) -> int:
        return position - base

    def children(self, rows: Sequence[Row]) -> list[ObjectId]:
        return [ObjectId(key) for key, _ in rows]

    def size(self, above: Row) -> int:
        return 1  # more than `single`: a manifest is cut however small it is

    def cuts(self, level: int, key: bytes, size: int) -> bool:
        return hash_name(key, level) < (1 << 64) // _MEAN_ROWS

    def full(self, rows: int, size: int) -> bool:
        return rows >= _MAX_ROWS

    def above(self, level: int, rows: Sequence[Row], child: ObjectId) -> Row:
        if level:
            return child, encode(sum(_INTERIOR.decode(value) for _, value in rows))
        return child, encode(sum(decode_piece(row).bytes for row in rows))


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same content with equal neighbours joined."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1][:2] == piece[:2]:
            joined[-1] = piece._replace(repeat=joined[-1].repeat + piece.repeat)
        else:
            joined.append(piece)
    return joined


class Manifests:
    """Reading and editing contents. Safe for use by several threads."""

    def __init__(self, objects: ObjectStore) -> None:
        self.nodes: prolly.NodeStore[int] = prolly.NodeStore(objects, Kind.MANIFEST, _Shape(), cache=1024 * _MEAN_ROWS)

    # --- reading ---

    def pieces(self, stored: Stored, start: int = 0) -> Iterator[tuple[int, Piece]]:
        """The pieces from the one that holds byte `start` on, each with its own first byte. Raises DamagedError."""
        if stored.form == Form.CHUNK:
            if start < stored.size:
                yield 0, Piece(ObjectId(stored.content), stored.size, 1)
        elif stored.form == Form.MANIFEST:
            for end, row in prolly.iterate(self.nodes, self._root(stored), start + 1):
                piece = decode_piece(row)
                yield end - piece.bytes, piece

    def _root(self, stored: Stored) -> ObjectId:
        root = ObjectId(stored.content)
        size = self.nodes.get(root).positions[-1:]
        if size != [stored.size]:
            raise DamagedError(f"manifest {root.hex()} has {sum(size)} bytes, not {stored.size}")
        return root

    def parts(self, stored: Stored, offset: int, length: int) -> list[Part]:
        """The ranges of chunks that make up a range of the content, cut off at its end."""
        parts: list[Part] = []
        end = min(offset + length, stored.size)
        if offset >= end:
            return parts
        for start, piece in self.pieces(stored, offset):
            stop = min(end, start + piece.bytes)
            while offset < stop:
                within = (offset - start) % piece.length
                take = min(piece.length - within, stop - offset)
                parts.append(Part(piece.chunk, within, take))
                offset += take
            if offset >= end:
                break
        return parts

    def chunk_start(self, stored: Stored, offset: int) -> int:
        """Where the chunk begins that holds the byte at `offset`, which is inside the content."""
        start, piece = next(self.pieces(stored, offset))
        return offset - (offset - start) % piece.length

    def zeros_from(self, stored: Stored, offset: int) -> int:
        """How many bytes from an offset on are known to be a hole."""
        start, piece = next(self.pieces(stored, offset), (0, None))
        return start + piece.bytes - offset if piece is not None and piece.chunk == ZERO else 0

    def room(self, stored: Stored) -> int:
        """About how many bytes are no holes, at the price of one node: exact where that lists all chunks, else of
        what is below each of its rows all counts, up to what so many chunks can have.
        """
        if stored.form != Form.MANIFEST or stored.size < HOLES_FROM:
            return stored.size
        node = self.nodes.get(ObjectId(stored.content))
        if node.level:
            most = _MAX_ROWS**node.level * MAX_SIZE
            return sum(min(most, _INTERIOR.decode(value)) for _, value in node.rows)
        return sum(piece.bytes for piece in map(decode_piece, node.rows) if piece.chunk != ZERO)

    def changed(self, old: Stored, new: Stored) -> Iterator[prolly.Change[int]]:
        """The rows in which two manifests differ, by the offset of their ends."""
        return prolly.diff(self.nodes, self._root(old), self._root(new))

    # --- writing ---

    def store(self, pieces: Iterable[Piece]) -> Stored:
        """The content that is made of these pieces."""
        return self.splice(EMPTY, [Splice(0, 0, list(pieces))])

    def splice(self, old: Stored, splices: Sequence[Splice]) -> Stored:
        """A content with some ranges replaced, which come in order and do not overlap.

        Costs what the replaced rows cost and O(log n) nodes for each splice, whatever the size of the content.
        """
        if old.form != Form.MANIFEST:
            return self._build(_joined(self._flat(old, splices)))
        edits = [
            Edit(start + 1, end, [*map(encode_piece, _joined(pieces))])
            for start, end, pieces in self._whole_rows(old, splices)
        ]
        return self._stored(prolly.apply(self.nodes, self._root(old), edits))

    def _build(self, pieces: Sequence[Piece]) -> Stored:
        if not pieces:
            return EMPTY
        if (single := _single(pieces)) is not None:
            return single
        return self._stored(prolly.build(self.nodes, map(encode_piece, pieces)))

    def _stored(self, root: ObjectId) -> Stored:
        node = self.nodes.get(root)
        if node.level == 0 and len(node.rows) < 2:
            pieces = [*map(decode_piece, node.rows)]
            return _single(pieces) or (Stored(pieces[0].bytes, Form.MANIFEST, root) if pieces else EMPTY)
        return Stored(node.positions[-1], Form.MANIFEST, root)

    def _flat(self, old: Stored, splices: Sequence[Splice]) -> Iterator[Piece]:
        offset = 0
        for start, end, pieces in splices:
            yield from self._between(old, offset, start)
            yield from pieces
            offset = end
        yield from self._between(old, offset, old.size)

    def _between(self, old: Stored, start: int, end: int) -> Iterator[Piece]:
        """The old pieces of a range that begins and ends between chunks."""
        if start >= end:
            return
        for first, piece in self.pieces(old, start):
            last = min(first + piece.bytes, end)
            whole, rest = divmod(last - start, piece.length)
            assert rest == (start - first) % piece.length == 0, "BUG: a splice cuts through a chunk"
            yield piece._replace(repeat=whole)
            start = last
            if start == end:
                return

    def _whole_rows(self, old: Stored, splices: Sequence[Splice]) -> Iterator[Splice]:
        """The splices made wider: to the ends of rows, and over the rows beside them, which new pieces may join.

        Where two of them meet, they are one.
        """
        open_: Splice | None = None
        for splice in splices:
            begin = next(self.pieces(old, splice.start - 1))[0] if splice.start else 0
            if open_ is not None and begin < self._row_end(old, open_.end):
                between = self._between(old, open_.end, splice.start)
                open_ = Splice(open_.start, splice.end, [*open_.pieces, *between, *splice.pieces])
                continue
            if open_ is not None:
                yield self._closed(old, open_)
            open_ = Splice(begin, splice.end, [*self._between(old, begin, splice.start), *splice.pieces])
        if open_ is not None:
            yield self._closed(old, open_)

    def _closed(self, old: Stored, splice: Splice) -> Splice:
        end = self._row_end(old, splice.end)
        return Splice(splice.start, end, [*splice.pieces, *self._between(old, splice.end, end)])

    def _row_end(self, old: Stored, offset: int) -> int:
        """Where the row ends that holds the byte at `offset`."""
        start, piece = next(self.pieces(old, offset), (offset, None))
        return start + piece.bytes if piece is not None else offset


def _single(pieces: Sequence[Piece]) -> Stored | None:
    """The content of one chunk, which needs no manifest; but the reserved chunk of zeros does."""
    if len(pieces) == 1 and pieces[0].repeat == 1 and pieces[0].chunk != ZERO:
        return Stored(pieces[0].length, Form.CHUNK, pieces[0].chunk)
    return None
