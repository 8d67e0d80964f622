"""The content of one file against plain bytes: ranges, overlay files, and what lies below."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.versions import manifests
from anabranch.versions.contents import Contents
from anabranch.worktree.content import SEGMENT, Content, MemoryContent, OverlayContent, Overlays, Sources, StoredContent
from anabranch.worktree.inodes import ContentRow, _content, _content_row
from anabranch.worktree.ranges import Ranges
from tests.unit.helpers import examples, random_bytes, scratch

LIMIT = 60
spans = st.tuples(st.integers(0, LIMIT - 1), st.integers(1, 15))
removed = st.tuples(st.integers(0, LIMIT - 1), st.integers(0, 15), st.just("removed"))
Step = tuple[int, int] | tuple[int, int, str] | int
steps = st.lists(st.one_of(spans, removed, st.integers(0, LIMIT)), max_size=25)


@given(steps, st.integers(0, LIMIT), st.integers(0, LIMIT))
@examples(300)
def test_ranges_are_a_set_of_numbers(
    steps: list[tuple[int, int] | tuple[int, int, str] | int], start: int, end: int
) -> None:
    ranges, model = Ranges(), set[int]()
    for step in steps:
        if isinstance(step, int):
            ranges.cut(step)
            model = {n for n in model if n < step}
        elif len(step) == 3:
            ranges.remove(step[0], step[0] + step[1])
            model -= set(range(step[0], step[0] + step[1]))
        else:
            ranges.add(step[0], step[0] + step[1])
            model |= set(range(step[0], step[0] + step[1]))
        held = [n for first, last in zip(ranges.starts, ranges.ends, strict=True) for n in range(first, last)]
        assert (held, ranges.total) == (sorted(model), len(model))
        gaps = zip(ranges.ends, ranges.starts[1:], strict=False)
        assert all(before < after for before, after in gaps), "ranges that touch are one"
    walked = list(ranges.walk(start, end))
    assert [(n, held) for first, last, held in walked for n in range(first, last)] == [
        (n, n in model) for n in range(start, end)
    ]
    assert all(before[2] != after[2] for before, after in pairwise(walked))


@pytest.fixture
def sources(place: Path) -> Iterator[Sources]:
    meta = Environment(place / "meta.mdb", TABLES)
    chunks = ChunkStore(place, writable=True)
    made = Sources(Contents(ObjectStore(meta), chunks), Overlays(place / "overlays"))
    yield made
    made.overlays.close()
    chunks.close()
    meta.close()


SMALL = 2_000
edits = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "truncate", "stack"]),
        st.integers(0, SMALL),
        st.integers(1, SMALL // 3),
    ),
    max_size=15,
)


def edit(model: bytearray, kind: str, offset: int, data: bytes) -> None:
    """What write(2) and truncate(2) do."""
    model.extend(bytes(max(0, offset - len(model))))
    if kind == "truncate":
        del model[offset:]
    else:
        model[offset : offset + len(data)] = data


@given(edits, st.integers(0, SMALL), st.integers(0, SMALL))
@examples(200)
def test_content_in_memory_reads_like_bytes(edits: list[tuple[str, int, int]], offset: int, length: int) -> None:
    content, model = MemoryContent(b"start", 1), bytearray(b"start")
    for seed, (kind, at, size) in enumerate(edits):
        data = random_bytes(seed, size)
        edit(model, kind, at, data)
        if kind == "truncate":
            content.truncate(at)
        else:
            content.write(at, data)
        assert (content.data, content.size) == (model, len(model))
    with scratch() as directory:
        assert content.read(no_sources(directory), offset, length) == model[offset : offset + length]


def no_sources(directory: Path) -> Sources:
    """For content that must not ask anybody."""
    return Sources(None, Overlays(directory))  # type: ignore[arg-type]


@given(st.integers(0, 512), edits, st.integers(0, SMALL), st.integers(0, SMALL))
@examples(200)
def test_an_overlay_reads_like_bytes_whatever_lies_below(
    stored: int, edits: list[tuple[str, int, int]], offset: int, length: int
) -> None:
    model = bytearray(random_bytes(99, stored))
    below = StoredContent(manifests.inline(bytes(model)))
    with scratch() as directory:
        overlays = Overlays(directory)
        sources = Sources(Contents(None, None), overlays)  # type: ignore[arg-type]
        content = OverlayContent(overlays.create(), 1, size=stored, below=below, below_size=stored)
        frozen: list[tuple[Content, bytes]] = [(below, bytes(model))]
        for seed, (kind, at, size) in enumerate(edits):
            if kind == "stack":
                frozen.append((content, bytes(model)))
                size_now = content.size
                content = OverlayContent(overlays.create(), 2, size=size_now, below=content, below_size=size_now)
                continue
            data = random_bytes(seed, size)
            edit(model, kind, at, data)
            if kind == "truncate":
                content.truncate(at)
            else:
                content.write(overlays, at, data)
            assert content.size == len(model)
        assert content.read(sources, offset, length) == model[offset : offset + length]
        assert content.read(sources, 0, 10 * SMALL) == model
        for old, data in frozen:
            assert old.read(sources, 0, 10 * SMALL) == data, "what is frozen never changes"
        again = _content(_content_row(content), 3)
        assert isinstance(again, OverlayContent)
        for fresh, kept in zip(again.overlays(), content.overlays(), strict=True):
            assert fresh.number == kept.number
            for segment in kept.segments:
                fresh.hold(segment, *kept.held(segment))
        assert again.read(sources, 0, 10 * SMALL) == model
        overlays.close()


def test_bytes_that_were_cut_off_do_not_come_back_when_the_file_grows_again(sources: Sources) -> None:
    content = OverlayContent(sources.overlays.create(), 1, size=0)
    content.write(sources.overlays, 0, b"secret")
    content.truncate(2)
    content.truncate(6)
    assert content.read(sources, 0, 10) == b"se\0\0\0\0"


def test_bytes_below_that_were_cut_off_do_not_come_back_either(sources: Sources) -> None:
    below = StoredContent(manifests.inline(b"secret"))
    content = OverlayContent(sources.overlays.create(), 1, size=6, below=below, below_size=6)
    content.truncate(2)
    content.write(sources.overlays, 5, b"!")
    assert content.read(sources, 0, 10) == b"se\0\0\0!"


def test_the_row_of_content_in_memory_and_in_the_store_brings_it_back() -> None:
    memory = _content(_content_row(MemoryContent(b"data", 1)), 5)
    stored = _content(_content_row(StoredContent(manifests.inline(b"data"))), 5)
    assert isinstance(memory, MemoryContent)
    assert bytes(memory.data) == b"data"
    assert memory.generation == 5
    assert isinstance(stored, StoredContent)
    assert stored.stored == manifests.inline(b"data")
    assert ContentRow(4, memory=b"data") == _content_row(memory)


def test_more_overlay_files_than_descriptors_can_be_written_and_read(place: Path) -> None:
    overlays = Overlays(place, open_files=4)
    numbers = [overlays.create() for _ in range(20)]
    for number in numbers:
        overlays.write(number, number, b"%d" % number)
    for number in numbers:
        assert overlays.read(number, number, 10) == b"%d" % number
    assert len(overlays._open) <= 4
    assert overlays.unsynced.keys() == set(numbers)
    overlays.close()


def test_numbers_of_overlay_files_go_on_where_the_last_process_stopped(place: Path) -> None:
    before = Overlays(place)
    numbers = {before.create(), before.create()}
    before.close()
    after = Overlays(place)
    assert after.create() not in numbers
    after.close()


def test_removing_and_syncing_a_file_that_is_gone_is_no_error(place: Path) -> None:
    overlays = Overlays(place)
    number = overlays.create()
    overlays.remove(number)
    overlays.remove(number)
    overlays.sync(number)
    overlays.sync_names()
    assert overlays.numbers() == []


def test_the_ranges_of_an_overlay_file_are_kept_by_segments_and_only_touched_ones_are_kept_anew(place: Path) -> None:
    overlays = Overlays(place / "overlays")
    content = OverlayContent(overlays.create(), 1, size=0)
    for offset in (10, SEGMENT - 5, 3 * SEGMENT + 7):
        content.write(overlays, offset, bytes(10))
    assert content.touched == content.segments == {0, 1, 3}
    assert content.held(0) == ([10, SEGMENT - 5], [20, SEGMENT])
    assert content.held(1) == ([0], [5])
    content.touched.clear()
    content.truncate(SEGMENT + 2)
    assert content.touched == {1, 2, 3}
    assert [content.held(segment) for segment in (1, 3)] == [([0], [2]), ([], [])]
    overlays.close()
