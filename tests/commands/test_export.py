"""ana export: a version as an ordinary directory, or as a tar stream."""

import io
import os
import random
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.harness import ANA, PATIENCE, Mount, done, hinted, pin_times, refused, run_ana, snapshot, wait_for

pytestmark = pytest.mark.mounted


@pytest.fixture
def filled(mount: Mount) -> Mount:
    """A commit of a bit of everything, with times of its own."""
    top = mount.main
    (top / "d/e").mkdir(parents=True)
    (top / "d/e/large").write_bytes(random.Random(1).randbytes(3_000_000))
    (top / "d/small").write_text("small")
    (top / "empty").touch()
    with (top / "sparse").open("wb") as file:
        file.seek(50_000_000)
        file.write(b"end")
    os.link(top / "d/small", top / "again")
    (top / "link").symlink_to("d/small")
    (top / "broken").symlink_to(os.fsencode("nowhere") + b"\xff")
    os.mkfifo(top / "fifo", 0o600)
    (top / os.fsdecode(b"\xff\xfe")).write_text("not UTF-8")
    (top / "d/e").chmod(0o500)
    (top / "d/small").chmod(0o640)
    pin_times(top)
    os.utime(top / "empty", ns=(0, -1_500_000_000))
    mount.commit()
    return mount


def test_a_directory_is_as_the_version(filled: Mount, tmp_path: Path):
    """Without a mount, too; and its holes are holes."""
    expected = snapshot(filled.root / "main@1")
    filled.umount()
    said = done(filled.ana("export", "main@1", tmp_path / "out"))
    assert said == f"9 files, 53.0 MB, written to {tmp_path}/out\n"
    assert snapshot(tmp_path / "out") == expected
    assert (tmp_path / "out/sparse").stat().st_blocks * 512 < 1_000_000
    assert (tmp_path / "out/again").samefile(tmp_path / "out/d/small")
    (tmp_path / "there").mkdir()
    done(filled.ana("export", "main:d", tmp_path / "there"))
    assert sorted(os.listdir(tmp_path / "there")) == ["e", "small"]
    done(filled.ana("export", "main:d/small", tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "small"


def test_a_tar_stream_unpacks_to_the_same(filled: Mount, tmp_path: Path):
    expected = snapshot(filled.root / "main@1")
    done(filled.ana("export", "main@1", tmp_path / "out.tar"))
    stream = subprocess.run([ANA, "export", "-R", filled.path, "main@1", "-"], capture_output=True, check=True).stdout
    assert stream == (tmp_path / "out.tar").read_bytes()
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "-p", "--numeric-owner", "-C", tmp_path / "out"], input=stream, check=True)
    assert snapshot(tmp_path / "out") == expected
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert {name.partition("/")[0] for name in tar.getnames()} >= {"d", "link", "fifo"}


def test_nothing_that_is_there_is_overwritten(filled: Mount, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    (tmp_path / "out.tar").touch()
    for place in ("out", "out/mine", "out.tar"):
        hinted(filled.ana("export", "main", tmp_path / place), 3, "exists already")
    hinted(filled.ana("export", "main", tmp_path / "no/out"), 1, "mkdir -p")
    refused(filled.ana("export", "main:none", tmp_path / "new"), 1, "none")
    hinted(filled.ana("export", "main:empty", "-"), 2, "ana cat")
    assert sorted(os.listdir(tmp_path / "out")) == ["mine"]
    assert not (tmp_path / "new").exists()


def test_an_empty_directory_is_filled_from_inside(filled: Mount, tmp_path: Path):
    """It may be a mount point, or the only place that may be written to, or where the command is called."""
    expected = snapshot(filled.root / "main@1")
    place = tmp_path / "there"
    place.mkdir()
    done(run_ana("export", "-R", filled.path, "main@1", ".", cwd=place))
    assert snapshot(place) == expected
    (tmp_path / "empty").mkdir()
    hinted(filled.ana("export", "main:d/small", tmp_path / "empty"), 3, "exists already")


def test_an_owner_that_cannot_be_set_costs_no_content(filled: Mount, tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root sets owners")
    os.chown(filled.main / "d/small", 1234, 1234)
    filled.commit()
    command = ["setpriv", "--bounding-set", "-chown", "--inh-caps", "-chown", str(ANA), "export", "-R"]
    command += [str(filled.path), "main:d", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert ended.stderr == "ana: small: its owner: Operation not permitted\n"
    assert (tmp_path / "out/small").read_text() == "small"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_it_finds_nothing_of_it(filled: Mount, tmp_path: Path, number: int):
    with (filled.main / "huge").open("wb") as file:
        for seed in range(40):
            file.write(random.Random(seed).randbytes(10 << 20))
    filled.commit()
    place = tmp_path / "there"
    place.mkdir()
    command = subprocess.Popen([ANA, "export", "-R", filled.path, "main", place / "out"], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any(place.glob(".out*/huge")), "it to write")
        command.send_signal(number)
        command.communicate(timeout=PATIENCE)
    finally:
        command.kill()
        command.communicate()
    assert command.returncode == 130
    assert os.listdir(place) == []


def test_what_cannot_be_made_is_named_and_the_rest_is_there(filled: Mount, tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("only root can make a device node")
    os.mknod(filled.main / "device", 0o600 | 0o020000, os.makedev(1, 3))
    filled.commit()
    out = tmp_path / "out"
    without = ["setpriv", "--bounding-set", "-mknod", "--inh-caps", "-mknod"]
    command = [*without, str(ANA), "export", "-R", str(filled.path), "main", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert ended.stderr == "ana: device: Operation not permitted\n"
    assert "1 path could not be written" in ended.stdout
    assert (out / "d/small").read_text() == "small"


def test_a_damaged_file_is_named_and_not_there(filled: Mount, tmp_path: Path):
    filled.sound = False
    filled.umount()
    volume = max((filled.path / "volumes").iterdir(), key=lambda path: path.stat().st_size)
    raw = bytearray(volume.read_bytes())
    at = raw.find(random.Random(1).randbytes(3_000_000)[100_000:100_016])
    assert at > 0, "incompressible chunks are stored as they are"
    raw[at] ^= 1
    volume.write_bytes(raw)
    ended = run_ana("export", "-R", filled.path, "main", tmp_path / "out", cwd=tmp_path)
    assert ended.returncode == 4
    assert ended.stderr.startswith("ana: d/e/large: ")
    assert not (tmp_path / "out/d/e/large").exists()
    assert (tmp_path / "out/d/small").read_text() == "small"
