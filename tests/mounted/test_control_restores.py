"""Putting back and giving up by `.ana/restore` and `.ana/discard`, from every kind of program. P48, P49, P61, P62."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.harness import Mount, done, errno_of, pin_times, run_ana, shell, snapshot

pytestmark = pytest.mark.mounted

SHELLS = [path for path in map(shutil.which, ("bash", "dash", "sh")) if path is not None]
RESTORE, DISCARD, ERROR = ".ana/restore", ".ana/discard", ".ana/error"
LARGE = bytes(range(256)) * 1_000


@pytest.fixture
def filled(mount: Mount) -> Mount:
    """Two versions: in the first `raw/x` says one, in the second two."""
    top = mount.main
    (top / "raw/deep").mkdir(parents=True)
    (top / "raw/x").write_text("one")
    (top / "raw/y").write_text("y")
    (top / "raw/deep/large").write_bytes(LARGE)
    mount.commit("first")
    (top / "raw/x").write_text("two")
    (top / "b: a path").write_text("with a colon")
    pin_times(top)
    mount.commit("second")
    return mount


def spoil(top: Path) -> None:
    (top / "raw/x").write_text("spoiled")
    (top / "raw/deep/large").unlink()
    (top / "new").write_text("new")


@pytest.mark.parametrize("program", SHELLS)
def test_shells_restore_p61(filled: Mount, program: str):
    """By echo, printf, cat, a here-document, tee, a descriptor, a loop in a directory below; one line or several."""
    top = filled.main
    before = snapshot(top)
    (filled.root / "exp").mkdir()
    (filled.root / "exp/list").write_text("raw/x\nraw/deep\n")
    ways = [
        "echo raw/x > .ana/restore; echo raw/deep/large > .ana/restore", "printf 'raw/x\\nraw/deep' > .ana/restore",
        "printf raw/ > .ana/restore", "echo . > .ana/restore", "echo main: > .ana/restore",
        "echo main@2:. > .ana/restore", "echo ./raw/deep/../../raw >> .ana/restore",
        "cat ../exp/list > .ana/restore", "cp ../exp/list .ana/restore",
        "tee .ana/restore < ../exp/list > /dev/null", "cat > .ana/restore <<END\nraw/x\nraw/deep\nEND",
        "exec 3> .ana/restore; echo raw/x >&3; /bin/echo raw/deep >&3; exec 3>&-",
        "cd raw/deep && for name in x deep; do echo raw/$name; done > ../../.ana/restore",
    ]  # fmt: skip
    for command in ways:
        spoil(top)
        ended = shell(command, top, program)
        assert (ended.returncode, ended.stderr) == (0, ""), command
        assert (top / ERROR).read_text() == "", command
        assert (top / "new").exists() == ("raw" in command or "list" in command), command
        (top / "new").unlink(missing_ok=True)
        assert (top / "raw/x").read_text() == "two", command
        assert (top / "raw/deep/large").read_bytes() == LARGE, command
        assert filled.json("status")["clean"], command
        done(shell("echo . > .ana/restore", top, program))
        assert snapshot(top) == before, command


@pytest.mark.parametrize("program", SHELLS)
def test_shells_discard_p62(filled: Mount, program: str):
    top = filled.main
    before = snapshot(top)
    for command in ("echo . > .ana/discard", "printf 'raw\\nnew' > .ana/discard; echo . > .ana/restore"):
        spoil(top)
        done(shell(command, top, program))
        assert snapshot(top) == before
    spoil(top)
    done(shell("echo new > .ana/discard", top, program))
    assert (top / "raw/x").read_text() == "spoiled"
    assert not (top / "new").exists()
    assert (top / DISCARD).read_text().endswith("  0 files put back, 1 name taken away\n")
    done(shell("echo raw/x > .ana/discard", top, program))
    (top / "raw/x").write_text("spoiled")
    assert done(run_ana("discard", "raw/x", cwd=top)) == (top / DISCARD).read_text()


@pytest.mark.parametrize("program", SHELLS)
def test_shells_see_a_failure_and_nothing_is_done_p61_p62(filled: Mount, program: str):
    """What is wrong is an error of the write, and so of the command; its reason is in `.ana/error`."""
    top = filled.main
    spoil(top)
    before = {name: row[-1] for name, row in snapshot(top).items()}
    wrong = {
        "none": "main@2 has no none", "new": "has no new", "main@9:raw/x": "no version 9", "nobody:raw/x": "nobody",
        "main@1:none": "main@1 has no none", "../exp": "leads out", "main:../..": "leads out", "/etc": "leads out",
        "": "empty", "raw/x\\n\\nraw/y": "empty", "raw/x\\nnone": "has no none", "@0000:raw": "0000",
    }  # fmt: skip
    for line, reason in wrong.items():
        ended = shell(f"printf '{line}\\n' > .ana/restore", top, program)
        if line.startswith("raw/x"):  # bash writes line by line, so the first one is done
            (top / "raw/x").write_text("spoiled")
        assert (ended.returncode, ended.stdout) == (1, ""), line
        assert reason in (top / ERROR).read_text(), line
    for line, reason in {"none": "none", "": "empty", "main@1:raw": "main@1:raw", "..": "leads out"}.items():
        assert shell(f"echo '{line}' > .ana/discard && echo never", top, program).stdout == "", line
        assert reason in (top / ERROR).read_text(), line
    assert {name: row[-1] for name, row in snapshot(top).items()} == before
    assert "No such file" in shell("/bin/echo none > .ana/restore", top, program).stderr
    assert shell("{ echo none; echo raw/x; } > .ana/restore", top, program).returncode == 1
    assert (top / "raw/x").read_text() == "spoiled"


def test_errors_have_their_errno_p61(filled: Mount):
    restore, discard = filled.main / RESTORE, filled.main / DISCARD
    shutil.rmtree(filled.main / "raw/deep")
    (filled.main / "raw/deep").write_text("a file in the way")
    for line, code in (
        ("none", errno.ENOENT), ("main@7:raw", errno.ENOENT), ("", errno.EINVAL), ("\n", errno.EINVAL),
        ("..", errno.EINVAL), ("a\0b", errno.EINVAL), ("raw/deep/large", errno.EBUSY),
        ("x" * 5_000, errno.EINVAL), ("x\n" * 40_000, errno.EFBIG),
    ):  # fmt: skip
        if line:
            assert errno_of(restore.write_bytes, line.encode()) == code, line[:20]
    assert errno_of(discard.write_text, "none") == errno.ENOENT
    assert (filled.main / "raw/deep").read_text() == "a file in the way"


def test_python_restores_any_version_p61(filled: Mount):
    top = filled.main
    (top / RESTORE).write_text("main@1:raw/x")
    assert (top / "raw/x").read_text() == "one"
    (top / "raw/x").write_text("spoiled")
    assert done(run_ana("restore", "main@1", "raw/x", cwd=top)) == (top / RESTORE).read_text()
    done(filled.ana("tag", "v1", "main@1"))
    identity = filled.json("log")[1]["id"]
    for line in ("v1:raw", f"@{identity[:8]}:raw/x", f"@{identity}:", "main@1:.", "v1:raw/../raw/x"):
        (top / "raw/x").write_text("spoiled")
        (top / RESTORE).write_text(line)
        assert (top / "raw/x").read_text() == "one", line
    with (top / RESTORE).open("w") as file:
        file.write("main:raw/x\nv1:raw/y\nmain@2:b: a path\n")
    assert [line.split()[3] for line in (top / RESTORE).read_text().splitlines()] == ["main@2", "v1"]
    assert ((top / "raw/x").read_text(), (top / "b: a path").read_text()) == ("two", "with a colon")
    with pytest.raises(FileNotFoundError), (top / RESTORE).open("wb", buffering=0) as raw:
        raw.write(b"none\n")
    assert (top / RESTORE).read_text().count("\n") == 2


def test_a_path_with_a_colon_is_a_path_where_no_such_revision_is_p61(filled: Mount):
    top = filled.main
    names = ("main", "nobody:x", "a b:c", "main@99:x")
    for name in names:
        (top / name).mkdir() if name == "main" else (top / name).write_text("kept")
    (top / "main:raw").write_text("a path")
    filled.commit()
    for name in (*names[1:], "main:raw"):
        (top / name).write_text("spoiled")
    for name in names[1:]:
        (top / RESTORE).write_text(name)
        assert (top / name).read_text() == "kept"
    (top / RESTORE).write_text("main:raw")
    assert (top / "main:raw").read_text() == "spoiled"
    (top / RESTORE).write_text("./main:raw")
    assert (top / "main:raw").read_text() == "a path"
    (top / "main:raw").write_text("spoiled")
    (top / DISCARD).write_text("main:raw")
    assert (top / "main:raw").read_text() == "a path"


def test_who_has_the_file_open_and_dirty_goes_on_with_it_p49(filled: Mount):
    path = filled.main / "raw/deep/large"
    with path.open("r+b") as file:
        file.write(b"written before")
        file.flush()
        done(shell("echo raw > .ana/restore", filled.main))
        assert path.read_bytes() == LARGE
        assert os.pread(file.fileno(), 14, 0) == b"written before"
        os.pwrite(file.fileno(), b"written after", 0)
        os.fsync(file.fileno())
        assert path.read_bytes() == LARGE
    assert filled.json("status")["clean"]


def test_it_survives_a_kill_once_the_write_has_returned_p48(filled: Mount):
    before = snapshot(filled.main)
    spoil(filled.main)
    (filled.main / DISCARD).write_text(".")
    filled.crash()
    assert snapshot(filled.main) == before


def test_what_is_in_a_branch_stays_in_it_p61(filled: Mount):
    """A branch takes from a version of another one; the other is not touched, and what failed there is said there."""
    (filled.root / "exp").mkdir()
    exp = filled.root / "exp"
    (exp / "raw/x").write_text("exp")
    assert errno_of((exp / RESTORE).write_text, "none") == errno.ENOENT
    assert (filled.main / ERROR).read_text() == ""
    (exp / RESTORE).write_text("main@1:raw/x")
    assert ((exp / "raw/x").read_text(), (filled.main / "raw/x").read_text()) == ("one", "two")
    assert (filled.main / RESTORE).read_text() == ""
    exp.rename(filled.root / "kept")
    (filled.root / "kept" / RESTORE).write_text(".")
    assert (filled.root / "kept/raw/x").read_text() == "two"
    assert (filled.root / "kept" / RESTORE).read_text().startswith("kept restored from kept@0 ")


def test_long_lists_go_in_whole_lines_p61(filled: Mount):
    """A buffer that is full is not the end of a line: nothing is done by half a path, which may be another one."""
    top = filled.main
    for number in range(600):
        (top / f"raw/{number:05}").write_text("x")
    filled.commit()
    for number in range(600):
        (top / f"raw/{number:05}").write_text("spoiled")
    names = "".join(f"raw/{number:05}\n" for number in range(600))
    descriptor = os.open(top / RESTORE, os.O_WRONLY)
    try:
        assert errno_of(os.write, descriptor, names[:4096].encode()) == errno.EINVAL
        assert errno_of(os.write, descriptor, names[4096:].encode()) == errno.EINVAL
    finally:
        os.close(descriptor)
    assert (top / "raw/00000").read_text() == "spoiled"
    (top / RESTORE).write_text(names)
    assert "600 files put back" in (top / RESTORE).read_text()


def test_a_read_only_mount_refuses_p29(filled: Mount):
    (filled.main / "raw/x").write_text("uncommitted")
    filled.umount()
    done(run_ana("mount", "--read-only", filled.path, filled.root, cwd=Path("/")))
    try:
        for file in (RESTORE, DISCARD):
            assert errno_of((filled.main / file).write_text, "raw") == errno.EROFS
            assert shell(f"echo raw > {file}", filled.main).returncode != 0
            assert (filled.main / file).read_text() == ""
        assert (filled.main / "raw/x").read_text() == "uncommitted"
    finally:
        filled.umount()
    filled.mount()
