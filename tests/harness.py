"""What the tests hold on to: the command `ana`, a repository, and a mount of it that is never left behind."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anabranch.daemon import mounts
from anabranch.daemon.lock import owner
from anabranch.repo import Repository
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import Version

ANA = Path(sys.executable).parent / "ana"
"""The command as it was installed beside the Python that runs the tests."""

PATIENCE = 60.0
"""Seconds for anything that should take a moment; on a slow machine nothing fails for being late."""

REQUIRED = os.environ.get("ANABRANCH_REQUIRE_FUSE") == "1"
"""Where the mounted tests must run: what they need is missing, then they fail."""

Completed = subprocess.CompletedProcess[str]


def run_ana(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Completed:
    """Run `ana`. The directory is always said, since the command looks at it."""
    return subprocess.run(
        [ANA, *map(str, arguments)],
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=2 * PATIENCE,
        check=False,
    )


def done(completed: Completed) -> str:
    """The output of a command that worked."""
    assert completed.returncode == 0, f"{completed.args} ended with {completed.returncode}: {completed.stderr}"
    return completed.stdout


def refused(completed: Completed, code: int, *words: str) -> str:
    """The error of a command that did not work: the exit code, one clear line with the words, no traceback."""
    assert completed.returncode == code, f"{completed.args} ended with {completed.returncode}: {completed.stderr}"
    lines = completed.stderr.removesuffix("\n").split("\n")
    assert completed.stdout == ""
    assert "Traceback" not in completed.stderr
    assert lines[0].startswith("ana: "), lines
    assert [line for line in lines[1:] if not line.startswith("hint: ")] == []
    for word in words:
        assert word in completed.stderr, f"{word!r} is not in {completed.stderr!r}"
    return completed.stderr


def hinted(completed: Completed, code: int, *words: str) -> str:
    """As `refused`, with a hint what to do."""
    said = refused(completed, code, *words)
    assert said.count("\n") == 2, f"no hint: {said}"
    return said


def together(calls: Iterable[Callable[[], Completed]]) -> list[Completed]:
    """Run commands that do not touch each other at the same time: most of what they take is Python's start."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until something another process does has happened."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.005)


def errno_of(call: Callable[..., object], *arguments: object, **named: object) -> int:
    """The errno that a call fails with; 0 if it works."""
    try:
        call(*arguments, **named)
    except OSError as error:
        return error.errno or -1
    return 0


def snapshot(directory: Path, *, inodes: bool = False) -> dict[str, tuple[Any, ...]]:
    """All that a commit keeps of a directory: by path, type and mode, owners, mtime, links, size, device, content.

    The directory itself is there as `.`; a directory's own size means nothing. With `inodes`, their numbers too.
    """

    def row(path: Path) -> tuple[Any, ...]:
        of = path.lstat()
        content: str | bytes = b""
        if stat.S_ISLNK(of.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(of.st_mode):
            content = path.read_bytes()
        size = 0 if stat.S_ISDIR(of.st_mode) else of.st_size
        number = (of.st_ino,) if inodes else ()
        kept = (of.st_mode, of.st_uid, of.st_gid, of.st_mtime_ns, of.st_nlink, size, of.st_rdev, content)
        return (*kept, *number)

    rows = {".": row(directory)}
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(parent, name)
            rows[os.path.relpath(path, directory)] = row(path)
    return rows


def below(directory: Path) -> list[Path]:
    """All paths in a directory, in order. Path.rglob, up to Python 3.11.3, fails at a link to too long a name."""
    found = (Path(parent, name) for parent, folders, files in os.walk(directory) for name in (*folders, *files))
    return sorted(found)


def pin_times(directory: Path) -> None:
    """Give everything in a directory, and itself, a modification time of its own that no clock has a part in."""
    for number, path in enumerate([directory, *below(directory)]):
        os.utime(path, ns=(number, 1_600_000_000_123_456_789 + number), follow_symlinks=False)


def verify(repository: Path) -> int:
    """Read every version of every branch and tag whole, as the library does; returns how many files were read."""
    with Repository(repository) as history:
        commits = {ref.commit for ref in history.refs.all(tags=True)}
        for ref in history.refs.all(tags=False):
            commits |= {version.id for version in history.log(ref.name)}
        seen: set[bytes] = set()
        return sum(_verify_directory(history, history.version(commit), b"", seen) for commit in commits)


def _verify_directory(history: Repository, version: Version, path: bytes, seen: set[bytes]) -> int:
    files = 0
    for name, entry in version.children(version.at(path)):
        if entry.kind == EntryKind.DIRECTORY:
            files += _verify_directory(history, version, path + b"/" + name if path else name, seen)
        elif entry.kind == EntryKind.FILE:
            files += _verify_file(history, entry, seen)
    return files


def _verify_file(history: Repository, entry: Entry, seen: set[bytes]) -> int:
    key = msgspec.msgpack.encode(entry)
    if key in seen:
        return 0
    seen.add(key)
    size = sum(len(piece) for piece in history.read(entry))
    assert size == entry.size, f"a file of {entry.size} bytes holds {size}"
    return 1


@dataclass
class Repo:
    """A repository that is not mounted."""

    path: Path

    def ana(self, command: str, *arguments: str | Path, cwd: Path | None = None) -> Completed:
        """Run a command on this repository, by -R; or by where it is called, with `cwd`."""
        if cwd is not None:
            return run_ana(command, *arguments, cwd=cwd)
        return run_ana(command, "-R", self.path, *arguments, cwd=Path("/"))

    def json(self, command: str, *arguments: str | Path) -> Any:
        """What a command prints with --json."""
        return json.loads(done(self.ana(command, "--json", *arguments)))

    def messages(self, branch: str = "main") -> list[str]:
        """The messages of a branch, newest first."""
        return [version["message"] for version in self.json("log", "-b", branch)]

    def log_text(self) -> str:
        """What the daemons had to say."""
        path = self.path / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Mount(Repo):
    """A repository and a place to mount it at."""

    root: Path
    sound: bool = True
    """Whether the repository is read whole at the end; a test that damages it says no."""
    _pid: int = field(default=0, repr=False)

    @property
    def main(self) -> Path:
        """The working tree of branch main."""
        return self.root / "main"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return self._pid

    def mount(self, *options: str) -> str:
        """Mount it; returns what the command said of what it found."""
        completed = run_ana("mount", *options, self.path, self.root, cwd=Path("/"))
        done(completed)
        holder = owner(self.path / "lock")
        assert holder is not None
        self._pid = holder.pid
        return completed.stderr

    def umount(self) -> None:
        """Unmount it, as a user would."""
        done(run_ana("umount", self.root, cwd=Path("/")))
        self._pid = 0

    def remount(self) -> None:
        """Unmount and mount."""
        self.umount()
        self.mount()

    def kill(self) -> None:
        """Kill the daemon, which leaves a dead mount."""
        assert self._pid
        os.kill(self._pid, signal.SIGKILL)
        wait_for(lambda: not self._is_alive(), "the daemon to die")

    def crash(self) -> None:
        """Kill the daemon and mount anew."""
        self.kill()
        self.mount()

    def commit(self, message: str = "a commit", *, branch: str = "main") -> Path:
        """Commit by the control file, which is quicker than the command; returns the directory of the version."""
        control = self.root / branch / ".ana/commit"
        control.write_text(message)
        made = re.match(r"(.*@\d+) [0-9a-f]{8}  ", control.read_text())
        assert made is not None
        return self.root / made[1]

    def is_mounted(self) -> bool:
        """Whether the kernel has something mounted there."""
        return mounts.at(self.root) is not None

    def _is_alive(self) -> bool:
        """Whether the daemon runs; one that has ended and is not waited for yet has no command line."""
        try:
            return os.fsencode(self.path) in Path(f"/proc/{self._pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _is_lifted(self) -> bool:
        """Whether unmounting works, or is done. What else than being in use keeps it from that, fails at once."""
        ended = subprocess.run(["fusermount3", "-u", self.root], capture_output=True, text=True, check=False)
        assert ended.returncode == 0 or "busy" in ended.stderr or not self.is_mounted(), ended.stderr
        return ended.returncode == 0 or not self.is_mounted()

    def clear_away(self) -> None:
        """Leave nothing mounted and no daemon, whatever happened. Fails if it took force."""
        trouble = ""
        for _ in range(10):  # mounts may lie on each other
            if not self.is_mounted():
                break
            try:
                wait_for(self._is_lifted, "the mount to be used by nobody")  # by the daemon itself, for a moment
            except AssertionError as error:
                trouble = trouble or str(error)
                subprocess.run(["fusermount3", "-uz", self.root], check=False)
        if self._pid and self._is_alive():
            try:
                wait_for(lambda: not self._is_alive(), "the daemon to end")
            except AssertionError as error:
                trouble = trouble or str(error)
                os.kill(self._pid, signal.SIGKILL)
        assert not trouble, f"the mount could not be unmounted at the end: {trouble}"

    @contextmanager
    def kept_tidy(self) -> Iterator["Mount"]:
        """Afterwards nothing is mounted, whatever happened; then the log and the repository are looked at."""
        try:
            yield self
        finally:
            self.clear_away()
        check_log(self)
        if self.sound:
            verify(self.path)


def check_log(mount: Repo) -> None:
    """No daemon had an error that nobody foresaw."""
    text = mount.log_text()
    assert "BUG" not in text, text
    assert "Traceback" not in text, text


def shell(command: str, cwd: Path, program: str = "/bin/sh") -> Completed:
    """Run a shell command somewhere."""
    return subprocess.run(
        [program, "-c", command], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def in_a_namespace(commands: str, *arguments: str | Path) -> Completed:
    """Run a shell script as root with mounts of its own; skipped where that is not allowed."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    if subprocess.run(["unshare", *user, "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no mount namespaces")
    return subprocess.run(
        ["unshare", *user, "--mount", "/bin/sh", "-ec", commands, "sh", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, check=False, cwd="/",
    )  # fmt: skip


def python(code: str, *arguments: str | Path, cwd: Path = Path("/"), **named: Any) -> subprocess.Popen[str]:
    """Start another Python, with pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **named,
    )
