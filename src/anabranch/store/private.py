"""Files and directories of a repository: nobody else's, whatever the umask says, and never behind a symbolic link."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from anabranch.errors import DamagedError

_FILE, _DIRECTORY = 0o600, 0o700
_LARGEST = (1 << 63) - 1


def open_file(path: Path, flags: int) -> int:
    """Open a file, making it if it is not there. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != _FILE:
            os.fchmod(descriptor, _FILE)
        _give_away(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _give_away(made: int | Path, path: Path) -> None:
    """What root makes in somebody's repository is that one's, who could not open it any more."""
    if os.geteuid() == 0 and (owner := path.parent.stat()).st_uid != 0:
        os.chown(made, owner.st_uid, owner.st_gid)


def make_file(path: Path) -> None:
    """Make a file, empty, unless it is there. Raises OSError."""
    if not os.path.lexists(path):
        os.close(open_file(path, os.O_WRONLY))


def check_file(path: Path) -> None:
    """Raises DamagedError when something else than a file is in the place of one: a link, a pipe, a device."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DamagedError(f"{path} is no file", hint=f"look at it: ls -l {path}")


def make_directory(path: Path) -> None:
    """Make a directory unless it is there. Raises OSError."""
    try:
        path.mkdir(_DIRECTORY)
    except FileExistsError:
        return
    path.chmod(_DIRECTORY)
    _give_away(path, path)


def numbered(directory: Path) -> Iterator[int]:
    """The numbers that are names of files in a directory, in no order."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.isascii() and entry.name.isdigit() and int(entry.name) <= _LARGEST:
                yield int(entry.name)
