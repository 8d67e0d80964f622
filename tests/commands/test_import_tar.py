"""ana import of tar streams: what GNU tar and Python make, what is cut off, and what makes no sense."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch.repo import Repository
from anabranch.testing import consistency
from tests.harness import ANA, Completed, Repo, done, hinted, pin_times, refused, run_ana, snapshot

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes, "tar.gz": gzip.compress, "tgz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress,
}  # fmt: skip

Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with what tar streams have their own ways for."""
    top = tmp_path / "source"
    (top / "d" / ("long" * 40)).mkdir(parents=True)
    (top / "d" / ("long" * 40) / ("name" * 40)).write_text("a long name")
    (top / "d/link").symlink_to("target" * 40)
    (top / "large").write_bytes(os.urandom(3_000_000))
    (top / "small").write_text("small")
    os.link(top / "small", top / "d/again")
    os.link(top / "large", top / "d/large again")
    (top / "empty").touch(0o600)
    with (top / "sparse").open("wb") as file:
        file.seek(30 << 20)
        file.write(b"x" * 5000)
        file.truncate(40 << 20)
    (top / os.fsdecode(b"\xff\xfe")).write_text("not UTF-8")
    os.mkfifo(top / "fifo", 0o600)
    if os.geteuid() == 0:
        os.chown(top / "small", 1234, 3_000_000)
        os.mknod(top / "device", 0o600 | 0o060000, os.makedev(259, 70_000))
    pin_times(top)
    return top


def held(repo: Repo, place: str, into: Path) -> dict[str, tuple[object, ...]]:
    """What the last commit holds at a path, without the bytes of the file that is nearly all holes."""
    done(repo.ana("export", f"main:{place}", into))
    with Repository(repo.path) as repository:
        consistency.check(repository)
    return rows(into)


def rows(top: Path) -> dict[str, tuple[object, ...]]:
    """As `snapshot`; of the sparse file only where its data are."""
    sparse = top / "sparse"
    size = sparse.stat().st_size
    with sparse.open("rb") as file:
        assert os.pread(file.fileno(), 5001, (30 << 20) - 1) == b"\0" + b"x" * 5000
    times = sparse.stat().st_mtime_ns, top.stat().st_mtime_ns
    sparse.unlink()
    found = snapshot(top)
    found["sparse"] = size, times[0]
    found["."] = (*found["."][:3], times[1], *found["."][4:])
    return found


def piped(repo: Repo, stream: bytes, place: str = "x", *more: str) -> Completed:
    """Import what is on standard input."""
    command: list[str | Path] = [ANA, "import", "-R", repo.path, "-", place, *more]
    ended = subprocess.run(command, input=stream, capture_output=True, check=False)
    return Completed(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode("utf-8", "replace"))


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> Member:
    """A member of a stream that no tar would make."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def stream_of(*members: Member, layout: int = tarfile.PAX_FORMAT) -> bytes:
    """A stream of members."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=layout) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def contents(repo: Repo, place: str = "x") -> dict[str, str]:
    """What files the last commit holds at a path, and what is in them."""
    found, todo = {}, [place]
    for directory in todo:
        for row in repo.json("ls", f"main:{directory}"):
            path = f"{directory}/{row['path']}"
            if row["kind"] == "directory":
                todo.append(path)
            elif row["kind"] == "file":
                found[path.removeprefix(f"{place}/")] = done(repo.ana("cat", f"main:{path}"))
    return found


# --- what other programs make ---


@pytest.mark.parametrize("layout", ["pax", "gnu"])
def test_what_gnu_tar_makes_of_a_folder_comes_back(repo: Repo, source: Path, tmp_path: Path, layout: str):
    """The GNU format keeps no parts of seconds."""
    archive = tmp_path / "x.tar"
    subprocess.run(["tar", "--sparse", "-H", layout, "-C", source, "-cf", archive, "."], check=True)
    done(repo.ana("import", archive, "x", "--commit", "x"))
    found, expected = held(repo, "x", tmp_path / "out"), rows(source)
    if layout == "gnu":
        found = {path: (*row[:3], *row[4:]) for path, row in found.items() if path != "sparse"}
        expected = {path: (*row[:3], *row[4:]) for path, row in expected.items() if path != "sparse"}
    assert found == expected
    assert (tmp_path / "out/d/again").samefile(tmp_path / "out/small")
    assert (tmp_path / "out/d/large again").samefile(tmp_path / "out/large")


def test_what_ana_exports_comes_back(repo: Repo, source: Path, tmp_path: Path):
    done(repo.ana("import", source, "x", "--commit", "x"))
    archive = tmp_path / "x.tar"
    done(repo.ana("export", "main:x", archive))
    done(repo.ana("import", archive, "y", "--commit", "y"))
    assert held(repo, "y", tmp_path / "out") == rows(source)


def test_an_empty_folder_comes_back(repo: Repo, beside: Path, tmp_path: Path):
    done(repo.ana("import", beside, "x", "--commit", "x"))
    done(repo.ana("export", "main:x", tmp_path / "x.tar"))
    done(repo.ana("import", tmp_path / "x.tar", "y", "--commit", "y"))
    assert repo.json("ls", "main:y") == []


@pytest.mark.parametrize("ending", COMPRESSED)
def test_streams_are_read_however_they_are_compressed(repo: Repo, tmp_path: Path, ending: str):
    stream = COMPRESSED[ending](stream_of(member("./d/a", b"a" * 5000), member("b", b"b")))
    (tmp_path / f"x.{ending}").write_bytes(stream)
    done(repo.ana("import", tmp_path / f"x.{ending}", "x", "--commit", "a file"))
    done(piped(repo, stream, "y", "--commit", "a pipe"))
    assert contents(repo, "x") == contents(repo, "y") == {"d/a": "a" * 5000, "b": "b"}


def test_a_tar_file_stays_one_where_the_place_is_called_so(repo: Repo, tmp_path: Path):
    stream = stream_of(member("a", b"a"))
    (tmp_path / "x.tar").write_bytes(stream)
    (tmp_path / "folder.tar").mkdir()
    done(repo.ana("import", tmp_path / "x.tar", "kept.tar", "--commit", "kept"))
    done(repo.ana("import", tmp_path / "folder.tar", "x", "--commit", "a folder"))
    assert {row["path"]: row["kind"] for row in repo.json("ls", "main:")} == {"kept.tar": "file", "x": "directory"}


@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_what_python_makes_comes_back(repo: Repo, layout: int):
    stream = stream_of(
        member("/absolute/name", b"1"), member("././d//e/./f", b"2"), member("d", kind=tarfile.DIRTYPE, mode=0o700),
        member("d/link", kind=tarfile.SYMTYPE, linkname="/etc"),
        member("d/hard", kind=tarfile.LNKTYPE, linkname="./d/e/f"),
        member("d/hard too", kind=tarfile.LNKTYPE, linkname="d/hard"), layout=layout,
    )  # fmt: skip
    done(piped(repo, stream, "x", "--commit", "x"))
    assert contents(repo) == {"absolute/name": "1", "d/e/f": "2", "d/hard": "2", "d/hard too": "2"}
    assert [row["mode"] for row in repo.json("ls", "main:x") if row["path"] == "d"] == ["0700"]


def test_times_are_kept_to_the_nanosecond(repo: Repo):
    stream = stream_of(
        member("a", pax_headers={"mtime": "1600000000.123456789"}), member("b", pax_headers={"mtime": "-0.5"}),
        member("c", mtime=-3), member("d", pax_headers={"mtime": "99999999999"}), layout=tarfile.PAX_FORMAT,
    )  # fmt: skip
    done(piped(repo, stream, "x", "--commit", "x"))
    assert [row["mtime"] for row in repo.json("ls", "main:x")] == [
        "2020-09-13T12:26:40.123456789Z", "1969-12-31T23:59:59.500000000Z", "1969-12-31T23:59:57.000000000Z",
        "2262-04-11T23:47:16.854775807Z",
    ]  # fmt: skip


def test_what_comes_later_takes_the_place_of_what_came_before(repo: Repo):
    """As `tar -r` leaves it, and as tar would unpack it."""
    stream = stream_of(
        member("a", b"old"), member("a", b"new"), member("f", b"a file"), member("f", kind=tarfile.DIRTYPE),
        member("f/below", b"below"), member("t/x", b"x"), member("t", b"a file now"), member("h", b"h"),
        member("i", kind=tarfile.LNKTYPE, linkname="h"), member("h", b"alone"), member("self", b"self"),
        member("self", kind=tarfile.LNKTYPE, linkname="self"), member("l", kind=tarfile.SYMTYPE, linkname="f"),
        member("l", b"a file now"),
    )  # fmt: skip
    done(piped(repo, stream, "x", "--commit", "x"))
    assert contents(repo) == {
        "a": "new", "f/below": "below", "t": "a file now", "h": "alone", "i": "h", "self": "self", "l": "a file now",
    }  # fmt: skip
    with Repository(repo.path) as repository:
        consistency.check(repository)


# --- what makes no sense ---


def test_members_that_cannot_be_are_named_and_the_rest_is_there(repo: Repo):
    stream = stream_of(
        member("good", b"good"), member("../out", b"x"), member("d/../../out", b"x"), member("a\0b", b"x"),
        member("n" * 256, b"x"), member("link", kind=tarfile.LNKTYPE, linkname="missing"),
        member("up", kind=tarfile.LNKTYPE, linkname="../good"), member("good/below", b"x"), member(".", b"no name"),
        member("nowhere", kind=tarfile.SYMTYPE, linkname=""), member("odd", kind=b"Z"),
        member("owner", b"x", uid=1 << 40),
        member("timeless", b"x", pax_headers={"mtime": "nan"}), member("last", b"last"),
    )  # fmt: skip
    ended = piped(repo, stream, "x", "--commit", "x")
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr
    said = dict(line.removeprefix("ana: ").split(": ", 1) for line in ended.stderr.splitlines())
    assert set(said) >= {
        "-/../out", "-/d/../../out", "-/link", "-/up", "-/good/below", "-", "-/nowhere", "-/owner", "-/timeless",
    }, said  # fmt: skip
    assert contents(repo)["good"] == "good"
    assert contents(repo)["last"] == "last"
    with Repository(repo.path) as repository:
        consistency.check(repository)


def test_a_device_that_cannot_be_is_named(repo: Repo):
    stream = stream_of(
        member("device", kind=tarfile.CHRTYPE, devmajor=1 << 40), member("a", b"a"), layout=tarfile.GNU_FORMAT
    )
    ended = piped(repo, stream, "x", "--commit", "x")
    assert (ended.returncode, ended.stderr) == (1, "ana: -/device: has no possible device number\n")
    assert contents(repo) == {"a": "a"}


def test_what_could_not_be_taken_stays_as_it_was(repo: Repo, beside: Path):
    (beside / "d").mkdir()
    (beside / "d/device").write_text("in its place before")
    (beside / "d/other").write_text("goes, or stays")
    done(repo.ana("import", beside, "x", "--commit", "first"))
    ended = piped(repo, stream_of(member("d/device", uid=1 << 40), member("a", b"a")), "x", "--commit", "second")
    assert ended.returncode == 1
    assert contents(repo)["d/device"] == "in its place before"


def test_a_stream_that_is_not_whole_changes_nothing(repo: Repo, tmp_path: Path):
    """Wherever it is cut off: what it does not have would be taken away."""
    whole = stream_of(member("a", b"a" * 3000), member("b", b"b" * 3000), member("n" * 200, b"c"))
    done(piped(repo, whole, "x", "--commit", "first"))
    end = whole.rstrip(b"\0").__len__() // 512 * 512 + 512
    for size in (0, 1, 511, 512, 1000, 512 + 3072, 512 + 3072 + 100, 2 * (512 + 3072), end):
        hinted(piped(repo, whole[:size], "x"), 2, "no whole tar stream", "gzip, bzip2 or xz")
    for ending in ("tar.gz", "tar.bz2", "tar.xz"):
        stream = COMPRESSED[ending](whole)
        hinted(piped(repo, stream[:-10], "x"), 2, "no whole tar stream")
        hinted(piped(repo, stream[: len(stream) // 2], "x"), 2, "no whole tar stream")
    assert repo.json("status")["clean"]


def test_damage_is_found_by_the_checksums_of_the_compression(repo: Repo):
    """tarfile would not look: content has no checksum in a tar stream."""
    whole = stream_of(member("a", os.urandom(100_000)))
    for ending in ("tar.gz", "tar.bz2", "tar.xz"):
        stream = bytearray(COMPRESSED[ending](whole))
        stream[50_000] ^= 1
        hinted(piped(repo, bytes(stream), "x"), 2, "no whole tar stream")
    assert repo.json("status")["clean"]


def test_what_is_no_tar_stream_is_refused(repo: Repo, tmp_path: Path):
    for stream in (b"text\n" * 1000, os.urandom(5000), gzip.compress(b"text"), b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"):
        hinted(piped(repo, stream, "x"), 2, "no whole tar stream")
    refused(piped(repo, stream_of(), "x"), 2, "nothing in the tar stream")
    (tmp_path / "x.tar").write_text("text")
    hinted(repo.ana("import", tmp_path / "x.tar", "x"), 2, "no whole tar stream")
    assert repo.json("status")["clean"]


def test_who_writes_the_stream_may_write_all_of_it(repo: Repo, tmp_path: Path):
    """What stands after the end is passed over, and nobody gets SIGPIPE."""
    (tmp_path / "stream").write_bytes(stream_of(member("a", b"a")) + b"garbage" * 500_000)
    command = f"set -o pipefail; cat {tmp_path}/stream | {ANA} import -R {repo.path} - x --commit x"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert contents(repo) == {"a": "a"}


def test_standard_input_must_be_there(repo: Repo, tmp_path: Path):
    ended = subprocess.run(
        ["bash", "-c", f"{ANA} import -R {repo.path} - x <&-"], capture_output=True, text=True, check=False
    )
    hinted(Completed(ended.args, ended.returncode, ended.stdout, ended.stderr), 2, "no whole tar stream")
    refused(run_ana("import", "-R", repo.path, "-", "x", cwd=tmp_path), 2)
    assert repo.json("status")["clean"]
