"""The chunk store against a dictionary."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store import chunks as module
from anabranch.store.chunks import Cache, ChunkStore
from anabranch.store.records import Kind, object_id
from tests.unit.helpers import examples, random_bytes, scratch


@pytest.fixture
def chunks(place: Path) -> Iterator[ChunkStore]:
    made = ChunkStore(place, writable=True)
    yield made
    made.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 12)), st.tuples(st.sampled_from(["flush", "reopen"]), st.just(0))
    ),
    max_size=30,
)


def chunk(n: int) -> bytes:
    return random_bytes(n, n * 9_000 + 1) if n % 2 else bytes([n]) * (n * 9_000 + 1)


@given(steps)
@examples(60)
def test_what_was_put_is_there_and_after_a_flush_it_stays(steps: list[tuple[str, int]]) -> None:
    with scratch() as directory:
        store = ChunkStore(directory, writable=True)
        pending: dict[ObjectId, bytes] = {}
        kept: dict[ObjectId, bytes] = {}
        for kind, n in steps:
            if kind == "put":
                identity, added = store.put(chunk(n))
                assert identity == object_id(Kind.CHUNK, chunk(n))
                assert (added == 0) == (identity in pending or identity in kept)
                if identity not in kept:
                    pending[identity] = chunk(n)
            elif kind == "flush":
                store.flush()
                kept |= pending
                pending.clear()
            else:
                store.close()
                store = ChunkStore(directory, writable=True)
                pending.clear()
            for identity, raw in (pending | kept).items():
                assert store.get(identity) == raw
            assert all(store.has(identity) for identity in kept)
            for n in range(13):
                identity = object_id(Kind.CHUNK, chunk(n))
                if identity not in pending and identity not in kept:
                    with pytest.raises(DamagedError, match="missing"):
                        store.get(identity)
        store.close()


def test_the_same_chunk_is_stored_once(chunks: ChunkStore) -> None:
    raw = random_bytes(1, 50_000)
    assert chunks.put(raw)[1] > 50_000
    assert chunks.put(memoryview(raw))[1] == 0
    chunks.flush()
    assert chunks.put(raw)[1] == 0
    chunks.flush()
    assert chunks.volumes.end(0) < 51_000


def test_a_full_batch_is_written_without_being_asked(chunks: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 10_000)
    first, _ = chunks.put(random_bytes(1, 4_000))
    assert not chunks.has(first)
    chunks.put(random_bytes(2, 8_000))
    assert chunks.has(first)


def test_chunks_in_many_volumes_are_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 20_000)
    store = ChunkStore(place, writable=True)
    ids = []
    for n in range(8):
        ids.append(store.put(random_bytes(n, 9_000))[0])
        store.flush()
    assert len(store.volumes.numbers()) > 2
    assert [store.get(identity) for identity in ids] == [random_bytes(n, 9_000) for n in range(8)]
    store.close()


def damaged(chunks: ChunkStore, position: int) -> ObjectId:
    """A stored chunk with one bit of its log turned over."""
    identity, _ = chunks.put(random_bytes(3, 30_000))
    chunks.flush()
    volume = chunks.volumes._volume(0)
    with volume.write() as batch:
        block = bytearray(batch.get("blocks", bytes(4)) or b"")
        block[position] ^= 1
        batch.put("blocks", bytes(4), bytes(block))
    return identity


@pytest.mark.parametrize("position", [0, 31, 32, 40, 48, 55, 56, 57, 1_000, 30_055])
def test_a_flipped_bit_anywhere_in_a_stored_chunk_is_damage(chunks: ChunkStore, position: int) -> None:
    """P35."""
    identity = damaged(chunks, position)
    for _ in range(2):
        with pytest.raises(DamagedError):
            chunks.get(identity)


def test_a_damaged_row_of_the_index_is_damage(chunks: ChunkStore) -> None:
    identity, _ = chunks.put(b"chunk")
    chunks.flush()
    with chunks._index._env.write() as batch:
        row = bytearray(batch.get("chunks", identity) or b"")
        row[-1] ^= 1
        batch.put("chunks", identity, bytes(row))
    with pytest.raises(DamagedError):
        chunks.get(identity)


def test_an_index_row_that_leads_to_another_chunk_is_damage(chunks: ChunkStore) -> None:
    one, other = chunks.put(b"one" * 100)[0], chunks.put(b"two" * 100)[0]
    chunks.flush()
    with chunks._index._env.write() as batch:
        batch.put("chunks", one, batch.get("chunks", other) or b"")
    with pytest.raises(DamagedError, match="another record"):
        chunks.get(one)


def test_a_missing_volume_is_damage(place: Path) -> None:
    store = ChunkStore(place, writable=True)
    identity, _ = store.put(b"chunk")
    store.flush()
    store.close()
    (place / "volumes" / "000000.mdb").unlink()
    reopened = ChunkStore(place, writable=True)
    with pytest.raises(DamagedError, match="missing"):
        reopened.get(identity)
    reopened.close()


def test_several_threads_put_and_get_at_once(chunks: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 50_000)
    wrong: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for n in range(start, start + 40):
                raw = random_bytes(n, 5_000)
                identity, _ = chunks.put(raw)
                assert chunks.get(identity) == raw
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chunks.flush()
    assert wrong == []
    assert all(chunks.has(object_id(Kind.CHUNK, random_bytes(n, 5_000))) for n in range(70))
    assert chunks._pending_size == 0


def test_the_cache_lets_the_oldest_go_and_keeps_what_is_used() -> None:
    cache = Cache(limit=100)
    ids = [object_id(Kind.CHUNK, b"%d" % n) for n in range(4)]
    for identity in ids[:2]:
        cache.put(identity, bytes(40))
    assert cache.get(ids[0]) == bytes(40)
    cache.put(ids[2], bytes(40))
    assert [cache.get(identity) is not None for identity in ids[:3]] == [True, False, True]
    cache.put(ids[3], bytes(200))
    assert [cache.get(identity) for identity in ids] == [None] * 4
