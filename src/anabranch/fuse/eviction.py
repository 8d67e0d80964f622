"""Names of files are taken back from the kernel: of those that it met long ago, since what it knows costs memory here,
and of those of which it shows more than could be kept.
"""

from collections.abc import Callable

import trio

from anabranch.fuse.branches import BranchArea
from anabranch.fuse.commits import Kernel
from anabranch.fuse.handles import Handles, Place
from anabranch.worktree.inodes import Inode

SOON, LATER = 0.05, 60.0
"""Seconds after which the kernel is asked again to let go of a file: at first, and at last."""


class Eviction:
    """Of one mount; in its loop. One worker thread tells the kernel, and never one that answers a request."""

    def __init__(self, kernel: Kernel, handles: Handles) -> None:
        self._kernel = kernel
        self._handles = handles
        self._turn = trio.Semaphore(1)
        self._worker = trio.CapacityLimiter(1)
        self._asked_for: dict[Inode, trio.Event] = {}
        """Files that it is asked to let go of; set when it is to be asked at once."""
        self._ending = False

    async def of_cold(self) -> None:
        """Take files that it met long ago, for ever."""
        while True:
            await self._handles.too_many.wait()
            async with self._turn:
                await self._drop(self._handles.cold())
            await trio.sleep(0)

    async def of_file(self, ino: Inode, is_needed: Callable[[], bool]) -> None:
        """Have the kernel let go of a file that nobody has open, and so whoever looks next sees what was kept of it.

        It does when it knows none of the file's names, and whoever looks one up between two drops has it know that one
        again: so it is asked until it has. Somebody may know the file for hours without having it open.
        """
        if ino in self._asked_for:
            self._asked_for[ino].set()
            return
        pause = SOON
        try:
            while is_needed():
                again = self._asked_for[ino] = trio.Event()
                await self._drop_all_of(ino)
                with trio.move_on_after(pause):
                    await again.wait()
                pause = SOON if again.is_set() else min(2 * pause, LATER)
        finally:
            self._asked_for.pop(ino, None)

    async def _drop_all_of(self, ino: Inode) -> None:
        async with self._turn:
            area = self._handles.area(ino)
            if isinstance(area, BranchArea):
                await self._drop([place for place in self._handles.places(ino) if area.leads(*place, ino)])

    async def stop(self) -> None:
        """Evict no more, ever; returns when nothing is being evicted."""
        self._ending = True
        await self._turn.acquire()

    async def _drop(self, places: list[Place]) -> None:
        await trio.to_thread.run_sync(self._drop_names, places, limiter=self._worker)

    def _drop_names(self, places: list[Place]) -> None:
        for parent, name in places:
            if self._ending:
                return
            self._kernel.drop_name(parent, name)
