"""Bringing the working trees to disk: every second, and whenever somebody asks for fsync.

Requests that wait together are served by one cut. A commit keeps others out for its transaction, so that rows are
written in the order in which they were cut.
"""

import errno
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from anabranch.errors import AnabranchError
from anabranch.escape import show_path
from anabranch.fuse.handles import Handles
from anabranch.repo import Repository
from anabranch.worktree import settle
from anabranch.worktree.branch import Branch
from anabranch.worktree.cuts import Cut
from anabranch.worktree.keeper import Taken

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between cuts: with the kernel's own delay, what a crash may lose of unsynced work."""


_HOUR = 3600.0
"""Seconds between two looks whether it is another day."""
_ROUNDS = 4
"""How often small files are looked for before a cut: while some become chunks, others are closed."""


class Saver:
    """Writes cuts, one at a time, and takes the journal in when it is long.

    Lock order: `taking`, then `lock`. A commit, and whoever changes a branch's name, has both.
    """

    def __init__(self, repository: Repository, handles: Handles) -> None:
        self._repository = repository
        self._handles = handles
        self._lock = trio.Lock()
        self._taking = trio.Lock()
        self._writer = trio.CapacityLimiter(1)
        self._asked = 0
        self._saved = 0
        self._unsettled = False
        self._owed: OSError | None = None
        """What went wrong while nobody waited: the disk tells it once, so the next fsync must hear it."""

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, nothing is being saved or taken in."""
        async with self._taking, self._lock:
            yield

    async def sync(self) -> None:
        """Return when everything up to now is durable. Raises OSError, DamagedError."""
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            if self._saved >= ticket:
                return
            covers = self._asked
            await self._save()
            self._saved = covers

    async def fsync(self) -> None:
        """The same, for a program. Raises also what went wrong since the last time."""
        await self.sync()
        if (error := self._owed) is not None:
            self._owed = None
            raise error

    @asynccontextmanager
    async def checkpointed(
        self, instant: AbstractAsyncContextManager[None], mark: Callable[[], object]
    ) -> AsyncIterator[None]:
        """Inside, the meta environment holds the working trees as they were when `mark` was called, at an instant, and
        nothing more is taken in. Saving goes on.
        """
        keeper = self._repository.keeper
        async with self._taking:
            async with self._lock:
                async with instant:
                    mark()
                    cut = keeper.cut()
                await self._write(cut)
                taken = keeper.begin_checkpoint()
            await self._take(taken)
            yield

    async def _save(self) -> None:
        await self._write(self._repository.keeper.cut())

    async def _write(self, cut: Cut) -> None:
        keeper = self._repository.keeper
        try:
            await trio.to_thread.run_sync(keeper.write, cut, limiter=self._writer)
        except BaseException:
            keeper.keep(cut)
            raise
        keeper.after(cut)

    async def _take_in(self) -> None:
        async with self._taking:
            async with self._lock:
                taken = self._repository.keeper.begin_checkpoint()
            await self._take(taken)

    async def _take(self, taken: Taken) -> None:
        keeper = self._repository.keeper
        try:
            await trio.to_thread.run_sync(keeper.take_in, taken)
        except BaseException:
            with trio.CancelScope(shield=True):  # at an unmount, too, or the last save would forget these records
                async with self._lock:
                    keeper.put_back(taken)
            raise

    async def _settle_all(self) -> None:
        """What cannot be ingested goes into the journal as it is: it must not keep the rest from being saved."""
        try:
            for branch in list(self._repository.keeper.branches.values()):
                await self._settle(branch)
            self._unsettled = False
        except Exception as error:
            if not self._unsettled:
                log.error("small files could not be ingested; they are kept in the journal: %s", error)
            self._unsettled = True

    async def _settle(self, branch: Branch) -> None:
        repository, table = self._repository, branch.tree.table
        if not repository.space.has_room():  # chunks are not needed now, the room is
            return
        for _ in range(_ROUNDS):
            chosen = settle.choose(table, self._handles.writing())
            if not chosen:
                return
            arguments = (repository.objects, repository.chunks, branch.tree.sources, chosen)
            settle.settle(table, chosen, await trio.to_thread.run_sync(settle.store, *arguments))

    async def settle_idle(self) -> None:
        """Ingest large files that nobody writes to any more, one after the other, for ever."""
        while True:
            await trio.sleep(INTERVAL)
            for branch in list(self._repository.keeper.branches.values()):
                while await self._settle_one(branch):
                    pass

    async def _settle_one(self, branch: Branch) -> bool:
        repository, table = self._repository, branch.tree.table
        chosen = settle.choose_idle(table, self._handles.writing(), time.monotonic_ns())
        if chosen is None:
            return False
        place = repository.layout.overlays
        arguments = (repository.objects, repository.contents, place, chosen, trio.from_thread.check_cancelled)
        try:
            repository.space.check()
            settle.settle(table, [chosen], [await trio.to_thread.run_sync(settle.store_idle, *arguments)])
        except Exception as error:  # perhaps written to meanwhile: it stays where it is
            where = show_path(self._handles.path(chosen.ino))
            log.warning("%s could not be ingested ahead of a commit: %s", where, error)
            settle.put_off(chosen, time.monotonic_ns())
        return True

    async def keep_copies(self) -> None:
        """Make the daily copy of the meta environment, for ever."""
        while True:
            await trio.to_thread.run_sync(self._repository.keep_copy)
            await trio.sleep(_HOUR)

    async def run(self) -> None:
        """Save every second what is not yet saved, for ever."""
        keeper = self._repository.keeper
        failed = False
        while True:
            await trio.sleep(INTERVAL)
            try:
                keeper.space.restore()
                if not keeper.has_unsaved():
                    continue
                await self._settle_all()
                await self.sync()
                if keeper.wants_checkpoint():
                    await self._take_in()
                failed = False
            except (OSError, AnabranchError) as error:
                if not failed:
                    log.error("the working trees could not be saved; trying again every second: %s", error)
                failed = True
                if isinstance(error, OSError) and error.errno == errno.EIO:
                    self._owed = error
            except Exception:
                log.exception("BUG: the working trees could not be saved; trying again")
