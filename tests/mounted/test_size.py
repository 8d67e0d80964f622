"""Much data: shared content, and directories of many files. P7, P20, P27."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.harness import Mount, done, errno_of, shell

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
