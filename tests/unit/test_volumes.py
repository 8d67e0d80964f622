"""Volumes: endless logs of records in blocks of one size."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.store import volumes as module
from anabranch.store.volumes import BLOCK, LOG_MAX, Place, Volumes
from tests.unit.helpers import examples, random_bytes, scratch


@pytest.fixture
def volumes(place: Path) -> Iterator[Volumes]:
    made = Volumes(place, writable=True)
    yield made
    made.close()


SIZES = [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7]


@given(st.lists(st.tuples(st.lists(st.sampled_from(SIZES), max_size=4), st.booleans()), max_size=8))
@examples(60)
def test_every_record_is_read_back_from_its_place_across_blocks_batches_and_reopening(
    batches: list[tuple[list[int], bool]],
) -> None:
    with scratch() as directory:
        volumes = Volumes(directory, writable=True)
        written: list[tuple[Place, bytes]] = []
        for sizes, reopen in batches:
            records = [random_bytes(len(written) + n, size) for n, size in enumerate(sizes)]
            written += zip(volumes.append(records), records, strict=True)
            if reopen:
                volumes.close()
                volumes = Volumes(directory, writable=True)
        for place, record in written:
            assert volumes.read(place) == record
        if written:
            positions, blocks = zip(*volumes.blocks(0), strict=True)
            assert b"".join(blocks) == b"".join(record for _, record in written)
            assert volumes.end(0) == sum(len(record) for _, record in written)
            assert list(positions) == [n * BLOCK for n in range(len(blocks))]
            *full, last = blocks
            assert all(len(block) == BLOCK for block in full)
            assert 1 <= len(last) <= BLOCK
        volumes.close()


def test_records_lie_one_after_the_other(volumes: Volumes) -> None:
    assert volumes.append([b"abc", b"de"]) == [Place(0, 0, 3), Place(0, 3, 2)]
    assert volumes.append([b"f"]) == [Place(0, 5, 1)]


def test_a_sealed_volume_takes_no_more_and_the_next_number_follows(
    volumes: Volumes, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEAL", 1000)
    places = [volumes.append([bytes([n]) * 400])[0] for n in range(7)]
    assert [where.volume for where in places] == [0, 0, 0, 1, 1, 1, 2]
    assert volumes.numbers() == [0, 1, 2]
    assert [path.name for path in sorted(place.glob("*.mdb"))] == ["000000.mdb", "000001.mdb", "000002.mdb"]
    for n, where in enumerate(places):
        assert volumes.read(where) == bytes([n]) * 400


def test_a_sealed_volume_stays_sealed_after_reopening(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEAL", 10)
    for n in range(3):
        volumes = Volumes(place, writable=True)
        assert volumes.append([b"twelve bytes"])[0].volume == n
        volumes.close()


def test_a_missing_volume_is_damage(volumes: Volumes) -> None:
    volumes.append([b"abc"])
    with pytest.raises(DamagedError, match="missing"):
        volumes.read(Place(7, 0, 1))


@pytest.mark.parametrize("beyond", [Place(0, 0, 4), Place(0, 3, 1), Place(0, 5 * BLOCK, 1), Place(0, 1, BLOCK)])
def test_a_place_beyond_the_end_is_damage(volumes: Volumes, beyond: Place) -> None:
    volumes.append([b"abc"])
    with pytest.raises(DamagedError, match="ends before"):
        volumes.read(beyond)


def test_a_block_that_is_missing_from_the_middle_is_damage(volumes: Volumes) -> None:
    (where,) = volumes.append([bytes(3 * BLOCK)])
    with volumes._volume(0).write() as batch:
        batch.delete("blocks", (1).to_bytes(4, "big"))
    with pytest.raises(DamagedError):
        volumes.read(where)


@pytest.mark.parametrize("content", [b"", b"short", bytes(BLOCK - 1), bytes(BLOCK + 1)])
def test_a_block_of_a_wrong_size_in_the_middle_is_damage(volumes: Volumes, content: bytes) -> None:
    (where,) = volumes.append([bytes(3 * BLOCK)])
    with volumes._volume(0).write() as batch:
        batch.put("blocks", (1).to_bytes(4, "big"), content)
    with pytest.raises(DamagedError):
        volumes.read(where)
    assert volumes.read(Place(0, 2 * BLOCK, 100)) == bytes(100)


@pytest.mark.parametrize(
    ("key", "content"), [((3).to_bytes(4, "big"), b""), ((3).to_bytes(4, "big"), bytes(BLOCK + 1)), (b"\xff", b"x")]
)
def test_nothing_is_appended_to_a_volume_that_does_not_end_with_a_block_but_to_the_next(
    volumes: Volumes, key: bytes, content: bytes
) -> None:
    (whole,) = volumes.append([bytes(3 * BLOCK)])
    with volumes._volume(0).write() as batch:
        batch.put("blocks", key, content)
    with pytest.raises(DamagedError, match="does not end with a block"):
        volumes.end(0)
    assert volumes.append([b"more", b"and more"]) == [Place(1, 0, 4), Place(1, 4, 8)]
    assert volumes.read(whole) == bytes(3 * BLOCK)
    assert volumes.read(Place(1, 4, 8)) == b"and more"


@pytest.mark.parametrize("absurd", [Place(0, LOG_MAX, 1), Place(0, (1 << 64) - 1, 1), Place((1 << 32) - 1, 0, 1)])
def test_a_place_that_no_volume_has_is_damage(volumes: Volumes, absurd: Place) -> None:
    volumes.append([b"abc"])
    with pytest.raises(DamagedError):
        volumes.read(absurd)


def test_files_that_are_no_volumes_are_not_taken_for_some(volumes: Volumes, place: Path) -> None:
    for name in ("notes.mdb", "1.mdb", "000007.mdb.old", "²²²²²².mdb"):
        (place / name).touch()
    assert volumes.append([b"abc"]) == [Place(0, 0, 3)]
    assert volumes.numbers() == [0]
