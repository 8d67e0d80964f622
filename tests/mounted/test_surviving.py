"""What survives umount, a killed daemon and damage. P26, P31, P32, P33, P34, P35. Power cuts: not here."""

import errno
import json
import os
import random
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from anabranch.store.env import Environment
from tests.harness import (
    Mount,
    Repo,
    below,
    done,
    errno_of,
    pin_times,
    python,
    refused,
    run_ana,
    shell,
    snapshot,
    wait_for,
)
from tests.mounted.test_commits import fill

pytestmark = pytest.mark.mounted


def make_changes(top: Path) -> None:
    """Uncommitted changes of every kind, to what `fill` made and was committed."""
    (top / "new small").write_text("x")
    (top / "new large").write_bytes(os.urandom(2_000_000))
    with (top / "large").open("r+b") as file:
        file.seek(700_000)
        file.write(b"changed in the middle")
    with (top / "new sparse").open("wb") as file:
        file.seek(10_000_000)
        file.write(b"end")
    os.truncate(top / "middling", 7)
    os.truncate(top / "sparse", 9_000_000)
    (top / "inline").unlink()
    os.link(top / "small", top / "small too")
    (top / "deep/linked too").unlink()
    with (top / "linked").open("a") as file:
        file.write(" changed")
    os.rename(top / "deep/er", top / "moved")
    (top / "moved/new in moved").write_text("x")
    (top / "deep/er").mkdir()
    os.rename(top / "new small", top / "empty")
    os.symlink("elsewhere", top / "new link")
    (top / "runs").chmod(0o700)
    (top / "empty directory").rmdir()
    pin_times(top)


def test_commits_branches_tags_and_changes_survive_umount_and_mount_p26_p31(mount: Mount):
    """Uncommitted: small, large, linked, sparse, moved; twice in a row, and with the same inode numbers."""
    fill(mount.main)
    mount.commit("first")
    done(mount.ana("tag", "v1"))
    (mount.root / "exp").mkdir()
    make_changes(mount.root / "exp")
    mount.commit("on exp", branch="exp")
    make_changes(mount.main)
    (mount.root / "exp/only here").write_text("uncommitted")
    names = ("main", "exp", "main@1", "exp@1", "v1")
    before = {name: snapshot(mount.root / name, inodes=True) for name in names}
    status, log = mount.json("status"), mount.json("log")
    for _ in range(2):
        mount.remount()
        assert sorted(os.listdir(mount.root)) == ["exp", "main"]
        for name in names:
            assert snapshot(mount.root / name, inodes=True) == before[name], name
    assert (mount.json("status"), mount.json("log")) == (status, log)
    assert snapshot(mount.commit()) == snapshot(mount.main)


def test_changes_survive_a_commit_of_another_branch_and_a_remount_p31(mount: Mount):
    for branch in ("one", "two"):
        (mount.root / branch).mkdir()
        (mount.root / branch / "data").write_bytes(os.urandom(900_000))
    expected = (mount.root / "two/data").read_bytes()
    mount.commit(branch="one")
    mount.remount()
    assert (mount.root / "two/data").read_bytes() == expected
    assert not mount.json("status", "-b", "two")["clean"]


def test_inode_numbers_stay_across_everything_p26(mount: Mount):
    """Across commits, renames, rewrites of content, changes to clean files and remounts; and are never shared."""
    fill(mount.main)
    pinned = {name: (mount.main / name).lstat().st_ino for name in sorted(os.listdir(mount.main)) if name.isascii()}

    def same() -> bool:
        return {name: (mount.main / name).lstat().st_ino for name in pinned} == pinned

    mount.commit()
    assert same()
    mount.remount()
    assert same()
    for name in ("small", "large", "sparse", "linked"):
        with (mount.main / name).open("r+b") as file:
            file.write(b"changed after the commit")
    (mount.main / "deep/new").write_text("x")
    assert same()
    mount.commit()
    (mount.main / "small").rename(mount.main / "moved")
    pinned["moved"] = pinned.pop("small")
    mount.remount()
    (mount.main / "moved").chmod(0o600)
    assert same()
    numbers = [path.lstat().st_ino for path in below(mount.main) if path.lstat().st_nlink == 1 or path.is_dir()]
    assert len(numbers) == len(set(numbers))


def test_umount_returns_when_the_daemon_has_ended_p31(mount: Mount):
    (mount.main / "large").write_bytes(os.urandom(20_000_000))
    pin_times(mount.main)
    pid, before = mount.pid, snapshot(mount.main)
    mount.umount()
    assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/cmdline").read_bytes() == b""
    assert not mount.is_mounted()
    assert os.listdir(mount.root) == []
    moved = mount.path.with_name("moved away")
    shutil.copytree(mount.path, moved, ignore=shutil.ignore_patterns("socket"))
    mount.path = moved
    mount.mount()
    assert snapshot(mount.main) == before, "a repository is a folder: a copy of it is the same"


def test_a_file_that_was_open_at_umount_is_whole_p31(mount: Mount):
    """The kernel refuses to unmount what is in use; when the program has gone, all it wrote is there."""
    code = "import os; d = os.open('open', 65); os.write(d, b'x' * 3_000_000); print(flush=True); input()"
    writer = python(code, cwd=mount.main)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        refused(run_ana("umount", mount.root, cwd=Path("/")), 3, "is in use", "hint: ")
        assert (mount.main / "open").stat().st_size == 3_000_000
    finally:
        writer.kill()
        writer.communicate()
    mount.remount()
    assert (mount.main / "open").read_bytes() == b"x" * 3_000_000


def test_what_was_fsynced_survives_a_killed_daemon_p32(mount: Mount):
    """Content, attributes, names and ancestors; by fsync of the file, of a directory, and fdatasync."""
    fill(mount.main)
    mount.commit()
    make_changes(mount.main)
    (mount.main / "new/dir/ectories").mkdir(parents=True)
    path = mount.main / "new/dir/ectories/file"
    path.write_bytes(content := os.urandom(1_000_000))
    pin_times(mount.main)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    before = snapshot(mount.main, inodes=True)
    mount.crash()
    assert path.read_bytes() == content
    assert snapshot(mount.main, inodes=True) == before
    (mount.main / "after").write_text("by directory")
    os.rename(mount.main / "small", mount.main / "renamed")
    (mount.main / "large").unlink()
    directory = os.open(mount.main, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    before = snapshot(mount.main, inodes=True)
    mount.crash()
    assert snapshot(mount.main, inodes=True) == before
    mount.commit("all is well")
    assert snapshot(mount.root / "main@2") == snapshot(mount.main)


def test_an_open_file_is_there_up_to_its_last_fsync_p32(mount: Mount):
    descriptor = os.open(mount.main / "log", os.O_WRONLY | os.O_CREAT)
    kept = b""
    for number in range(200):
        line = b"line %d\n" % number
        os.write(descriptor, line)
        kept += line
        if number % 40 == 39:
            os.fsync(descriptor)
    os.write(descriptor, b"never synced")
    mount.kill()
    gone = (0, errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
    assert errno_of(os.write, descriptor, b"into nothing") in gone
    assert errno_of(os.close, descriptor) in gone
    mount.umount()
    mount.mount()
    assert (mount.main / "log").read_bytes().startswith(kept)


def test_a_rename_into_place_after_fsync_is_old_or_new_after_a_crash_p32_p34(mount: Mount):
    """The way of editors and databases: never an empty or a mixed file."""
    target = mount.main / "config"
    for number in range(5):
        content = f"generation {number} ".encode() * 10_000
        with (mount.main / "config.new").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(mount.main / "config.new", target)
        if number == 2:
            mount.crash()
            assert target.read_bytes() in (content, b"generation 1 " * 10_000)
    mount.crash()
    assert target.read_bytes() in (content, b"generation 3 " * 10_000)


def test_a_commit_that_returned_survives_a_killed_daemon_p33(mount: Mount):
    fill(mount.main)
    descriptor = os.open(mount.main / "open", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, os.urandom(100_000))
    pin_times(mount.main)
    first = mount.commit()
    before = snapshot(mount.main)
    mount.kill()
    assert errno_of(os.close, descriptor) in (0, errno.ENOTCONN, errno.ECONNABORTED)
    mount.umount()
    mount.mount()
    assert snapshot(first) == before
    assert snapshot(mount.main) == before
    assert mount.json("status")["clean"]
    (mount.root / "exp").mkdir()
    (mount.root / "exp/small").write_text("by command")
    made = mount.json("commit", "-b", "exp", "-m", "x")
    done(mount.ana("tag", "v1", "exp"))
    mount.crash()
    assert (mount.root / "exp@1/small").read_text() == (mount.root / "v1/small").read_text() == "by command"
    assert mount.json("log", "-b", "exp")[0]["id"] == made["id"]


def test_after_a_crash_in_the_middle_of_work_all_is_consistent_p34(mount: Mount):
    """Three times: killed while programs make, rename, remove and commit; every version and the branch are whole."""
    code = """
import os
n, run = 0, os.getpid()
while True:
    n += 1
    try:
        with open(f"file {n % 30}", "wb") as file:
            file.write(b"%d " % n * (n * 37 % 20000))
        os.makedirs(f"dir {n % 7}", exist_ok=True)
        os.rename(f"file {n % 30}", f"dir {n % 7}/{n % 5}")
        if n % 11 == 0:
            os.link(f"dir {n % 7}/{n % 5}", f"linked {run} {n}")
        if n % 22 == 1 and n > 22:
            os.unlink(f"linked {run} {n - 12}")
        if n % 40 == 0:
            open(".ana/commit", "w").write(f"{run} at {n}")
            print(run, "at", n, flush=True)
    except OSError:
        break
"""
    for _ in range(3):
        worker = python(code, cwd=mount.main, stderr=subprocess.DEVNULL)
        try:
            assert worker.stdout is not None
            last = [worker.stdout.readline() for _ in range(3)][-1].strip()
            assert last
            mount.kill()
        finally:
            worker.kill()
            worker.communicate()
        mount.umount()
        mount.mount()
        assert last in mount.messages()
        for path in below(mount.main):
            if path.is_file():
                words = path.read_bytes().split()
                assert len(set(words)) <= 1 or b"".join(words[:-1]).isdigit(), path
        snapshot(mount.main)
        mount.json("status")
    (mount.main / "file").write_text("still alive")
    version = mount.commit()
    assert (version / "file").read_text() == "still alive"
    assert snapshot(version) == snapshot(mount.main)


def damage(repository: Path, marker: bytes) -> int:
    """Flip one bit in the middle of a chunk of incompressible content, which lies in the volume as it is."""
    for volume in sorted((repository / "volumes").rglob("*")):
        if volume.is_file():
            content = bytearray(volume.read_bytes())
            if (at := content.find(marker)) >= 0:
                content[at + len(marker) // 2] ^= 1
                volume.write_bytes(content)
                return at
    raise AssertionError("the content is not in any volume as it is")


def test_a_damaged_chunk_is_an_error_and_never_wrong_bytes_p35(mount: Mount):
    mount.sound = False
    content = random.Random(1).randbytes(400_000)  # of other bytes, the first chunk might reach to the damage
    (mount.main / "damaged").write_bytes(content)
    (mount.main / "whole").write_bytes(os.urandom(400_000))
    mount.commit()
    whole = (mount.main / "whole").read_bytes()
    mount.umount()
    damage(mount.path, content[200_000:200_064])
    repo = Repo(mount.path)
    ended = repo.ana("cat", "main@1:damaged")
    assert ended.returncode == 4
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("ana: ")
    raw = subprocess.run([*ended.args], cwd="/", capture_output=True, check=False).stdout
    assert content.startswith(raw), "what was written before the error is right"
    assert done(repo.ana("cat", "main@1:whole", cwd=mount.path)) is not None
    mount.mount()
    for place in (mount.main, mount.root / "main@1"):
        assert errno_of((place / "damaged").read_bytes) == errno.EIO
        with (place / "damaged").open("rb", buffering=0) as file:
            assert file.read(4096) == content[:4096], "the sound part can be read"
            assert errno_of(os.pread, file.fileno(), 4096, 200_000) == errno.EIO
        assert (place / "whole").read_bytes() == whole
    assert errno_of(shutil.copyfile, mount.main / "damaged", mount.main / "copy") == errno.EIO
    (mount.main / "damaged").write_bytes(b"mended")
    (mount.main / "copy").unlink()
    mount.commit()
    assert (mount.root / "main@2/damaged").read_bytes() == b"mended"


def test_a_lost_volume_is_an_error_p35(mount: Mount):
    mount.sound = False
    (mount.main / "data").write_bytes(os.urandom(300_000))
    (mount.main / "small").write_text("lives in its entry")
    mount.commit()
    mount.umount()
    for volume in (mount.path / "volumes").iterdir():
        shutil.rmtree(volume) if volume.is_dir() else volume.unlink()
    repo = Repo(mount.path)
    refused(repo.ana("cat", "main@1:data"), 4)
    assert done(repo.ana("cat", "main@1:small")) == "lives in its entry"
    mount.mount()
    assert errno_of((mount.main / "data").read_bytes) == errno.EIO
    assert (mount.main / "small").read_text() == "lives in its entry"


def history_in(mount: Mount) -> tuple[Path, bytes, str]:
    """A repository with one commit of many names, not mounted: its meta file, the bytes of it, what `ana ls` says."""
    mount.sound = False
    for number in range(300):
        (mount.main / f"a file with quite a long name {number}").write_text(str(number))
    mount.commit()
    mount.umount()
    meta = mount.path / "meta.mdb"
    return meta, meta.read_bytes(), done(mount.ana("ls", "main@1"))


def test_a_mount_says_that_no_branch_can_be_opened_and_has_the_versions_p35(mount: Mount):
    """A row of uncommitted changes is damaged: it could be any one's."""
    mount.sound = False
    (mount.main / "kept").write_text("kept")
    mount.commit()
    (mount.main / "new").write_text("not committed")
    (mount.main / "large").write_bytes(os.urandom(200_000))
    (mount.root / "exp").mkdir()
    mount.umount()
    meta = mount.path / "meta.mdb"
    meta.write_bytes(meta.read_bytes().replace(b"not committed", b"not cOmmitted"))
    said = mount.mount()
    assert "no branch can be opened, but versions can: " in said
    assert f"hint: ana umount {mount.root} && ana fsck -R {mount.path}" in said
    assert errno_of(os.listdir, mount.main) == errno.EIO == errno_of(os.listdir, mount.root / "exp")
    assert (mount.root / "main@1/kept").read_text() == "kept"
    mount.umount()
    found = json.loads(Repo(mount.path).ana("fsck", "--json").stdout)["damaged"]
    assert {"path": "new", "versions": ["main (uncommitted)"]} in [hit for damage in found for hit in damage["hits"]]
    done(Repo(mount.path).ana("fsck", "--repair"))
    assert mount.mount() == ""
    assert (mount.main / "new").read_text() == "not committed"
    assert (mount.main / "large").stat().st_size == 200_000


def test_a_damaged_chunk_in_a_long_file_ends_the_read_but_not_the_mount_p35(mount: Mount):
    """Read from the start, so that chunks are loaded ahead of who will ask for them."""
    content = random.Random(35).randbytes(30_000_000)
    (mount.main / "long").write_bytes(content)
    mount.commit()
    mount.umount()
    damage(mount.path, content[20_000_000:20_000_064])
    mount.mount()
    mount.sound = False
    assert errno_of((mount.main / "long").read_bytes) == errno.EIO
    with (mount.main / "long").open("rb") as file:
        assert file.read(1_000_000) == content[:1_000_000]
    assert shell("cat main/long > /dev/null", mount.root).returncode == 1
    assert mount.is_mounted()


def test_a_damaged_record_of_history_is_an_error_p35(mount: Mount):
    """One bit of a tree, wherever it lies in the meta file."""
    meta, good, expected = history_in(mount)
    changed, at = bytearray(good), -1
    while (at := changed.find(b"a file with quite a long name 150", at + 1)) >= 0:
        changed[at + 20] ^= 1
    if changed == good:  # compressed: then all of its second half
        changed[len(changed) // 2 :] = bytes(byte ^ 1 for byte in changed[len(changed) // 2 :])
    meta.write_bytes(changed)
    ended = mount.ana("ls", "main@1")
    assert "Traceback" not in ended.stderr
    assert (ended.returncode, ended.stdout) == (0, expected) or ended.returncode == 4, ended
    meta.write_bytes(good)
    assert done(mount.ana("ls", "main@1")) == expected


def test_a_file_of_history_that_was_cut_off_is_an_error_p35(mount: Mount):
    """Its length says nothing: see the test below."""
    meta, good, _ = history_in(mount)
    meta.write_bytes(good[: len(good) // 2])
    ended = mount.ana("ls", "main@1")
    assert ended.stdout == ""
    assert ended.returncode == 4


def test_a_file_of_history_may_be_shorter_than_its_last_page_p31(tmp_path: Path):
    """LMDB does not write pages at the end that a transaction took and gave back: that is no damage."""
    path = tmp_path / "index.mdb"
    environment = Environment(path, ["rows"])
    numbers = [b"%d" % number for number in range(20)]
    with environment.write() as batch:
        for key in numbers:
            batch.put("rows", key, bytes(20_000))
    with environment.write() as batch:
        for key in numbers:
            batch.delete("rows", key)
    with environment.write() as batch:
        batch.put("rows", b"kept", bytes(20_000))
        batch.put("rows", b"large", bytes(2_000_000))
        batch.delete("rows", b"large")
    environment.close()
    assert path.stat().st_size < 1_000_000, "the case that this is about did not come up"
    environment = Environment(path, ["rows"])
    assert environment.get("rows", b"kept") == bytes(20_000)
    environment.close()


def test_what_is_written_to_a_file_that_stays_open_survives_after_seconds_p34(mount: Mount):
    """Nobody closes it, nobody syncs it: the daemon asks for it by itself, and then it is in an overlay file."""
    data = os.urandom(1 << 20)

    def sizes(folder: str) -> int:
        return sum(path.stat().st_size for path in (mount.path / folder).iterdir())

    with suppress(OSError), (mount.main / "open").open("wb", buffering=0) as file:
        file.write(data)
        wait_for(lambda: sizes("overlays") == len(data), "what was written to come to the daemon")
        kept = sizes("journal")
        (mount.main / "closed").touch()
        wait_for(lambda: sizes("journal") > kept, "the next record of the journal")
        mount.kill()  # closing fails then
    mount.mount()
    assert (mount.main / "open").read_bytes() == data
