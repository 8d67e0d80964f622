"""Where content is cut. The vectors of docs/format.md are part of the format: they may never change."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

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

FORMAT = (Path(__file__).parents[2] / "docs" / "format.md").read_text().partition("\n## Chunker\n")[2]
"""What the format says about cutting, and what comes after."""

VECTORS = {
    content: [int(length) for length in lengths.split()]
    for content, lengths in re.findall(r"^(\w.*) -> ([\d\s]+)", FORMAT.partition("\n## ")[0], re.MULTILINE)
}
"""Content as the format describes it, and the lengths of its chunks."""

# --- a second implementation, from the text of the format and not from the package -------------------------------

STRICT = 0x0000D90703537000
LOOSE = 0x0000D90F03530000
GEAR = [int.from_bytes(hashlib.md5(bytes([value]) * 64).digest()[:8], "big") for value in range(256)]


def cut_as_written(data: bytes) -> list[int]:
    """The lengths of the chunks of a whole content."""
    lengths = []
    start = 0
    while start < len(data):
        lengths.append(length_as_written(data[start : start + 262_144]))
        start += lengths[-1]
    return lengths


def length_as_written(data: bytes) -> int:
    """The length of the first chunk."""
    end = len(data) - len(data) % 2
    value = 0
    for i in range(16_384, end):
        value = (2 * value + GEAR[data[i]]) % 2**64
        if value & (STRICT if i < 65_536 else LOOSE) == 0:
            return i
    return len(data)


def both(data: bytes) -> list[int]:
    """The lengths of the chunks, from the package and from the second implementation."""
    lengths = cut(data, final=True)
    assert lengths == cut_as_written(data)
    return lengths


# --- the format ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", VECTORS)
def test_the_boundaries_are_those_of_the_format_for_ever(content: str) -> None:
    assert both(eval(content, {"noise": NOISE, "text": TEXT, "zeros": bytes})) == VECTORS[content]


def test_the_format_has_vectors_and_says_how_to_check_what_they_are_made_of() -> None:
    assert {"noise", "text"} < VECTORS.keys()
    for name, made in (("noise", NOISE), ("text", TEXT)):
        assert f"| `{name}` | {len(made):,} |" in FORMAT
        assert f"| `{hashlib.sha256(made).hexdigest()}` |" in FORMAT
    assert all(f"`GEAR[{value}]`" in FORMAT and f"`{GEAR[value]:#018x}`" in FORMAT for value in (0, 1, 254, 255))
    assert hashlib.sha256(b"".join(value.to_bytes(8, "big") for value in GEAR)).hexdigest() in FORMAT
    assert f"`{STRICT:#018x}`" in FORMAT
    assert f"`{LOOSE:#018x}`" in FORMAT


pieces = st.one_of(
    st.builds(lambda start, size: NOISE[start : start + size], st.integers(0, 1_900_000), st.integers(0, 100_000)),
    st.builds(lambda start, size: TEXT[start : start + size], st.integers(0, 1_400_000), st.integers(0, 80_000)),
    st.builds(bytes, st.sampled_from([1, 47, 48, MIN_SIZE, AVERAGE_SIZE, MAX_SIZE - 1, MAX_SIZE])),
    st.builds(lambda unit, size: (unit * size)[:size], st.binary(min_size=1, max_size=9), st.integers(0, 70_000)),
    st.binary(max_size=100),
)


@given(st.lists(pieces, max_size=6))
@examples(80)
def test_the_package_cuts_as_the_format_says(parts: list[bytes]) -> None:
    both(b"".join(parts))


@pytest.mark.parametrize("source", [NOISE, TEXT, bytes(MAX_SIZE)], ids=["noise", "text", "zeros"])
def test_content_up_to_the_minimum_and_a_little_over_it_is_cut_as_the_format_says(source: bytes) -> None:
    for size in [*range(1, 70), *range(MIN_SIZE - 70, MIN_SIZE + 70)]:
        lengths = both(source[:size])
        assert lengths == [size] or size > MIN_SIZE


STRICT_END = NOISE[40_257:40_321]
LOOSE_END = NOISE[149_433:149_497]
"""64 bytes, all that the hash can remember, the last of which ends a chunk: under one mask and not under the other."""


@pytest.mark.parametrize("tail", range(3))
@pytest.mark.parametrize("around", [MIN_SIZE + 64, AVERAGE_SIZE, MAX_SIZE])
def test_a_cut_beside_a_limit_or_the_end_of_the_content_is_where_the_format_says(around: int, tail: int) -> None:
    for end in range(around - 3, around + 3):
        for ending, first, last in ((STRICT_END, 0, AVERAGE_SIZE), (LOOSE_END, AVERAGE_SIZE, MAX_SIZE)):
            data = bytes(end + 1 - len(ending)) + ending + bytes(tail)
            seen = first <= end < last and (tail > 0 or len(data) % 2 == 0)
            expected = end if seen else min(len(data), MAX_SIZE)
            assert both(data) == [length for length in (expected, len(data) - expected) if length]


# --- what follows from it -----------------------------------------------------------------------------------------


def in_windows(data: bytes, window: int) -> Iterator[int]:
    """Cut as a reader with a small buffer does: the unfinished last chunk comes again, in front of what follows."""
    start = 0
    while start < len(data):
        buffer = data[start : start + window]
        final = start + len(buffer) == len(data)
        for length in cut(buffer, final=final):
            yield length
            start += length


def test_the_parameters_are_those_that_the_name_says() -> None:
    assert f"fastcdc2020-{MIN_SIZE >> 10}k-{AVERAGE_SIZE >> 10}k-{MAX_SIZE >> 10}k-nc1" == CHUNKER_ID


@given(st.integers(0, 1_500_000), st.integers(0, 900_000), st.integers(MAX_SIZE, 3 * MAX_SIZE))
@examples(60)
def test_boundaries_do_not_depend_on_how_the_buffer_is_fed(start: int, size: int, window: int) -> None:
    for source in (NOISE, TEXT, bytes(700_000) + NOISE):
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
    beside_cuts = [end + step for end in ends(NOISE) for step in (-1, 0, 1, 2)]
    for end in [*range(300_000, 310_000, 501), *beside_cuts]:
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


def test_what_lies_before_a_cut_does_not_matter_after_it() -> None:
    first, *rest = cut(NOISE, final=True)
    assert cut(NOISE[first:], final=True) == rest


def test_the_byte_after_a_cut_decides_it_too() -> None:
    first = cut(NOISE, final=True)[0]
    changed = NOISE[:first] + bytes([NOISE[first] ^ 0xFF]) + NOISE[first + 1 :]
    assert both(changed)[0] != first


def test_zeros_are_never_cut_before_the_maximum() -> None:
    assert cut(bytes(3 * MAX_SIZE + 5), final=True) == [MAX_SIZE, MAX_SIZE, MAX_SIZE, 5]
    assert cut(bytes(MAX_SIZE), final=False) == [MAX_SIZE]
    assert cut(bytes(MAX_SIZE - 1), final=False) == []


def test_nothing_is_cut_into_nothing() -> None:
    assert cut(b"", final=True) == []
    assert cut(b"", final=False) == []


def test_a_view_is_cut_like_bytes() -> None:
    assert cut(memoryview(NOISE)[7:], final=True) == cut(NOISE[7:], final=True)
