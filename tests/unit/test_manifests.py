"""Manifests: the content of a file as rows of chunks, read and edited by ranges, against a list of chunks."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.chunker import MAX_SIZE
from anabranch.store.codec import encode
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind, object_id
from anabranch.versions import manifests, prolly
from anabranch.versions.manifests import EMPTY, ZERO, Manifests, Piece, Splice, Stored
from anabranch.versions.objects import Entry, EntryKind, Form
from tests.unit.helpers import examples, scratch

Chunk = tuple[ObjectId, int]
"""Id, and length in bytes."""

GIB = 1 << 30


def chunk(n: int) -> ObjectId:
    return object_id(Kind.CHUNK, b"%d" % n) if n else ZERO


def numbered(n: int) -> Chunk:
    """Chunk `n`: its length goes with its id, as in real files."""
    return chunk(n), 600 + n % 50 if n else MAX_SIZE


def joined(chunks: list[Chunk]) -> list[Piece]:
    """The rows of a content."""
    return [Piece(*one, len(list(run))) for one, run in groupby(chunks)]


@contextmanager
def fresh_manifests() -> Iterator[Manifests]:
    """Manifests over a store of their own."""
    with scratch() as directory:
        meta = Environment(directory / "meta.mdb", TABLES)
        try:
            yield Manifests(ObjectStore(meta))
        finally:
            meta.close()


@pytest.fixture
def files(objects: ObjectStore) -> Manifests:
    return Manifests(objects)


few_chunks = st.lists(st.integers(0, 6).map(numbered), max_size=40)
contents = st.one_of(few_chunks, st.integers(0, 3000).map(lambda count: [numbered(n + 7) for n in range(count)]))
cuts = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 40), few_chunks), max_size=5)


def spliced(chunks: list[Chunk], cuts: list[tuple[int, int, list[Chunk]]]) -> tuple[list[Chunk], list[Splice]]:
    """A content with chunks from index `start` on, `count` of them, replaced; as a list, and as splices of bytes."""
    starts = [0]
    for _, length in chunks:
        starts.append(starts[-1] + length)
    model, splices, done = [], [], 0
    for start, count, new in sorted(cuts, key=lambda cut: cut[0]):
        begin = min(max(start, done), len(chunks))
        end = min(begin + count, len(chunks))
        model += chunks[done:begin] + new
        splices.append(Splice(starts[begin], starts[end], joined(new)))
        done = end
    return model + chunks[done:], splices


@given(contents, st.lists(cuts, max_size=4))
@examples(120)
def test_a_content_edited_in_any_way_equals_the_one_made_in_one_go(
    chunks: list[Chunk], edits: list[list[tuple[int, int, list[Chunk]]]]
) -> None:
    with fresh_manifests() as files:
        stored = files.store(joined(chunks))
        for edit in edits:
            chunks, splices = spliced(chunks, edit)
            stored = files.splice(stored, splices)
            assert stored == files.store(joined(chunks))
            assert stored.size == sum(length for _, length in chunks)
            assert [piece for _, piece in files.pieces(stored)] == joined(chunks)


@given(few_chunks, st.integers(0, 2_000_000), st.integers(0, 600_000))
@examples(200)
def test_a_range_of_a_file_is_made_of_ranges_of_chunks(chunks: list[Chunk], offset: int, length: int) -> None:
    with fresh_manifests() as files:
        stored = files.store(joined(chunks))
        expected, start = [], 0
        for identity, size in chunks:
            first, last = max(offset, start), min(offset + length, start + size)
            if first < last:
                expected.append((identity, first - start, last - first))
            start += size
        assert files.parts(stored, offset, length) == expected
        for start, piece in files.pieces(stored, offset):
            assert start <= offset < start + piece.bytes
            break


@given(contents, cuts)
@examples(60)
def test_what_changed_between_two_contents_is_what_differs_at_the_same_place(
    chunks: list[Chunk], edit: list[tuple[int, int, list[Chunk]]]
) -> None:
    chunks = [*chunks, numbered(1), numbered(2)]
    after = [*spliced(chunks, edit)[0], numbered(1), numbered(2)]
    with fresh_manifests() as files:
        found = {change.position for change in files.changed(files.store(joined(chunks)), files.store(joined(after)))}

        def rows(content: list[Chunk]) -> dict[int, Piece]:
            return {start + piece.bytes: piece for start, piece in files.pieces(files.store(joined(content)))}

        old, new = rows(chunks), rows(after)
    assert found == {end for end in old.keys() | new.keys() if old.get(end) != new.get(end)}


def test_a_hole_is_known_without_reading_it(files: Manifests) -> None:
    stored = files.store([Piece(chunk(1), 100, 1), Piece(ZERO, MAX_SIZE, 1 << 30), Piece(chunk(2), 50, 1)])
    hole = MAX_SIZE << 30
    assert [files.zeros_from(stored, at) for at in (0, 99, 100, 101, 99 + hole, 100 + hole, 151 + hole)] == [
        0, 0, hole, hole - 1, 1, 0, 0,
    ]  # fmt: skip
    assert len(files.parts(stored, 100 + hole // 2, MAX_SIZE)) <= 2


def test_a_write_into_a_hole_of_a_tebibyte_makes_three_rows_of_one(files: Manifests) -> None:
    half = MAX_SIZE << 21
    stored = files.store([Piece(ZERO, MAX_SIZE, 1 << 22)])
    written = files.splice(stored, [Splice(half, half + MAX_SIZE, [Piece(chunk(1), MAX_SIZE, 1)])])
    assert [piece.repeat for _, piece in files.pieces(written)] == [1 << 21, 1, (1 << 21) - 1]
    again = files.splice(written, [Splice(half, half + MAX_SIZE, [Piece(ZERO, MAX_SIZE, 1)])])
    assert again == stored


LARGE = [Piece(chunk(n), 64 * 1024, 1) for n in range(1, 10 * GIB // (64 * 1024) + 1)]
"""A file of 10 GiB."""


@pytest.fixture(scope="module")
def large() -> Iterator[tuple[Manifests, Stored]]:
    with fresh_manifests() as files:
        yield files, files.store(LARGE)


def test_overwriting_and_appending_in_ten_gibibytes_reads_and_writes_few_nodes(large: tuple[Manifests, Stored]) -> None:
    """P40."""
    files, stored = large
    assert files.nodes.writes > 1_000
    new = [Piece(chunk(0xABCDEF), 64 * 1024, 1)]
    middle = 5 * GIB
    edits = {
        "overwrite": Splice(middle, middle + 64 * 1024, new),
        "append": Splice(stored.size, stored.size, new),
        "prepend": Splice(0, 0, new),
        "cut off": Splice(stored.size - 64 * 1024, stored.size, []),
        "cut off most": Splice(GIB, stored.size, []),
    }
    for what, splice in edits.items():
        files.nodes.reads = files.nodes.writes = 0
        changed = files.splice(stored, [splice])
        assert files.nodes.reads <= 24, what
        assert files.nodes.writes <= 6, what
        first, last = splice.start // (64 * 1024), splice.end // (64 * 1024)
        assert changed == files.store([*LARGE[:first], *splice.pieces, *LARGE[last:]]), what


def test_a_range_in_ten_gibibytes_is_found_through_few_nodes(large: tuple[Manifests, Stored]) -> None:
    files, stored = large
    places = random.Random(5)
    for _ in range(100):
        offset = places.randrange(stored.size)
        files.nodes.reads = 0
        (part, *_) = files.parts(stored, offset, 4096)
        assert part[:2] == (LARGE[offset // (64 * 1024)].chunk, offset % (64 * 1024))
        assert files.nodes.reads <= 8


def test_the_difference_of_two_large_files_reads_few_nodes(large: tuple[Manifests, Stored]) -> None:
    files, stored = large
    changed = files.splice(stored, [Splice(0, 64 * 1024, [Piece(chunk(0xABCDEF), 64 * 1024, 1)])])
    files.nodes.reads = 0
    assert [change.position for change in files.changed(stored, changed)] == [64 * 1024]
    assert files.nodes.reads <= 16


def test_no_pieces_are_the_empty_file_and_one_is_its_chunk_but_a_chunk_of_zeros_is_a_manifest(
    files: Manifests,
) -> None:
    assert files.store([]) == EMPTY
    assert files.store([Piece(chunk(1), 700, 1)]).form == Form.CHUNK
    assert files.store([Piece(chunk(1), 700, 2)]).form == Form.MANIFEST
    assert files.store([Piece(ZERO, MAX_SIZE, 1)]).form == Form.MANIFEST


def leaf(*rows: tuple[bytes, object]) -> bytes:
    return prolly.encode_node(0, [(key, encode(value)) for key, value in rows])


@pytest.mark.parametrize(
    "raw",
    [
        leaf((chunk(1), (0, 1))),
        leaf((chunk(1), (MAX_SIZE + 1, 1))),
        leaf((chunk(1), (5, 0))),
        leaf((chunk(1), (5, -1))),
        leaf((chunk(1), (5, 1 << 63))),
        leaf((b"short", (5, 1))),
        leaf((chunk(1), "text")),
        leaf((chunk(1), (5,))),
        b"noise",
    ],
)
def test_rows_that_no_writer_writes_are_damage(objects: ObjectStore, raw: bytes) -> None:
    with pytest.raises(DamagedError):
        list(Manifests(objects).pieces(Stored(5, Form.MANIFEST, objects.put(Kind.MANIFEST, raw))))


def test_a_manifest_that_does_not_add_up_to_the_size_of_the_file_is_damage(files: Manifests) -> None:
    stored = files.store([Piece(chunk(1), 700, 2)])
    entry = Entry(EntryKind.FILE, size=1_401, form=stored.form, content=stored.content)
    with pytest.raises(DamagedError, match="1400 bytes, not 1401"):
        files.parts(manifests.of(entry), 0, 10)


@pytest.mark.parametrize("count", [0, 1, 2, 40, 3_000])
def test_room_leaves_out_holes_exactly_in_one_node_and_large_ones_everywhere_p67(files: Manifests, count: int) -> None:
    pieces = [piece for n in range(count) for piece in (Piece(chunk(2 * n + 1), 70_000, 1), Piece(ZERO, MAX_SIZE, 1))]
    stored = files.store([*pieces, Piece(ZERO, MAX_SIZE, 1 << 22)])
    assert stored.size >= 1 << 40
    room, held = files.room(stored), count * 70_000
    assert room == held or (count > 40 and held < room < held + count * MAX_SIZE + GIB)
    dense = files.store([Piece(chunk(n + 1), 70_000, 1) for n in range(count)])
    assert files.room(dense) == dense.size == held
