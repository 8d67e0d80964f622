"""Who may do what: other users beside the repository, its socket, its control files and its versions. P90 to P94."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import ANA, PATIENCE, Completed, Mount, done, hinted, run_ana

pytestmark = [pytest.mark.mounted, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")]

ANN, BOB, TEAM = 65501, 65502, 65510
"""Two users, and a group: numbers that no machine has a name for."""


@dataclass(frozen=True)
class User:
    """Somebody who runs shell commands."""

    uid: int
    groups: tuple[int, ...] = ()

    def run(self, command: str, cwd: Path) -> Completed:
        return subprocess.run(
            ["sh", "-c", command], user=self.uid, group=self.uid, extra_groups=self.groups, cwd=cwd,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def may_each(self, commands: list[str], cwd: Path) -> list[bool]:
        """Which of some commands work, in one process: there are many of them."""
        script = "".join(f"({command}) >/dev/null 2>&1; echo $?\n" for command in commands)
        return [line == "0" for line in done(self.run(script, cwd)).split()]

    def may(self, command: str, cwd: Path) -> bool:
        ended = self.run(command, cwd)
        assert ended.returncode == 0 or "ermission denied" in ended.stderr, ended
        return ended.returncode == 0


ann, bob, mate = User(ANN), User(BOB), User(BOB, (TEAM,))


@pytest.fixture
def shared(mountable: Mount, open_path: Path) -> Iterator[Mount]:
    """A repository that root has mounted for all, where all get to."""
    root = open_path / "mnt"
    root.mkdir()
    with Mount(mountable.path, root).kept_tidy() as mount:
        mount.mount("--allow-other")
        yield mount


# --- the folder, the socket, commands ---

POWERLESS = ["setpriv", "--bounding-set=-all,+sys_admin", "--inh-caps=-all"]
"""Root by number, who is held to modes as everybody is, and may mount."""


@pytest.mark.parametrize("umask", [0, 0o777])
def test_nothing_in_a_repository_is_for_others_whatever_the_umask_p90(umask: int, open_path: Path):
    def ana(*words: str | Path) -> str:
        command = [*POWERLESS, str(ANA), *map(str, words)]
        return done(
            subprocess.run(command, umask=umask, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False)
        )

    def modes() -> set[tuple[int, int]]:
        found = [mount.path, *mount.path.rglob("*")]
        return {(stat.S_IFMT(mode), stat.S_IMODE(mode)) for mode in (path.lstat().st_mode for path in found)}

    mount = Mount(open_path / "repo", open_path / "mnt")
    mount.root.mkdir()
    files = {(stat.S_IFDIR, 0o700), (stat.S_IFREG, 0o600)}
    with mount.kept_tidy():
        ana("init", mount.path)
        ana("mount", mount.path, mount.root)
        (mount.main / "large").write_bytes(os.urandom(100_000))
        mount.commit()
        (mount.main / "large").write_bytes(os.urandom(100_000))
        os.sync()
        assert modes() == files | {(stat.S_IFSOCK, 0o600)}
        ana("umount", mount.root)
        ana("commit", "-R", mount.path, "-m", "more")
        ana("reindex", "-R", mount.path)
        ana("log", "-R", mount.path)
        assert modes() == files


AS_NOBODY = """
import difflib, encodings.idna, os, sys
import anabranch.cli.main, anabranch.daemon.client, anabranch.cli.mounting, anabranch.statistics, anabranch.report_store
import anabranch.transfer.export, anabranch.transfer.folder, anabranch.transfer.intake
for command in anabranch.cli.main.ana.commands.values():
    command.load()
os.setgroups([]); os.setgid(65501); os.setuid(65501)
sys.argv = ["ana", *sys.argv[1:]]
anabranch.cli.main.main()
"""


def as_ann(*words: str | Path, cwd: Path = Path("/")) -> Completed:
    """A command of a user who need not be able to read the program."""
    command = [sys.executable, "-c", AS_NOBODY, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def reachable(fresh_repository: Path, open_path: Path) -> Iterator[Mount]:
    """A mounted repository in a folder that others get to."""
    mount = Mount(Path(shutil.copytree(fresh_repository, open_path / "repo")), open_path / "mnt")
    mount.root.mkdir()
    with mount.kept_tidy():
        mount.mount("--allow-other")
        yield mount


def open_up(mount: Mount) -> None:
    for path in (mount.path, *mount.path.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def test_commands_of_others_are_refused_with_a_hint_p90(reachable: Mount):
    commands = [("log",), ("status",), ("commit", "-m", "x"), ("branch", "new"), ("config", "author", "me"), ("info",)]
    for opened in (False, True):
        for words in commands if not opened else commands[:3]:
            hinted(as_ann(words[0], "-R", reachable.path, *words[1:]), 3, str(reachable.path), "control files in .ana")
        hinted(as_ann("log", cwd=reachable.main), 3, "control files in .ana")
        hinted(as_ann("mount", reachable.path, reachable.root.parent), 3, "control files in .ana")
        assert "others can get into" not in done(reachable.ana("doctor")) or opened
        if not opened:
            open_up(reachable)
    assert f"chmod 700 {reachable.path}" in done(reachable.ana("doctor"))


def test_the_socket_answers_nobody_else_though_the_folder_be_open_p90(reachable: Mount):
    script = (
        "import os, socket, sys; os.setgid(65501); os.setuid(65501); s = socket.socket(socket.AF_UNIX)\n"
        "try:\n s.connect(sys.argv[1]); print(s.recv(1000))\nexcept PermissionError: print('kept out')"
    )
    command = [sys.executable, "-c", script, str(reachable.path / "socket")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "kept out\n"
    open_up(reachable)
    assert "DeniedError" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect(str(reachable.path / "socket"))
    done(reachable.ana("status"))


# --- control files ---

RULES = (
    (0o755, 0), (0o775, TEAM), (0o711, 0), (0o700, 0), (0o777, 0), (0o1777, 0), (0o770, TEAM), (0o733, 0),
    (0o750, TEAM),
)  # fmt: skip
"""Modes and groups of a branch's root directory."""


@pytest.mark.parametrize("owner", [0, ANN])
def test_control_files_let_in_whom_the_root_directory_lets_in_p91(shared: Mount, open_path: Path, owner: int):
    """As the kernel judges an ordinary directory of that mode."""
    (shared.main / "file").write_text("x")
    shared.commit()
    plain = open_path / "plain"
    plain.mkdir()
    seen = set()
    for mode, group in RULES:
        for directory in (shared.main, plain):
            os.chown(directory, owner, group)
            directory.chmod(mode)
        for user in (ann, bob, mate):
            reads, writes, enters = user.may_each(["test -r plain", "test -w plain", "test -x plain"], open_path)
            seen.add((reads, writes, enters))
            takes = writes and enters and (not mode & stat.S_ISVTX or user.uid == owner)
            expected = {
                "ls main/.ana": reads and enters,
                "cat main/.ana/head main/.ana/log main/.ana/stats main/.ana/commit.json": reads and enters,
                "cat main/.ana/status": reads and writes and enters,
                "cat main/.ana/diff.json": reads and writes and enters,
                "cat main/.ana/error": reads and writes and enters,
                ": >> main/.ana/commit": writes and enters,
                "cat main/.ana/commit": reads and enters,
                ": >> main/.ana/restore": takes,
                ": > main/.ana/discard": takes,
                "cat main/.ana/restore": reads and writes and enters,
            }
            found = dict(zip(expected, user.may_each(list(expected), shared.root), strict=True))
            assert found == expected, (oct(mode), group, user)
    assert len(seen) > 4


def test_who_may_write_commits_restores_and_discards_and_nobody_else_p91(shared: Mount):
    shared.main.chmod(0o775)
    os.chown(shared.main, 0, TEAM)
    (shared.main / "file").write_text("one")
    done(mate.run("echo first > .ana/commit", shared.main))
    (shared.main / "file").write_text("two")
    assert "file" in done(mate.run("cat .ana/status", shared.main))
    for command in ("echo x > .ana/commit", "echo file > .ana/restore", "echo . > .ana/discard"):
        assert not bob.may(command, shared.main)
    assert (shared.main / "file").read_text() == "two"
    done(mate.run("echo file > .ana/discard", shared.main))
    assert (shared.main / "file").read_text() == "one"
    assert shared.messages()[0] == "first"


def test_branches_are_made_by_the_owner_of_the_repository_alone_p91(shared: Mount):
    shared.main.chmod(0o777)
    for command in ("mkdir new", "mv main other", "rmdir main", "chmod 777 .", "echo x > .ana/config"):
        ended = ann.run(command, shared.root)
        assert ended.returncode != 0, command
    assert done(ann.run("ls; cat .ana/branches", shared.root)) == "main\nmain\n"


# --- versions ---


def test_a_version_is_read_by_its_own_modes_p92(shared: Mount):
    (shared.main / "private").mkdir()
    (shared.main / "private/file").write_text("secret")
    (shared.main / "mine").write_text("secret")
    (shared.main / "mine").chmod(0o600)
    (shared.main / "open").write_text("for all")
    (shared.main / "private").chmod(0o700)
    shared.main.chmod(0o700)
    shared.commit()
    shared.main.chmod(0o755)
    shared.commit()
    for path in ("main@1", "main@2/private", "main@head/private"):
        assert not ann.may(f"ls {path}", shared.root)
    for path in ("main@1/open", "main@2/mine", "main@2/private/file"):
        assert not ann.may(f"cat {path}", shared.root)
    assert done(ann.run("cat main@2/open", shared.root)) == "for all"
    shared.main.chmod(0o700)
    assert done(ann.run("cat main@2/open", shared.root)) == "for all"


def test_a_restore_leads_nobody_to_what_he_cannot_get_to_p92(shared: Mount):
    """Who puts a directory of his own in the place of a private one gets nothing into it."""
    (shared.main / "private").mkdir()
    (shared.main / "private/file").write_text("secret")
    (shared.main / "team").mkdir()
    (shared.main / "team/file").write_text("ours")
    for name, mode in (("private", 0o700), ("team", 0o750)):
        os.chown(shared.main / name, 0, TEAM)
        (shared.main / name).chmod(mode)
    shared.main.chmod(0o777)
    shared.commit()
    ended = bob.run("mv private away; mkdir private; env echo private/file > .ana/restore", shared.main)
    assert "ermission denied" in ended.stderr
    assert "may not search private" in (shared.main / ".ana/error").read_text()
    assert not bob.may("env echo main@1:private/file > .ana/restore", shared.main)
    assert not bob.may("env echo private/file > .ana/discard", shared.main)
    assert not bob.may("env echo private/none > .ana/restore", shared.main)  # nor does he learn what there is
    assert list((shared.main / "private").iterdir()) == []
    done(bob.run("mkdir new; echo x > new/file; env echo new/file > .ana/discard; rmdir new", shared.main))
    done(bob.run("mv team gone; mkdir team", shared.main))
    assert not bob.may("env echo team/file > .ana/restore", shared.main)
    done(mate.run("env echo team/file > .ana/restore", shared.main))
    assert (shared.main / "team/file").read_text() == "ours"
    done(bob.run("rmdir private; echo private > .ana/restore", shared.main))
    assert not bob.may("ls private", shared.main)
    (shared.main / ".ana/restore").write_text("private/file\n")
    assert (shared.main / "private/file").read_text() == "secret"


def test_a_restore_goes_by_the_root_alone_p92(shared: Mount):
    """It takes back what its caller could not write."""
    (shared.main / "theirs").mkdir()
    (shared.main / "theirs/file").write_text("one")
    shared.commit()
    (shared.main / "theirs/file").write_text("two")
    shared.main.chmod(0o777)
    assert not bob.may("echo three > theirs/file", shared.main)
    done(bob.run("echo theirs/file > .ana/restore", shared.main))
    assert (shared.main / "theirs/file").read_text() == "one"
    (shared.main / "theirs/file").write_text("two")
    shared.main.chmod(0o1777)
    assert not bob.may("echo theirs/file > .ana/restore", shared.main)
    assert (shared.main / "theirs/file").read_text() == "two"


# --- authors ---


def test_a_commit_is_by_the_user_who_wrote_its_message_p93(shared: Mount):
    shared.main.chmod(0o777)
    done(run_ana("config", "author", "The Owner", cwd=shared.main))
    done(ann.run("echo x > of_ann; echo by ann > .ana/commit", shared.main))
    (shared.main / "mine").write_text("x")
    shared.commit("mine")
    done(ann.run("echo y > of_ann", shared.main))
    done(run_ana("commit", "-m", "by command", cwd=shared.main))
    found = {version["message"]: version["author"] for version in shared.json("log")}
    assert (found["by ann"], found["mine"], found["by command"]) == (str(ANN), "The Owner", "The Owner")
    assert (shared.root / "main@1/of_ann").stat().st_uid == ANN


# --- the mount ---


def test_a_mount_takes_no_set_uid_bits_and_devices_and_the_kernel_checks_p94(shared: Mount):
    rows = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    row = next(row for row in rows if row[4] == str(shared.root))
    assert {"nosuid", "nodev"} <= set(row[5].split(","))
    assert {"default_permissions", "allow_other"} <= set(row[-1].split(","))
    shutil.copy("/usr/bin/id", shared.main / "id")
    (shared.main / "id").chmod(0o4755)
    assert done(ann.run("./id -u", shared.main)) == f"{ANN}\n"
    os.mknod(shared.main / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert not ann.may(": > null", shared.main)


def test_a_link_in_the_place_of_the_mount_point_is_followed_before_anything_is_mounted_p94(
    mountable: Mount, tmp_path: Path
):
    link = tmp_path / "link"
    link.symlink_to(mountable.root)
    done(run_ana("mount", mountable.path, link, cwd=tmp_path))
    try:
        assert mountable.is_mounted()
        assert json.loads(done(run_ana("log", "--json", cwd=link / "main")))
        hinted(run_ana("mount", mountable.path, link, cwd=tmp_path), 3, "already mounted")
    finally:
        done(run_ana("umount", link, cwd=tmp_path))
    assert not mountable.is_mounted()


def test_the_daemon_stands_nowhere_and_has_its_own_umask_p94(shared: Mount):
    process = Path(f"/proc/{shared.pid}")
    assert os.readlink(process / "cwd") == "/"
    assert "Umask:\t0077" in (process / "status").read_text()
    done(
        subprocess.run(["sh", "-c", "umask 0; : > file"], cwd=shared.main, capture_output=True, text=True, check=False)
    )
    assert stat.S_IMODE((shared.main / "file").stat().st_mode) == 0o666
