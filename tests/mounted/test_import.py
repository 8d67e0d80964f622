"""ana import beside a mount: seen at once, in nobody's way, and whole or not at all. P37, P45, P48, P49, P50."""

import errno
import json
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import (
    ANA,
    PATIENCE,
    Completed,
    Mount,
    Repo,
    done,
    errno_of,
    hinted,
    python,
    refused,
    run_ana,
    snapshot,
    wait_for,
)
from tests.mounted.test_full_disk import ROOM, Disk, made

pytestmark = pytest.mark.mounted

LARGE = os.urandom(3_000_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that is to be imported."""
    top = tmp_path / "source"
    (top / "d/e").mkdir(parents=True)
    (top / "d/small").write_text("small")
    (top / "d/e/large").write_bytes(LARGE)
    os.link(top / "d/small", top / "again")
    (top / "link").symlink_to("d/small")
    return top


def test_it_is_seen_at_once_by_who_had_looked_before(mount: Mount, source: Path):
    """Names that were not there, directories that were listed, attributes and contents: all in the kernel's caches."""
    data = mount.main / "data"
    (data / "d").mkdir(parents=True)
    (data / "d/small").write_text("old")
    (data / "goes").write_text("goes")
    assert errno_of((data / "again").stat) == errno.ENOENT
    assert os.listdir(data / "d") == ["small"]
    assert (data / "d/small").read_text() == "old"
    done(mount.ana("import", source, "data"))
    assert snapshot(data) == snapshot(source)
    assert errno_of((data / "goes").stat) == errno.ENOENT
    (source / "d/small").write_text("changed")
    (source / "again").unlink()
    done(mount.ana("import", source, "data", "--commit", "changed"))
    assert snapshot(data) == snapshot(source) == snapshot(mount.root / "main@1/data")
    mount.remount()
    assert snapshot(data) == snapshot(source)


def test_who_has_a_file_open_keeps_it(mount: Mount, source: Path):
    """Also what is mapped, and what is written and not yet sent to the daemon."""
    data = mount.main / "data"
    done(mount.ana("import", source, "data"))
    with (data / "d/e/large").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        file.write(b"written")
        file.flush()
        mapped[100:106] = b"mapped"
        (source / "d/e/large").write_bytes(b"another")
        done(mount.ana("import", source, "data"))
        assert (data / "d/e/large").read_bytes() == b"another"
        file.seek(0)
        assert file.read(7) == b"written"
        assert mapped[100:106] == b"mapped"
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b"more")
        file.flush()
    assert (data / "d/e/large").read_bytes() == b"another"


def test_paths_count_from_where_it_is_called(mount: Mount, source: Path):
    (mount.main / "sub").mkdir()
    done(run_ana("import", source / "d", "here", cwd=mount.main / "sub"))
    assert (mount.main / "sub/here/small").read_text() == "small"
    done(run_ana("import", source / "d", mount.main / "sub/there", cwd=mount.main))
    assert (mount.main / "sub/there/small").read_text() == "small"
    done(run_ana("import", source / "d", ".", cwd=mount.main / "sub"))
    assert sorted(os.listdir(mount.main / "sub")) == ["e", "small"]


def test_a_mistake_is_one_line_and_changes_nothing(mount: Mount, source: Path):
    (mount.main / "file").write_text("x")
    mount.commit("first")
    hinted(run_ana("import", source, "x", cwd=mount.root / "main@1"), 2, "read-only", "-b BRANCH")
    hinted(run_ana("import", source, "x", cwd=mount.root), 2, "is no branch", "-b BRANCH")
    hinted(run_ana("import", source, "x", "-b", "none", cwd=mount.main), 1, "none")
    hinted(run_ana("import", source, "../x", cwd=mount.main), 2, "leads out of the branch")
    hinted(run_ana("import", source, mount.root / "main@1/x", cwd=mount.main), 2, "leads out of the branch")
    hinted(run_ana("import", source, "file/x", cwd=mount.main), 3, "file is no directory")
    assert mount.json("status")["clean"]


def test_a_read_only_mount_takes_nothing(mount: Mount, source: Path):
    mount.umount()
    done(run_ana("mount", "--read-only", mount.path, mount.root, cwd=Path("/")))
    hinted(mount.ana("import", source, "x"), 3, "read-only")
    assert os.listdir(mount.main) == []


def test_what_is_in_the_mount_may_be_the_source(mount: Mount, source: Path):
    """A branch, a version, and a directory that the import goes into; the daemon answers while it takes."""
    done(mount.ana("import", source, "data", "--commit", "first"))
    done(run_ana("import", mount.root / "main@1/data", "copy", cwd=mount.main))
    done(run_ana("import", mount.main / "data", "data/inner", cwd=mount.main))
    done(run_ana("import", mount.main, "all", cwd=mount.main))
    expected = snapshot(source)
    assert snapshot(mount.main / "copy") == expected
    inner = snapshot(mount.main / "all/data/inner")
    assert {path: row for path, row in inner.items() if path != "."}.keys() == expected.keys() - {"."}
    assert inner["d/e/large"] == expected["d/e/large"]
    assert ".ana" not in os.listdir(mount.main / "all")


WRITER = """
import sys
print("ready", flush=True)
number = 0
while True:
    with open(f"elsewhere/{number % 50}", "w") as file:
        file.write(str(number))
    if number == 100:
        print("busy", flush=True)
    number += 1
"""


def test_programs_write_and_commits_are_made_meanwhile(mount: Mount, source: Path):
    for number in range(300):
        (source / str(number)).write_bytes(os.urandom(100_000))
    (mount.main / "elsewhere").mkdir()
    writer = python(WRITER, cwd=mount.main)
    try:
        assert writer.stdout is not None
        assert [writer.stdout.readline() for _ in range(2)] == ["ready\n", "busy\n"]
        with start(mount, source, "data") as importing:
            made = 0
            while importing.poll() is None:
                mount.commit(f"beside it {made}")
                made += 1
        assert (importing.returncode, made > 0) == (0, True)
        assert snapshot(mount.main / "data") == snapshot(source)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate(timeout=PATIENCE)
    for number in range(1, made + 1):  # each has all of it or nothing
        names = os.listdir(mount.root / f"main@{number}")
        assert "data" not in names or len(os.listdir(mount.root / f"main@{number}/data")) == 303
    assert snapshot(mount.commit("at last") / "data") == snapshot(source)


def start(repo: Repo, *arguments: str | Path) -> subprocess.Popen[str]:
    """Import, without waiting."""
    command: list[str | Path] = [ANA, "import", "-R", repo.path, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stored(repo: Repo) -> int:
    return sum(path.stat().st_size for path in (repo.path / "volumes").glob("*.mdb"))


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_daemon_that_is_killed_ends_it_with_one_line(mount: Mount, source: Path, kind: str):
    """It is no fault of the file that was just read; and a mount later, it works."""
    for number in range(3):
        with (source / f"large {number}").open("wb") as file:
            for _ in range(80):
                file.write(os.urandom(1 << 20))
    place = source
    if kind == "tar":
        place = source.parent / "source.tar"
        subprocess.run(["tar", "-C", source, "-cf", place, "."], check=True)
    before = stored(mount)
    with start(mount, place, "data", "--commit", "never") as importing:
        wait_for(lambda: stored(mount) > before + 8_000_000, "something to be stored")
        mount.kill()
        out, err = importing.communicate(timeout=PATIENCE)
    hinted(Completed(importing.args, importing.returncode, out, err), 4, "daemon")
    mount.mount()
    assert mount.json("status")["clean"]
    done(mount.ana("import", place, "data", "--commit", "now"))
    assert (mount.main / "data/large 2").read_bytes() == (source / "large 2").read_bytes()
    assert mount.messages() == ["now", ""]


def test_what_cannot_be_read_is_left_as_it_was_in_the_mount(mount: Mount, source: Path):
    done(mount.ana("import", source, "data"))
    number = (mount.main / "data/d/small").stat().st_ino
    (source / "d").chmod(0)
    (source / "new").write_text("new")
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*powerless, str(ANA), "import", "-R", str(mount.path), str(source), "data", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended
    assert [row["path"] for row in json.loads(ended.stdout)["failed"]] == ["d"]
    assert (mount.main / "data/d/small").stat().st_ino == number
    assert (mount.main / "data/d/small").read_text() == "small"
    assert (mount.main / "data/new").read_text() == "new"
    (source / "d").chmod(0o700)


# --- a full disk ---


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    with made(tmp_path) as disk:
        yield disk


@pytest.fixture
def cramped(disk: Disk, fresh_repository: Path, tmp_path: Path) -> Iterator[Mount]:
    """A repository on a disk that is nearly full, not mounted."""
    root = tmp_path / "small"
    root.mkdir()
    with Mount(Path(shutil.copytree(fresh_repository, disk.path / "repo")), root).kept_tidy() as mount:
        mount.mount()
        (mount.main / "data").mkdir()
        (mount.main / "data/old").write_text("old")
        mount.commit("first")
        mount.umount()
        disk.fill(leave=2 * ROOM)
        yield mount


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("size", [100_000, 20_000_000])
def test_what_does_not_fit_changes_nothing_p45(
    cramped: Mount, disk: Disk, source: Path, mounted: bool, size: int, tmp_path: Path
):
    """Of small files and large ones, as a folder and as a stream; with room again, it works."""
    for number in range(40_000_000 // size):
        (source / f"file {number}").write_bytes(os.urandom(size))
    subprocess.run(["tar", "-C", source, "-cf", tmp_path / "x.tar", "."], check=True)
    if mounted:
        cramped.mount()
    for place in (source, tmp_path / "x.tar"):
        refused(cramped.ana("import", place, "data", "--commit", "too much"), 4, "full")
        assert cramped.json("status")["clean"]
        assert done(cramped.ana("cat", "main:data/old")) == "old"
    assert cramped.messages() == ["first", ""]
    disk.filler.unlink()
    for path in source.glob("file *"):
        if path.name != "file 1":
            path.unlink()
    done(cramped.ana("import", source, "data", "--commit", "less"))
    assert {row["path"] for row in cramped.json("ls", "main:data")} == {"again", "d", "file 1", "link"}
