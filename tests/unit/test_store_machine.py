"""The store against dictionaries: whatever is done in whatever order, what was flushed is there, in every process."""

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind, object_id
from anabranch.store.reindex import rebuild
from tests.unit.helpers import examples, random_bytes, scratch
from tests.unit.store_reader import Reader, reading

KINDS = (Kind.MANIFEST, Kind.TREE, Kind.COMMIT)
LOST_INDEXES = ("kept", "gone", "empty", "cut off", "noise")
Objects = dict[tuple[Kind, ObjectId], bytes]


def content(n: int) -> bytes:
    return random_bytes(n, n * 9_000 + 1) if n % 2 else bytes([n]) * (n * 9_000 + 1)


def spoil_index(path: Path, how: str) -> None:
    """Make the index what a failing disk or a careless hand makes of it."""
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:9_000])
    elif how == "noise":
        path.write_bytes(random_bytes(1, 30_000))


class StoreMachine(RuleBasedStateMachine):
    reader: ClassVar[Reader]

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self.path = self._scratch.__enter__()
        self.pending: dict[bool, Objects] = {True: {}, False: {}}
        """What was put and not flushed: of chunks (True) and of other objects."""
        self.kept: Objects = {}
        self._open()

    def _open(self) -> None:
        self.chunks = ChunkStore(self.path, writable=True)
        self.meta = Environment(self.path / "meta.mdb", TABLES)
        self.objects = ObjectStore(self.meta)

    def _close(self) -> None:
        self.chunks.close()
        self.meta.close()
        for lost in self.pending.values():
            lost.clear()

    def teardown(self) -> None:
        self._close()
        self._scratch.__exit__(None, None, None)

    @rule(n=st.integers(0, 12))
    def put_chunk(self, n: int) -> None:
        raw = content(n)
        identity, added = self.chunks.put(raw)
        key = Kind.CHUNK, identity
        assert identity == object_id(Kind.CHUNK, raw)
        assert (added == 0) == (key in self.kept or key in self.pending[True])
        if key not in self.kept:
            self.pending[True][key] = raw

    @rule(kind=st.sampled_from(KINDS), n=st.integers(0, 5))
    def put_object(self, kind: Kind, n: int) -> None:
        key = kind, self.objects.put(kind, content(n))
        assert key[1] == object_id(kind, content(n))
        if key not in self.kept:
            self.pending[False][key] = content(n)

    @rule(chunks=st.booleans())
    def flush(self, chunks: bool) -> None:
        self.chunks.flush() if chunks else self.objects.flush()
        self.kept |= self.pending[chunks]
        self.pending[chunks].clear()

    @rule()
    def crash(self) -> None:
        self._close()
        self._open()

    @rule(how=st.sampled_from(LOST_INDEXES))
    def rebuild_the_index(self, how: str) -> None:
        self._close()
        spoil_index(self.path / "index.mdb", how)
        rebuilt = rebuild(self.path, lambda scanned, total: None)
        assert rebuilt.damaged == []
        assert rebuilt.chunks == sum(kind == Kind.CHUNK for kind, _ in self.kept)
        self._open()

    @precondition(lambda self: self.kept)
    @rule()
    def read_in_another_process(self) -> None:
        self.reader.open(self.path)
        assert self.reader.read(self.kept) == [identity.hex() for _, identity in self.kept]
        unflushed = [*self.pending[True], *self.pending[False]]
        assert self.reader.read(unflushed) == ["DamagedError"] * len(unflushed)

    @invariant()
    def all_that_was_put_is_there_and_nothing_else(self) -> None:
        known = self.kept | self.pending[True] | self.pending[False]
        for (kind, identity), raw in known.items():
            assert (self.chunks.get(identity) if kind == Kind.CHUNK else self.objects.get(kind, identity)) == raw
        for n in range(13):
            identity = object_id(Kind.CHUNK, content(n))
            assert self.chunks.has(identity) == ((Kind.CHUNK, identity) in self.kept)
            if (Kind.CHUNK, identity) not in known:
                with pytest.raises(DamagedError, match="missing"):
                    self.chunks.get(identity)


def test_the_store_holds_what_was_put_whatever_happens_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 60_000)
    with reading() as reader:
        StoreMachine.reader = reader
        run_state_machine_as_test(StoreMachine, settings=examples(40, steps=25))


def test_several_processes_read_while_one_writes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was flushed is found at once by whoever asks, in volumes that did not exist when they opened the store."""
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 300_000)
    chunks = ChunkStore(place, writable=True)
    meta = Environment(place / "meta.mdb", TABLES)
    objects = ObjectStore(meta)
    asked: list[str] = []
    with reading() as one, reading() as two, reading() as three:
        readers = (one, two, three)
        for reader in readers:
            reader.open(place)
        for n in range(60):
            kinds = [
                (Kind.CHUNK, chunks.put(random_bytes(n, 30_000))[0]),
                (Kind.TREE, objects.put(Kind.TREE, b"%d" % n)),
            ]
            chunks.flush()
            objects.flush()
            for kind, identity in kinds:
                asked.append(identity.hex())
                for reader in readers:
                    reader.tell(f"{kind.name} {identity.hex()}")
        for reader in readers:
            assert [reader.answer() for _ in asked] == asked
    assert len(chunks.volumes.numbers()) > 3
    chunks.close()
    meta.close()


def test_a_reader_of_the_old_index_disturbs_nobody_after_a_rebuilding(place: Path) -> None:
    """LMDB's lock file outlives the file that it was for as long as somebody has it open."""
    store = ChunkStore(place, writable=True)
    Environment(place / "meta.mdb", TABLES).close()
    ids = []
    for n in range(30):
        ids.append((Kind.CHUNK, store.put(random_bytes(n, 2_000))[0]))
        store.flush()
    with reading() as old, reading() as new:
        old.open(place)
        store.close()
        rebuild(place, lambda scanned, total: None)
        store = ChunkStore(place, writable=True)
        new.open(place)
        for n in range(30, 60):
            ids.append((Kind.CHUNK, store.put(random_bytes(n, 2_000))[0]))
            store.flush()
            assert new.read(ids) == [identity.hex() for _, identity in ids]
        assert old.read(ids[:30]) == [identity.hex() for _, identity in ids[:30]]
        assert all(store.has(identity) for _, identity in ids)
    store.close()


def test_a_copy_of_a_repository_without_its_index_becomes_whole(place: Path) -> None:
    store = ChunkStore(place, writable=True)
    ids = [store.put(content(n))[0] for n in range(12)]
    store.flush()
    store.close()
    with tempfile.TemporaryDirectory() as elsewhere:
        shutil.copytree(place / "volumes", Path(elsewhere) / "volumes")
        assert rebuild(Path(elsewhere), lambda scanned, total: None).chunks == 12
        copy = ChunkStore(Path(elsewhere), writable=True)
        assert [copy.get(identity) for identity in ids] == [content(n) for n in range(12)]
        copy.close()
