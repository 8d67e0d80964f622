"""The filesystems under test, each behind the same few calls: start, work in `tree`, stop.

A `Filesystem` lives for one scenario of one round, in a folder of its own, so that no round finds what another left (a
chunk that is there already, a warm daemon). A daemon is a child of this process, in a session of its own: Ctrl-C
reaches the runner alone, which unmounts first. `abandon` never raises and leaves nothing mounted and no child.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError, UsageError

PLAIN, NULL, OURS = "ext4", "null", "ours"

_MOUNT_SECONDS = 60
_UNMOUNT_SECONDS = 120
_LOG_LINES = 20
_NULL_READ_AHEAD_KIB = 1024  # the kernel's 128 for FUSE halves sequential reading: not the limit that `null` is to show


class Filesystem:
    """A place for one scenario of one round."""

    name: str
    keeps_content = True  # reads give what was written
    commits = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"  # where the cases work

    def start(self) -> None:
        """Make the place; afterwards `tree` exists and is empty."""
        self.tree.mkdir(parents=True)

    def remount(self) -> None:
        """Forget what a daemon holds in its memory."""

    def commit(self) -> None:
        """Record the tree as a version; only where `commits`."""
        raise BenchmarkError(f"BUG: {self.name} has no commits")

    def last_version(self) -> Path:
        """The tree of the last commit, or the tree itself where there are no commits."""
        return self.tree

    def kill(self) -> None:
        """End a daemon that hangs, from another thread; requests to it then fail."""

    def stop(self) -> None:
        """End it and delete its folder."""
        shutil.rmtree(self.folder)

    def abandon(self) -> None:
        """As `stop`, after a failure: whatever still works, without an error."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PlainDirectory(Filesystem):
    """A directory of the disk itself."""

    name = PLAIN


class MountedFilesystem(Filesystem, ABC):
    """A filesystem whose daemon runs as a child, in the foreground."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mount_point = folder / "mnt"
        self._log = folder / "log"
        self._daemon: subprocess.Popen[bytes] | None = None

    def daemon(self) -> int:
        """The process that serves it."""
        if self._daemon is None:
            raise BenchmarkError(f"BUG: {self.name} is not mounted")
        return self._daemon.pid

    @abstractmethod
    def _daemon_command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def _unmount_command(self) -> Sequence[str | Path]: ...

    def start(self) -> None:
        self.mount_point.mkdir(parents=True)
        self._mount()

    def kill(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()

    def stop(self) -> None:
        self._unmount()
        super().stop()

    def abandon(self) -> None:
        try:
            self._unmount()
        except (BenchmarkError, OSError, subprocess.SubprocessError):
            self.kill()
            if self._daemon is not None:
                self._daemon.wait()
            subprocess.run(["fusermount3", "-u", "-z", self.mount_point], check=False, capture_output=True)
        if not os.path.ismount(self.mount_point):  # never delete through a mount
            super().abandon()

    def _mount(self) -> None:
        with open(self._log, "wb") as log:
            self._daemon = subprocess.Popen(
                self._daemon_command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + _MOUNT_SECONDS
        while not self._is_ready():
            if self._daemon.poll() is not None:
                raise BenchmarkError(f"{self.name}: its daemon ended before it had mounted:\n{self._last_log()}")
            if time.monotonic() > end:
                raise BenchmarkError(f"{self.name}: not mounted after {_MOUNT_SECONDS} s:\n{self._last_log()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        return os.path.ismount(self.mount_point)

    def _unmount(self) -> None:
        if self._daemon is None:
            return
        if self._daemon.poll() is not None:
            raise BenchmarkError(f"{self.name}: its daemon had ended by itself:\n{self._last_log()}")
        run_command(self._unmount_command())
        status = self._daemon.wait(timeout=_UNMOUNT_SECONDS)
        if status != 0:
            raise BenchmarkError(f"{self.name}: its daemon ended with status {status}:\n{self._last_log()}")
        self._daemon = None

    def _last_log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


class NullMount(MountedFilesystem):
    """`nullfs.py`: the limit of what goes through pyfuse3. It holds its names in memory, so it is never remounted."""

    name = NULL
    keeps_content = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tree = self.mount_point

    def start(self) -> None:
        super().start()
        setting = read_ahead_setting(self.tree)
        if os.access(setting, os.W_OK):
            setting.write_text(f"{_NULL_READ_AHEAD_KIB}\n")

    def _daemon_command(self) -> Sequence[str | Path]:
        return [sys.executable, Path(__file__).with_name("nullfs.py"), self.mount_point]

    def _unmount_command(self) -> Sequence[str | Path]:
        return ["fusermount3", "-u", self.mount_point]


class AnabranchMount(MountedFilesystem):
    """A new repository, mounted; the cases work in its branch `main`."""

    name = OURS
    commits = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tree = self.mount_point / "main"
        self._repository = folder / "repo"
        self._versions = 0

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        run_command([ana_command(), "init", "--no-ignore", self._repository])
        super().start()

    def remount(self) -> None:
        self._unmount()
        self._mount()

    def commit(self) -> None:
        """Commit through the control file: no interpreter is started in the timed part."""
        control = os.open(self.tree / ".ana" / "commit", os.O_WRONLY)
        try:
            os.write(control, b"benchmark\n")
        finally:
            os.close(control)
        self._versions += 1

    def last_version(self) -> Path:
        return self.mount_point / f"main@{self._versions}"

    def _daemon_command(self) -> Sequence[str | Path]:
        return [ana_command(), "mount", "--foreground", self._repository, self.mount_point]

    def _unmount_command(self) -> Sequence[str | Path]:
        return [ana_command(), "umount", self.mount_point]

    def fill(self, fill: Callable[[Path], None]) -> None:
        """Have something done with the repository while it is not mounted."""
        self._unmount()
        fill(self._repository)
        self._mount()

    def _is_ready(self) -> bool:
        return b" is mounted at " in self._log.read_bytes() and super()._is_ready()


FILESYSTEMS: dict[str, type[Filesystem]] = {kind.name: kind for kind in (PlainDirectory, NullMount, AnabranchMount)}


def ana_command() -> Path:
    """The `ana` beside this interpreter, else the one of PATH."""
    beside = Path(sys.executable).with_name("ana")
    found = beside if beside.exists() else shutil.which("ana")
    if found is None:
        raise UsageError("no command `ana`: install the project, or leave it out with --on ext4 null")
    return Path(found)


def read_ahead_setting(path: Path) -> Path:
    """The file with the read-ahead of the device below `path`; a partition has none of its own."""
    device = os.stat(path).st_dev
    return Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")


def run_command(command: Sequence[str | Path]) -> None:
    """Run a command to its end; what it says on failure becomes the error."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_UNMOUNT_SECONDS)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise BenchmarkError(f"`{' '.join(map(str, command))}` ended with status {done.returncode}: {said}")
