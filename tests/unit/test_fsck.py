"""What a check says of damage that is more than a bit, and what a repair makes of it. P80, P81, P82.

Single bits: tests/rot.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from anabranch.errors import DamagedError
from anabranch.fsck import rows
from anabranch.fsck.check import check
from anabranch.fsck.findings import Finding, Report
from anabranch.fsck.repair import Mended, repair
from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.report_store import checked_text
from anabranch.store import daily
from anabranch.store.env import Environment
from anabranch.store.layout import Layout
from anabranch.store.meta import LOGS, NAMES, NODES, OBJECTS, REFS, SETTINGS, TABLES, WORKTREES
from anabranch.store.records import Kind, frame, seal
from anabranch.store.volumes import Volumes
from anabranch.testing import consistency
from anabranch.versions.manifests import of
from anabranch.versions.refs import log_key
from anabranch.worktree.tree import AttributeChanges
from tests.unit.helpers import WHO, Branch, make_repository, random_bytes

OTHER = RefName("other")
CONTENT = random_bytes(7, 600_000)


@pytest.fixture
def layout(place: Path) -> Layout:
    """Two branches, hard links, a file of several chunks that changes, uncommitted changes; closed."""
    with make_repository(place / "repository") as repository:
        main = Branch(repository)
        main.mkdir("d")
        main.write("d/long", CONTENT)
        main.write("d/small", b"x" * 1_000)
        main.link("d/small", "also small")
        main.commit()
        main.write("d/long", b"changed", 1_000)
        main.commit()
        repository.create_branch(OTHER, repository.resolve("main@1").id, WHO)
        main.write("new", random_bytes(8, 2_000))
        main.mkdir("e")
        main.rename("d/small", "e/moved")
        repository.configure("author", "Ann", "me")
        repository.settle_down()
    return Layout(place / "repository")


def look(layout: Layout, *, deep: bool = False) -> Report:
    return check(layout, lambda *_: None, deep=deep, owned=False)


def mend(layout: Layout, source: Path | None = None) -> tuple[Report, Mended]:
    return repair(layout, source, lambda *_: None, deep=True)


def hits(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """By path, where it is hit."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        for hit in finding.hits:
            found.setdefault(hit.path.decode(), []).extend(hit.versions)
    return found


def chunk_of(layout: Layout, revision: str, path: str, number: int = 0) -> ObjectId:
    with Repository(layout.path) as repository:
        entry = repository.version(repository.resolve(revision).id).at(path.encode())
        return [piece.chunk for _, piece in repository.contents.manifests.pieces(of(entry))][number]


def spoil_chunk(layout: Layout, identity: ObjectId) -> None:
    """Overwrite some bytes of a chunk's record."""
    volumes = Volumes(layout.volumes, writable=False)
    try:
        raw = next(content for _, content in volumes.blocks(0) if bytes(identity) in content)
    finally:
        volumes.close()
    file = layout.volumes / "000000.mdb"
    data = file.read_bytes()
    at = data.index(raw) + raw.index(identity) + 60  # its payload
    file.write_bytes(data[:at] + bytes(8) + data[at + 8 :])


def change(layout: Layout, spoil: Callable[[Environment], None]) -> None:
    meta = Environment(layout.meta, TABLES)
    spoil(meta)
    meta.close()


def drop(table: str, number: int = 0) -> Callable[[Environment], None]:
    """Take a row away, as if a page had lost it."""

    def spoil(meta: Environment) -> None:
        key = [key for key, _ in meta.scan(table)][number]
        with meta.write() as batch:
            batch.delete(table, key)

    return spoil


def test_a_sound_repository_has_nothing_to_mend(layout: Layout) -> None:
    report, done = mend(layout)
    assert report.findings == []
    assert done == Mended([], [])
    assert "no damage" in checked_text(report)


def test_a_damaged_chunk_is_told_with_the_versions_and_paths_that_have_it(layout: Layout) -> None:
    spoil_chunk(layout, chunk_of(layout, "main@1", "d/long"))
    assert hits(look(layout).findings) == {"d/long": ["main@1", "other@0"]}


def test_a_damaged_hard_linked_file_is_told_at_each_of_its_names(layout: Layout) -> None:
    spoil_chunk(layout, chunk_of(layout, "main", "d/small"))
    versions = ["main@1", "other@0", "main@2"]
    assert {path: sorted(where) for path, where in hits(look(layout).findings).items()} == {
        "also small": sorted(versions), "d/small": sorted(versions), "e/moved": ["main (uncommitted)"],
    }  # fmt: skip


def test_a_damaged_uncommitted_file_is_told_by_its_branch(layout: Layout) -> None:
    with Repository(layout.path, writable=True) as repository:
        stored = repository.branch(RefName("main")).tree
        content = stored.table.get(Branch(repository).find("new")).content
        Branch(repository).read("new")
    assert content.size == 2_000
    change(layout, drop(NODES, -1))
    assert any("main (uncommitted)" in finding.what for finding in look(layout).findings)


def told_of(layout: Layout, table: str) -> dict[str, list[str]]:
    """What is told of the rows of a table, when each alone is damaged."""
    found: dict[str, list[str]] = {}
    meta = Environment(layout.meta, TABLES)
    for key, value in list(meta.scan(table)):
        _put(meta, table, key, value[:-1] + bytes([value[-1] ^ 1]))
        findings = [item for item in rows.look(layout, deep=False) if isinstance(item, Finding)]
        for path, where in hits(findings).items():
            found.setdefault(path, []).extend(where)
        _put(meta, table, key, value)
    meta.close()
    return found


def test_a_damaged_row_is_told_with_what_it_is_about_p80(layout: Layout) -> None:
    with Repository(layout.path, writable=True) as repository:
        Branch(repository).write("e/large", random_bytes(9, 100_000))  # in an overlay file, whose ranges have a row
        repository.settle_down()
    here = ["main (uncommitted)"]
    assert told_of(layout, WORKTREES) == {"": here}
    paths = dict.fromkeys(("", "d", "e", "e/moved", "new"), here)
    assert told_of(layout, NODES) == {**paths, "e/large": here * 2}
    assert told_of(layout, NAMES) == dict.fromkeys(("d", "d/small", "e", "e/large", "e/moved", "new"), here)
    assert told_of(layout, LOGS) == {"": ["main@0", "main@1", "main@2", "other@0"]}
    assert told_of(layout, REFS) == {"": ["main", "other"]}


def test_a_damaged_row_far_below_is_told_while_a_commit_is_being_made(layout: Layout) -> None:
    """Each name is there twice then, and ways must not be counted twice at each step."""
    deep = "/".join(["x"] * 40)
    with Repository(layout.path, writable=True) as repository:
        main = Branch(repository)
        for depth in range(40):
            main.mkdir(deep[: 2 * depth + 1])
        repository.keeper.save()
        repository.commits.freeze(RefName("main"))
        for depth in range(40):
            main.tree.setattr(main.find(deep[: 2 * depth + 1]), AttributeChanges(mode=0o700))
        repository.keeper.save()
        repository.keeper.checkpoint()
    assert told_of(layout, NODES)[deep]


def test_a_page_of_names_that_cannot_be_read_hides_no_row_of_another_table(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = Environment.scan

    def broken(meta: Environment, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        if table == NAMES:
            raise DamagedError("a page of it")
        return scan(meta, table, prefix)

    meta = Environment(layout.meta, TABLES)
    key, value = next(meta.scan(NODES))
    _put(meta, NODES, key, value[:-1] + bytes([value[-1] ^ 1]))
    meta.close()
    monkeypatch.setattr(Environment, "scan", broken)
    found = [item for item in rows.look(layout, deep=False) if isinstance(item, Finding)]
    assert [(finding.where, finding.key) for finding in found] == [(NODES, key)]


def test_a_missing_directory_is_told_with_what_is_in_it(layout: Layout) -> None:
    with Repository(layout.path) as repository:
        tree = repository.version(repository.resolve("main@2").id).at(b"d").tree
    change(layout, lambda meta: _delete(meta, OBJECTS, tree))
    assert hits(look(layout).findings) == {"d": ["main@2"]}


def _delete(meta: Environment, table: str, key: bytes) -> None:
    with meta.write() as batch:
        batch.delete(table, key)


def test_objects_and_logs_that_are_lost_come_back_from_the_daily_copy(layout: Layout) -> None:
    assert [path.suffix for path in daily.copies(layout)] == [".mdb"]
    make_copy(layout)
    before = contents(layout)

    def spoil(meta: Environment) -> None:
        for table in (OBJECTS, REFS):
            for key in [key for key, _ in meta.scan(table)]:
                _delete(meta, table, key)

    change(layout, spoil)
    report, done = mend(layout)
    assert report.findings == []
    assert done.lost == []
    assert contents(layout) == before
    assert (layout.aside / "0-meta.mdb").exists(), "what was replaced is kept"


def test_a_meta_file_that_is_rubbish_is_made_from_the_daily_copy_without_what_is_uncommitted(layout: Layout) -> None:
    make_copy(layout)
    before = contents(layout)
    layout.meta.write_bytes(os.urandom(100_000))
    report, done = mend(layout)
    assert report.findings == []
    assert any("uncommitted" in line for line in done.lost)
    assert contents(layout) == before
    with Repository(layout.path, writable=True) as repository:
        assert Branch(repository).changed() == []
        Branch(repository).write("after", b"a repair")
        Branch(repository).commit()
        consistency.check(repository)


@pytest.mark.parametrize("table", [NODES, NAMES])
def test_a_branch_that_lost_a_row_of_its_uncommitted_changes_gives_them_all_up(layout: Layout, table: str) -> None:
    def spoil(meta: Environment) -> None:
        key, value = list(meta.scan(table))[-1]
        with meta.write() as batch:
            batch.put(table, key, value[:8] + bytes(len(value) - 8))

    change(layout, spoil)
    with Repository(layout.path, writable=True) as repository, pytest.raises(DamagedError):
        repository.branch(RefName("main"))
    report, done = mend(layout)
    assert report.findings == []
    assert done.lost == ["the uncommitted changes of main are given up"]
    with Repository(layout.path, writable=True) as repository:
        assert Branch(repository).changed() == []
        assert Branch(repository, OTHER).changed() == []


def test_a_lost_counter_starts_above_all_that_was_given_out(layout: Layout) -> None:
    with Repository(layout.path, writable=True) as repository:
        last = Branch(repository).make("last")
        repository.settle_down()
    shutil.rmtree(layout.daily)
    change(layout, lambda meta: _delete(meta, SETTINGS, b"next inode"))
    # That a row is missing shows by nothing, so something else is damaged, too.
    change(layout, lambda meta: _put(meta, SETTINGS, b"author", b"rubbish"))
    report, _ = mend(layout)
    assert report.findings == []
    with Repository(layout.path, writable=True) as repository:
        assert Branch(repository).make("next") > last


def _put(meta: Environment, table: str, key: bytes, value: bytes) -> None:
    with meta.write() as batch:
        batch.put(table, key, value)


def test_chunks_come_back_from_a_copy_elsewhere(layout: Layout, place: Path) -> None:
    copy = shutil.copytree(layout.path, place / "copy")
    for number in range(3):
        spoil_chunk(layout, chunk_of(layout, "main@1", "d/long", number))
    report, done = mend(layout, copy)
    assert report.findings == []
    assert len(done.mended) == 3
    with Repository(layout.path) as repository:
        assert b"".join(repository.read(repository.version(repository.resolve("main@1").id).at(b"d/long"))) == CONTENT


def test_a_chunk_without_a_copy_is_lost_until_its_content_is_stored_again(layout: Layout) -> None:
    identity = chunk_of(layout, "main@1", "d/long")
    spoil_chunk(layout, identity)
    report, done = mend(layout)
    assert hits(report.findings) == {"d/long": ["main@1", "other@0"]}
    assert any(identity.hex() in line for line in done.lost)
    with Repository(layout.path, writable=True) as repository:
        Branch(repository).write("again", CONTENT)
        Branch(repository).commit()
    assert look(layout).findings == []


def test_a_volume_that_is_gone_is_told_and_what_is_stored_anew_goes_to_another(layout: Layout) -> None:
    (layout.volumes / "000000.mdb").write_bytes(os.urandom(200_000))
    assert set(hits(look(layout).findings)) >= {"d/long", "d/small"}
    with Repository(layout.path, writable=True) as repository:
        main = Branch(repository)
        main.write("more", random_bytes(9, 50_000))
        main.commit()
        assert main.at("main", "more") == random_bytes(9, 50_000)
    assert (layout.volumes / "000001.mdb").exists()


def test_a_journal_is_kept_up_to_what_is_damaged(layout: Layout) -> None:
    with Repository(layout.path, writable=True) as repository:
        main = Branch(repository)
        for number in range(3):
            main.write(f"journaled {number}", b"%d" % number)
            repository.save()
    (file,) = layout.journal.iterdir()
    data = bytearray(file.read_bytes())
    at = data.index(b"journaled 1")
    data[at : at + 4] = b"????"
    file.write_bytes(data)
    with pytest.raises(DamagedError):
        Repository(layout.path, writable=True)
    report, done = mend(layout)
    assert report.findings == []
    assert len(done.lost) == 1
    with Repository(layout.path, writable=True) as repository:
        names = Branch(repository).names()
        assert "journaled 0" in names
        assert "journaled 1" not in names


def test_daily_copies_are_one_a_day_and_three_in_all(layout: Layout) -> None:
    assert not daily.is_due(layout)
    (today,) = daily.copies(layout)
    for day in range(1, 6):
        today.with_name(f"2020-01-0{day}.mdb").touch()
    today.unlink()
    make_copy(layout)
    assert [path.stem for path in daily.copies(layout)] == [today.stem, "2020-01-05", "2020-01-04"]


def make_copy(layout: Layout) -> None:
    """As at the end of a day."""
    for path in daily.copies(layout)[:1]:
        os.utime(path, (0, 0))
    meta = Environment(layout.meta, TABLES, writable=False, create=False)
    try:
        assert daily.make(layout, meta)
    finally:
        meta.close()


def contents(layout: Layout) -> dict[str, bytes]:
    """What is in some files of all versions."""
    with Repository(layout.path) as repository:
        found = {}
        for revision in ("main@1", "main@2", "other@0"):
            version = repository.version(repository.resolve(revision).id)
            for path in (b"d/long", b"d/small", b"also small"):
                found[f"{revision}:{path.decode()}"] = b"".join(repository.read(version.at(path)))
        return found


def test_a_meta_file_without_any_copy_stays_as_it_is(layout: Layout) -> None:
    shutil.rmtree(layout.daily)
    rubbish = os.urandom(100_000)
    layout.meta.write_bytes(rubbish)
    report, done = mend(layout)
    assert report.findings
    assert done.mended == []
    assert any("no copy of it" in line for line in done.lost)
    assert layout.meta.read_bytes() == rubbish


def test_a_daily_copy_of_what_is_damaged_takes_no_older_ones_place(layout: Layout) -> None:
    (good,) = daily.copies(layout)
    older = good.rename(good.with_name("2020-01-01.mdb"))

    def spoil(meta: Environment) -> None:
        key, value = next(iter(meta.scan(OBJECTS)))
        _put(meta, OBJECTS, key, value[:-1] + bytes([value[-1] ^ 1]))

    change(layout, spoil)
    with pytest.raises(DamagedError):
        make_copy(layout)
    assert daily.copies(layout) == [older]
    assert [path.name for path in layout.daily.iterdir()] == [older.name]


def test_a_damaged_journal_keeps_nobody_from_looking_at_versions(layout: Layout) -> None:
    with Repository(layout.path, writable=True) as repository:
        for number in range(2):
            Branch(repository).write("journaled", b"%d" % number)
            repository.save()
    (file,) = layout.journal.iterdir()
    data = bytearray(file.read_bytes())
    data[50] ^= 255
    file.write_bytes(data)
    spoil_chunk(layout, chunk_of(layout, "main@1", "d/long"))
    report = look(layout)
    assert report.looked_at.versions > 2
    assert hits(report.findings) == {"d/long": ["main@1", "other@0"]}
    assert [finding.where for finding in report.findings].count("journal") == 1


def test_each_of_very_many_damaged_files_is_told(place: Path) -> None:
    with make_repository(place / "many") as repository:
        main = Branch(repository)
        for number in range(1_100):
            main.write(f"{number:04}", b"%04d " % number * 200)
        main.commit()
        repository.settle_down()
    layout = Layout(place / "many")
    (layout.volumes / "000000.mdb").write_bytes(os.urandom(100_000))
    assert len(hits(look(layout).findings)) == 1_100


def test_a_repair_that_finds_no_room_ends(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    change(layout, lambda meta: _put(meta, SETTINGS, b"author", b"rubbish"))

    def full(*_: object, **__: object) -> Iterator[object]:
        yield Finding("meta.mdb", "the disk is full")

    monkeypatch.setattr("anabranch.fsck.repair.apart", full)
    report, done = mend(layout)
    assert report.findings
    assert done.lost == ["the disk is full"]


def test_a_record_that_nothing_leads_to_is_no_damage(layout: Layout) -> None:
    """Its checksum is right, and its content is another one's."""
    identity = chunk_of(layout, "main@1", "d/long")
    with Repository(layout.path, writable=True) as repository:
        place = repository.chunks._index.get(identity)
        assert place is not None
        right = repository.chunks.volumes.read(place)
        wrong = bytes(identity) + frame(Kind.CHUNK, identity, b"other bytes")
        repository.chunks._index.put([(identity, repository.chunks.volumes.append([wrong])[0])])
    assert look(layout).findings == []
    assert hits(look(layout, deep=True).findings) == {"d/long": ["main@1", "other@0"]}
    with Repository(layout.path, writable=True) as repository:
        repository.chunks._index.put([(identity, repository.chunks.volumes.append([right])[0])])
    assert look(layout, deep=True).findings == []


def test_a_row_of_an_older_writer_is_turned_back_too(layout: Layout) -> None:
    older = seal(b"Ann")
    change(layout, lambda meta: _put(meta, SETTINGS, b"author", older[:-1] + bytes([older[-1] ^ 4])))
    report, done = mend(layout)
    assert report.findings == []
    assert done.lost == []
    with Repository(layout.path) as repository:
        assert [setting.value for setting in repository.configured("me") if setting.key == "author"] == ["Ann"]


def test_a_lost_row_of_a_working_tree_gives_up_all_that_was_its(layout: Layout) -> None:
    change(layout, lambda meta: _put(meta, WORKTREES, b"main", b"rubbish that is no row"))
    report, done = mend(layout)
    assert report.findings == []
    assert done.lost == ["the uncommitted changes of main are given up"]
    with Repository(layout.path) as repository:
        assert not list(repository.meta.scan(NODES))


def spoil_log(layout: Layout, name: bytes, *numbers: int) -> None:
    """Overwrite rows of a log by more than a bit."""

    def spoil(meta: Environment) -> None:
        for number in numbers:
            _put(meta, LOGS, log_key(name, number), b"rubbish that is no row")

    change(layout, spoil)


@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (1, 2), (0, 2)])
def test_versions_whose_log_is_damaged_keep_their_numbers(layout: Layout, numbers: tuple[int, ...]) -> None:
    """P5, P81: the ref tells the newest commit, and each commit the one before."""
    shutil.rmtree(layout.daily)
    before = contents(layout)
    with Repository(layout.path) as repository:
        ids = [repository.resolve(f"main@{number}").id for number in range(3)]
    spoil_log(layout, b"main", *numbers)
    with Repository(layout.path) as repository, pytest.raises(DamagedError):
        list(repository.log(RefName("main")))
    if numbers == (1, 2):  # of the first of these nothing is left
        _, done = mend(layout)
        assert "main@1 is lost" in done.lost
        return
    report, done = mend(layout)
    assert report.findings == []
    assert done.lost == []
    with Repository(layout.path, writable=True) as repository:
        assert [repository.resolve(f"main@{number}").id for number in range(3)] == ids
        assert Branch(repository).commit() == 3
    assert contents(layout) == before


def test_a_row_of_a_log_that_went_elsewhere_is_missed_by_whoever_reads_the_log(layout: Layout) -> None:
    """P35: the newest one, too."""

    def move(meta: Environment) -> None:
        row = meta.get(LOGS, log_key(b"other", 0))
        assert row is not None
        _delete(meta, LOGS, log_key(b"other", 0))
        _put(meta, LOGS, log_key(b"othes", 0), row)

    change(layout, move)
    with Repository(layout.path) as repository:
        with pytest.raises(DamagedError):
            list(repository.log(OTHER))
        for revision in ("other", "other@0", "other@1"):
            with pytest.raises(DamagedError):
                repository.resolve(revision)
        assert repository.resolve("main@2").number == 2
