"""Scanning a log: every intact record is found, whatever happened to the rest, and nothing else."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store import records
from anabranch.store.records import HEADER, Kind, checksum, frame, object_id
from anabranch.store.scan import Found, Lost, scan
from tests.unit.helpers import examples, random_bytes

SIZES = st.sampled_from([0, 1, 30, 63, 64, 65, 200, 1_000, 5_000])


def record(raw: bytes) -> bytes:
    identity = object_id(Kind.CHUNK, raw)
    return identity + frame(Kind.CHUNK, identity, raw)


def blocks_of(log: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    for position in range(0, len(log), size):
        yield position, log[position : position + size]


def log_of(sizes: list[int]) -> tuple[bytes, list[Found]]:
    """A log, and the records that are in it; every third one is compressed."""
    log, places = b"", []
    for n, size in enumerate(sizes):
        one = record(random_bytes(n, size) if n % 3 else b"%d" % n * size)
        places.append(Found(ObjectId(one[:ID_SIZE]), len(log), len(one)))
        log += one
    return log, places


def check(found: list[Found | Lost], expected: list[Found], size: int) -> None:
    """Just the expected records were found, and with what was lost they make the whole log."""
    assert [item for item in found if isinstance(item, Found)] == expected
    reached = 0
    for item in found:
        assert item.position == reached
        reached = item.end
    assert reached == size


@given(st.lists(SIZES, max_size=30), st.integers(1, 3_000))
@examples(100)
def test_every_record_of_a_sound_log_is_found_at_its_place(sizes: list[int], block: int) -> None:
    log, places = log_of(sizes)
    assert list(scan(blocks_of(log, block))) == places


@given(
    st.lists(SIZES, min_size=1, max_size=30),
    st.integers(50, 3_000),
    st.lists(st.tuples(st.integers(0), st.integers(1, 300), st.integers(1, 255)), min_size=1, max_size=5),
)
@examples(200)
def test_with_damage_anywhere_all_other_records_are_found(
    sizes: list[int], block: int, damage: list[tuple[int, int, int]]
) -> None:
    """P35."""
    log, places = log_of(sizes)
    touched = bytearray(log)
    for start, length, bits in damage:
        for at in range(start % len(log), min(start % len(log) + length, len(log))):
            touched[at] ^= bits
    intact = [one for one in places if touched[one.position : one.end] == log[one.position : one.end]]
    check(list(scan(blocks_of(bytes(touched), block))), intact, len(log))


def test_a_damaged_byte_anywhere_in_a_record_loses_that_record_alone() -> None:
    log, places = log_of([100, 60, 100])
    for at in range(places[1].position, places[1].end):
        for bits in (1, 0x80, 0xFF):
            touched = bytearray(log)
            touched[at] ^= bits
            found = list(scan(blocks_of(bytes(touched), 64)))
            assert found == [places[0], Lost(places[1].position, places[1].end), places[2]]


@given(st.lists(SIZES, min_size=1, max_size=30), st.integers(50, 3_000), st.sets(st.integers(0, 40), max_size=4))
@examples(200)
def test_with_blocks_missing_all_records_beside_them_are_found(sizes: list[int], block: int, holes: set[int]) -> None:
    log, places = log_of(sizes)
    there = [(at, content) for at, content in blocks_of(log, block) if at // block not in holes]
    end = there[-1][0] + len(there[-1][1]) if there else 0
    intact = [
        one
        for one in places
        if one.end <= end and holes.isdisjoint(range(one.position // block, (one.end - 1) // block + 1))
    ]
    check(list(scan(iter(there))), intact, end)


@given(st.lists(SIZES, min_size=1, max_size=10), st.integers(0))
@examples(100)
def test_of_a_log_that_is_cut_off_all_whole_records_are_found(sizes: list[int], cut: int) -> None:
    log, places = log_of(sizes)
    end = cut % len(log)
    check(list(scan(blocks_of(log[:end], 1_000))), [one for one in places if one.end <= end], end)


def test_blocks_of_a_wrong_size_lose_only_what_lay_in_them() -> None:
    log, places = log_of([400] * 20)
    blocks = dict(blocks_of(log, 1_000))
    blocks[2_000], blocks[4_000] = blocks[2_000][:500], b""
    intact = [one for one in places if one.end <= 2_500 or one.position >= 3_000]
    intact = [one for one in intact if one.end <= 4_000 or one.position >= 5_000]
    check(list(scan(iter(sorted(blocks.items())))), intact, len(log))


def test_a_record_within_a_damaged_one_is_believed_only_if_its_content_has_its_id() -> None:
    """Content is chosen by whoever writes files: it must not stand for another chunk, however the damage falls."""
    forged_id, payload = object_id(Kind.CHUNK, b"what others trust"), b"what an enemy wants"
    head = HEADER.pack(1, Kind.CHUNK, 0, 0, 0, len(payload), len(payload), 0)[:16]
    forged = forged_id + head + checksum(forged_id, head, payload).to_bytes(8, "little") + payload
    genuine = record(b"a record of an Anabranch volume that somebody stored as a file")
    outer = record(random_bytes(1, 500) + forged + random_bytes(2, 500) + genuine + forged + random_bytes(3, 500))
    after = record(b"after")
    log = bytearray(outer + after)
    assert [item for item in scan(blocks_of(bytes(log), 300)) if isinstance(item, Lost)] == []
    log[0] ^= 1
    found = [item.identity for item in scan(blocks_of(bytes(log), 300)) if isinstance(item, Found)]
    assert found == [genuine[:ID_SIZE], after[:ID_SIZE]]


def test_memory_is_bounded_by_one_record_and_one_block_whatever_lengths_a_log_claims() -> None:
    """A header that claims 32 MiB makes the scan look no further than that."""
    size, seen = 64 * 1024, []
    claim = bytes(ID_SIZE) + HEADER.pack(1, Kind.CHUNK, 0, 0, 0, records.MAX_RAW, records.MAX_RAW, 7)

    def blocks() -> Iterator[tuple[int, bytes]]:
        yield 0, claim + bytes(size - len(claim))
        for number in range(1, 3 * records.MAX_RAW // size):
            seen.append(number * size)
            yield number * size, b"x" * size
        yield 3 * records.MAX_RAW, record(b"behind")

    items = scan(blocks())
    first = next(items)
    assert first == Lost(0, 3 * records.MAX_RAW)
    assert isinstance(next(items), Found)
