"""How far somebody gets in a version: a restore reads with the daemon's rights, where the kernel does not judge.

docs/design/009 has the reasons. Who may read the repository itself is not held up.
"""

import errno
import os
from pathlib import Path

from anabranch.escape import show_path
from anabranch.fuse.handles import Caller
from anabranch.versions.objects import Entry
from anabranch.versions.trees import Version


class Reach:
    """Of a caller, as he is now: to be made while he waits for an answer."""

    def __init__(self, caller: Caller) -> None:
        self._uid = caller.uid
        self._free = caller.uid in (0, os.getuid())
        groups = None if self._free else _groups(caller.pid)
        self._groups = None if groups is None else groups | {caller.gid}

    def check(self, version: Version, path: bytes) -> None:
        """Raises OSError(EACCES) unless every directory that a version has above a path may be searched."""
        parts = [] if self._free or not path else path.split(b"/")
        for above in (b"/".join(parts[:length]) for length in range(len(parts))):
            if (directory := version.find(above)) is None:
                return
            if not self._may_search(directory):
                shown = show_path(above) or "the root directory"
                raise OSError(errno.EACCES, f"you may not search {shown} of that version")

    def _may_search(self, directory: Entry) -> bool:
        if directory.uid == self._uid:
            return bool(directory.mode & 0o100)
        if self._groups is None:
            return directory.mode & 0o011 == 0o011
        return bool(directory.mode & (0o010 if directory.gid in self._groups else 0o001))


def _groups(process: int) -> set[int] | None:
    """The supplementary groups of a process; None if they cannot be told."""
    try:
        status = Path(f"/proc/{process}/status").read_bytes()  # the process's name in it may be anything
    except OSError:
        return None
    lines = (line for line in status.split(b"\n") if line.startswith(b"Groups:"))
    return next(({int(group) for group in line.split()[1:]} for line in lines), None)
