"""Much data: shared content, and directories of many files. P7, P20, P27."""

import errno
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from tests.harness import ANA, Mount, done, errno_of, run_ana, shell, wait_for

pytestmark = pytest.mark.mounted


def used(repository: Path) -> int:
    """Bytes of the repository's files on disk; LMDB's grow in pages."""
    files = [path for path in repository.rglob("*") if path.is_file() and "overlays" not in path.parts]
    return sum(path.stat().st_blocks * 512 for path in files)


def csv(rows: int) -> list[str]:
    """Lines of a table, about 100 bytes each, that a compressor cannot make much smaller than half."""
    source = random.Random(20261120)
    places = ("LGA", "JFK", "EWR")

    def row(number: int) -> str:
        values = ",".join(str(source.random()) for _ in range(3))
        return f"{number},{values},{source.choice(places)},2013-01-{number % 28 + 1:02}\n"

    return [row(number) for number in range(rows)]


def test_ten_rows_in_the_middle_of_a_large_csv_add_next_to_nothing_p20(mount: Mount):
    """100 MB, a commit, 10 rows inserted in the middle by rewriting the file, a commit: less than 0.5 MB."""
    lines = csv(1_300_000)
    path = mount.main / "flights.csv"
    path.write_text("".join(lines))
    assert path.stat().st_size > 100_000_000
    first = mount.json("commit", "-m", "all of it")
    before = used(mount.path)
    middle = len(lines) // 2
    lines[middle:middle] = [f"{number},inserted,,,,\n" for number in range(10)]
    path.write_text("".join(lines))
    second = mount.json("commit", "-m", "ten rows more")
    assert first["added_bytes"] > 20_000_000
    assert second["added_bytes"] < 500_000
    assert used(mount.path) - before < 500_000
    with path.open("r+b") as file:  # in place, at the beginning and the end
        file.write(b"x")
        file.seek(-1, os.SEEK_END)
        file.write(b"y")
    assert mount.json("commit", "-m", "two bytes")["added_bytes"] < 500_000
    before = used(mount.path)
    done(shell("mkdir exp && cp main/flights.csv exp/copied.csv", mount.root))
    assert mount.json("commit", "-b", "exp", "-m", "a copy")["added_bytes"] < 1_000_000
    assert used(mount.path) - before < 1_000_000
    done(shell("cmp main/flights.csv exp@1/copied.csv && ! cmp -s main@1/flights.csv main@2/flights.csv", mount.root))
    assert (mount.root / "main@2/flights.csv").read_text() == "".join(lines)


def test_what_was_stored_ahead_of_a_commit_counts_as_new_in_it(mount: Mount):
    noise = random.Random(1).randbytes
    (mount.main / "large").write_bytes(noise(3_000_000))
    (mount.main / "small").write_bytes(noise(20_000))
    wait_for(lambda: json.loads((mount.root / ".ana/stats.json").read_text())["overlay_files"] == 0, "idle files")
    assert 3_020_000 < mount.json("commit", "-m", "both")["added_bytes"] < 3_100_000
    (mount.main / "large").chmod(0o600)
    assert mount.json("commit", "-m", "a mode")["added_bytes"] == 0


def many_files(mount: Mount, count: int) -> None:
    """Make, list, look up, commit, list the version."""
    directory = mount.main / "many"
    directory.mkdir()
    here = os.open(directory, os.O_RDONLY)
    try:
        for number in range(count):
            os.close(os.open(f"file {number:06}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=here))
    finally:
        os.close(here)
    names = {f"file {number:06}" for number in range(count)}
    version = None
    for _ in range(2):
        for top in (directory, version):
            if top is None:
                continue
            begun = time.monotonic()
            listed = os.listdir(top)
            assert len(listed) == count
            assert set(listed) == names
            for number in random.Random(1).sample(range(count), 200):
                assert (top / f"file {number:06}").stat().st_size == 0
                assert errno_of(os.stat, top / f"none {number:06}") != 0
            assert time.monotonic() - begun < count / 2000 + 10
        if version is None:
            version = mount.commit() / "many"
            (directory / "file 000007").write_text("changed")
            (directory / "file 000007").unlink()
            (directory / "file 000007").touch()
    (directory / "file 000000").unlink()
    (directory / "new").touch()
    assert mount.json("status")["changes"][0]["change"] in ("deleted", "added", "modified", "attributes")
    mount.commit()
    assert len(os.listdir(mount.root / "main@2/many")) == count
    mount.remount()
    assert set(os.listdir(directory)) == names - {"file 000000"} | {"new"}
    assert set(os.listdir(version)) == names


def test_a_directory_of_many_files_p27(mount: Mount):
    many_files(mount, 20_000)


@pytest.mark.slow
def test_a_directory_of_100_000_files_p27(mount: Mount):
    many_files(mount, 100_000)


def test_many_directories_and_files_are_removed_at_once_p27(mount: Mount):
    done(shell("for d in 1 2 3 4 5 6 7 8 9; do mkdir -p $d/x; seq 200 | (cd $d/x && xargs touch); done", mount.main))
    mount.commit()
    assert done(shell("find . -type f | wc -l", mount.main)).strip() == "1800"
    done(shell("set -e; rm -r 1 2 3; mv 4 5/moved; cp -r 5 new", mount.main))
    assert done(shell("find . -type f | wc -l", mount.main)).strip() == str(1800 - 600 + 400)
    second = mount.commit()
    assert done(shell("find . -type f | wc -l", second)).strip() == "1600"


def names_of_a_tar(count: int) -> bytes:
    """A tar stream of a directory with so many empty files, the quickest way to have them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number in range(count):
            entry = tarfile.TarInfo(f"many/{number:07}")
            entry.mtime = number  # in a version, files that are alike are one inode
            tar.addfile(entry)
    return stream.getvalue()


def import_names(mount: Mount, count: int) -> None:
    """Commit a directory `top/many` of so many empty files."""
    subprocess.run(
        [ANA, "import", "-R", mount.path, "-b", "main", "--commit", "many", "-", "top"],
        input=names_of_a_tar(count), check=True, capture_output=True, cwd="/",
    )  # fmt: skip


def listed_searched_and_removed(mount: Mount, count: int) -> None:
    """A directory of many entries, committed; half of it is removed, then all."""
    import_names(mount, count)
    directory, version = mount.main / "top/many", mount.root / "main@1/top/many"
    names = [f"{number:07}" for number in range(count)]
    source = random.Random(7)
    for top in (directory, version):
        with os.scandir(top) as entries:
            assert sorted(entry.name for entry in entries if entry.is_file()) == names
        for name in source.sample(names, 300):
            assert (top / name).lstat().st_size == 0
            assert errno_of(os.stat, top / (name + "x")) == errno.ENOENT
    for name in names[::2]:
        (directory / name).unlink()
    assert sorted(os.listdir(directory)) == names[1::2]
    mount.remount()
    assert sorted(os.listdir(directory)) == names[1::2]
    (directory / "new").touch()
    done(run_ana("commit", "-m", "half", cwd=mount.main))
    assert sorted(os.listdir(mount.root / "main@2/top/many")) == [*names[1::2], "new"]
    shutil.rmtree(directory)
    assert errno_of(os.listdir, directory) == errno.ENOENT
    done(run_ana("commit", "-m", "none", cwd=mount.main))
    assert os.listdir(mount.main / "top") == []
    assert len(os.listdir(version)) == count


def test_a_directory_is_listed_searched_and_removed_p27(mount: Mount):
    listed_searched_and_removed(mount, 5_000)


def test_the_kernel_learns_few_of_the_files_of_a_long_listing_and_all_of_their_names_p47(mount: Mount):
    """A listing goes on so fast that the kernel gives none back meanwhile, and each that it knows costs memory."""
    import_names(mount, count := 20_000)
    mount.umount()
    mount.mount("--memory", "1")
    for top in (mount.main / "top/many", mount.root / "main@1/top/many"):
        known, ended = [0], threading.Event()

        def watch(known: list[int] = known, ended: threading.Event = ended) -> None:
            while not ended.is_set():
                known.append(json.loads((mount.root / ".ana/stats.json").read_text())["known_inodes"])

        watcher = threading.Thread(target=watch)
        watcher.start()
        with os.scandir(top) as entries:
            found = {entry.name: (entry.inode(), entry.is_file()) for entry in entries}
        ended.set()
        watcher.join()
        assert 256 < max(known) < 5_000
        assert found == {f"{number:07}": ((top / f"{number:07}").stat().st_ino, True) for number in range(count)}


@pytest.mark.slow
def test_a_directory_of_1_000_000_entries_p27(mount: Mount):
    listed_searched_and_removed(mount, 1_000_000)
