"""The index: rows that are checked, a file that is never silently made anew, and its rebuilding."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store import reindex
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.index import Index, decode_place, encode_place
from anabranch.store.records import seal
from anabranch.store.reindex import Damage, Rebuilt, rebuild
from anabranch.store.volumes import BLOCK, LOG_MAX, Place
from tests.unit.helpers import examples, random_bytes
from tests.unit.test_store_machine import LOST_INDEXES, spoil_index

PLACE = Place(3, 70_000, 30_056)


def quietly(directory: Path) -> Rebuilt:
    return rebuild(directory, lambda scanned, total: None)


def fill(directory: Path, count: int = 20) -> list[ObjectId]:
    """Chunks of 30,000 bytes, which do not compress."""
    store = ChunkStore(directory, writable=True)
    ids = []
    for n in range(count):
        ids.append(store.put(random_bytes(n, 30_000))[0])
        store.flush()
    store.close()
    return ids


def alter_volume(directory: Path, number: int, change: Callable[[bytearray], None], block: int = 0) -> None:
    environment = Environment(directory / "volumes" / f"{number:06}.mdb", ["blocks"], map_size=1 << 30)
    with environment.write() as batch:
        content = bytearray(batch.get("blocks", block.to_bytes(4, "big")) or b"")
        change(content)
        batch.put("blocks", block.to_bytes(4, "big"), bytes(content))
    environment.close()


def readable(directory: Path, ids: list[ObjectId]) -> list[bool]:
    store = ChunkStore(directory, writable=True)
    there = [store.has(identity) and store.get(identity) == random_bytes(n, 30_000) for n, identity in enumerate(ids)]
    store.close()
    return there


# --- rows ---


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 1 << 48), st.integers(56, 1 << 25))
@examples(100)
def test_a_place_comes_back_from_its_row(volume: int, position: int, length: int) -> None:
    place = Place(volume, min(position, LOG_MAX - length), length)
    assert decode_place(encode_place(place), "a row") == place


def test_every_truncation_and_every_flipped_bit_of_a_row_is_damage() -> None:
    row = encode_place(PLACE)
    touched = [row[:end] for end in range(len(row))] + [row + b"\0"]
    for at in range(len(row)):
        for bit in range(8):
            touched.append(row[:at] + bytes([row[at] ^ 1 << bit]) + row[at + 1 :])
    for wrong in touched:
        with pytest.raises(DamagedError, match="a row"):
            decode_place(wrong, "a row")


@pytest.mark.parametrize(
    "place",
    [
        Place(0, 0, 0), Place(0, 0, 55), Place(0, 0, (32 << 20) + 57), Place(0, 0, (1 << 32) - 1),
        Place(0, LOG_MAX, 100), Place(0, (1 << 64) - 1, 100),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_damage(place: Place) -> None:
    with pytest.raises(DamagedError, match="cannot be"):
        decode_place(encode_place(place), "a row")


@pytest.mark.parametrize("row", [b"", seal(b""), seal(bytes(15)), seal(bytes(17)), seal(bytes(16))])
def test_a_sealed_row_that_is_no_place_is_damage_to_whoever_reads_it_and_comes_with_a_hint(
    place: Path, row: bytes
) -> None:
    (identity,) = fill(place, 1)
    environment = Environment(place / "index.mdb", ["chunks"])
    with environment.write() as batch:
        batch.put("chunks", identity, row)
    environment.close()
    store = ChunkStore(place, writable=True)
    for ask in (store.get, store.has):
        with pytest.raises(DamagedError, match=identity.hex()) as caught:
            ask(identity)
        assert caught.value.hint == f"ana reindex -R {place}"
    store.close()


# --- opening ---


@pytest.mark.parametrize("how", [how for how in LOST_INDEXES if how != "kept"])
@pytest.mark.parametrize("writable", [True, False])
def test_an_index_that_cannot_be_used_is_told_with_a_hint_and_can_be_rebuilt(
    place: Path, how: str, writable: bool
) -> None:
    ids = fill(place)
    spoil_index(place / "index.mdb", how)
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"index\.mdb") as caught:
            ChunkStore(place, writable=writable)
        assert caught.value.hint == f"ana reindex -R {place}"
    assert quietly(place) == Rebuilt(20, 1, [])
    assert all(readable(place, ids))


@pytest.mark.parametrize("pages", [2, 3, 5, 8])
def test_an_index_that_lacks_pages_is_told_and_never_read(place: Path, pages: int) -> None:
    """LMDB would read beyond the end of the file, which kills the process."""
    fill(place, 200)
    with (place / "index.mdb").open("r+b") as file:
        file.truncate(pages * 4096)
    with pytest.raises(DamagedError, match="cut off"):
        ChunkStore(place, writable=True)


def test_a_file_without_the_table_is_no_index(place: Path) -> None:
    fill(place, 1)
    (place / "index.mdb").unlink()
    Environment(place / "index.mdb", ["other"]).close()
    for writable in (True, False):
        with pytest.raises(DamagedError) as caught:
            ChunkStore(place, writable=writable)
        assert caught.value.hint is not None


def test_a_new_repository_gets_an_empty_index_and_one_without_volumes_too(place: Path) -> None:
    ChunkStore(place, writable=True).close()
    (place / "index.mdb").unlink()
    ChunkStore(place, writable=True).close()
    assert quietly(place) == Rebuilt(0, 0, [])


# --- rebuilding ---


def test_a_rebuilt_index_has_all_rows_in_several_batches_over_several_volumes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 100_000)
    monkeypatch.setattr(reindex, "BATCH_ROWS", 3)
    ids = fill(place)
    before = (place / "index.mdb").stat().st_ino
    told: list[tuple[int, int]] = []
    rebuilt = rebuild(place, lambda scanned, total: told.append((scanned, total)))
    assert (rebuilt.chunks, rebuilt.damaged, rebuilt.volumes > 3) == (20, [], True)
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1]
    assert (place / "index.mdb").stat().st_ino != before
    assert all(readable(place, ids))
    assert sorted(path.name for path in place.iterdir()) == ["index.mdb", "index.mdb-lock", "volumes"]


def test_volumes_that_are_missing_are_damage(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 100_000)
    fill(place)
    (place / "volumes/000001.mdb").unlink()
    rebuilt = quietly(place)
    assert rebuilt.damaged == [Damage(1, 0, 0, "the volume is missing")]
    assert rebuilt.chunks + rebuilt.lost == 20
    assert rebuilt.lost > 0


def test_chunks_of_the_old_index_that_are_in_no_volume_are_lost(place: Path) -> None:
    fill(place)
    shutil.rmtree(place / "volumes")
    (place / "volumes").mkdir()
    assert quietly(place) == Rebuilt(0, 0, [], lost=20)


def test_what_is_damaged_is_named_and_everything_else_is_indexed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P35."""
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 100_000)
    ids = fill(place)

    def flip(content: bytearray) -> None:
        content[30_056 + 40] ^= 0xFF  # the length of the second record

    alter_volume(place, 1, flip)
    assert quietly(place) == Rebuilt(19, 5, [Damage(1, 30_056, 60_112, "no intact record")], lost=1)
    assert readable(place, ids) == [n != 5 for n in range(20)]


def test_a_volume_that_cannot_be_read_at_all_is_named_and_the_others_are_indexed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 100_000)
    ids = fill(place)
    (place / "volumes" / "000001.mdb").write_bytes(random_bytes(1, 100_000))
    (place / "volumes" / "000002.mdb").write_bytes(b"")
    with (place / "volumes" / "000003.mdb").open("r+b") as file:
        file.truncate(3 * 4096)
    rebuilt = quietly(place)
    assert (rebuilt.chunks, rebuilt.volumes) == (8, 5)
    assert [damage.volume for damage in rebuilt.damaged] == [1, 2, 3]
    assert readable(place, ids)[:4] == readable(place, ids)[16:] == [True] * 4


def test_a_damaged_page_of_lmdb_loses_what_lies_there_and_no_more(place: Path) -> None:
    ids = fill(place, 40)
    volume = place / "volumes" / "000000.mdb"
    content = bytearray(volume.read_bytes())
    inside = random_bytes(20, 30_000)
    at = content.index(inside[:1_000]) // BLOCK  # some block in the middle
    page = next(n for n in range(at * 16 - 16, at * 16 + 32) if content[n * 4096 + 10 : n * 4096 + 12] == b"\4\0")
    content[page * 4096 + 10] = 0  # an overflow page that is none
    volume.write_bytes(content)
    rebuilt = quietly(place)
    assert 30 < rebuilt.chunks <= 40
    assert sum(readable(place, ids)) == rebuilt.chunks


def test_a_chunk_that_was_written_twice_is_indexed_once(place: Path) -> None:
    """A crash between volume and index leaves such."""
    store = ChunkStore(place, writable=True)
    identity, _ = store.put(b"chunk")
    record = store._pending[identity]
    store.volumes.append([record])
    store.flush()
    store.close()
    assert quietly(place) == Rebuilt(1, 1, [])
    store = ChunkStore(place, writable=True)
    assert store.get(identity) == b"chunk"
    store.close()


def test_a_rebuilding_that_fails_leaves_the_old_index_and_nothing_else(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(place)
    before = (place / "index.mdb").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "full")

    for name in ("put", "count"):
        with monkeypatch.context() as patch:
            patch.setattr(Index, name, full)
            with pytest.raises(OSError, match="full"):
                quietly(place)
    assert (place / "index.mdb").read_bytes() == before
    assert sorted(path.name for path in place.iterdir()) == ["index.mdb", "index.mdb-lock", "volumes"]
    assert all(readable(place, ids))


def test_what_a_crashed_rebuilding_left_is_in_nobodys_way(place: Path) -> None:
    ids = fill(place)
    (place / "index.mdb.new").write_bytes(random_bytes(1, 20_000))
    (place / "index.mdb.new-lock").write_bytes(b"")
    assert all(readable(place, ids))
    assert quietly(place).chunks == 20
    assert all(readable(place, ids))


def test_a_crash_between_the_two_renames_leaves_the_old_index(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(place)
    renamed = Path.rename

    def crash(path: Path, target: Path) -> None:
        if target.name == "index.mdb":
            raise OSError(5, "the end")
        renamed(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(OSError, match="the end"):
            quietly(place)
    assert all(readable(place, ids))
