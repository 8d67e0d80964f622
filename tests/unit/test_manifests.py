"""Manifests: the content of a file as rows of chunks, read by ranges."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.chunker import MAX_SIZE
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind, object_id
from anabranch.versions import manifests, prolly
from anabranch.versions.contents import Contents
from anabranch.versions.manifests import EMPTY, ZERO, Extents, Manifests, Piece
from anabranch.versions.objects import Entry, EntryKind, Form, encode
from tests.unit.helpers import examples, scratch


def chunk(n: int) -> ObjectId:
    return object_id(Kind.CHUNK, b"%d" % n) if n else ZERO


pieces_lists = st.lists(
    st.builds(
        lambda n, length, repeat: Piece(chunk(n), length if n else MAX_SIZE, repeat),
        st.integers(0, 50),
        st.integers(1, 50),
        st.sampled_from([1, 1, 1, 2, 1000]),
    ),
    min_size=2,
    max_size=40,
).filter(lambda pieces: all(left.chunk != right.chunk for left, right in pairwise(pieces)))


@given(pieces_lists, st.integers(0, 20))
@examples(60)
def test_the_pieces_of_a_manifest_come_back_in_order(pieces: list[Piece], times: int) -> None:
    pieces = [*pieces, Piece(chunk(99), 7, 1)] * times + pieces
    with scratch() as directory:
        meta = Environment(directory / "meta.mdb", TABLES)
        objects = ObjectStore(meta)
        stored = manifests.store(objects, pieces)
        assert (stored.form, stored.size) == (Form.MANIFEST, sum(piece.length * piece.repeat for piece in pieces))
        assert list(Manifests(objects).pieces(ObjectId(stored.content))) == pieces
        assert manifests.store(objects, pieces) == stored
        meta.close()


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 1, 2, 5])), max_size=12),
    st.integers(0, 200),
    st.integers(0, 200),
)
@examples(200)
def test_a_range_of_a_file_is_made_of_ranges_of_chunks(
    rows: list[tuple[int, int, int]], offset: int, length: int
) -> None:
    extents = Extents([Piece(chunk(n), size, repeat) for n, size, repeat in rows])
    plain = [(chunk(n), at) for n, size, repeat in rows for _ in range(repeat) for at in range(size)]
    assert extents.size == len(plain)
    parts = extents.parts(offset, length)
    assert [(part.chunk, part.start + n) for part in parts for n in range(part.length)] == plain[offset:][:length]


def test_a_hole_is_known_without_reading_it() -> None:
    extents = Extents([Piece(chunk(1), 100, 1), Piece(ZERO, MAX_SIZE, 1 << 30), Piece(chunk(2), 50, 1)])
    hole = MAX_SIZE << 30
    assert [extents.zeros_from(at) for at in (0, 99, 100, 101, 99 + hole, 100 + hole, 151 + hole)] == [
        0, 0, hole, hole - 1, 1, 0, 0,
    ]  # fmt: skip
    assert len(extents.parts(100 + hole // 2, MAX_SIZE)) <= 2


def test_a_long_manifest_is_a_tree_and_a_change_in_it_writes_few_nodes(objects: ObjectStore) -> None:
    pieces = [Piece(chunk(n), 60_000, 1) for n in range(1, 5_001)]
    first = manifests.store(objects, pieces)
    nodes = objects.writes
    assert nodes > 20
    objects.writes = 0
    second = manifests.store(objects, [*pieces[:2_500], Piece(chunk(9_999), 5, 1), *pieces[2_500:]])
    assert second.content != first.content
    assert objects.writes <= 4


def test_no_pieces_are_the_empty_file_and_one_is_its_chunk_but_a_chunk_of_zeros_is_a_manifest(
    objects: ObjectStore,
) -> None:
    assert manifests.store(objects, []) == EMPTY
    assert manifests.store(objects, [Piece(chunk(1), 700, 1)]).form == Form.CHUNK
    assert manifests.store(objects, [Piece(chunk(1), 700, 2)]).form == Form.MANIFEST
    assert manifests.store(objects, [Piece(ZERO, MAX_SIZE, 1)]).form == Form.MANIFEST


def leaf(*rows: tuple[bytes, object]) -> bytes:
    return prolly.encode_node(0, [(key, encode(value)) for key, value in rows])


@pytest.mark.parametrize(
    "raw",
    [
        leaf((chunk(1), (0, 1))),
        leaf((chunk(1), (MAX_SIZE + 1, 1))),
        leaf((chunk(1), (5, 0))),
        leaf((chunk(1), (5, -1))),
        leaf((b"short", (5, 1))),
        leaf((chunk(1), "text")),
        leaf((chunk(1), (5,))),
        b"noise",
    ],
)
def test_rows_that_no_writer_writes_are_damage(objects: ObjectStore, raw: bytes) -> None:
    with pytest.raises(DamagedError):
        list(Manifests(objects).pieces(objects.put(Kind.MANIFEST, raw)))


def test_a_manifest_that_does_not_add_up_to_the_size_of_the_file_is_damage(objects: ObjectStore) -> None:
    stored = manifests.store(objects, [Piece(chunk(1), 700, 2)])
    entry = Entry(EntryKind.FILE, size=1_401, form=stored.form, content=stored.content)
    contents = Contents(objects, None)  # type: ignore[arg-type]
    with pytest.raises(DamagedError, match="1400 bytes, not 1401"):
        contents.extents(manifests.of(entry))
