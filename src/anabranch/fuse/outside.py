"""What the kernel must be told: changes that did not come through it, and whether it listens.

Contents change through the kernel only, and a file that something else puts in place has a new number
(worktree/restore.py). So names are to be forgotten, positive and negative ones, and attributes; from a worker thread,
since the kernel may hold a directory's lock for an operation that waits for the loop.
"""

import logging
import os
from pathlib import Path

import trio

from anabranch.fuse.areas import FOREVER, ROOT, Area
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.commits import Committer, Kernel
from anabranch.ids import ObjectId
from anabranch.repo import Repository, Restored
from anabranch.worktree.inodes import Inode
from anabranch.worktree.restore import Stale

log = logging.getLogger(__name__)

PROBE = ".ana-probe"
"""A name that is never there, at the mount's root: no name of a branch or a version can be it."""
UNSURE = 1.0
"""Seconds to trust that a name is not there, with a kernel that does not forget it when it is told to."""


class Outside:
    """Changes of branches from outside the mount."""

    def __init__(self, repository: Repository, kernel: Kernel, committer: Committer) -> None:
        self._repository = repository
        self._kernel = kernel
        self._committer = committer
        self._teller = trio.CapacityLimiter(1)
        self._absence = UNSURE
        self._probed = 0

    async def restore(self, area: BranchArea, source: ObjectId, paths: list[bytes]) -> Restored:
        """Repository.restore, seen by every process when it returns; what programs wrote before it comes first."""
        await self._committer.launder(area)
        await self._committer.passage(area)
        done, stale = self._repository.restore(area.branch.name, source, paths)
        await self.tell(_known(area, stale))
        return done

    async def tell(self, stale: Stale) -> None:
        """Have the kernel forget; returns when no process can see anything of it any more."""
        await trio.to_thread.run_sync(self._tell, stale, limiter=self._teller)
        if stale.names and self._absence < FOREVER:
            await trio.sleep(self._absence)

    def _tell(self, stale: Stale) -> None:
        for parent, name in stale.names:
            self._kernel.drop_name(parent, name)
        for ino in stale.inodes:
            self._kernel.forget_attributes(ino)

    def absence(self, area: Area, parent: Inode, name: bytes) -> float:
        """Seconds to trust that a name is not there."""
        if parent == ROOT and name == PROBE.encode():
            self._probed += 1
            return FOREVER
        return min(area.absence(parent), self._absence)

    def probe(self, mount_point: Path) -> None:
        """Find out whether the kernel forgets that a name is not there (Linux 6.19 or so does not). A worker thread."""
        path = mount_point / PROBE
        os.path.lexists(path)
        asked = self._probed
        self._kernel.drop_name(ROOT, PROBE.encode())
        os.path.lexists(path)
        if self._probed > asked:
            self._absence = FOREVER
        else:
            log.warning("this kernel does not forget names that are not there: they are trusted for %g s", UNSURE)


def _known(area: BranchArea, stale: Stale) -> Stale:
    known = area.tree.table.known
    return Stale({(parent, name) for parent, name in stale.names if parent in known}, stale.inodes & known)
