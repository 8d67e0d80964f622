"""What is mounted where, as the kernel tells; above all, which repositories."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

FILESYSTEM = "fuse.anabranch"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted repository. `device` is `major:minor`."""

    repository: Path
    directory: Path
    device: str

    def is_dead(self) -> bool:
        """Whether its daemon has ended without unmounting."""
        try:
            os.statvfs(self.directory)
        except OSError:
            return True
        return False


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Anything that is mounted: its kind (`ext4`), where it comes from, where it is, and its device."""

    kind: str
    source: str
    directory: Path
    device: str


def filesystems() -> list[Filesystem]:
    """Every filesystem that this process sees, in the order in which they were mounted."""
    return parse(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))


def parse(mountinfo: str) -> list[Filesystem]:
    """What the kernel says: proc_pid_mountinfo(5)."""
    found = []
    for line in mountinfo.rstrip("\n").split("\n"):
        left, _, right = line.partition(" - ")
        fields, (kind, source, *_) = left.split(" "), right.split(" ")
        found.append(Filesystem(kind, _plain(source), Path(_plain(fields[4])), fields[2]))
    return found


def below(path: Path, among: list[Filesystem]) -> Filesystem:
    """The filesystem that a path lies on; of several at one directory the newest."""
    above = [filesystem for filesystem in reversed(among) if path.is_relative_to(filesystem.directory)]
    return max(above, key=lambda filesystem: len(filesystem.directory.parts))


def all_mounts() -> list[Mount]:
    """Every mount of Anabranch that this process sees."""
    found = [filesystem for filesystem in filesystems() if filesystem.kind == FILESYSTEM]
    return [Mount(Path(filesystem.source), filesystem.directory, filesystem.device) for filesystem in found]


def of(repository: Path) -> list[Mount]:
    """The mounts of a repository."""
    return [mount for mount in all_mounts() if mount.repository == repository]


def at(directory: Path) -> Mount | None:
    """The mount at a directory; the newest if there are several."""
    return next((mount for mount in reversed(all_mounts()) if mount.directory == directory), None)


def around(path: Path) -> Mount | None:
    """The mount that a path lies in."""
    inside = [mount for mount in all_mounts() if path.is_relative_to(mount.directory)]
    return max(inside, key=lambda mount: len(mount.directory.parts), default=None)


def absolute(path: Path) -> Path:
    """An absolute path without links. A last part that is none is not touched: it may be a dead mount."""
    full = Path(os.path.abspath(path))
    point = full.parent.resolve() / full.name
    try:
        point.readlink()
    except OSError:
        return point
    return point.resolve()


def _plain(text: str) -> str:
    """Undo the kernel's octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)
