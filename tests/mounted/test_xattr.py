"""Extended attributes on a mount, beside an ordinary filesystem; and in history, exports and imports. P64, P65."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Mount, done, errno_of, shell, snapshot

pytestmark = pytest.mark.mounted

NAMES = [
    "user.a", "user.", "user", "users.a", "foo.bar", "trusted.a", "security.a", "security.", "system.x", "a",
    "user." + "n" * 250, "user." + "n" * 251, "user.ünï",
]  # fmt: skip
SIZES = [0, 1, 255, 256, 257, 3_000]
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""One that a program may have, as setcap(8) writes it."""

Values = dict[str, bytes]


def values(path: Path, *, follow: bool = True) -> Values:
    """All extended attributes of a path."""
    names = os.listxattr(path, follow_symlinks=follow)
    return {name: os.getxattr(path, name, follow_symlinks=follow) for name in names}


def outcome(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a call returns, or the name of its error."""
    try:
        return call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@pytest.fixture
def on(mountable: Mount) -> Mount:
    """A repository whose setting is on, mounted."""
    done(mountable.ana("config", "xattr", "on"))
    mountable.mount()
    return mountable


@pytest.fixture
def ext4(beside: Path) -> Path:
    """A directory of a filesystem with extended attributes."""
    if errno_of(os.setxattr, beside, "user.a", b"") != 0 or os.geteuid() != 0:
        pytest.skip("no root, or no extended attributes, in the directory for temporary files")
    os.removexattr(beside, "user.a")
    return beside


# --- side by side ---


def names_and_flags(top: Path) -> Any:
    file = top / "file"
    file.touch()
    seen: list[Any] = []
    for name in NAMES:
        for flags in (os.XATTR_REPLACE, os.XATTR_CREATE, os.XATTR_CREATE, os.XATTR_REPLACE, 0, 8):
            seen.append((name, flags, outcome(os.setxattr, file, name, b"%d" % flags, flags)))
        seen.append((outcome(os.getxattr, file, name), sorted(os.listxattr(file))))
        seen += [outcome(os.removexattr, file, name), outcome(os.removexattr, file, name)]
        seen.append(outcome(os.getxattr, file, name))
    return seen


def sizes(top: Path) -> Any:
    file = top / "file"
    file.touch()
    seen: list[Any] = []
    for size in SIZES:
        seen.append(outcome(os.setxattr, file, "user.a", bytes(range(256))))
        seen.append(outcome(os.setxattr, file, "user.b", b"x" * size))
        seen.append(outcome(os.getxattr, file, "user.b"))
        seen.append(outcome(os.removexattr, file, "user.a"))
    seen.append(outcome(os.setxattr, file, "user.c", bytes(65_537)))
    return seen


def kinds(top: Path) -> Any:
    """The kernel lets only files and directories have user.*; root may give trusted.* to all."""
    (top / "file").touch()
    (top / "dir").mkdir()
    (top / "link").symlink_to("file")
    os.mkfifo(top / "fifo")
    seen: list[Any] = []
    for name in ("file", "dir", "link", "fifo"):
        for attribute in ("user.a", "trusted.a", "security.a"):
            path = top / name
            seen.append((name, attribute, outcome(os.setxattr, path, attribute, b"v", follow_symlinks=False)))
        seen.append(sorted(values(path, follow=False).items()))
    return seen


def changes_of_the_file(top: Path) -> Any:
    """What a write, a truncation and another owner take away, and what a rename and a link keep."""
    file = top / "file"
    seen: list[Any] = []

    def note() -> None:
        seen.append(sorted(values(file)))

    def with_capability(change: Callable[[], object]) -> None:
        os.setxattr(file, "security.capability", CAPABILITY)
        note()
        change()
        note()

    file.touch()
    os.setxattr(file, "user.a", b"1")
    with_capability(lambda: file.write_bytes(b"more"))
    with file.open("r+b", buffering=0) as unbuffered:
        with_capability(lambda: unbuffered.write(b"in place"))
    with_capability(lambda: os.truncate(file, 2))
    with_capability(lambda: os.chown(file, 1, 1))
    with_capability(lambda: file.chmod(0o755))
    with file.open("ab") as stream:  # bytes that the kernel still has when the attribute comes
        stream.write(b"before")
        stream.flush()
        with_capability(lambda: os.fsync(stream.fileno()))
        before = file.stat()
        os.setxattr(stream.fileno(), "user.b", b"2")
        after = file.stat()
        seen.append([before.st_mtime_ns == after.st_mtime_ns, before.st_ctime_ns <= after.st_ctime_ns])
        os.rename(file, top / "renamed")
        os.link(top / "renamed", file)
        os.setxattr(file, "user.c", b"3")
        os.unlink(top / "renamed")
        note()
        os.unlink(file)
        os.setxattr(stream.fileno(), "user.d", b"4")
        seen.append(sorted(os.listxattr(stream.fileno())))
    return seen


def other_users(top: Path) -> Any:
    """Trusted attributes are not for them, not even their names."""
    file = top / "file"
    file.write_text("text")
    top.chmod(0o755)
    os.setxattr(file, "trusted.a", b"1")
    os.setxattr(file, "user.a", b"1")
    file.chmod(0o644)
    code = (
        "import os\n"
        "def seen(call, *arguments):\n"
        "    try: return call(*arguments)\n"
        "    except OSError as error: return error.errno\n"
        "file = os.open('file', os.O_RDONLY)\n"
        "os.setuid(12345)\n"
        "print(sorted(os.listxattr(file)), seen(os.getxattr, file, 'trusted.a'), seen(os.getxattr, file, 'user.a'),\n"
        "      seen(os.setxattr, file, 'trusted.b', b''), seen(os.setxattr, file, 'user.b', b''),\n"
        "      seen(os.setxattr, file, 'security.b', b''))\n"
    )
    ran = subprocess.run(["python3", "-c", code], cwd=top, capture_output=True, text=True, check=False)
    return ran.stdout, ran.stderr


@pytest.mark.parametrize("work", [names_and_flags, sizes, kinds, changes_of_the_file, other_users])
def test_calls_give_what_they_give_on_an_ordinary_filesystem_p64(
    mountable: Mount, ext4: Path, work: Callable[[Path], Any]
):
    mountable.mount("--xattr", *["--allow-other"] * (work is other_users))
    assert work(mountable.main) == work(ext4)


def test_limits_are_those_of_linux_p64(on: Mount):
    """Which ext4 does not reach: it keeps a few thousand bytes a file."""
    file = on.main / "file"
    file.touch()
    os.setxattr(file, "user.large", large := os.urandom(65_536))
    assert os.getxattr(file, "user.large") == large
    assert errno_of(os.setxattr, file, "user.large", large + b"x") == errno.E2BIG
    many = {f"user.{number:0245}": b"%d" % number for number in range(270)}
    held: Values = {}
    for name, value in many.items():
        code = errno_of(os.setxattr, file, name, value)
        held |= {name: value} if code == 0 else {}
        assert code == (0 if len(held) * 251 + 11 <= 65_536 and name in held else errno.ENOSPC)
    assert len(held) == (65_536 - 11) // 251
    assert values(file) == {**held, "user.large": large}
    on.remount()
    assert values(file) == {**held, "user.large": large}
    other = on.main / "other"
    other.touch()
    codes = [errno_of(os.setxattr, other, f"user.{number}", large) for number in range(20)]
    assert set(codes) == {0, errno.ENOSPC}
    assert codes.index(errno.ENOSPC) == 15, "1 MiB of names and values"
    os.removexattr(other, "user.0")
    assert len(values(other)) == 14


# --- history ---


def dressed(top: Path) -> dict[str, Values]:
    """Make a bit of everything with attributes; returns them by path."""
    (top / "d").mkdir()
    (top / "d/file").write_text("text")
    os.link(top / "d/file", top / "again")
    (top / "link").symlink_to("d/file")
    given = {
        ".": {"user.top": b"1"}, "d": {"user.d": b"", "trusted.d": b"\xff\0="}, "d/file": {"user.a": bytes(40_000)},
        "again": {"user.a": bytes(40_000)}, "link": {"trusted.l": b"1"},
    }  # fmt: skip
    for path, held in given.items():
        for name, value in held.items():
            os.setxattr(top / path, name, value, follow_symlinks=False)
    return given


def held(top: Path, given: dict[str, Values]) -> dict[str, Values]:
    """What the same paths have now."""
    return {path: values(top / path, follow=False) for path in given}


def test_a_version_keeps_them_and_a_branch_of_it_has_them_p64(on: Mount):
    given = dressed(on.main)
    version = on.commit()
    assert held(on.main, given) == held(version, given) == held(on.root / "main@head", given) == given
    assert errno_of(os.setxattr, version / "d", "user.x", b"") == errno.EROFS
    assert errno_of(os.removexattr, version / "d", "user.d") == errno.EROFS
    assert errno_of(os.getxattr, version / "d", "user.x") == errno.ENODATA
    for nobodys in (on.root, on.main / ".ana", on.main / ".ana/head"):
        assert os.listxattr(nobodys) == []
        assert errno_of(os.setxattr, nobodys, "user.x", b"") == errno.EROFS
    (on.root / "exp").mkdir()
    assert held(on.root / "exp", given) == given
    os.setxattr(on.root / "exp/d", "user.d", b"exp")
    on.commit(branch="exp")
    assert os.getxattr(on.main / "d", "user.d") == b""
    assert on.json("ls", "main@1:")[0]["xattrs"] == ["user.a"]
    assert [(row["path"], row["xattrs"]) for row in on.json("ls", "main@1:") if row["path"] == "d"] == [
        ("d", ["trusted.d", "user.d"])
    ]
    on.remount()
    assert held(version, given) == given
    assert os.getxattr(on.root / "exp@1/d", "user.d") == b"exp"


def test_they_alone_are_a_change_of_attributes_that_a_restore_takes_back_p64(on: Mount):
    given = dressed(on.main)
    on.commit()
    os.setxattr(on.main, "user.top", b"2")
    os.setxattr(on.main / "d", "user.more", b"")
    os.removexattr(on.main / "again", "user.a")
    assert done(on.ana("status")).splitlines()[2:] == ["a  ./", "a  again  4 B", "a  d/", "a  d/file  4 B"]
    done(on.ana("restore", "main", "d", "again"))
    assert held(on.main / "d", {".": {}}) == {".": given["d"]}
    assert values(on.main / "d/file") == values(on.main / "again") == given["again"]
    assert done(on.ana("status")).splitlines()[2:] == ["a  ./"]
    done(on.ana("discard", "."))
    assert on.json("status")["clean"]
    os.setxattr(on.main / "d", "user.d", b"2")
    on.commit("only attributes")
    assert done(on.ana("diff", "main@1", "main@2")) == "a  d/\n"
    subprocess.run(["rm", "-r", on.main / "d", on.main / "again"], check=True)
    done(on.ana("restore", "main@1", "d", "again", "link"))
    assert held(on.main, given) == given


def test_what_was_fsynced_survives_a_killed_daemon_p32(on: Mount):
    given = dressed(on.main)
    descriptor = os.open(on.main, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    on.crash()
    assert held(on.main, given) == given
    assert held(on.commit(), given) == given


# --- off ---


def test_off_there_are_none_and_those_that_are_stored_stay_p65(on: Mount):
    given = dressed(on.main)
    on.commit()
    done(on.ana("config", "xattr", "off"))
    on.remount()
    file = on.main / "d/file"
    assert errno_of(os.setxattr, file, "user.x", b"") == errno.ENOTSUP
    assert errno_of(os.getxattr, file, "user.a") == errno.ENOTSUP
    assert errno_of(os.removexattr, file, "user.a") == errno.ENOTSUP
    assert shell("getfattr -d d/file 2>/dev/null", on.main).stdout == ""
    file.write_text("other")
    (on.main / "d").chmod(0o700)
    os.rename(on.main / "d", on.main / "e")
    on.main.chmod(0o700)
    on.commit()
    done(on.ana("restore", "main@1", "d"))
    on.commit()
    on.umount()
    on.mount("--xattr")
    now = {path.replace("d/", "e/") if path != "d" else "e": held for path, held in given.items()}
    assert held(on.root / "main@2", now) == now
    assert held(on.root / "main@3", given) == given
    on.umount()
    done(on.ana("config", "xattr", "on"))
    on.mount("--no-xattr")
    assert errno_of(os.getxattr, on.main / "again", "user.a") == errno.ENOTSUP


def test_a_mount_with_the_option_marks_the_repository_p65(mountable: Mount):
    mountable.mount()
    assert b'"xattr"' not in (mountable.path / "anabranch.json").read_bytes()
    mountable.umount()
    mountable.mount("--xattr")
    assert b'"xattr"' in (mountable.path / "anabranch.json").read_bytes()


# --- out and in ---


def test_exports_and_imports_keep_them_p51(on: Mount, ext4: Path):
    given = dressed(on.main)
    given["d/file"] = given["again"] = {"user.a": bytes(range(256)), "user.%=": b"1"}  # ext4 takes no more
    os.removexattr(on.main / "again", "user.a")
    for name, value in given["again"].items():
        os.setxattr(on.main / "again", name, value)
    expected = snapshot(on.commit())
    assert done(on.ana("export", "main", ext4 / "out")).startswith("3 files")
    assert held(ext4 / "out", given) == given
    assert snapshot(ext4 / "out") == expected
    done(on.ana("export", "main", ext4 / "out.tar"))
    (ext4 / "unpacked").mkdir()
    done(shell("tar --xattrs --xattrs-include='*' -xf ../out.tar", ext4 / "unpacked"))
    assert held(ext4 / "unpacked", given) == given
    done(shell("tar --xattrs --format=posix -cf ../again.tar .", ext4 / "unpacked"))
    for number, source in enumerate(("out", "out.tar", "again.tar")):
        done(on.ana("import", ext4 / source, f"in{number}"))
        assert held(on.main / f"in{number}", given) == given, source
    on.umount()
    done(on.ana("config", "xattr", "off"))
    done(on.ana("import", ext4 / "out", "off", "--commit", "without"))
    on.mount("--xattr")
    assert {path: names for path, names in held(on.main / "off", given).items() if names} == {}
