"""`ana backup` of a mounted repository, while programs write and commit. P87, P88, P89."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anabranch.daemon import lock as locks
from anabranch.daemon.client import connect
from anabranch.daemon.protocol import Pin, encode_request, receive, send, short_address
from anabranch.errors import DaemonError, RefusedError
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.store.layout import Layout
from anabranch.transfer.backup import Backup, make_place
from anabranch.transfer.copying import Advance
from anabranch.worktree.pins import BEFORE
from tests.harness import ANA, Mount, Repo, done, python, refused, run_ana, snapshot, verify, wait_for
from tests.mounted.test_commits import fill
from tests.mounted.test_full_disk import Disk, disk  # noqa: F401  (a fixture)
from tests.mounted.test_surviving import make_changes
from tests.unit.helpers import MAIN

pytestmark = pytest.mark.mounted

LARGE = 400_000
"""Bytes of a file that is in an overlay file while it is not committed."""


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Mount]:
    """Where backups go, and a place to mount them at."""
    (tmp_path / "of the copy").mkdir()
    with Mount(tmp_path / "copy", tmp_path / "of the copy").kept_tidy() as kept:
        yield kept


def logs(repo: Repo) -> dict[str, list[tuple[int | None, ObjectId]]]:
    """Every version of every branch, newest first."""
    with Repository(repo.path) as history:
        names = [ref.name for ref in history.branch_names()]
        return {name: [(version.number, version.id) for version in history.log(name)] for name in names}


@contextmanager
def being_made(mount: Mount, place: Path, advance: Advance) -> Iterator[Backup]:
    """A backup by hand: `advance` is called after each piece of what must be of one instant."""
    with Repository(mount.path) as source:
        layout = make_place(source.layout, place)
        with locks.acquire(layout):
            backup = Backup(source, layout)
            with connect(mount.path) as service, service.pinned() as go_on:
                backup.take_snapshot(go_on, advance)
            yield backup


def test_a_backup_of_a_mount_is_as_the_mount_and_can_be_mounted_p87(mount: Mount, copy: Mount):
    fill(mount.main)
    mount.commit()
    (mount.root / "exp").mkdir()
    make_changes(mount.root / "exp")
    make_changes(mount.main)
    done(mount.ana("tag", "v1"))
    expected = {name: snapshot(mount.root / name, inodes=True) for name in ("main", "exp", "main@1", "v1")}
    said = done(mount.ana("backup", copy.path))
    assert said.startswith(f"2 versions in {copy.path}, ")
    assert logs(copy) == logs(mount)
    assert copy.json("status") == mount.json("status")
    copy.mount()
    for name, rows in expected.items():
        assert snapshot(copy.root / name, inodes=True) == rows, name
    refused(mount.ana("backup", copy.path), 3, f"{copy.path} is already mounted at {copy.root}")
    copy.commit("in the copy")
    copy.umount()
    refused(mount.ana("backup", copy.path), 3, "main@2", "choose another folder")


def test_backups_beside_programs_that_write_and_commit_p87(mount: Mount, copy: Mount):
    """Files are written in an order, one anew and one in place; no backup has a later one without the earlier."""
    for name in ("a", "b"):
        (mount.main / name).write_bytes(bytes(LARGE))
    mount.commit()
    writer = python(
        "import os, sys, itertools\n"
        "a, b = (os.open(name, os.O_RDWR) for name in 'ab')\n"
        "for n in itertools.count(1):\n"
        "    for file in (a, b):\n"
        "        os.pwrite(file, b'%020d' % n, n % 15 * 25_000)\n"
        "    with open('new', 'wb') as file: file.write(b'%020d' % n * 5_000)\n"
        "    if n == 20: print(flush=True)\n",
        cwd=mount.main,
    )
    stop = threading.Event()

    def commit_on() -> None:
        while not stop.is_set():
            mount.commit()

    committer = threading.Thread(target=commit_on)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        committer.start()
        for _ in range(3):
            done(mount.ana("backup", copy.path))
            verify(copy.path)
            before = logs(copy)[MAIN]
            assert before == logs(mount)[MAIN][-len(before) :]
            with Repository(copy.path, writable=True) as kept:
                a, b, new = (newest(kept.read_working(MAIN, name, 0, LARGE)) for name in (b"a", b"b", b"new"))
            assert b <= a <= b + 1
            assert new <= b <= new + 1 or new == 0  # 0: it was just emptied
    finally:
        stop.set()
        writer.kill()
        writer.communicate()
        committer.join()
    assert len(before) > 3


def newest(content: bytes) -> int:
    """The largest number that the writer has put into a file."""
    return max((int(number) for number in re.findall(rb"\d{20}", content)), default=0)


def test_a_database_in_use_is_whole_in_a_backup_that_takes_long_p87(mount: Mount, copy: Mount):
    """Its pages are overwritten, and its journal comes and goes, while its file is copied."""
    place = mount.main / "data.sqlite"
    database = sqlite3.connect(place, isolation_level=None)
    database.execute("create table t (n integer, filler blob)")
    rows = 0

    def add(count: int) -> None:
        nonlocal rows
        database.execute("begin")
        for _ in range(count):
            rows += 1
            database.execute("insert into t values (?, ?)", (rows, os.urandom(5_000)))
        database.execute("update t set filler = randomblob(5000) where n % 3 = 0")
        database.execute("commit")

    add(1_000)
    at_instant = rows
    pieces: list[int] = []

    def advance(count: int) -> None:
        pieces.append(count)
        add(20)

    with being_made(mount, copy.path, advance) as backup:
        backup.finish(lambda _: None)
    assert len(pieces) > 5
    add(5)
    database.close()
    copy.mount()
    with sqlite3.connect(copy.main / "data.sqlite") as kept:
        assert kept.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert kept.execute("select count(*), max(n) from t").fetchone() == (at_instant, at_instant)
    kept.close()


def test_while_a_backup_is_made_everything_goes_on_p88(mount: Mount, copy: Mount):
    """fsync, commits, branches, deleting: only the room of what was deleted comes back later."""
    fill(mount.main)
    content = os.urandom(3 * LARGE)
    (mount.main / "going").write_bytes(content)
    pieces: list[int] = []

    def advance(count: int) -> None:
        pieces.append(count)
        if len(pieces) == 1:
            (mount.main / "going").unlink()
            (mount.main / "coming").write_bytes(os.urandom(LARGE))
            with (mount.main / "coming").open("ab") as file:
                file.write(b"x")
                os.fsync(file.fileno())
            mount.commit("meanwhile")
            (mount.root / "exp").mkdir()
            refused(mount.ana("backup", copy.path), 3, f"{copy.path} is in use")
            refused(mount.ana("backup", copy.path.with_name("other")), 3, "another backup is being made")

    with being_made(mount, copy.path, advance) as backup:
        backup.finish(lambda _: None)
    wait_for(lambda: not (mount.path / "overlays" / BEFORE).exists(), "the pin to be let go")
    copy.mount()
    assert (copy.main / "going").read_bytes() == content
    assert not (copy.main / "coming").exists()
    assert copy.messages() == [""]
    copy.umount()
    done(mount.ana("backup", copy.path))
    assert logs(copy) == logs(mount)


def test_who_dies_in_the_middle_holds_nothing_p89(mount: Mount, copy: Mount):
    (mount.main / "large").write_bytes(os.urandom(LARGE))
    (mount.main / "going").write_bytes(os.urandom(LARGE))
    os.sync()
    for words in (b"", b"\1"):
        with socket.socket(socket.AF_UNIX) as connection, short_address(mount.path / "socket") as address:
            connection.connect(address)
            send(connection, encode_request(Pin()))
            receive(connection)
            connection.sendall(words)
            wait_for((mount.path / "overlays" / BEFORE).exists, "the overlay files to be pinned")
        wait_for(lambda: not (mount.path / "overlays" / BEFORE).exists(), "the pin to be let go")
        mount.commit()
        (mount.main / "large").write_bytes(os.urandom(LARGE))
    done(mount.ana("backup", copy.path))


def test_an_unmount_ends_a_backup_and_leaves_the_old_one_p89(mount: Mount, copy: Mount):
    (mount.main / "large").write_bytes(os.urandom(LARGE))
    done(mount.ana("backup", copy.path))
    before = (copy.path / "meta.mdb").read_bytes()

    def advance(_: int) -> None:
        if mount.is_mounted():
            mount.umount()

    with pytest.raises((RefusedError, DaemonError)), being_made(mount, copy.path, advance):
        pass
    assert (copy.path / "meta.mdb").read_bytes() == before
    mount.mount()
    done(mount.ana("backup", copy.path))


def test_a_killed_backup_is_gone_on_with_p88(mount: Mount, copy: Mount):
    """The first one has not even become a repository."""
    (mount.main / "large").write_bytes(os.urandom(30_000_000))
    mount.commit()
    killed = subprocess.Popen([ANA, "backup", "-R", mount.path, copy.path], cwd="/", stdout=subprocess.DEVNULL)
    wait_for((copy.path / "volumes/000000.mdb").exists, "the backup to begin")
    killed.kill()
    killed.wait()
    done(mount.ana("backup", copy.path))
    assert logs(copy) == logs(mount)


def test_ctrl_c_leaves_the_backup_as_it_was_p89(mount: Mount, copy: Mount):
    done(mount.ana("backup", copy.path))
    (mount.main / "large").write_bytes(os.urandom(60_000_000))
    mount.commit()
    before, size = logs(copy), (copy.path / "volumes").stat().st_mtime_ns
    started = subprocess.Popen([ANA, "backup", "-R", mount.path, copy.path], cwd="/", stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (copy.path / "volumes").stat().st_mtime_ns != size, "chunks to be copied")
    started.send_signal(signal.SIGINT)
    _, said = started.communicate()
    assert (started.returncode, said) == (130, "ana: interrupted\n")
    assert logs(copy) == before
    done(mount.ana("backup", copy.path))
    assert logs(copy) == logs(mount)


def test_a_read_only_mount_can_be_backed_up(mountable: Mount, copy: Mount):
    mountable.mount("--read-only")
    done(mountable.ana("backup", copy.path))
    assert logs(copy) == logs(mountable)


def test_a_place_in_a_mount_or_in_the_repository_is_refused_p89(mount: Mount):
    for place in (mount.main / "copy", mount.root / "copy", mount.path / "copy", mount.path):
        refused(mount.ana("backup", place), 2, str(place), "hint: choose a folder")
    assert os.listdir(mount.main) == []


def test_after_a_crash_nothing_is_left_of_a_pin(mount: Mount, copy: Mount):
    (mount.main / "large").write_bytes(os.urandom(LARGE))
    with pytest.raises(DaemonError), being_made(mount, copy.path, lambda _: mount.kill() if mount.pid else None):
        pass
    assert (mount.path / "overlays" / BEFORE).exists()
    mount.mount()
    assert not (mount.path / "overlays" / BEFORE).exists()
    assert Layout(copy.path).record.exists() is False
    done(run_ana("backup", "-R", mount.root, copy.path, cwd=Path("/")))


def test_a_commit_waits_until_the_snapshot_is_taken_p87(mount: Mount, copy: Mount):
    """Else the snapshot would have the commit, but not the uncommitted changes that came before it."""
    (mount.main / "committed").write_text("x")
    with Repository(mount.path) as source:
        backup = Backup(source, make_place(source.layout, copy.path))
        with connect(mount.path) as service, service.pinned() as go_on:
            (mount.main / "later").write_text("x")
            committing = threading.Thread(target=mount.commit)
            committing.start()
            committing.join(1)
            assert committing.is_alive()
            assert len(logs(mount)[MAIN]) == 1
            backup.take_snapshot(go_on, lambda _: None)
            committing.join()
        backup.finish(lambda _: None)
    assert len(logs(mount)[MAIN]) == 2
    assert len(logs(copy)[MAIN]) == 1
    with Repository(copy.path, writable=True) as kept:
        assert [name for name, _ in kept.listing(MAIN, b"")] == [b"committed"]


@pytest.mark.parametrize("room", [0, 2_000_000, 4_000_000])
def test_a_full_disk_leaves_the_old_backup_p89(mount: Mount, disk: Disk, room: int):  # noqa: F811
    """Whether there is no room for what is not committed, for chunks, or for meta."""
    copy = Repo(disk.path / "copy")
    (mount.main / "large").write_bytes(os.urandom(LARGE))
    mount.commit()
    done(mount.ana("backup", copy.path))
    before = logs(copy)
    (mount.main / "larger").write_bytes(os.urandom(3_000_000))
    mount.commit()
    (mount.main / "not committed").write_bytes(os.urandom(3_000_000))
    disk.fill(leave=room)
    for _ in range(2):
        refused(mount.ana("backup", copy.path), 4, f"the disk of {copy.path} is full; the backup is as it was")
        assert logs(copy) == before
        verify(copy.path)
    disk.filler.unlink()
    done(mount.ana("backup", copy.path))
    assert logs(copy) == logs(mount)
    verify(copy.path)
