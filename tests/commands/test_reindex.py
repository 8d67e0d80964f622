"""ana reindex: what it says, its exit codes, and that nobody else may own the repository meanwhile."""

import json
from pathlib import Path

import pytest

from anabranch.daemon import lock as locks
from anabranch.ids import ObjectId
from anabranch.store.chunks import ChunkStore
from anabranch.store.layout import Layout
from tests.harness import Mount, Repo, done, hinted

CHUNKS = [b"%d" % n * 10_000 for n in range(1_200)]


def fill(repo: Repo) -> list[ObjectId]:
    store = ChunkStore(repo.path, writable=True)
    ids = [store.put(raw)[0] for raw in CHUNKS]
    store.flush()
    store.close()
    return ids


def whole(repo: Repo, ids: list[ObjectId]) -> bool:
    store = ChunkStore(repo.path, writable=False)
    try:
        return [store.get(identity) for identity in ids] == CHUNKS
    finally:
        store.close()


@pytest.mark.parametrize("left", [None, b"", b"garbage" * 5_000])
def test_a_repository_without_its_index_says_what_to_do_and_that_helps(repo: Repo, left: bytes | None):
    ids = fill(repo)
    index = repo.path / "index.mdb"
    index.unlink()
    if left is not None:
        index.write_bytes(left)
    for command in (["log"], ["status"], ["commit", "-m", "x"]):
        hinted(repo.ana(*command), 4, "index.mdb", f"hint: ana reindex -R {repo.path}\n")
    ended = repo.ana("reindex")
    assert done(ended) == "1,200 chunks in 1 volume, 0 damaged records\n"
    assert ended.stderr == ""  # no bar: this is no terminal
    assert whole(repo, ids)
    done(repo.ana("status"))


def test_damage_in_the_volumes_is_named_with_exit_code_4(repo: Repo):
    fill(repo)
    volume = repo.path / "volumes/000000.mdb"
    content = volume.read_bytes()
    store = ChunkStore(repo.path, writable=False)
    first = store.volumes.read(store._index.get(store.put(CHUNKS[0])[0]))  # type: ignore[arg-type]
    store.close()
    at = content.index(first) + 60
    volume.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    ended = repo.ana("reindex")
    assert ended.returncode == 4
    assert ended.stderr == f"ana: the volumes of {repo.path} are damaged; what is intact is indexed\n"
    assert ended.stdout == (
        "1,199 chunks in 1 volume, 1 damaged record\n"
        "lost: 1 chunk of the old index is in no volume\n"
        f"damaged: volume 0, from 0 to {len(first)}: no intact record\n"
    )
    ended = repo.ana("reindex", "--json")
    assert ended.returncode == 4
    assert json.loads(ended.stdout) == {
        "chunks": 1_199,
        "volumes": 1,
        "lost": 0,
        "damaged": [{"volume": 0, "position": 0, "end": len(first), "why": "no intact record"}],
    }


def test_who_does_not_own_the_repository_may_not_reindex(repo: Repo):
    before = (repo.path / "index.mdb").stat().st_ino
    with locks.acquire(Layout(repo.path)):
        hinted(repo.ana("reindex"), 3, "in use", "try again")
    assert (repo.path / "index.mdb").stat().st_ino == before


@pytest.mark.mounted
def test_a_mounted_repository_is_not_reindexed(mount: Mount):
    repo = Repo(mount.path)
    before = (repo.path / "index.mdb").stat().st_ino
    hinted(repo.ana("reindex"), 3, "already mounted", "ana umount")
    assert (repo.path / "index.mdb").stat().st_ino == before


def test_a_folder_that_is_no_repository_is_not_reindexed(tmp_path: Path):
    hinted(Repo(tmp_path).ana("reindex"), 2, "not a repository")
    assert list(tmp_path.iterdir()) == []
