"""How much a repository holds, and how much of it had to be stored."""

import pytest

from anabranch import statistics as module
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.report_store import info_json, info_text
from anabranch.statistics import statistics
from tests.unit.helpers import MAIN, WHO, Branch, random_bytes

NOISE = random_bytes(1, 3_000_000)
ZEBRA = bytes(range(256)) * 4_000


def chunk_sizes(repository: Repository) -> list[tuple[int, int]]:
    return list(repository.chunks.sizes(1 << 30))


def test_an_empty_repository_has_no_ratios(repository: Repository) -> None:
    found = statistics(repository)
    assert (found.branches, found.tags, found.versions, found.files, found.bytes) == (1, 0, 1, 0, 0)
    assert (found.chunks.count, found.chunks.compression, found.deduplication) == (0, None, None)
    assert found.disk.meta > 0
    assert "Compression:   -\nDeduplication: -\n" in info_text(found, None)


def test_what_all_versions_hold_is_counted_once_for_each_distinct_commit(main: Branch) -> None:
    repository = main.repository
    main.write("noise", NOISE)
    main.link("noise", "again")
    main.mkdir("d")
    main.write("d/small", b"small")
    main.commit()
    repository.create_branch("same", repository.resolve("main@1").id, WHO)
    repository.create_tag("v1", repository.resolve("main@1").id, WHO)
    main.unlink("d/small")
    main.commit()
    main.write("noise", b"changed", offset=1_000_000)
    main.commit()
    found = statistics(repository)
    assert (found.branches, found.tags, found.versions) == (2, 1, 4), "main@0 is one"
    assert (str(found.head), found.files, found.bytes) == ("main@3", 2, 3_000_000), "two names, one file"
    assert found.version_bytes == 3 * 3_000_000 + 5
    assert found.chunks.exact
    assert found.deduplication is not None
    assert 2.5 < found.deduplication < 3


def test_a_version_that_only_a_tag_names_counts_and_so_does_the_past_of_a_branch(main: Branch) -> None:
    repository = main.repository
    repository.create_branch("exp", repository.resolve("main").id, WHO)
    exp = Branch(repository, repository.refs.all(tags=False)[0].name)
    exp.write("x", ZEBRA)
    exp.commit()
    repository.create_tag("kept", repository.resolve("exp").id, WHO)
    repository.delete_branch("exp", WHO)
    found = statistics(repository)
    assert (found.branches, found.tags, found.versions, found.version_bytes) == (1, 1, 2, len(ZEBRA))
    repository.delete_tag("kept", WHO)
    assert statistics(repository).versions == 1


def test_compression_is_what_chunks_were_to_what_they_are(main: Branch) -> None:
    repository = main.repository
    main.write("noise", NOISE)
    main.write("zebra", ZEBRA)
    main.commit()
    found = statistics(repository)
    sizes = chunk_sizes(repository)
    assert found.chunks.count == len(sizes)
    assert found.chunks.raw == sum(raw for raw, _ in sizes) >= len(NOISE)
    assert found.chunks.stored == sum(stored for _, stored in sizes) == repository.chunks.stored()
    assert found.chunks.compression == pytest.approx(found.chunks.raw / found.chunks.stored)
    assert f"Compression:   {found.chunks.compression:.2f} to 1\n" in info_text(found, "/mnt")
    value = info_json(found, "/mnt")
    assert (value["mounted_at"], value["compression"]) == ("/mnt", found.chunks.compression)


def test_many_chunks_are_measured_on_some_of_them_and_that_is_said(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them can be compressed to nearly nothing: a sample that is spread says so."""
    monkeypatch.setattr(module, "SAMPLE", 400)
    for number in range(1_000):
        repository.chunks.put(random_bytes(number, 1_000))
        repository.chunks.put(b"%05d" % number * 200)
    repository.chunks.flush()
    raw = sum(before for before, _ in chunk_sizes(repository))
    found = statistics(repository)
    assert (found.chunks.count, found.chunks.exact) == (2_000, False)
    assert found.chunks.stored == repository.chunks.stored()
    assert found.chunks.raw == pytest.approx(raw, rel=0.15)
    assert "Compression:   about " in info_text(found, None)
    assert ", about 2." in info_text(found, None)


def test_a_sample_is_the_same_every_time_and_all_of_few(repository: Repository) -> None:
    ids = {repository.chunks.put(b"%d" % number * 300)[0] for number in range(300)}
    repository.chunks.flush()
    index = repository.chunks._index
    assert {identity for identity, _ in index.sample(300)} == ids
    some = [identity for identity, _ in index.sample(50)]
    assert some == [identity for identity, _ in index.sample(50)]
    assert set(some) < ids
    assert len(set(some)) > 30
    assert sorted(some) == some
    assert {place for identity, place in index.sample(50)} <= {index.get(ObjectId(identity)) for identity in ids}


def test_room_on_the_disk_leaves_holes_out(repository: Repository) -> None:
    with (repository.layout.overlays / "hole").open("wb") as file:
        file.truncate(1 << 30)
    (repository.layout.journal / "full").write_bytes(NOISE)
    disk = statistics(repository).disk
    assert disk.overlays < 1_000_000
    assert 3_000_000 <= disk.journal < disk.all
    (repository.layout.overlays / "hole").unlink()
    (repository.layout.journal / "full").unlink()
    assert statistics(repository).head.name == MAIN
