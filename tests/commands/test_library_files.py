"""File objects of the library: they do what those of open() do, and what is written is seen whole or not at all."""

import csv
import gc
import gzip
import io
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch import AnabranchError, Branch, ExistsError, NotFoundError, RefusedError, Repository, UsageError
from tests.commands.test_library import fails
from tests.harness import Repo

# ruff: noqa: PT012, PT031  (what is tested is how a block ends)

DATA = random.Random(1).randbytes(700_000)
LINES = "".join(f"line {number}\n" for number in range(20_000))


@pytest.fixture
def main(repo: Repo) -> Iterator[Branch]:
    """The branch of a repository that is open."""
    with Repository(repo.path) as repository:
        yield repository.branch()


def both(main: Branch, name: str) -> list[Any]:
    """A file in the branch, and in a version."""
    return [main / name, main.commit("read", allow_empty=True) / name]


# --- reading ---


def test_reading_is_as_from_a_file_of_python(main: Branch):
    """The same calls on an ordinary file, in the same order, give the same."""
    (main / "data").write_bytes(DATA)

    def calls(file: Any) -> list[Any]:
        buffer = bytearray(1000)
        seen = [file.readable(), file.writable(), file.seekable(), file.closed, file.mode, file.tell(), file.read(10)]
        seen += [file.seek(500_000), file.read(100), file.tell(), file.readinto(buffer), bytes(buffer), file.read1(50)]
        seen += [file.seek(-10, os.SEEK_END), file.read(), file.read(), file.read(5), file.readline()]
        seen += [file.seek(3), file.seek(7, os.SEEK_CUR), file.readline(), file.readlines()[:3]]
        seen += [file.seek(1_000_000), file.read(), file.seek(0), next(file), sum(map(len, file)), file.isatty()]
        fails(
            lambda: file.seek(-1),
            lambda: file.seek(0, 9),
            lambda: file.write(b"x"),
            lambda: file.truncate(1),
            of=(OSError, ValueError),
        )
        with file as same:
            seen.append(same is file)
        with pytest.raises(ValueError, match="closed"):
            file.read()
        return [*seen, file.closed]

    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory, "data")
        plain.write_bytes(DATA)
        expected = calls(plain.open("rb"))
    for path in both(main, "data"):
        assert calls(path.open("rb")) == expected
        assert path.open("rb").name == "data"
        assert path.read_bytes() == DATA


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_text_is_read_and_written_as_by_python(main: Branch, tmp_path: Path, newline: str | None, encoding: str):
    text = "ünï\ncödé\r\nend\rlast"
    with (tmp_path / "text").open("w", encoding=encoding, newline=newline) as plain:
        plain.write(text)
        print("printed", 3, file=plain)
    with (main / "text").open("w", encoding=encoding, newline=newline) as file:
        file.write(text)
        print("printed", 3, file=file)
    for path in both(main, "text"):
        assert path.read_bytes() == (tmp_path / "text").read_bytes()
        with (
            path.open(encoding=encoding, newline=newline) as file,
            (tmp_path / "text").open(encoding=encoding, newline=newline) as plain,
        ):
            assert (file.mode, file.encoding) == ("r", encoding)
            assert list(file) == list(plain)
            assert file.seek(0) == 0
            assert file.read() == path.open(encoding=encoding, newline=newline).read()
        assert path.read_text(encoding) == (tmp_path / "text").read_text(encoding)


def test_errors_of_codecs_are_those_of_python_and_leave_nothing(main: Branch):
    (main / "bytes").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        (main / "bytes").read_text()
    with pytest.raises(UnicodeEncodeError), (main / "x").open("w", encoding="ascii") as file:
        file.write("a" * 100_000)
        file.write("ü")
    for mode in ("r", "w", "a"):
        with pytest.raises(LookupError):
            (main / "bytes").open(mode, encoding="nothing")
        with pytest.raises(ValueError):
            (main / "bytes").open(mode, newline="x")
    assert [str(path) for path in main.path().iterdir()] == ["bytes"]


def test_what_cannot_be_opened_is_told(main: Branch):
    (main / "d/file").write_text("x")
    version = main.commit("first")
    for tree in (main, version):
        for path, error in (("none", NotFoundError), ("d/file/x", NotFoundError), ("d", UsageError), ("", UsageError)):
            for mode in ("r", "rb"):
                with pytest.raises(error):
                    tree.path(path).open(mode)
            with pytest.raises(error):
                tree.path(path).read_text()
    for mode in ("w", "a", "r+", "x", "wb"):
        with pytest.raises(UsageError):
            (version / "d/file").open(mode)
    for mode in ("", "q", "rw", "wr", "w++", "br+w", "wbt", "rbt", "r+tb", "U", "bb", "b"):
        with pytest.raises(UsageError):
            (main / "d/file").open(mode)
    for mode in ("w", "wb", "a", "r+"):
        with pytest.raises(UsageError, match="directory"):
            (main / "d").open(mode)
    with pytest.raises(NotFoundError):
        (main / "none").open("r+")
    for mode in ("x", "xb", "x+"):
        with pytest.raises(ExistsError):
            (main / "d/file").open(mode)


def test_an_open_file_goes_on_showing_what_it_was(main: Branch):
    (main / "a").write_bytes(DATA)
    with (main / "a").open("rb") as file:
        head = file.read(10)
        (main / "a").write_bytes(b"new")
        assert head + file.read() == DATA
        file.seek(0)
        (main / "a").remove()
        assert file.read() == DATA


# --- writing ---


def test_writing_is_as_to_a_file_of_python(main: Branch, tmp_path: Path):
    """The same calls on an ordinary file, in the same order, give the same, and the same content."""

    def calls(file: Any, mode: str) -> list[Any]:
        seen = [file.readable(), file.writable(), file.seekable(), file.closed, file.tell(), file.write(b"12345")]
        seen += [file.write(memoryview(b"6789")), file.write(bytearray(b"0")), file.tell(), file.flush()]
        seen += [file.writelines([b"a", b"b\n"]), file.seek(2), file.write(b"xx"), file.seek(0, os.SEEK_END)]
        seen += [file.seek(-1, os.SEEK_CUR), file.tell(), file.truncate(), file.tell(), file.truncate(100), file.tell()]
        seen += [file.seek(200), file.write(b"far"), file.truncate(202), file.seek(0)]
        if "+" in mode:
            seen += [
                file.read(5),
                file.readline(),
                file.seek(1),
                file.read1(4),
                file.readinto(bytearray(9)),
                list(file),
            ]
        else:
            fails(file.read, file.readline, lambda: next(file), of=io.UnsupportedOperation)
        fails(lambda: file.seek(-1), lambda: file.seek(0, 9), of=(OSError, ValueError))
        with pytest.raises(TypeError):
            file.write("text")
        file.close()
        file.close()
        fails(lambda: file.write(b"x"), file.tell, file.flush, file.fileno, lambda: file.seek(0), of=ValueError)
        return [*seen, file.closed]

    for mode in ("wb", "xb", "ab", "r+b", "w+b", "a+b", "x+b"):
        for path in (tmp_path / "file", main / "file"):
            if "x" not in mode:
                path.write_bytes(b"old content")
            elif path.exists():
                path.unlink() if isinstance(path, Path) else path.remove()
        assert calls((main / "file").open(mode), mode) == calls((tmp_path / "file").open(mode), mode), mode
        assert (main / "file").read_bytes() == (tmp_path / "file").read_bytes(), mode


def test_text_is_appended_and_changed_in_place(main: Branch):
    with (main / "log").open("a", encoding="utf-16") as file:
        file.write("one\n")
    with (main / "log").open("a", encoding="utf-16") as file:
        file.write("twö\n")
        assert (file.name, file.mode) == ("log", "a")
    assert (main / "log").read_text("utf-16") == "one\ntwö\n"
    (main / "text").write_text("one two")
    with (main / "text").open("r+") as file:
        assert file.read(4) == "one "
        file.seek(0)
        file.write("ONE")
    assert (main / "text").read_text() == "ONE two"
    with (main / "text").open("a+") as file:
        file.write("!")
        file.seek(0)
        assert file.readlines() == ["ONE two!"]
    with main.transaction() as made:
        made.write_text("text", "begun here")
        with made.open("text", "a") as file:
            file.write(", and more")
        made.remove("log")
        with made.open("log", "a") as file:
            file.write("new")
    assert (main / "text").read_text() == "begun here, and more"
    assert (main / "log").read_text() == "new"


def test_what_is_written_is_seen_when_it_is_closed(main: Branch):
    (main / "a").write_text("old")
    with (main / "a").open("w") as file:
        file.write("x" * 100_000)
        file.flush()
        assert (main / "a").read_text() == "old"
    assert (main / "a").read_text() == "x" * 100_000


@pytest.mark.parametrize("mode", ["w", "wb", "a", "r+", "x"])
def test_a_block_that_ends_by_an_exception_writes_nothing(main: Branch, mode: str):
    name = "new" if mode == "x" else "a"
    (main / "a").write_text("old")
    for much in (3, 6_000_000):
        with pytest.raises(ZeroDivisionError), (main / name).open(mode) as file:
            file.write(b"x" * much if "b" in mode else "x" * much)
            1 / 0  # noqa: B018
        assert file.closed
        file.close()
        assert [path.read_text() for path in main.path().iterdir()] == ["old"]


def test_what_is_dropped_without_a_close_is_told_and_not_written(main: Branch):
    for mode in ("w", "wb"):
        with pytest.warns(ResourceWarning, match="a was not closed"):
            (main / "a").open(mode).write(b"half" if "b" in mode else "half")
            gc.collect()
    assert not (main / "a").exists()


def test_an_error_at_the_end_is_raised_by_close(main: Branch):
    file = (main / "d/a").open("w")
    file.write("a")
    (main / "d").write_text("in the way")
    with pytest.raises(UsageError, match="d is not a directory"):
        file.close()
    assert file.closed
    file.close()
    late = (main / "new").open("x")
    (main / "new").write_text("first")
    with pytest.raises(ExistsError):
        late.close()
    assert (main / "new").read_text() == "first"
    main._repository.close()
    with pytest.raises(RefusedError):
        (main / "z").open("w")


def test_no_room_for_temporary_files_is_told_and_nothing_is_written(main: Branch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    for mode, piece in (("wb", b"x" * (1 << 20)), ("w", "x" * (1 << 20))):
        file = (main / "a").open(mode)
        with pytest.raises(AnabranchError, match="cannot be kept"):
            for _ in range(10):
                file.write(piece)
        with pytest.raises(AnabranchError, match="cannot be kept"):
            file.close()
        assert file.closed
    with pytest.raises(AnabranchError), main.transaction() as made:
        made.write_bytes("a", b"x" * (10 << 20))
    assert not (main / "a").exists()


# --- libraries that take file objects ---


def test_csv_json_pickle_zip_and_gzip_read_and_write_them(main: Branch):
    rows = [{"a": "1", "b": "x,y"}, {"a": "2", "b": 'ü"\n'}]
    with (main / "t.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["a", "b"])
        table.writeheader()
        table.writerows(rows)
    with (main / "t.json").open("w") as file:
        json.dump(rows, file)
    with (main / "t.pickle").open("wb") as data:
        pickle.dump(rows, data)
    with (main / "t.zip").open("wb") as data, zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lines", LINES)
        with archive.open("more", "w") as member:
            member.write(DATA)
    with (main / "t.zip").open("r+b") as data, zipfile.ZipFile(data, "a") as archive:
        archive.writestr("appended", "x")
    with (main / "t.gz").open("wb") as data, gzip.open(data, "wt") as packed:
        packed.write(LINES)
    with (main / "wrapped").open("wb") as data, io.TextIOWrapper(data, encoding="utf-16") as wrapped:
        wrapped.write("ünïcödé")
    version = main.commit("files")
    for tree in (main, version):
        with (tree / "t.csv").open(newline="") as file:
            assert list(csv.DictReader(file)) == rows
        with (tree / "t.json").open() as file:
            assert json.load(file) == rows
        with (tree / "t.pickle").open("rb") as data:
            assert pickle.load(data) == rows
        with (tree / "t.zip").open("rb") as data, zipfile.ZipFile(data) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["lines", "more", "appended"]
            assert archive.read("more") == DATA
        with (tree / "t.gz").open("rb") as data, gzip.open(data, "rt") as packed:
            assert packed.read() == LINES
        assert (tree / "wrapped").read_text("utf-16") == "ünïcödé"


def test_who_writes_to_the_descriptor_is_heard(main: Branch):
    """As numpy's tofile does."""
    with (main / "a").open("wb") as file:
        file.write(b"head ")
        file.flush()
        os.write(file.fileno(), b"tail")
    assert (main / "a").read_bytes() == b"head tail"


def test_large_seeks_and_truncations_take_no_memory(main: Branch):
    with (main / "sparse").open("wb") as file:
        file.seek(200 << 20)
        file.write(b"end")
        file.truncate(300 << 20)
    assert (main / "sparse").stat().size == 300 << 20
    with (main / "sparse").open("rb") as file:
        file.seek(200 << 20)
        assert file.read(4) == b"end\0"


BIG = """
import random, resource, sys
from anabranch import Repository
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
piece, count = random.Random(1).randbytes(1 << 20), 120
with Repository(sys.argv[1]) as repository:
    main = repository.branch()
    (main / "warm").write_bytes(piece * 3)
    (main / "warm").read_bytes()
    before = peak()
    with (main / "big").open("wb") as file:
        for number in range(count):
            file.write(number.to_bytes(4, "big") + piece)
    with main.transaction() as made, made.open("again", "wb") as file:
        for number in range(count):
            file.write(number.to_bytes(4, "big") + piece)
    for path in (main / "big", main.commit("big") / "again"):
        with path.open("rb") as file:
            for number in range(count):
                assert file.read(4) == number.to_bytes(4, "big")
                assert file.read(1 << 20) == piece
            assert file.read() == b""
    print(peak() - before)
"""


def test_files_of_120_mb_are_written_and_read_in_little_memory(repo: Repo):
    """Kilobytes that the process has grown by: caches and buffers, not the file."""
    grown = subprocess.run([sys.executable, "-c", BIG, repo.path], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 100 * 1024, grown
