"""ana import without a mount: folders, files, and what of them cannot be read."""

import base64
import errno
import json
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch.errors import UsageError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.transfer import building, folder
from anabranch.transfer.sieve import Sieve
from anabranch.versions import manifests
from anabranch.versions.contents import NotLoaded
from anabranch.worktree.content import Overlays, Sources, StoredContent
from anabranch.worktree.ignore import Rules
from tests.harness import ANA, Completed, Repo, done, hinted, pin_times, refused, run_ana, shell, snapshot

ALL = Sieve(Rules(), lambda _: True)
"""Leaves nothing out."""

POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""For root: to be refused what the permissions refuse."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a bit of everything."""
    top = tmp_path / "source"
    (top / "d/e").mkdir(parents=True)
    (top / "empty directory").mkdir()
    (top / "d/e/large").write_bytes(os.urandom(3_000_000))
    (top / "d/small").write_text("small")
    (top / "empty").touch()
    os.link(top / "d/small", top / "again")
    os.link(top / "d/e/large", top / "d/large again")
    (top / "outside").write_text("has another name elsewhere")
    os.link(top / "outside", tmp_path / "elsewhere")
    (top / "link").symlink_to("d/small")
    (top / "broken").symlink_to(os.fsencode("nowhere") + b"\xff")
    (top / "link to a folder").symlink_to("d")
    os.mkfifo(top / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(top / "socket"))
    (top / os.fsdecode(b"\xff\xfe")).write_text("not UTF-8")
    (top / "new\nline").write_text("a control character")
    (top / "d/e").chmod(0o500)
    (top / "d/small").chmod(0o4640)
    if os.geteuid() == 0:
        os.chown(top / "d/small", 1234, 4_000_000_000)
        os.mknod(top / "device", 0o600 | 0o020000, os.makedev(1, 3))
    pin_times(top)
    os.utime(top / "empty", ns=(0, -1_500_000_000))
    return top


def held(repo: Repo, place: str, into: Path) -> dict[str, tuple[object, ...]]:
    """What the last commit holds at a path."""
    done(repo.ana("export", f"main:{place}", into))
    return snapshot(into)


def alone(rows: dict[str, tuple[object, ...]], name: str) -> dict[str, tuple[object, ...]]:
    """The rows, when a file's other names are not among them."""
    return {path: (*row[:4], 1, *row[5:]) if path == name else row for path, row in rows.items()}


def check(repo: Repo) -> None:
    """All that is committed is whole and canonical."""
    with Repository(repo.path) as repository:
        consistency.check(repository)


def powerless(repo: Repo, *arguments: str | Path) -> Completed:
    """Import as somebody whom permissions hold back."""
    command = [*POWERLESS, str(ANA), "import", "-R", str(repo.path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False)


def listed(repo: Repo, revision: str = "main:") -> set[str]:
    """The names in a directory of a version."""
    return {row["path"] for row in repo.json("ls", revision)}


def read(repository: Repository, content: StoredContent, offset: int, length: int) -> bytes:
    """A range of a stored content."""
    sources = Sources(repository.contents, Overlays(repository.layout.overlays))
    while True:
        try:
            return content.read(sources, offset, length)
        except NotLoaded as missing:
            repository.contents.load(missing.chunks)


# --- what becomes of a folder ---


def test_a_folder_comes_back_as_it_was(repo: Repo, source: Path, tmp_path: Path):
    said = done(repo.ana("import", source, "raw/2026", "--commit", "all of it"))
    assert "imported to main:raw/2026" in said
    assert "main@1" in said
    assert held(repo, "raw/2026", tmp_path / "out") == alone(snapshot(source), "outside")
    assert (tmp_path / "out/again").samefile(tmp_path / "out/d/small")
    assert (tmp_path / "out/d/large again").samefile(tmp_path / "out/d/e/large")
    check(repo)


def test_a_folder_may_be_all_of_a_branch(repo: Repo, source: Path, tmp_path: Path):
    done(repo.ana("import", source, ".", "--commit", "x"))
    assert held(repo, "", tmp_path / "out") == alone(snapshot(source), "outside")
    check(repo)


def test_a_file_comes_to_its_place(repo: Repo, source: Path, tmp_path: Path):
    done(repo.ana("import", source / "d/small", "raw/small.txt"))
    done(repo.ana("import", source / "d/e/large", "large"))
    done(repo.ana("import", source / "link", "link"))
    done(repo.ana("import", source / "fifo", "fifo", "--commit", "the FIFO"))
    assert listed(repo) == {"fifo"}
    done(repo.ana("commit", "-m", "the rest"))
    rows = held(repo, "", tmp_path / "out")
    before = snapshot(source)
    assert rows["raw/small.txt"] == alone(before, "d/small")["d/small"]
    assert rows["large"] == alone(before, "d/e/large")["d/e/large"]
    assert (rows["link"], rows["fifo"]) == (before["link"], before["fifo"])


def test_a_file_is_no_branch(repo: Repo, source: Path):
    for name in ("empty", "again", "link"):
        hinted(repo.ana("import", source / name, "."), 2, "no folder", name)
    assert repo.json("status")["clean"]


def test_a_link_with_a_slash_is_the_folder_that_it_leads_to(repo: Repo, source: Path):
    done(repo.ana("import", source / "link to a folder", "link"))
    done(repo.ana("import", f"{source}/link to a folder/", "folder"))
    kinds = {change["path"] for change in repo.json("status")["changes"]}
    assert {"link", "folder", "folder/small"} <= kinds
    assert "link/small" not in kinds


def test_what_the_source_does_not_have_goes_and_what_is_ignored_stays(repo: Repo, source: Path, beside: Path):
    (beside / ".anaignore").write_text("*.tmp\n")
    (beside / "data").mkdir()
    for name in ("stays", "goes"):
        (beside / "data" / name).write_text(name)
    done(repo.ana("import", beside, ".", "--commit", "first"))
    done(repo.ana("import", source / "empty", "data/mine.tmp"))
    (beside / "data/goes").unlink()
    (beside / "data/stays").write_text("changed")
    said = done(repo.ana("import", beside / "data", "data"))
    assert said == "1 file, 7 B, 0 B new, imported to main:data  1 changed, 1 name taken away\n"
    status = repo.json("status", "--ignored")
    assert [(change["change"], change["path"]) for change in status["changes"]] == [
        ("deleted", "data/goes"),
        ("modified", "data/stays"),
    ]
    assert [row["path"] for row in status["ignored"]] == ["data/mine.tmp"]


def test_kinds_take_each_others_place(repo: Repo, beside: Path, tmp_path: Path):
    (beside / "a").write_text("a file")
    (beside / "b").mkdir()
    (beside / "b/inner").write_text("inner")
    done(repo.ana("import", beside, "x", "--commit", "first"))
    (beside / "a").unlink()
    (beside / "a").mkdir()
    (beside / "a/inner").write_text("inner")
    (beside / "b/inner").unlink()
    (beside / "b").rmdir()
    (beside / "b").symlink_to("a")
    done(repo.ana("import", beside, "x", "--commit", "second"))
    assert held(repo, "x", tmp_path / "out") == snapshot(beside)
    hinted(repo.ana("import", beside / "a/inner", "x", "--commit", "a file in the place of all"), 2, "x/inner")


def test_holes_cost_nothing(repo: Repo, beside: Path):
    with (beside / "sparse").open("wb") as file:
        file.truncate(5 << 30)
        file.seek(3 << 30)
        file.write(b"in the middle")
    (beside / "only a hole").touch()
    os.truncate(beside / "only a hole", 5 << 30)
    before = sum(path.stat().st_size for path in (repo.path / "volumes").iterdir())
    said = repo.json("import", beside, "x", "--commit", "holes")
    assert said["bytes"] == 10 << 30
    assert said["commit"]["added_bytes"] < 1_000_000
    assert sum(path.stat().st_size for path in (repo.path / "volumes").iterdir()) - before < 2_000_000
    with Repository(repo.path) as repository:
        version = repository.version(repository.resolve("main").id)
        entry = version.at(b"x/sparse")
        assert entry.size == 5 << 30
        loaded = StoredContent(manifests.of(entry))
        assert read(repository, loaded, (3 << 30) - 1, 15) == b"\0in the middle\0"


def test_times_that_cannot_be_kept_are_as_near_as_can_be(repo: Repo, beside: Path):
    (beside / "late").touch()
    os.utime(beside / "late", (0, 10**10))
    if (beside / "late").stat().st_mtime_ns < 1 << 63:
        pytest.skip("this filesystem has no such times")
    done(repo.ana("import", beside, "x", "--commit", "x"))
    assert repo.json("ls", "main:x")[0]["mtime"] == "2262-04-11T23:47:16.854775807Z"


def test_deep_folders_go_in_and_come_out(repo: Repo, beside: Path, tmp_path: Path):
    deep = beside.joinpath(*["deep"] * 700)
    deep.mkdir(parents=True)
    (deep / "file").write_text("at the bottom")
    done(repo.ana("import", beside, "x", "--commit", "deep"))
    assert done(repo.ana("cat", f"main:x/{'deep/' * 700}file")) == "at the bottom"


def test_a_path_that_is_too_long_for_the_machine_is_named(repo: Repo, beside: Path):
    here = os.open(beside, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (beside / "file").write_text("beside it")
    ended = repo.ana("import", beside, "x", "--commit", "too deep")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "File name too long" in ended.stderr
    assert done(repo.ana("cat", "main:x/file")) == "beside it"
    subprocess.run(["rm", "-r", beside / ("d" * 250)], check=True)


# --- where it goes ---


def test_a_place_that_cannot_be_is_refused_before_anything_is_read(repo: Repo, source: Path, beside: Path):
    (beside / "file").write_text("x")
    done(repo.ana("import", beside, "there"))
    before = repo.json("status")
    hinted(repo.ana("import", source, "there/file/below/it"), 3, "there/file is no directory")
    refused(repo.ana("import", source, ".ana/data"), 2, "control files")
    refused(repo.ana("import", source, "n" * 256), 2, "no path that a directory can hold")
    hinted(repo.ana("import", source, "../x"), 2, "leads out of the branch")
    hinted(repo.ana("import", source, ""), 2, "empty")
    hinted(repo.ana("import", source, "x", "--commit", " "), 2, "message is empty")
    hinted(repo.ana("import", source, "x", "-b", "none"), 1, "none", "ana branch")
    assert repo.json("status") == before


def test_a_source_that_cannot_be_is_one_line(repo: Repo, source: Path, tmp_path: Path):
    refused(repo.ana("import", source / "none", "x"), 1, "does not exist")
    refused(repo.ana("import", source / "empty/x", "x"), 1, "does not exist")
    refused(repo.ana("import", "n" * 256, "x"), 3, "File name too long")
    refused(repo.ana("import", repo.path, "x"), 3, "is the repository itself")
    refused(repo.ana("import", tmp_path / "na\nme", "x"), 1, r"na\x0ame does not exist")
    assert repo.json("status")["clean"]


def test_a_name_that_control_files_have_is_left_out_at_the_top_only(repo: Repo, beside: Path):
    (beside / ".ana").mkdir()
    (beside / ".ana/commit").write_text("x")
    (beside / "file").write_text("x")
    ended = repo.ana("import", beside, ".", "--commit", "x")
    assert ended.returncode == 1
    assert "control files" in ended.stderr
    assert listed(repo) == {"file"}
    done(repo.ana("import", beside, "below", "--commit", "x"))
    assert listed(repo, "main:below") == {".ana", "file"}


def test_what_is_no_repository_or_not_ours_is_refused(repo: Repo, source: Path, tmp_path: Path):
    hinted(run_ana("import", source, "x", cwd=tmp_path), 2, "neither in a repository")
    hinted(Repo(tmp_path).ana("import", source, "x"), 2, "not a repository")
    if not POWERLESS:
        pytest.skip("only root can take its own powers away")
    os.chmod(repo.path, 0o500)
    os.chmod(repo.path / "meta.mdb", 0o400)
    refused(powerless(repo, source / "d", "x"), 3)
    os.chmod(repo.path, 0o700)
    os.chmod(repo.path / "meta.mdb", 0o600)
    assert repo.json("status")["clean"]


# --- what cannot be read ---


def test_what_cannot_be_read_is_named_and_what_was_there_stays(repo: Repo, beside: Path):
    (beside / "d").mkdir()
    for name in ("d/inner", "file", "other"):
        (beside / name).write_text(f"old {name}")
    done(repo.ana("import", beside, "x", "--commit", "first"))
    (beside / "new").mkdir()
    (beside / "large").write_bytes(bytes(2_000_000))
    for name in ("file", "other", "d/inner"):
        (beside / name).write_text(f"new {name}")
    closed = ["d", "file", "large", "new"]
    for name in closed:
        (beside / name).chmod(0)
    ended = powerless(repo, beside, "x", "--commit", "second")
    assert ended.returncode == 1
    assert sorted(ended.stderr.splitlines()) == [f"ana: {beside}/{name}: Permission denied" for name in closed]
    assert "0 names taken away; 4 paths could not be read" in ended.stdout
    assert {name: done(repo.ana("cat", f"main:x/{name}")) for name in ("d/inner", "file", "other")} == {
        "d/inner": "old d/inner",
        "file": "old file",
        "other": "new other",
    }
    assert listed(repo, "main:x") == {"d", "file", "other"}
    said = powerless(repo, beside, "x", "--json")
    assert said.returncode == 1
    assert sorted((row["path"], row["error"]) for row in json.loads(said.stdout)["failed"]) == [
        (name, "Permission denied") for name in closed
    ]
    check(repo)


def test_a_source_of_which_nothing_can_be_read_changes_nothing(repo: Repo, beside: Path):
    (beside / "file").write_text("old")
    done(repo.ana("import", beside, "x", "--commit", "first"))
    (beside / "file").write_text("new")
    (beside / "file").chmod(0)
    refused(powerless(repo, beside / "file", "x/file"), 3, f"{beside}/file cannot be read: Permission denied")
    (beside / "x.tar").touch(0)
    refused(powerless(repo, beside / "x.tar", "x"), 3, "x.tar cannot be read: Permission denied")
    beside.chmod(0)
    refused(powerless(repo, beside, "x"), 3, f"{beside} cannot be read: Permission denied")
    refused(powerless(repo, beside / "file", "x"), 3, "Permission denied")
    assert repo.json("status")["clean"]


def test_the_repository_is_no_part_of_what_it_holds(repo: Repo):
    (repo.path.parent / "data").mkdir()
    (repo.path.parent / "data/file").write_text("x")
    ended = repo.ana("import", repo.path.parent, "x", "--commit", "all around it")
    assert (ended.returncode, ended.stderr) == (1, f"ana: {repo.path}: is the repository itself\n")
    assert listed(repo, "main:x") >= {"data"}
    assert repo.path.name not in listed(repo, "main:x")


class Meddler:
    """Changes files between the moment in which they are found and that in which they are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changes: Callable[[Path], object]) -> None:
        self._open = folder._open
        self._changes = changes
        monkeypatch.setattr(folder, "_open", self)

    def __call__(self, place: bytes) -> int:
        path = Path(os.fsdecode(place))
        if change := self._changes.pop(path.name, None):
            change(path)
        return self._open(place)


def take(repo: Repo, source: Path) -> dict[bytes, str]:
    """Import into x by the library; returns what was left out."""
    dress = building.directory(0o755, 0, 0, 0)
    with Repository(repo.path, writable=True) as repository:
        taken = folder.take_folder(repository, source, b"x", dress, ALL, lambda _: None)
        kept = [b"x/" + path for path, _ in taken.failed]
        repository.restore(RefName("main"), taken.version, [b"x"], kept=kept)
        repository.settle_down()
        return dict(taken.failed)


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_files_that_change_while_they_are_read(
    repo: Repo, beside: Path, monkeypatch: pytest.MonkeyPatch, size: int, tmp_path: Path
):
    """What is stored was there; what was not there any more is named."""
    for name in ("grows", "shrinks", "empties", "vanishes", "steady", "linked", "folded"):
        (beside / name).write_bytes(name.encode() * size)
    assert take(repo, beside) == {}
    done(repo.ana("commit", "-m", "first"))

    def linked(path: Path) -> None:
        path.unlink()
        path.symlink_to("steady")

    def folded(path: Path) -> None:
        path.unlink()
        path.mkdir()

    Meddler(
        monkeypatch, grows=lambda path: path.write_bytes(b"grown" * size * 4),
        shrinks=lambda path: os.truncate(path, size // 2), empties=lambda path: os.truncate(path, 0),
        vanishes=lambda path: path.unlink(), linked=linked, folded=folded,
    )  # fmt: skip
    failed = take(repo, beside)
    assert failed == {
        b"vanishes": os.strerror(errno.ENOENT),
        b"linked": os.strerror(errno.ELOOP),
        b"folded": os.strerror(errno.EISDIR),
    }
    done(repo.ana("commit", "-m", "second"))
    held(repo, "x", tmp_path / "out")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert contents == {
        "grows": b"grown" * size * 4, "shrinks": (b"shrinks" * size)[: size // 2], "empties": b"",
        "steady": b"steady" * size, **{name: name.encode() * size for name in ("vanishes", "linked", "folded")},
    }  # fmt: skip
    check(repo)


def test_a_store_that_fails_ends_the_import(repo: Repo, beside: Path, monkeypatch: pytest.MonkeyPatch):
    """It is no fault of the file that was read, and the next one would fail, too."""
    for name, size in (("small", 1000), ("large", 3_000_000)):
        (beside / name).write_bytes(os.urandom(size))
    with Repository(repo.path, writable=True) as repository:

        def full(raw: object) -> tuple[bytes, int]:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(repository.chunks, "put", full)
        for name in ("small", "large"):
            with pytest.raises(OSError, match="full"):
                folder.take_folder(
                    repository,
                    beside / name,
                    b"x",
                    building.directory(0o755, 0, 0, 0),
                    ALL,
                    lambda _: None,
                )


def test_a_place_above_the_top_is_no_path():
    for path in (b"a/../b", b"..", b"a//b", b"a\0b", b".ana", b".ana/x", b"n" * 256):
        with pytest.raises(UsageError):
            building.check_path(path)
    building.check_path(b"a/.ana/" + b"n" * 255)


# --- what it says ---


def test_only_what_was_imported_is_committed_and_again_is_no_failure(repo: Repo, source: Path):
    done(repo.ana("import", source / "d", "elsewhere"))
    (source / "d/large again").unlink()
    first = repo.json("import", source / "d", "x", "--commit", "first")
    assert first["commit"]["version"] == "main@1"
    assert listed(repo) == {"x"}
    assert {change["path"].partition("/")[0] for change in repo.json("status")["changes"]} == {"elsewhere"}
    again = repo.ana("import", source / "d", "x", "--commit", "second")
    assert "0 changed, 0 names taken away\nNothing to commit" in done(again)
    assert repo.json("import", source / "d", "x", "--commit", "third")["commit"] is None
    assert repo.messages() == ["first", ""]


def test_hard_links_that_did_not_change_are_nothing_to_commit(repo: Repo, source: Path):
    done(repo.ana("import", source, "x", "--commit", "first"))
    assert "Nothing to commit" in done(repo.ana("import", source, "x", "--commit", "second"))
    assert repo.json("status")["clean"]


def test_json_has_names_that_are_not_utf_8(repo: Repo, tmp_path: Path):
    top = tmp_path / os.fsdecode(b"s\xff")
    (top / os.fsdecode(b"d\xfe")).mkdir(parents=True)
    (top / os.fsdecode(b"d\xfe/closed")).touch(0)
    (top / "\x1b[31m").touch(0)
    ended = powerless(repo, top, os.fsdecode(b"x\xfd"), "--json")
    said = json.loads(ended.stdout)
    assert base64.b64decode(said["to"]["path_b64"]) == b"x\xfd"
    names = {base64.b64decode(row["path_b64"]) if "path_b64" in row else row["path"] for row in said["failed"]}
    assert names == {b"d\xfe/closed", "\x1b[31m"}
    assert "s\\xff/d\\xfe/closed: Permission denied" in ended.stderr
    assert "\x1b" not in ended.stderr + ended.stdout
    assert ended.returncode == 1


def test_progress_is_for_terminals(repo: Repo, tmp_path: Path):
    top = tmp_path / os.fsdecode(b"s\xff\x1b")
    top.mkdir()
    (top / "file").write_bytes(bytes(3_000_000))
    assert repo.ana("import", top, "x").stderr == ""
    master, slave = pty.openpty()
    command: list[str | Path] = [ANA, "import", "-R", repo.path, top, "y"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL, env=environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other side is closed
                break
    os.close(master)
    assert process.returncode == 0, shown
    assert rb"importing " in shown
    assert b"3.0/3.0 MB" in shown or b"MB" in shown
    assert rb"s\xff\x1b" in shown


def test_output_that_nobody_reads_is_no_error(repo: Repo, source: Path):
    command = f"{ANA} import -R {repo.path} {source}/d x --commit 'the first'"
    ended = shell(f"set -o pipefail; {command} | true", Path("/"), "bash")
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = shell(f"{command} >&-", Path("/"), "bash")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert repo.messages()[0] == "the first"


def test_sigterm_leaves_everything_as_it_was(repo: Repo, beside: Path):
    os.mkfifo(beside / "never.tar")
    with subprocess.Popen([ANA, "import", "-R", repo.path, "-", "x"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
    assert process.returncode != 0
    assert repo.json("status")["clean"]
