"""How long the kernel may trust that a name is not there: for ever, if it forgets that when it is told to."""

import logging
import os
from pathlib import Path
from typing import Protocol

from anabranch.fuse.areas import FOREVER, ROOT, Area
from anabranch.worktree.inodes import Inode

log = logging.getLogger(__name__)

PROBE = b".ana-probe"
"""A name that is never there, at the mount's root: no name of a branch or a version can be it."""
UNSURE = 1.0
"""Seconds, with a kernel that does not forget."""


class _Kernel(Protocol):
    def drop_name(self, parent: Inode, name: bytes) -> None: ...


class Absence:
    """Answers for names that are not there."""

    def __init__(self) -> None:
        self.limit = UNSURE
        """Seconds after which no process can be wrong about a name that was made from outside."""
        self._probed = 0

    def answer(self, area: Area, parent: Inode, name: bytes) -> float:
        """Seconds to trust that a name is not there; what the kernel is told when it looked for one."""
        if parent == ROOT and name == PROBE:
            self._probed += 1
            return FOREVER
        return min(area.absence(parent), self.limit)

    def probe(self, mount_point: Path, kernel: _Kernel) -> None:
        """Find out whether the kernel forgets (Linux 6.19 or so does not): whether it asks again. A worker thread."""
        path = mount_point / os.fsdecode(PROBE)
        os.path.lexists(path)
        asked = self._probed
        kernel.drop_name(ROOT, PROBE)
        os.path.lexists(path)
        if self._probed > asked:
            self.limit = FOREVER
        else:
            log.warning("this kernel does not forget names that are not there: they are trusted for %g s", UNSURE)
