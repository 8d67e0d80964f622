"""Changes that do not come through the kernel: `ana restore` beside programs that work on the branch. P48, P49, P50."""

import errno
import mmap
import os
import random
from pathlib import Path

import pytest

from tests.harness import Mount, below, done, errno_of, hinted, pin_times, run_ana, snapshot

pytestmark = pytest.mark.mounted

LARGE = random.Random(1).randbytes(300_000)


@pytest.fixture
def filled(mount: Mount) -> Mount:
    """A commit of a bit of everything, with times of its own."""
    top = mount.main
    (top / "d/e").mkdir(parents=True)
    (top / "d/small").write_text("small")
    (top / "d/e/large").write_bytes(LARGE)
    (top / "linked").write_text("linked")
    os.link(top / "linked", top / "d/e/again")
    (top / "link").symlink_to("d/small")
    os.mkfifo(top / "d/fifo", 0o600)
    pin_times(top)
    mount.commit()
    return mount


def restore(mount: Mount, *words: str, cwd: str = "") -> str:
    """What the command says."""
    return done(run_ana("restore", *words, cwd=mount.main / cwd))


def spoil(top: Path) -> None:
    """Change the directory in every way, having looked at everything before."""
    snapshot(top)
    (top / "d/small").write_text("changed")
    with (top / "d/e/large").open("r+b") as file:
        file.write(b"changed")
    (top / "linked").unlink()
    (top / "link").unlink()
    (top / "link").mkdir()
    (top / "link/inner").write_text("inner")
    (top / "d/fifo").unlink()
    (top / "new/deep").mkdir(parents=True)
    (top / "new/deep/file").write_bytes(LARGE)
    (top / "d/e").chmod(0o700)
    assert errno_of((top / "linked").stat) == errno.ENOENT


def test_everything_is_as_it_was_and_every_process_sees_it_at_once_p48_p50(filled: Mount):
    """What was looked at before is in the kernel's cache: attributes, contents, and that names are not there."""
    before = snapshot(filled.main)
    spoil(filled.main)
    assert restore(filled, ".") == f"main restored from main@1 {short(filled)}  5 files put back, 1 name taken away\n"
    assert snapshot(filled.main) == before
    assert filled.json("status")["clean"]
    assert not (filled.main / "new").exists()


def short(mount: Mount) -> str:
    return (mount.main / ".ana/head").read_text().split()[1][:8]


def test_an_old_version_comes_back_over_the_commits_since_and_is_uncommitted_p48(filled: Mount):
    before = snapshot(filled.main)
    spoil(filled.main)
    filled.commit("spoiled")
    restore(filled, "main@1", ".")
    assert snapshot(filled.main) == before
    assert not filled.json("status")["clean"]
    version = filled.commit("as it was")
    filled.remount()
    assert snapshot(filled.main) == snapshot(version) == before


def test_a_path_counts_from_where_the_command_is_called(filled: Mount):
    (filled.main / "d/small").write_text("changed")
    (filled.main / "d/e/large").unlink()
    restore(filled, "large", cwd="d/e")
    assert (filled.main / "d/e/large").read_bytes() == LARGE
    assert (filled.main / "d/small").read_text() == "changed"
    restore(filled, "main@1", "../small", cwd="d/e")
    assert (filled.main / "d/small").read_text() == "small"


def test_an_open_dirty_and_mapped_file_stays_what_its_program_made_of_it_p49(filled: Mount):
    """It is written by write(2) and through a mapping, before and after; the branch has the old content."""
    path = filled.main / "d/e/large"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        file.write(b"written before")
        file.flush()
        mapped[100_000:100_006] = b"mapped"
        number = path.stat().st_ino
        restore(filled, "d")
        assert path.read_bytes() == LARGE
        assert path.stat().st_ino != number
        assert os.fstat(file.fileno()).st_nlink == 0
        mapped[200_000:200_006] = b"mapped"
        os.pwrite(file.fileno(), b"written after", len(LARGE))
        os.fsync(file.fileno())
        mine = os.pread(file.fileno(), 1 << 20, 0)
        expected = bytearray(LARGE + b"written after")
        expected[:14], expected[100_000:100_006], expected[200_000:200_006] = b"written before", b"mapped", b"mapped"
        assert mine == expected
        assert path.read_bytes() == LARGE
        assert filled.json("status")["clean"]
        path.write_bytes(b"another")
        assert os.pread(file.fileno(), 1 << 20, 0) == expected
    assert path.read_bytes() == b"another"
    version = filled.commit()
    assert (version / "d/e/large").read_bytes() == b"another"


def test_what_did_not_change_stays_the_same_file_p49(filled: Mount):
    numbers = {path: path.stat().st_ino for path in below(filled.main) if path.name != "link"}
    (filled.main / "d/small").write_text("changed")
    restore(filled, ".")
    changed = [path.name for path, number in numbers.items() if path.stat().st_ino != number]
    assert changed == ["small"]


def test_a_process_in_a_directory_that_goes_stays_there_and_finds_it_empty(filled: Mount):
    (filled.main / "new/deep").mkdir(parents=True)
    (filled.main / "new/deep/file").write_text("file")
    inside = os.open(filled.main / "new/deep", os.O_RDONLY)
    try:
        assert os.listdir(inside) == ["file"]
        restore(filled, ".")
        assert os.listdir(inside) == []
        assert errno_of(os.open, "file", os.O_RDONLY, dir_fd=inside) == errno.ENOENT
        assert errno_of(os.open, "file", os.O_WRONLY | os.O_CREAT, dir_fd=inside) == errno.ENOENT
        assert os.fstat(inside).st_nlink == 0
    finally:
        os.close(inside)
    assert not (filled.main / "new").exists()


def test_a_restore_survives_a_kill_once_it_is_acknowledged(filled: Mount):
    before = snapshot(filled.main)
    spoil(filled.main)
    restore(filled, ".")
    filled.crash()
    assert snapshot(filled.main) == before
    assert filled.json("status")["clean"]


def test_a_deleted_directory_of_2000_files_is_one_step(filled: Mount):
    """It comes back as a whole, is deleted again, and comes back again."""
    top = filled.main / "many"
    top.mkdir()
    for number in range(2_000):
        (top / str(number)).touch()
    filled.commit()
    for _ in range(2):
        for path in top.iterdir():
            path.unlink()
        top.rmdir()
        assert "2000 files put back" in restore(filled, "many")
        assert len(os.listdir(top)) == 2_000
        assert filled.json("status")["clean"]


def test_it_works_the_same_without_a_mount(filled: Mount):
    before = snapshot(filled.main)
    spoil(filled.main)
    filled.umount()
    said = done(run_ana("restore", "-R", filled.path, ".", cwd=Path("/")))
    assert said == f"main restored from main@1 {said.split()[4]}  5 files put back, 1 name taken away\n"
    filled.mount()
    assert snapshot(filled.main) == before


def test_json_says_what_was_done(filled: Mount):
    (filled.main / "d/small").write_text("changed")
    said = filled.json("restore", "main@1", "d")
    assert (said["branch"], said["from"]["version"], said["files"], said["removed"]) == ("main", "main@1", 1, 0)


def test_a_mistake_is_one_line_with_a_hint_and_changes_nothing(filled: Mount):
    (filled.main / "d/small").write_text("changed")
    (filled.main / "new").write_text("new")
    done(filled.ana("branch", "d"))
    top = filled.main
    hinted(run_ana("restore", "new", cwd=top), 1, "main@1 has no new", "ana ls main@1")
    hinted(run_ana("restore", "main", "d", "new", cwd=top), 1, "main@1 has no new")
    hinted(run_ana("restore", "main@7", ".", cwd=top), 1, "main has no version 7")
    hinted(run_ana("restore", "d", "link", cwd=top), 2, "d is a path", "ana discard d link")
    hinted(run_ana("restore", "", cwd=top), 2, "empty")
    for path in ("../..", "/", "/etc", str(filled.root / "d/x")):
        hinted(run_ana("restore", path, cwd=top / "d"), 2, "leads out of the branch")
    for path in ("..", "/", "/d"):
        hinted(filled.ana("restore", path), 2, "leads out of the branch")
    hinted(run_ana("restore", ".", cwd=filled.root), 2, "is no branch", "-b BRANCH")
    hinted(run_ana("restore", "d", cwd=filled.root / "main@1"), 2, "read-only", "-b BRANCH")
    hinted(run_ana("discard", "nowhere", cwd=top), 1, "neither the version nor the working tree has nowhere")
    assert (filled.main / "d/small").read_text() == "changed"
    os.rename(filled.main / "d", filled.main / "moved")
    (filled.main / "d").write_text("a file now")
    hinted(run_ana("restore", "d/small", cwd=top), 3, "restore d itself")
    assert (filled.main / "d").read_text() == "a file now"


def test_an_absolute_path_and_another_branch_are_understood(filled: Mount):
    done(filled.ana("branch", "exp"))
    for branch in ("main", "exp"):
        (filled.root / branch / "d/small").write_text("changed")
    restore(filled, str(filled.root / "exp/d"), "-b", "exp")
    assert (filled.root / "exp/d/small").read_text() == "small"
    assert (filled.main / "d/small").read_text() == "changed"
    restore(filled, str(filled.main / "d/small"), cwd="d")
    assert (filled.main / "d/small").read_text() == "small"


def test_discard_gives_up_what_is_not_committed_new_files_too(filled: Mount):
    before = snapshot(filled.main)
    spoil(filled.main)
    (filled.main / "kept").write_text("kept")
    done(run_ana("discard", "../new", "../link", "../linked", "small", "e", "fifo", cwd=filled.main / "d"))
    assert [change["path"] for change in filled.json("status")["changes"]] == ["kept"]
    done(run_ana("discard", cwd=filled.main / "d"))
    assert snapshot(filled.main) == before


def test_what_a_name_shares_with_another_is_seen_there_too_p50(filled: Mount):
    (filled.main / "linked").unlink()
    assert (filled.main / "d/e/again").stat().st_nlink == 1
    restore(filled, "linked")
    assert (filled.main / "d/e/again").stat().st_nlink == 2
