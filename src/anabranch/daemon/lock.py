"""The owner's lock: an flock(2) on the repository's folder, which the kernel lets go when its process ends.

Not on a file in it: whoever deleted that would make room for a second owner. The file `lock` says who holds it, for
messages only; a process id that was left behind means nothing.
"""

import contextlib
import fcntl
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from anabranch.errors import DeniedError, RefusedError
from anabranch.store import private
from anabranch.store.layout import OTHERS, Layout

_PAUSE = 0.01
"""Seconds between two looks at a lock."""


class Owner(msgspec.Struct, frozen=True):
    """Who holds a repository."""

    pid: int
    mount_point: str | None
    failed: bool = False
    """Its daemon ended badly; its log says how."""


@dataclass(slots=True)
class Lock:
    """A held lock; use it as a context manager, or `release` it."""

    descriptor: int
    file: Path
    died: Owner | None = None
    """Who had the repository mounted before, and ended without saying so."""

    def say(self, mount_point: str | None, *, failed: bool = False) -> None:
        """Note who holds the lock, or how that ended."""
        said = msgspec.json.encode(Owner(os.getpid(), mount_point, failed)) + b"\n"
        with contextlib.suppress(OSError):  # a full disk
            descriptor = private.open_file(self.file, os.O_WRONLY | os.O_TRUNC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(said)

    def release(self) -> None:
        """Let go."""
        os.close(self.descriptor)

    def __enter__(self) -> "Lock":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self.release()


def acquire(layout: Layout, *, mount_point: str | None = None, patience: float = 0.0) -> Lock:
    """Become the owner, waiting so many seconds for another one to end. Raises RefusedError, DeniedError."""
    try:
        descriptor = _open(layout)
        os.close(private.open_file(layout.lock, os.O_WRONLY))
    except PermissionError as error:
        raise DeniedError(f"cannot write in {layout.path}: {error.strerror}", hint=OTHERS) from error
    end = time.monotonic() + patience
    while not _take(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > end:
            os.close(descriptor)
            raise in_use(layout)
        time.sleep(_PAUSE)
    lock = Lock(descriptor, layout.lock, last_to_die(layout))
    lock.say(mount_point)
    return lock


def _open(layout: Layout) -> int:
    return os.open(layout.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_use(layout: Layout) -> RefusedError:
    """The error that says who holds a repository."""
    holder = owner(layout.lock)
    if holder is not None and holder.mount_point:
        return RefusedError(
            f"{layout.path} is already mounted at {holder.mount_point} (process {holder.pid})",
            hint=f"ana umount {holder.mount_point}",
        )
    who = f" by process {holder.pid}" if holder is not None else ""
    return RefusedError(f"{layout.path} is in use{who}", hint="try again when that process is done")


def owner(path: Path) -> Owner | None:
    """What the lock file says; true only while the lock is held."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None


def mount_point(layout: Layout) -> str | None:
    """Where the repository is mounted now."""
    holder = owner(layout.lock) if is_held(layout) else None
    return None if holder is None else holder.mount_point


def last_to_die(layout: Layout) -> Owner | None:
    """Who had the repository mounted and ended without saying so; true only while nobody has it."""
    last = owner(layout.lock)
    return last if last is not None and last.mount_point is not None and not last.failed else None


def is_held(layout: Layout) -> bool:
    """Whether somebody owns the repository now."""
    descriptor = _open(layout)
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def is_dying(layout: Layout) -> bool:
    """Whether the process that holds the lock was killed, though threads of it still wait for the kernel.

    Who it is, the kernel says: a file that says so may lie.
    """
    place = layout.path.stat()
    where = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}:{place.st_ino}"
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = [row[4] for row in rows if row[1:2] == ["FLOCK"] and row[5] == where]
    try:
        lines = Path(f"/proc/{holders[0]}/status").read_text().splitlines()
    except (OSError, IndexError):
        return False
    status = dict(line.split(":\t", 1) for line in lines)
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return status["State"][0] in "ZX" or bool(pending >> (signal.SIGKILL - 1) & 1)


def wait_until_free(layout: Layout, seconds: float) -> bool:
    """Wait for the owner to end; returns whether it did."""
    end = time.monotonic() + seconds
    while is_held(layout):
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True
