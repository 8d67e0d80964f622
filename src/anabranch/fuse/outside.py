"""Changes that do not come through the kernel, and what it must be told of them.

Contents change through the kernel only, and a file that something else puts in place has a new number
(worktree/restore.py). So names are to be forgotten, and attributes; by a worker thread, since the kernel may hold a
directory's lock for an operation that waits for the loop.
"""

import contextlib
from collections.abc import Sequence

import trio

from anabranch.errors import NotFoundError
from anabranch.fuse.absence import Absence
from anabranch.fuse.areas import FOREVER
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.commits import Committer, Kernel
from anabranch.moves import Move, Moved
from anabranch.repo import Repository
from anabranch.versions.refs import Who
from anabranch.versions.trees import Version
from anabranch.worktree.restore import Restored, Stale


class Outside:
    """Changes of branches from outside the mount."""

    def __init__(self, repository: Repository, kernel: Kernel, committer: Committer, absence: Absence) -> None:
        self._repository = repository
        self._kernel = kernel
        self._committer = committer
        self._absence = absence
        self._teller = trio.CapacityLimiter(1)

    async def restore(
        self, area: BranchArea, source: Version, paths: list[bytes], *,
        new_too: bool = False, kept: Sequence[bytes] = (),
    ) -> Restored:  # fmt: skip
        """Repository.restore, seen by every process when it returns; what programs wrote before it comes first."""
        await self._committer.launder(area)
        await self._committer.passage(area)
        if area.gone:
            raise NotFoundError("the branch was deleted meanwhile")
        stale = Stale()
        try:
            return self._repository.restore(area.branch.name, source, paths, new_too=new_too, kept=kept, stale=stale)
        finally:
            await self._tell_known(area, stale)

    async def move(self, area: BranchArea, wanted: Move, who: Who) -> Moved:
        """Repository.move beside running programs, seen by every process when it returns."""
        repository, stale = self._repository, Stale()
        try:
            async with self._committer.still(area):
                step = repository.begin_move(area.branch.name, wanted, stale)
                try:
                    await trio.to_thread.run_sync(repository.moves.write, step, who)
                except BaseException:
                    repository.moves.undo(step, stale)
                    raise
                moved = repository.moves.end(step)
        finally:
            await self._tell_known(area, stale)
        return moved

    async def _tell_known(self, area: BranchArea, stale: Stale) -> None:
        known = area.tree.table.known
        stale.names = {(parent, name) for parent, name in stale.names if parent in known}
        stale.inodes &= known
        await self.tell(stale)

    async def tell(self, stale: Stale) -> None:
        """Have the kernel forget; returns when no process can see anything of it any more."""
        await trio.to_thread.run_sync(self._tell, stale, limiter=self._teller)
        if stale.names and self._absence.limit < FOREVER:
            await trio.sleep(self._absence.limit)

    def _tell(self, stale: Stale) -> None:
        for parent, name in stale.names:
            self._kernel.drop_name(parent, name)
        for ino in stale.inodes:
            with contextlib.suppress(OSError):  # the mount is ending
                self._kernel.forget_attributes(ino)
