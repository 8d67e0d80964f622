"""Content becomes chunks: the same ones however it was written, at a cost that follows what was written."""

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.store.chunker import MAX_SIZE, MIN_SIZE, cut
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.versions import manifests
from anabranch.versions.contents import Contents
from anabranch.versions.manifests import EMPTY, ZERO, Piece, Stored
from anabranch.versions.objects import INLINE_MAX, Form
from anabranch.worktree.content import Content, MemoryContent, OverlayContent, Overlays, Sources, StoredContent
from anabranch.worktree.ingest import Ingest
from tests.unit.helpers import MAIN, WHO, Branch, examples, random_bytes, scratch

TIB = 1 << 40


class CountingOverlays(Overlays):
    """Overlay files that count the bytes that were read from them."""

    bytes_read = 0

    def read(self, number: int, offset: int, length: int) -> bytes:
        data = super().read(number, offset, length)
        self.bytes_read += len(data)
        return data


@dataclass
class Store:
    """All that ingest needs, and files to feed it."""

    objects: ObjectStore
    chunks: ChunkStore
    overlays: CountingOverlays

    def __post_init__(self) -> None:
        self.sources = Sources(Contents(self.objects, self.chunks), self.overlays)

    def ingest(self, content: Content) -> Stored:
        stored = Ingest(self.chunks, self.sources).run(content)
        self.chunks.flush()
        return stored

    def whole(self, data: bytes) -> Stored:
        """What the format says about these bytes, put together without Ingest."""
        if len(data) <= INLINE_MAX:
            return manifests.inline(data)
        pieces: list[Piece] = []
        start = 0
        for length in cut(data, final=True):
            chunk = data[start : start + length]
            identity = ZERO if chunk == bytes(MAX_SIZE) else self.chunks.put(chunk)[0]
            repeat = pieces.pop().repeat if pieces and pieces[-1].chunk == identity else 0
            pieces.append(Piece(identity, length, repeat + 1))
            start += length
        return self.sources.contents.manifests.store(pieces)

    def pieces(self, stored: Stored) -> list[Piece]:
        """What a content is made of."""
        return [piece for _, piece in self.sources.contents.manifests.pieces(stored)]

    def file(self, below: Content | None = None) -> OverlayContent:
        size = below.size if below else 0
        return OverlayContent(self.overlays.create(), 1, size=size, below=below, below_size=size)

    def holding(self, data: bytes) -> OverlayContent:
        content = self.file()
        content.write(self.overlays, 0, data)
        return content

    def read(self, content: Content) -> bytes:
        if isinstance(content, StoredContent):
            return self.sources.contents.read_all(content.stored, 0, content.size)
        return Ingest(self.chunks, self.sources)._read(content, 0, content.size)

    def close(self) -> None:
        self.overlays.close()
        self.chunks.close()


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    with opened(place) as opened_store:
        yield opened_store


class opened:  # noqa: N801  (reads as a function)
    """A store in a directory, also for tests that need a new one for each example."""

    def __init__(self, directory: Path) -> None:
        self._meta = Environment(directory / "meta.mdb", TABLES)
        chunks = ChunkStore(directory, writable=True)
        self._store = Store(ObjectStore(self._meta), chunks, CountingOverlays(directory / "overlays"))

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._meta.close()


@pytest.mark.parametrize(
    ("size", "form"),
    [
        (0, Form.EMPTY),
        (1, Form.INLINE),
        (INLINE_MAX, Form.INLINE),
        (INLINE_MAX + 1, Form.CHUNK),
        (MIN_SIZE, Form.CHUNK),
        (1_000_000, Form.MANIFEST),
    ],
)
def test_the_size_of_a_file_decides_how_its_entry_holds_it(store: Store, size: int, form: Form) -> None:
    stored = store.ingest(MemoryContent(random_bytes(1, size), 1))
    assert (stored.size, stored.form) == (size, form)
    assert stored == store.whole(random_bytes(1, size))


def test_a_file_in_memory_and_the_same_file_in_an_overlay_are_stored_alike(store: Store) -> None:
    data = random_bytes(2, 60_000)
    assert store.ingest(MemoryContent(data, 1)) == store.ingest(store.holding(data))


def test_a_file_appended_in_a_thousand_pieces_equals_the_one_copied_in_one_go(store: Store) -> None:
    """P39."""
    data = random_bytes(3, 1_000_000)
    content = store.file()
    for start in range(0, len(data), 1000):
        content.write(store.overlays, start, data[start : start + 1000])
    assert store.ingest(content) == store.ingest(store.holding(data)) == store.whole(data)


def test_appending_to_stored_content_gives_what_one_copy_gives(store: Store) -> None:
    data = random_bytes(4, 900_000)
    content: Content = store.file()
    for start in range(0, len(data), 150_000):
        top = store.file(content)
        top.write(store.overlays, start, data[start : start + 150_000])
        content = StoredContent(store.ingest(top))
        assert content.stored == store.whole(data[: start + 150_000])


edits = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "zeros", "repeat", "truncate", "store", "freeze"]),
        st.integers(0, 1_200_000),
        st.sampled_from([1, 700, 30_000, 300_000, 600_000]),
    ),
    min_size=1,
    max_size=8,
)


@given(edits)
@examples(150)
def test_what_is_stored_depends_on_the_bytes_alone(edits: list[tuple[str, int, int]]) -> None:
    with scratch() as directory, opened(directory) as store:
        content: OverlayContent = store.file()
        model = bytearray()
        for seed, (kind, offset, size) in enumerate(edits):
            if kind == "store":
                content = store.file(StoredContent(store.ingest(content)))
            elif kind == "freeze":
                content = store.file(content)
            elif kind == "truncate":
                content.truncate(offset)
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            else:
                pattern = random_bytes(seed, 999) * (size // 999 + 1)
                data = {"zeros": bytes(size), "repeat": pattern[:size]}.get(kind, random_bytes(seed, size))
                content.write(store.overlays, offset, data)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + size] = data
        assert store.read(content) == model
        stored = store.ingest(content)
        assert stored == store.whole(bytes(model))
        assert store.read(StoredContent(stored)) == model


def beside_cuts(data: bytes) -> list[int]:
    """The offsets at which a cut is decided: around each, and around the end."""
    ends = accumulate(cut(data, final=True))
    return sorted({end + step for end in ends for step in range(-3, 4)})


@pytest.mark.parametrize(
    "data",
    [
        random_bytes(11, 600_000),
        random_bytes(12, 223_359),
        bytes(range(250)) * 3_000,
        random_bytes(13, 300_000) + bytes(700_000) + random_bytes(14, 300_001),
        bytes(600_000),
    ],
    ids=["noise", "odd", "repeated", "hole", "zeros"],
)
def test_a_change_beside_a_cut_leaves_what_one_copy_would(store: Store, data: bytes) -> None:
    """A cut depends on the byte after it, and on whether one more follows."""
    base = StoredContent(store.whole(data))
    for at in beside_cuts(data):
        for kind in ("write", "truncate", "extend", "write and truncate"):
            content = store.file(base)
            if "write" in kind and at < len(data):
                content.write(store.overlays, at, bytes([data[at] ^ 0x5F]))
            if "truncate" in kind:
                content.truncate(min(at + (2 if "write" in kind else 0), len(data)))
            if kind == "extend":
                content.truncate(len(data) + max(1, at % 5))
            assert store.ingest(content) == store.whole(store.read(content)), (at, kind)


def test_a_hole_of_a_tebibyte_is_one_row_and_nothing_is_read(store: Store) -> None:
    content = store.file()
    content.truncate(TIB)
    stored = store.ingest(content)
    assert store.pieces(stored) == [Piece(ZERO, MAX_SIZE, TIB // MAX_SIZE)]
    assert store.overlays.bytes_read == 0
    assert store.sources.contents.read_all(stored, TIB - 5, 100) == bytes(5)


def test_data_in_the_middle_of_a_tebibyte_of_holes_costs_what_the_data_costs(store: Store) -> None:
    content = store.file()
    content.truncate(TIB)
    content.write(store.overlays, TIB // 2 + 12_345, b"here")
    stored = store.ingest(content)
    pieces = store.pieces(stored)
    assert len(pieces) == 3
    assert sum(piece.length * piece.repeat for piece in pieces) == TIB
    assert store.sources.contents.read_all(stored, TIB // 2 + 12_344, 6) == b"\0here\0"
    assert store.overlays.bytes_read < 64 * MAX_SIZE


def test_a_small_write_to_a_sparse_tebibyte_that_is_stored_leaves_its_holes_unread(store: Store) -> None:
    content = store.file()
    content.truncate(TIB)
    base = StoredContent(store.ingest(content))
    top = store.file(base)
    top.write(store.overlays, 1_000_000, b"first")
    top.truncate(TIB + 7)
    stored = store.ingest(top)
    assert len(store.pieces(stored)) <= 5
    assert store.sources.contents.read_all(stored, 999_999, 7) == b"\0first\0"
    assert stored.size == TIB + 7


def test_a_run_of_zeros_that_was_written_is_stored_like_a_hole(store: Store) -> None:
    hole = store.file()
    hole.truncate(3 * MAX_SIZE)
    assert store.ingest(store.holding(bytes(3 * MAX_SIZE))) == store.ingest(hole)
    assert list(store.chunks.volumes.numbers()) == []


def test_equal_maximal_chunks_side_by_side_are_one_row(store: Store) -> None:
    stored = store.ingest(store.holding(b"\x01" * (4 * MAX_SIZE)))
    (piece,) = store.pieces(stored)
    assert (piece.length, piece.repeat) == (MAX_SIZE, 4)


def test_after_an_overwrite_only_the_chunks_around_it_are_read_again(store: Store) -> None:
    data = random_bytes(5, 8_000_000)
    base = StoredContent(store.ingest(store.holding(data)))
    store.chunks.cache = type(store.chunks.cache)()
    loaded: list[int] = []
    get = store.chunks.get
    store.chunks.get = lambda identity: loaded.append(1) or get(identity)  # type: ignore[method-assign,func-returns-value]
    top = store.file(base)
    top.write(store.overlays, 4_000_000, b"changed")
    ingest = Ingest(store.chunks, store.sources)
    stored = ingest.run(top)
    assert ingest.added < 2 * MAX_SIZE
    assert len(loaded) < 20  # of 122: the first window is 512 KiB, and a chunk has 64 KiB in the mean
    assert stored == store.whole(data[:4_000_000] + b"changed" + data[4_000_007:])


def test_content_that_is_stored_already_adds_nothing(store: Store) -> None:
    data = random_bytes(6, 500_000)
    store.ingest(store.holding(data))
    ingest = Ingest(store.chunks, store.sources)
    ingest.run(store.holding(data))
    assert ingest.added == 0


def table(rows: int) -> list[list[object]]:
    random_numbers = random.Random(7)
    return [[n, random_numbers.random(), random_numbers.choice(["ORD", "JFK", "LAX"])] for n in range(rows)]


def as_csv(rows: list[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def test_rows_inserted_in_the_middle_of_a_large_csv_add_little(main: Branch) -> None:
    """P20."""
    rows = table(650_000)
    before = as_csv(rows)
    assert len(before) > 19_000_000
    main.write("flights.csv", before)
    first = main.repository.commit(MAIN, "all", WHO)
    assert first.added > 5_000_000
    middle = len(rows) // 2
    after = as_csv(rows[:middle] + table(10) + rows[middle:])
    main.truncate("flights.csv", 0)
    main.write("flights.csv", after)
    second = main.repository.commit(MAIN, "ten rows more", WHO)
    assert 0 < second.added < 500_000
    assert main.at("main@1", "flights.csv") == before
    assert main.at("main@2", "flights.csv") == after


def test_an_empty_file_names_nothing() -> None:
    assert Stored(0, Form.EMPTY, b"") == EMPTY
