"""Which processes use a mount, read from /proc alone: nothing here asks the mount."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class User:
    """A process, and one of the paths by which it uses the mount."""

    pid: int
    name: str
    path: str
    how: str
    """`stands in`, `has open`, or `has mapped`."""

    def __str__(self) -> str:
        """`1234 (bash) stands in /mnt/repo/main`."""
        return f"{self.pid} ({self.name}) {self.how} {self.path}"


def users(directory: Path) -> list[User]:
    """The processes that this one may look into and that keep a mount busy; the first path of each."""
    found = []
    for process in Path("/proc").iterdir():
        another = process.name.isdigit() and process.name != str(os.getpid())
        if another and (user := _user(process, str(directory))) is not None:
            found.append(user)
    return sorted(found, key=lambda user: user.pid)


def _user(process: Path, top: str) -> User | None:
    try:
        for path, how in _paths(process):
            if path == top or path.startswith(top + "/"):
                name = (process / "comm").read_text(errors="replace").strip()
                return User(int(process.name), name, path.removesuffix(" (deleted)"), how)
    except OSError:  # it has ended, or belongs to somebody else
        return None
    return None


def _paths(process: Path) -> Iterator[tuple[str, str]]:
    for link in ("cwd", "root"):
        yield str((process / link).readlink()), "stands in"
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield str(descriptor.readlink()), "has open"
    for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
        if len(fields := line.split(maxsplit=5)) == 6:
            yield fields[5], "has mapped"
