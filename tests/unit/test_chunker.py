"""Where content is cut. The vectors are part of the format: they may never change."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.store.chunker import AVERAGE_SIZE, CHUNKER_ID, MAX_SIZE, MIN_SIZE, cut
from tests.unit.helpers import examples


def stream(seed: bytes, size: int) -> bytes:
    """Bytes that anyone can make again in any language: SHA-256 of the seed and a counter, block after block."""
    blocks = (hashlib.sha256(seed + n.to_bytes(8, "big")).digest() for n in range(-(-size // 32)))
    return b"".join(blocks)[:size]


NOISE = stream(b"anabranch", 2_000_000)
TEXT = b"".join(b"%d,%s,some text\n" % (n, stream(b"%d" % n, 4).hex().encode()) for n in range(60_000))

VECTORS = {
    "noise": (
        NOISE,
        """
        40320 109176 26324 47537 189043 128648 56525 81036 60613 30651 78670 94760 17471 41656 74125 72731
        31410 51637 67785 120079 70172 52509 41707 82467 33853 26369 72225 25575 25262 21657 114046 13961
        """,
    ),
    "text": (
        TEXT,
        """
        69009 71177 65819 109171 132154 66990 84179 111341 17350 94787 18895 88136 72283 96741 62404 90535
        32469 75924 50609 70000 8917
        """,
    ),
}
"""Content, and the lengths of its chunks."""


def in_windows(data: bytes, window: int) -> Iterator[int]:
    """Cut as a reader with a small buffer does: the unfinished last chunk comes again, in front of what follows."""
    start = 0
    while start < len(data):
        buffer = data[start : start + window]
        final = start + len(buffer) == len(data)
        for length in cut(buffer, final=final):
            yield length
            start += length


@pytest.mark.parametrize("name", VECTORS)
def test_the_boundaries_are_those_of_the_format_for_ever(name: str) -> None:
    data, lengths = VECTORS[name]
    assert cut(data, final=True) == [int(length) for length in lengths.split()]


def test_the_parameters_are_those_that_the_name_says() -> None:
    assert f"fastcdc2020-{MIN_SIZE >> 10}k-{AVERAGE_SIZE >> 10}k-{MAX_SIZE >> 10}k-nc1" == CHUNKER_ID


@given(st.integers(0, 1_500_000), st.integers(0, 900_000), st.integers(MAX_SIZE, 3 * MAX_SIZE))
@examples(60)
def test_boundaries_do_not_depend_on_how_the_buffer_is_fed(start: int, size: int, window: int) -> None:
    for source in (NOISE, TEXT):
        data = source[start : start + size]
        assert list(in_windows(data, window)) == cut(data, final=True)


@given(st.integers(0, 1_500_000), st.integers(1, 900_000))
@examples(60)
def test_chunks_cover_everything_within_the_limits(start: int, size: int) -> None:
    data = NOISE[start : start + size]
    lengths = cut(data, final=True)
    assert sum(lengths) == len(data)
    assert all(MIN_SIZE <= length <= MAX_SIZE for length in lengths[:-1])
    assert not lengths or 1 <= lengths[-1] <= MAX_SIZE


def test_the_end_of_a_buffer_is_no_boundary_unless_it_is_the_end_of_the_file() -> None:
    whole = cut(NOISE, final=True)
    for end in range(300_000, 310_000, 501):
        begun = cut(NOISE[:end], final=False)
        assert begun == whole[: len(begun)]
        assert end - sum(begun) < MAX_SIZE


def test_boundaries_meet_again_after_a_change() -> None:
    changed = NOISE[:1_000_000] + b"inserted" + NOISE[1_000_000:]
    old, new = ends(NOISE), ends(changed)
    assert {end for end in old if end < 1_000_000 - MAX_SIZE} <= new
    assert {end + 8 for end in old if end > 1_000_000 + 3 * MAX_SIZE} <= new


def ends(data: bytes) -> set[int]:
    total, found = 0, set()
    for length in cut(data, final=True):
        total += length
        found.add(total)
    return found


def test_a_cut_depends_on_the_bytes_since_the_cut_before_and_on_nothing_else() -> None:
    first, *rest = cut(NOISE, final=True)
    assert cut(NOISE[first:], final=True) == rest


def test_zeros_are_never_cut_before_the_maximum() -> None:
    assert cut(bytes(3 * MAX_SIZE + 5), final=True) == [MAX_SIZE, MAX_SIZE, MAX_SIZE, 5]
    assert cut(bytes(MAX_SIZE), final=False) == [MAX_SIZE]
    assert cut(bytes(MAX_SIZE - 1), final=False) == []


def test_nothing_is_cut_into_nothing() -> None:
    assert cut(b"", final=True) == []
    assert cut(b"", final=False) == []


def test_a_view_is_cut_like_bytes() -> None:
    assert cut(memoryview(NOISE)[7:], final=True) == cut(NOISE[7:], final=True)
