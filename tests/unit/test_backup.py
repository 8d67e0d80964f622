"""A backup: what it holds, what a second run copies, what it refuses, and what is left when it is cut short."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from anabranch.errors import DamagedError, FormatError, RefusedError, UsageError
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.store import layout as layouts
from anabranch.store.chunks import ChunkStore
from anabranch.store.layout import Layout
from anabranch.store.meta import LOGS, NODES, OBJECTS, REFS, WORKTREES
from anabranch.store.records import Kind
from anabranch.store.reindex import rebuild
from anabranch.store.scan import Found, scan
from anabranch.store.volumes import BLOCK, Volumes
from anabranch.testing import consistency
from anabranch.transfer import copying
from anabranch.transfer.backup import MARK, BackedUp, Backup, Mark, make_place
from anabranch.worktree.content import MemoryContent
from anabranch.worktree.pins import BEFORE, OverlayPin, put_aside
from tests.harness import verify
from tests.unit.helpers import SEARCH, WHO, Branch, make_repository, random_bytes

LARGE = 300_000
"""Bytes of a file that is in an overlay file while it is not committed."""


def ignore(_: int) -> None:
    pass


def back_up(source: Repository, place: Path) -> BackedUp:
    """What the command does beside the owner."""
    backup = Backup(source, make_place(source.layout, place))
    source.settle_down()
    backup.take_snapshot(lambda: None, ignore)
    return backup.finish(ignore)


@pytest.fixture
def copy(place: Path) -> Path:
    """Where backups go."""
    return place / "copy"


@contextmanager
def opened(path: Path) -> Iterator[Branch]:
    """A backup as its owner sees it."""
    with Repository(path, writable=True) as repository:
        yield Branch(repository)
        repository.settle_down()


def history(path: Path) -> list[tuple[str, int, ObjectId]]:
    """Every row of every log."""
    with Repository(path) as repository:
        return [
            (name, number, ObjectId(row.commit))
            for name, _, _ in repository.refs.newest()
            for number, row in repository.refs.log(name)
        ]


def test_a_backup_has_all_versions_names_settings_and_uncommitted_changes(main: Branch, copy: Path):
    """P87"""
    main.write("small", b"one")
    main.write("large", random_bytes(1, LARGE))
    main.commit()
    repository = main.repository
    repository.create_tag("v1", repository.resolve("main").id, WHO)
    repository.create_branch("exp", repository.resolve("main").id, WHO)
    exp = Branch(repository, repository.refs.get("exp").name)  # type: ignore[arg-type]
    exp.write("of exp", random_bytes(2, LARGE))
    repository.configure("compression", "7", "ann")
    main.write("small", b"two")
    main.write("large", random_bytes(3, 1000), LARGE // 2)
    main.write("new", random_bytes(4, LARGE))
    main.mkdir("empty")
    done = back_up(repository, copy)
    assert done.damaged == []
    assert done.versions == 2
    assert history(copy) == history(repository.layout.path)
    assert verify(copy) == verify(repository.layout.path)
    assert copy.stat().st_mode & 0o777 == 0o700
    assert layouts.read_record(Layout(copy)) == layouts.read_record(repository.layout)
    with opened(copy) as kept:
        assert kept.changed() == main.changed()
        for path in ("small", "large", "new"):
            assert kept.read(path) == main.read(path)
            nodes = [branch.tree.getattr(branch.find(path)) for branch in (kept, main)]
            assert len({(node.ino, node.mtime_ns, node.ctime_ns, node.mode, node.size) for node in nodes}) == 1
        assert Branch(kept.repository, exp.name).read("of exp") == exp.read("of exp")
        assert kept.repository.configured("ann") == repository.configured("ann")
        kept.commit()
        consistency.check(kept.repository)


def test_a_second_run_copies_only_what_is_new(main: Branch, copy: Path, monkeypatch: pytest.MonkeyPatch):
    """P88"""
    main.write("first", random_bytes(1, 2_000_000))
    main.commit()
    first = back_up(main.repository, copy)
    assert first.chunks > 10
    before = (copy / "volumes/000000.mdb").read_bytes()
    read: list[int] = []
    blocks = Volumes.blocks

    def counted(self: Volumes, number: int, start: int = 0, end: int = 0) -> Iterator[tuple[int, bytes]]:
        for position, content in blocks(self, number, start, end):
            read.append(len(content))
            yield position, content

    monkeypatch.setattr(Volumes, "blocks", counted)
    nothing = back_up(main.repository, copy)
    assert (nothing.chunks, sum(read)) == (0, 0)
    assert (copy / "volumes/000000.mdb").read_bytes() == before
    main.write("second", random_bytes(2, 10_000))
    main.commit()
    small = back_up(main.repository, copy)
    assert small.chunks == 1
    assert sum(read) < 2 * BLOCK
    assert history(copy) == history(main.repository.layout.path)
    assert verify(copy) == 2


def test_volumes_are_copied_one_after_the_other(main: Branch, copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("anabranch.store.volumes.SEAL", 300_000)
    monkeypatch.setattr(copying, "BATCH", 100_000)
    for n in range(5):
        main.write(f"file {n}", random_bytes(n, LARGE))
        main.commit()
        back_up(main.repository, copy)
    assert len(main.repository.chunks.volumes.numbers()) > 2
    assert verify(copy) == 5


def test_a_file_that_is_written_while_it_is_copied_is_as_it_was(main: Branch, copy: Path):
    """P87"""
    old = random_bytes(1, 3_000_000)
    main.write("large", old)
    main.write("gone", old)
    repository = main.repository
    backup = Backup(repository, make_place(repository.layout, copy))
    pin = OverlayPin(repository.overlays, repository.layout.overlays)
    repository.settle_down()
    pieces: list[int] = []

    def write_on(count: int) -> None:
        pieces.append(count)
        for at in (0, 1_500_000, 2_999_000, len(pieces) * 100_000):
            main.write("large", b"x" * 2_000, at)
        if len(pieces) == 2:
            main.unlink("gone")
            main.write("later", old)
        main.truncate("large", 10_000)
        main.write("large", b"y" * 500_000, 5_000)
        repository.save()

    backup.take_snapshot(lambda: None, write_on)
    assert len(pieces) > 4
    assert pin.failed is None
    pin.release()
    assert main.read("large") != old
    backup.finish(ignore)
    with opened(copy) as kept:
        assert kept.names() == ["gone", "large"]
        assert kept.read("large") == old
        assert kept.read("gone") == old
    repository.save()
    assert len(repository.overlays.numbers()) == 2  # "large" and "later"; "gone" has given its room back
    assert not (repository.layout.overlays / BEFORE).exists()


def test_what_cannot_be_put_aside_hurts_the_backup_only(main: Branch, monkeypatch: pytest.MonkeyPatch):
    main.write("large", random_bytes(1, LARGE))
    overlays = main.repository.overlays
    pin = OverlayPin(overlays, main.repository.layout.overlays)
    with pytest.raises(RefusedError, match="another backup"):
        OverlayPin(overlays, main.repository.layout.overlays)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        main.write("large", b"x", 1000)
    assert pin.failed is not None
    assert main.read("large")[1000:1001] == b"x"
    pin.release()
    OverlayPin(overlays, main.repository.layout.overlays).release()


def test_half_of_what_was_put_aside_is_not_read(main: Branch):
    main.write("large", random_bytes(1, LARGE))
    folder = main.repository.layout.overlays
    pin = OverlayPin(main.repository.overlays, folder)
    main.write("large", b"x" * 10, 100)
    main.write("large", b"y" * 10, 105)
    whole = [(offset, len(data)) for _, offset, data in put_aside(folder)]
    assert whole == [(100, 10), (110, 5)]
    for size in range((folder / BEFORE).stat().st_size):
        os.truncate(folder / BEFORE, (folder / BEFORE).stat().st_size - 1)
        assert len(list(put_aside(folder))) == (1 if size < 25 else 0)
    pin.release()
    assert list(put_aside(folder)) == []


# --- cut short ---


CALLS = ("rename", "fsync", "unlink", "mkdir", "rmdir", "open", "scandir")
"""What a backup does to DEST goes through these; it is killed before the n-th."""


def killed_at(number: int, run: Callable[[], object]) -> bool:
    """Run something in a process that is killed before its n-th such call; returns whether it was."""
    child = os.fork()
    if child == 0:
        left = number

        def counting(call: Callable[..., object]) -> Callable[..., object]:
            def counted(*arguments: object, **named: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return call(*arguments, **named)

            return counted

        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            run()
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def state(path: Path) -> tuple[list[tuple[str, int, ObjectId]], bytes, bytes]:
    """The history of a repository, and what is not committed, as its owner finds it."""
    with opened(path) as branch:
        return history(path), branch.read("large"), branch.read("small")


def test_who_is_killed_leaves_the_old_backup_or_the_new_one(place: Path, copy: Path):
    """P89: at any call that changes the backup, for a first run and for a second one."""
    make_repository(place / "source").close()
    for turn in (1, 2):
        with opened(place / "source") as branch:
            branch.write(f"committed {turn}", random_bytes(turn, 100_000))
            branch.commit()
            branch.write("large", random_bytes(10 + turn, LARGE))
            branch.write("small", b"%d" % turn)
        old, new = (state(copy) if turn > 1 else state(place / "source")), state(place / "source")
        kept = place / "kept"
        if turn > 1:
            shutil.copytree(copy, kept)
        number, seen = 0, set()

        def run() -> None:
            with Repository(place / "source", writable=True) as source:
                back_up(source, copy)

        while killed_at(number, run):
            number += 1 if SEARCH else 3
            if (copy / "anabranch.json").exists():
                assert history(copy) in (old[0], new[0])
                verify(copy)
                if number % 2:
                    found = state(copy)
                    assert found in (old, new), number
                    seen.add(found == new)
            else:
                assert turn == 1
            if number % 2:  # else the next run goes on with what this one left
                shutil.rmtree(copy, ignore_errors=True)
                if turn > 1:
                    shutil.copytree(kept, copy)
        assert number > 20
        assert turn == 1 or seen == {False, True}
        assert state(copy) == new
        verify(copy)


def test_what_was_begun_is_gone_on_with(main: Branch, copy: Path, monkeypatch: pytest.MonkeyPatch):
    """P88"""
    monkeypatch.setattr(copying, "BATCH", 200_000)
    main.write("large", random_bytes(1, 3_000_000))
    main.commit()
    take = ChunkStore.take
    batches = 0

    def breaking(self: ChunkStore, records: list[bytes]) -> None:
        nonlocal batches
        batches += 1
        if batches == 5:
            raise OSError(28, "No space left on device")
        take(self, records)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "take", breaking)
        with pytest.raises(OSError, match=r"disk of .* is full; the backup is as it was"):
            back_up(main.repository, copy)
    total = main.repository.chunks.count()
    done = back_up(main.repository, copy)
    assert 0 < done.chunks < total - 4
    assert verify(copy) == 1


# --- refused ---


def files(top: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file() and "lock" not in path.name
    }


def test_a_folder_with_something_else_in_it_is_refused(main: Branch, place: Path):
    """P89"""
    (place / "photos").mkdir()
    (place / "photos/cat.jpg").write_bytes(b"meow")
    (place / "file").write_bytes(b"x")
    make_repository(place / "other").close()
    with make_repository(place / "another") as another:
        back_up(another, place / "of another")
    path = main.repository.layout.path
    shutil.copytree(path, place / "same")
    before = files(place)
    for name, error in (
        ("photos", UsageError), ("file", UsageError), ("file/below", UsageError), ("other", RefusedError),
        ("of another", RefusedError), ("same", RefusedError), (path.name, UsageError),
        (f"{path.name}/overlays/x", UsageError),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            make_place(main.repository.layout, place / name)
        assert str(place / name) in caught.value.message
        assert files(place) == before
    assert make_place(main.repository.layout, place / "new/below").path.is_dir()


def test_a_backup_in_which_somebody_has_committed_is_refused(main: Branch, copy: Path):
    """P89"""
    main.write("a", b"1")
    main.commit()
    back_up(main.repository, copy)
    with opened(copy) as kept:
        kept.write("a", b"theirs")
        kept.commit()
    before = files(copy)
    for number in range(2):
        with pytest.raises(RefusedError, match=r"main@2"):
            Backup(main.repository, make_place(main.repository.layout, copy))
        assert files(copy) == before
        main.write("a", b"ours %d" % number)
        main.commit()


def test_a_backup_with_a_name_that_the_source_has_not_is_refused(main: Branch, copy: Path):
    """P89"""
    back_up(main.repository, copy)
    with opened(copy) as kept:
        kept.repository.create_branch("mine", kept.repository.resolve("main").id, WHO)
    with pytest.raises(RefusedError, match=r"mine@0"):
        back_up(main.repository, copy)


def test_a_backup_of_a_newer_format_is_refused(main: Branch, copy: Path):
    back_up(main.repository, copy)
    record = layouts.read_record(Layout(copy))
    layouts.write_json(copy / "anabranch.json", msgspec.structs.replace(record, format=2))
    with pytest.raises(FormatError):
        make_place(main.repository.layout, copy)


def test_a_backup_that_is_damaged_itself_is_refused_by_name(main: Branch, copy: Path):
    back_up(main.repository, copy)
    for spoiled in (b"", b"garbage" * 5_000):
        (copy / "meta.mdb").write_bytes(spoiled)
        with pytest.raises(DamagedError, match=r"the backup is damaged: .*meta\.mdb"):
            back_up(main.repository, copy)


def test_what_was_not_committed_in_a_backup_is_given_up_by_the_next(main: Branch, copy: Path):
    """P88"""
    main.write("a", random_bytes(1, LARGE))
    back_up(main.repository, copy)
    with opened(copy) as kept:
        kept.write("a", b"theirs")
        kept.write("b", random_bytes(2, LARGE))
        kept.repository.ingest(lambda: None).run(MemoryContent(random_bytes(3, LARGE), 1))  # as a mount does, ahead
        kept.repository.objects.flush()
        assert set(kept.repository.meta.scan(OBJECTS)) - set(main.repository.meta.scan(OBJECTS))
    assert not back_up(main.repository, copy).damaged
    with opened(copy) as kept:
        assert kept.names() == ["a"]
        assert kept.read("a") == random_bytes(1, LARGE)


def test_a_feature_comes_along(main: Branch, copy: Path):
    back_up(main.repository, copy)
    main.repository.keep_xattrs()
    back_up(main.repository, copy)
    assert layouts.read_record(Layout(copy)).read_only == [layouts.XATTR]


# --- damage, and other volumes ---


def spoil(path: Path, wanted: bytes) -> None:
    """Flip a bit of some bytes wherever they are in a file; LMDB has left older pages in it."""
    content = path.read_bytes()
    assert wanted in content
    path.write_bytes(content.replace(wanted, bytes([wanted[0] ^ 1]) + wanted[1:]))


def test_a_damaged_chunk_is_named_each_time_and_everything_else_is_copied(place: Path, copy: Path):
    """P87: and what the backup has intact stays."""
    path = place / "source"
    make_repository(path).close()
    with opened(path) as branch:
        branch.write("first", random_bytes(1, 20_000))
        branch.commit()
        back_up(branch.repository, copy)
        for n in (2, 3):
            branch.write(f"file {n}", random_bytes(n, 20_000))
            branch.commit()
    for n in (1, 2):
        spoil(path / "volumes/000000.mdb", random_bytes(n, 20_000)[5_000:6_000])
    with opened(path) as branch:
        for _ in range(2):
            done = back_up(branch.repository, copy)
            assert len(done.damaged) == 1  # what was copied before is not read again
            assert "volume 0, from " in done.damaged[0]
        assert done.chunks == 0
        layouts.write_json(copy / MARK, Mark(layouts.read_record(Layout(path)).id))
        assert back_up(branch.repository, copy).damaged[0].startswith("volume 0, from 0 to ")
    with opened(copy) as kept:
        assert kept.at("main", "first") == random_bytes(1, 20_000)
        assert kept.at("main", "file 3") == random_bytes(3, 20_000)


def test_an_object_that_rots_in_the_source_stays_whole_in_the_backup(main: Branch, copy: Path):
    """P87"""
    main.write("a", b"1")
    main.commit()
    repository = main.repository
    back_up(repository, copy)
    main.write("a", b"2")
    main.commit()
    old, new = (repository.resolve(name).id for name in ("main@1", "main@2"))
    with repository.meta.write() as batch:
        for identity in (old, new):
            record = repository.meta.get(OBJECTS, identity)
            assert record is not None
            batch.put(OBJECTS, identity, record[:-1] + bytes([record[-1] ^ 1]))
    done = back_up(repository, copy)
    assert len(done.damaged) == 2
    assert all("commit" in said for said in done.damaged)
    with Repository(copy) as kept:
        assert kept.objects.get(Kind.COMMIT, old)
        with pytest.raises(DamagedError):
            kept.objects.get(Kind.COMMIT, new)
    with repository.meta.write() as batch:  # the fixture looks at it
        for identity in (old, new):
            record = repository.meta.get(OBJECTS, identity) or b""
            batch.put(OBJECTS, identity, record[:-1] + bytes([record[-1] ^ 1]))


@pytest.mark.parametrize("table", [LOGS, REFS, WORKTREES, NODES])
def test_a_row_that_rots_is_named_and_the_rest_is_copied(main: Branch, copy: Path, table: str):
    main.write("a", random_bytes(1, LARGE))
    main.commit()
    main.write("a", b"2")
    repository = main.repository
    repository.settle_down()
    key, sealed = next(repository.meta.scan(table))
    with repository.meta.write() as batch:
        batch.put(table, key, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    done = back_up(repository, copy)
    assert len(done.damaged) == 1
    assert f"of {table}: the checksum does not match" in done.damaged[0]
    assert done.versions == (1 if table == LOGS else 2)
    with Repository(copy) as kept:
        assert kept.chunks.count() == repository.chunks.count()
        assert kept.meta.count(OBJECTS) == repository.meta.count(OBJECTS)
    with repository.meta.write() as batch:  # the fixture looks at it
        batch.put(table, key, sealed)


def test_an_overlay_file_that_is_missing_is_named(main: Branch, copy: Path):
    main.write("large", random_bytes(1, LARGE))
    main.write("other", random_bytes(2, LARGE))
    main.repository.save()
    aside = main.repository.layout.path / "aside"
    lost = min(main.repository.layout.overlays.iterdir())
    lost.rename(aside)
    done = back_up(main.repository, copy)
    assert done.damaged == [f"overlay file {lost.name} cannot be read: No such file or directory"]
    aside.rename(lost)
    with opened(copy) as kept:
        assert kept.read("other") == random_bytes(2, LARGE)


def test_a_repository_with_the_same_chunks_in_another_order_is_copied_whole(place: Path, copy: Path):
    """It was made from a backup, and its volumes are not those that the backup knows."""
    path = place / "source"
    make_repository(path).close()
    with opened(path) as branch:
        for n in range(4):
            branch.write(f"file {n}", random_bytes(n, 20_000))
        branch.commit()
        back_up(branch.repository, copy)
        branch.write("new", random_bytes(9, 20_000))
        branch.commit()
    volumes = Volumes(path / "volumes", writable=False)
    log = b"".join(content for _, content in volumes.blocks(0))
    records = [log[found.position : found.end] for found in scan(volumes.blocks(0)) if isinstance(found, Found)]
    volumes.close()
    (path / "volumes/000000.mdb").unlink()
    volumes = Volumes(path / "volumes", writable=True)
    volumes.append([records[-1], *records[:-1]])
    volumes.close()
    rebuild(path, lambda *_: None)
    with opened(path) as branch:
        done = back_up(branch.repository, copy)
    assert (done.chunks, done.damaged) == (1, [])
    assert verify(copy) == 5


def test_a_sparse_file_takes_no_more_room_in_the_backup(main: Branch, copy: Path):
    main.write("sparse", b"end", 1 << 30)
    main.write("sparse", b"start")
    done = back_up(main.repository, copy)
    assert done.bytes < 1_000_000
    with opened(copy) as kept:
        tree, ino = kept.tree, kept.find("sparse")
        assert tree.getattr(ino).size == (1 << 30) + 3
        assert kept.loaded(lambda: tree.read(ino, 1 << 30, 10)) == b"end"
        assert kept.loaded(lambda: tree.read(ino, 0, 6)) == b"start\0"


def test_rows_that_a_damaged_page_took_from_the_source_stay_in_the_backup(main: Branch, copy: Path):
    """P88: what is not there any more shows by nothing in the source."""
    main.mkdir("d")
    main.write("d/file", random_bytes(1, 20 * LARGE))
    main.commit()
    back_up(main.repository, copy)
    with Repository(copy) as kept:
        name = kept.resolve("main")
        version = kept.version(name.id)
        top = ObjectId(version.at(b"d/file").content)
        lost = [name.id, version.root.tree, version.at(b"d").tree, top]
        records = [kept.meta.get(OBJECTS, identity) or b"" for identity in lost]
    with main.repository.meta.write() as batch:
        for identity in lost:  # each is named by the one before
            batch.delete(OBJECTS, identity)
    done = back_up(main.repository, copy)
    assert all(any(identity.hex() in line for line in done.damaged) for identity in lost)
    with Repository(copy) as kept:
        assert [kept.meta.get(OBJECTS, identity) for identity in lost] == records
    with main.repository.meta.write() as batch:
        for identity, record in zip(lost, records, strict=True):
            batch.put(OBJECTS, identity, record)


def test_what_is_lost_and_named_by_nothing_that_can_be_read_stays_in_the_backup(main: Branch, copy: Path):
    """P88: what names it is damaged, and may be mended."""
    repository, data = main.repository, random_bytes(1, 2 * LARGE)
    lost = ObjectId(repository.ingest(lambda: None).run(MemoryContent(data, 1)).content)
    repository.objects.flush()
    back_up(repository, copy)
    main.write("file", data)
    main.commit()
    tree = repository.version(repository.resolve("main").id).root.tree
    records = {identity: repository.meta.get(OBJECTS, identity) or b"" for identity in (lost, tree)}
    with repository.meta.write() as batch:
        batch.delete(OBJECTS, lost)
        batch.put(OBJECTS, tree, records[tree][:-1] + bytes([records[tree][-1] ^ 1]))
    done = back_up(repository, copy)
    assert any(lost.hex() in line for line in done.damaged)
    with Repository(copy) as kept:
        assert kept.meta.get(OBJECTS, lost) == records[lost]
    with repository.meta.write() as batch:
        for identity, record in records.items():
            batch.put(OBJECTS, identity, record)


@pytest.mark.parametrize("name", ["arrived", "incoming", "daily", "damaged"])
def test_a_link_in_the_place_of_a_folder_of_a_backup_is_refused(main: Branch, place: Path, name: str):
    """P95: opening the repository would move, or delete, what is at its end."""
    elsewhere = place / "elsewhere"
    (elsewhere / "overlays").mkdir(parents=True)
    (elsewhere / "overlays/1").write_text("mine")
    main.repository.settle_down()
    copy = shutil.copytree(main.repository.layout.path, place / "hostile", ignore=shutil.ignore_patterns(name))
    (copy / name).symlink_to(elsewhere)
    with pytest.raises(DamagedError):
        Repository(copy, writable=True)
    assert (elsewhere / "overlays/1").read_text() == "mine"


def test_a_link_inside_of_what_has_arrived_is_refused(main: Branch, place: Path):
    """P95"""
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1").write_text("mine")
    main.repository.settle_down()
    copy = shutil.copytree(main.repository.layout.path, place / "hostile")
    (copy / "arrived").mkdir()
    (copy / "arrived/overlays").symlink_to(elsewhere)
    with pytest.raises(DamagedError):
        Repository(copy, writable=True)
    assert (elsewhere / "1").read_text() == "mine"
