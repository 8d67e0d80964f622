"""What ana doctor looks at, one function a check: from what was found on the machine to what is said of it.

They take paths and values, and know of no command, so tests feed them whatever a machine may be like. A hint says what
to type.
"""

import os
import re
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from anabranch.daemon.lock import Owner
from anabranch.errors import AnabranchError
from anabranch.report import moment, plural, size
from anabranch.versions.refs import DAY

KERNEL = (5, 5)
"""Before, the kernel believes sizes in listings that stand for none (fuse/pyfuse.py)."""
OPEN_FILES = 4_096
SPACE_WARN, SPACE_FAIL = 1 << 30, 64 << 20
READ_AHEAD = 1_024
"""KiB. A chunk is a small read at a random place: beyond this, most of what the disk reads is thrown away."""
_READ_AHEAD_WANTED = 128
_NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
_PASSING = {"overlay", "ramfs", "tmpfs"}
_SECOND = 1_000_000_000


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to."""

    name: str
    state: State
    found: str
    hint: str | None = None


# --- the machine ---


def fuse_device(device: Path) -> Finding:
    """Whether the kernel's door to FUSE is there and open to us."""
    if not device.exists():
        return Finding("FUSE", State.FAIL, f"{device} is missing", "sudo modprobe fuse")
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError as error:
        return Finding("FUSE", State.FAIL, f"cannot open {device}: {error.strerror}", f"sudo chmod 666 {device}")
    return Finding("FUSE", State.OK, f"{device} can be opened")


def fusermount(program: str | None) -> Finding:
    """Whether the program that mounts is there."""
    if program is None:
        return Finding("fusermount3", State.FAIL, "fusermount3 is missing", "sudo apt install fuse3")
    return Finding("fusermount3", State.OK, program)


def allow_other(configuration: Path, *, root: bool) -> Finding:
    """Whether `ana mount --allow-other` will be allowed."""
    if root or lets_others_in(configuration):
        return Finding("allow-other", State.OK, "other users can be let into a mount")
    found = "ana mount --allow-other is for root only"
    return Finding("allow-other", State.WARN, found, f"echo user_allow_other | sudo tee -a {configuration}")


def lets_others_in(configuration: Path) -> bool:
    """Whether everybody may let other users into a mount."""
    try:
        return b"user_allow_other" in map(bytes.strip, configuration.read_bytes().split(b"\n"))
    except OSError:
        return False


def kernel(release: str) -> Finding:
    """Whether the kernel is new enough."""
    version = re.match(r"(\d+)\.(\d+)", release)
    if version is not None and tuple(map(int, version.groups())) < KERNEL:
        wanted = ".".join(map(str, KERNEL))
        trouble = f"Linux {release} may show wrong sizes in very large directories"
        return Finding("kernel", State.WARN, trouble, f"use Linux {wanted} or later")
    return Finding("kernel", State.OK, f"Linux {release}")


def open_files(limit: int) -> Finding:
    """Whether a daemon may have enough files open; it raises its own limit as far as this one."""
    if limit < OPEN_FILES:
        hint = "echo '* hard nofile 65536' | sudo tee -a /etc/security/limits.conf, and log in again"
        return Finding("open files", State.WARN, f"a process may have {limit:,} files open", hint)
    return Finding("open files", State.OK, f"up to {limit:,} in a process")


# --- a repository ---


def folder(path: Path) -> Finding:
    """Whether the folder is its owner's alone."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("folder", State.WARN, f"others can get into {path} (mode {mode:04o})", f"chmod 700 {path}")
    return Finding("folder", State.OK, "its owner's alone")


def failed(name: str, error: AnabranchError | OSError) -> Finding:
    """A check that came to an error."""
    if isinstance(error, AnabranchError):
        return Finding(name, State.FAIL, error.message, error.hint)
    return Finding(name, State.FAIL, error.strerror or str(error))


def filesystem(kind: str) -> Finding:
    """Whether LMDB may work there: it maps files into memory, and locks them."""
    if kind in _NETWORK:
        found = f"{kind} is a network's: shared memory and locks are not safe on it"
        return Finding("filesystem", State.FAIL, found, "move the repository to a disk of this machine")
    if kind.startswith("fuse"):
        found = f"shared memory and locks may not be safe on {kind}"
        return Finding("filesystem", State.WARN, found, "move the repository to a disk of this machine")
    if kind in _PASSING:
        found = f"what is on {kind} may be gone after a restart"
        return Finding("filesystem", State.WARN, found, "move the repository to a disk that stays")
    return Finding("filesystem", State.OK, kind)


def space(free: int) -> Finding:
    """Whether there is room for more."""
    if free >= SPACE_WARN:
        return Finding("disk space", State.OK, f"{size(free)} are free")
    state = State.WARN if free >= SPACE_FAIL else State.FAIL
    return Finding("disk space", state, f"only {size(free)} are free", "make room on the repository's disk")


def read_ahead_file(sys: Path, device: str) -> Path | None:
    """Where the kernel says how much it reads ahead on a device (`8:1`); of a partition its disk does."""
    disk = (sys / "dev/block" / device).resolve().parent
    files = (sys / "class/bdi" / device / "read_ahead_kb", disk / "queue/read_ahead_kb")
    return next((file for file in files if file.exists()), None)


def read_ahead(file: Path | None) -> Finding:
    """Whether the disk reads much more than it is asked for."""
    try:
        amount = None if file is None else int(file.read_text())
    except (OSError, ValueError):
        amount = None
    if amount is None:
        return Finding("read-ahead", State.OK, "unknown on this filesystem")
    if amount <= READ_AHEAD:
        return Finding("read-ahead", State.OK, f"{amount} KiB")
    found = f"{amount} KiB, which makes small reads at random places slow"
    return Finding("read-ahead", State.WARN, found, f"echo {_READ_AHEAD_WANTED} | sudo tee {file}")


def owner(repository: Path, last: Owner | None, *, held: bool, dying: bool) -> Finding:
    """Who has a repository: whom its lock file names, and whether that is so now."""
    if held:
        if dying:
            again = last.mount_point if last is not None and last.mount_point is not None else "DIR"
            hint = f"ana mount {repository} {again}"
            return Finding("owner", State.WARN, f"{_process(last)} was killed, and has not ended yet", hint)
        where = f" has it mounted at {last.mount_point}" if last is not None and last.mount_point else " works on it"
        return Finding("owner", State.OK, _process(last) + where)
    if last is not None and last.failed:
        return Finding("owner", State.WARN, "the last daemon ended badly", f"tail {repository}/daemon.log")
    if last is not None and last.mount_point is not None:
        found = f"process {last.pid} died; it had it mounted at {last.mount_point}"
        return Finding("owner", State.WARN, found, f"ana mount {repository} {last.mount_point}")
    return Finding("owner", State.OK, "nobody has it open")


def _process(owner: Owner | None) -> str:
    return "a process" if owner is None else f"process {owner.pid}"


def dead_mounts(repository: Path, directories: list[Path]) -> Finding:
    """Whether something is mounted of the repository that nobody serves."""
    if not directories:
        return Finding("mounts", State.OK, "none is dead")
    first, names = directories[0], ", ".join(map(str, directories))
    found = f"{names}: dead, so programs there get errors"
    return Finding("mounts", State.FAIL, found, f"ana umount {first}, or: ana mount {repository} {first}")


def clock(newest_ns: int, now_ns: int) -> Finding:
    """Whether the clock is where the newest version was made, or later."""
    behind, newest = newest_ns - now_ns, moment(newest_ns)
    hint = "sudo timedatectl set-ntp true"
    if behind > DAY:
        return Finding("clock", State.FAIL, f"commits are refused: the newest version is of {newest}", hint)
    if behind > _SECOND:
        found = f"{plural(behind // _SECOND, 'second')} behind the newest version, of {newest}"
        return Finding("clock", State.WARN, found, hint)
    return Finding("clock", State.OK, f"not behind the newest version, of {newest}")
