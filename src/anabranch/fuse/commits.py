"""A commit beside running programs: hold, launder, freeze, release; then build and conclude in worker threads.

The instant (docs/design/001): the bulk of what was written, and its times, is brought in first, without a hold. Then
the kernel is made to forget the attributes of every file of the branch that is open for writing, and answers that would
bring them back are held, which stops write(2), since each asks for the size first; so are changes of names. Those files
are laundered, all after all were forgotten; then the tables are frozen in one step, and the answers go out.

Lock order: a branch's commit lock, then the saver's locks.
"""

import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

from anabranch.candidate import Candidate, Progress, unwatched
from anabranch.commit import Committed, Note
from anabranch.errors import NotFoundError, RefusedError
from anabranch.escape import show_path
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.handles import Handles
from anabranch.fuse.refused import Refused
from anabranch.fuse.saver import Saver
from anabranch.repo import Repository
from anabranch.versions.refs import Who
from anabranch.versions.walks import is_below
from anabranch.worktree.inodes import Inode
from anabranch.worktree.tree import failure

log = logging.getLogger(__name__)

HOLD_LIMITS = (2.0, 4.0, 8.0)
"""Seconds after which a hold is given up and tried again, since what it waits for may wait for it, or for a slow disk;
with the last one goes the commit: what is not frozen then would be torn.
"""
BREATH = 0.1
"""Seconds between two holds, in which answers go out."""
LAUNDER = 2.0
"""Seconds between two times at which what was written to open files is brought in."""
QUIET_WITHIN = 2.0
"""Seconds that renaming or deleting a branch waits for a commit of it."""
END_WITHIN = 10.0
"""Seconds that the end of the mount waits for a commit."""
PATIENCE = 60.0
"""Seconds that a commit waits for another one of the same branch."""


class Kernel(Protocol):
    """What the mount may ask of the kernel. The calls block: only worker threads may make them."""

    def forget_attributes(self, ino: Inode) -> None:
        """Drop cached attributes, so that the next write(2) or stat(2) asks for them."""

    def launder(self, ino: Inode) -> None:
        """Write back dirty pages; returns when the writes have been answered."""

    def write_back_all(self) -> None:
        """Have the dirty pages of the whole mount written back, and the times of their files; not all may have come
        when it returns.
        """

    def drop_name(self, parent: Inode, name: bytes) -> None:
        """Let go of a file that nobody uses. Never to be waited for by a name operation: it wants the parent's lock."""


@dataclass(slots=True)
class Prepared:
    """A commit that waits for its message. Holds the branch's commit lock until it is finished or abandoned."""

    area: BranchArea
    expected: int
    candidate: Candidate
    open: bool = True


class Committer:
    """Makes the commits of a mount. Laundering waits for writes, and writes may wait for chunks to be loaded, so
    neither may use up the other's worker threads: each kind of waiting has its own.
    """

    def __init__(
        self, repository: Repository, kernel: Kernel, handles: Handles, saver: Saver, refused: Refused
    ) -> None:
        self._repository = repository
        self._commits = repository.commits
        self._kernel = kernel
        self._handles = handles
        self._saver = saver
        self._refused = refused
        self._launderers = trio.CapacityLimiter(4)
        self._holders = trio.CapacityLimiter(4 * len(HOLD_LIMITS))  # a hold that was given up keeps its thread
        self._builders = trio.CapacityLimiter(4)
        self._locks: dict[BranchArea, trio.Semaphore] = {}
        self._held: dict[object, trio.Event] = {}
        self._ending = self._over = False
        repository.commits.check = self._check_going_on

    async def passage(self, area: object) -> None:
        """Wait while answers about an area are held. Whoever answers with attributes comes through here first."""
        while (held := self._held.get(area)) is not None:
            await held.wait()
        if self._over:
            raise failure(errno.ENOTCONN)

    def holds(self, area: object) -> bool:
        """Whether answers about an area are held: what must be answered all the same must not be trusted long."""
        return area in self._held

    async def launder(self, area: BranchArea) -> None:
        """Bring what programs have written to files that are still open."""
        inodes = self._handles.writers(area)
        if inodes:
            await trio.to_thread.run_sync(self._each, self._kernel.launder, inodes, limiter=self._launderers)

    async def launder_often(self) -> None:
        """Bring what programs write to files that they keep open, for ever: the kernel alone would wait for 30 s.

        It would not ask for the room that they take, either, until they are closed.
        """
        while True:
            await trio.sleep(LAUNDER)
            if inodes := list(self._handles.writing()):
                await trio.to_thread.run_sync(self._kernel.write_back_all, limiter=self._launderers)
                forget = self._kernel.forget_attributes
                await trio.to_thread.run_sync(self._each, forget, inodes, limiter=self._launderers)

    @staticmethod
    def _each(call: Callable[[Inode], None], inodes: list[Inode]) -> None:
        for ino in inodes:
            call(ino)

    async def end(self) -> None:
        """No commit is begun any more, and those that take long fail: a shell would not hear of it on close(2)."""
        self._ending = True
        for lock in list(self._locks.values()):
            with trio.move_on_after(END_WITHIN):
                await lock.acquire()
                lock.release()

    @asynccontextmanager
    async def last_instant(self, areas: list[BranchArea]) -> AsyncIterator[None]:
        """Inside, and ever after: all that was written is here, and who goes on writing gets an error."""
        async with AsyncExitStack() as holds:
            for area in areas:
                with contextlib.suppress(RefusedError, OSError):
                    await holds.enter_async_context(self._instant(area, HOLD_LIMITS[:1]))
            self._over = True
            yield

    @asynccontextmanager
    async def instant(self, areas: list[BranchArea]) -> AsyncIterator[None]:
        """Inside, all that was written to several branches is here and nothing more can be. Raises RefusedError."""
        async with AsyncExitStack() as holds:
            for area in areas:
                await holds.enter_async_context(self._instant(area))
            yield

    def _check_going_on(self) -> None:
        if self._ending:
            raise RefusedError("the mount is ending; nothing was committed", hint="mount again, then commit")

    @asynccontextmanager
    async def _instant(self, area: BranchArea, limits: Sequence[float] = HOLD_LIMITS) -> AsyncIterator[None]:
        """Inside, all that was written to the branch is here and nothing more can be written. Raises RefusedError."""
        if self._handles.writers(area):
            await trio.to_thread.run_sync(self._kernel.write_back_all, limiter=self._launderers)
        await self.launder(area)
        for seconds in limits:
            async with self._holding(area):
                if await self._brought_in(area, seconds):
                    yield
                    return
            await trio.lowlevel.checkpoint()  # whoever has waited goes on, however long this thread stood still
            await trio.sleep(BREATH)
        raise RefusedError("the programs that write could not be held", hint="try again")

    @asynccontextmanager
    async def _holding(self, area: BranchArea) -> AsyncIterator[None]:
        """Inside, answers about an area are held."""
        while (held := self._held.get(area)) is not None:  # the end of the mount holds, too
            await held.wait()
        self._held[area] = trio.Event()
        try:
            yield
        finally:
            self._held.pop(area).set()

    async def _brought_in(self, area: BranchArea, seconds: float) -> bool:
        """Whether the kernel has brought in all that was written to open files, in so much time."""
        inodes = self._handles.writers(area)
        with trio.move_on_after(seconds) as limit:
            for call in (self._kernel.forget_attributes, self._kernel.launder) if inodes else ():
                await trio.to_thread.run_sync(self._each, call, inodes, abandon_on_cancel=True, limiter=self._holders)
        return not limit.cancelled_caught

    async def _acquire(self, area: BranchArea, seconds: float) -> trio.Semaphore:
        lock = self._locks.setdefault(area, trio.Semaphore(1))
        with trio.move_on_after(seconds) as waiting:
            await lock.acquire()
        if waiting.cancelled_caught:
            raise RefusedError(f"a commit of {area.branch.name} is being made", hint="try again when it is done")
        return lock

    @asynccontextmanager
    async def quiet(self, area: BranchArea) -> AsyncIterator[None]:
        """Inside, no commit of the branch is being made and nothing is being saved: its name may change."""
        lock = await self._acquire(area, QUIET_WITHIN)
        try:
            async with self._saver.alone():
                yield
        finally:
            lock.release()

    @asynccontextmanager
    async def still(self, area: BranchArea) -> AsyncIterator[None]:
        """Inside, the branch is still: no commit is made, nothing is saved or written, and all that was is here."""
        self._check_going_on()
        lock = await self._acquire(area, PATIENCE)
        try:
            async with self._saver.alone(), self._instant(area):
                self._check_going_on()
                if area.gone:
                    raise NotFoundError("the branch was deleted meanwhile")
                yield
        finally:
            lock.release()

    async def prepare(
        self, area: BranchArea, *,
        paths: list[bytes] | None = None, any_clock: bool = False, allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Prepared:  # fmt: skip
        """Freeze the branch and build what a commit of it holds. Raises NothingToCommitError, RefusedError, OSError."""
        self._check_going_on()
        if not any_clock:
            self._repository.refs.check_clock(area.branch.name)
        lock = await self._acquire(area, PATIENCE)
        try:
            self._check_going_on()
            name = area.branch.name
            expected = self._repository.refs.get(name).number
            async with self._instant(area):
                self._check_going_on()
                self._check_whole(area, paths)
                frozen = self._commits.freeze(name)
            try:
                candidate = await trio.to_thread.run_sync(
                    partial(self._commits.build, frozen, paths, allow_empty=allow_empty, progress=progress),
                    limiter=self._builders,
                )
                self._check_going_on()
            except BaseException:
                self._commits.thaw(area.branch.name)
                raise
        except BaseException:
            lock.release()
            raise
        return Prepared(area, expected, candidate)

    def _check_whole(self, area: BranchArea, paths: list[bytes] | None) -> None:
        """Raises RefusedError when programs have written more to a file than could be kept: they still see it."""
        for ino, error in self._refused:
            node = area.tree.table.nodes.get(ino)
            if node is None or node.orphan or not self._handles.is_open(ino):
                continue
            path = self._handles.path(ino).partition(b"/")[2]
            if paths is None or any(is_below(path, top) for top in paths):
                raise RefusedError(
                    f"{show_path(path)} could not be written whole: {error.strerror}",
                    hint="close it, to go on with what was kept of it; or write it again",
                )

    async def finish(self, prepared: Prepared, note: Note, who: Who) -> Committed:
        """Commit with a note. Raises UsageError, ConflictError, OSError; then nothing has happened."""
        repository, area, candidate = self._repository, prepared.area, prepared.candidate
        name = area.branch.name
        try:
            built = await trio.to_thread.run_sync(self._commits.conclude, candidate, note, who)
            async with self._saver.alone():
                cut = self._commits.cut(name, built)
                try:
                    number = await trio.to_thread.run_sync(
                        self._commits.write, name, prepared.expected, built, cut, who
                    )
                except BaseException:
                    repository.keeper.keep(cut)
                    raise
                ended = self._commits.advance(name, built, cut)
        except BaseException:
            self.abandon(prepared)
            raise
        self._release(prepared)
        try:
            await trio.to_thread.run_sync(self._commits.sweep, prepared.area.branch.number, ended)
        except Exception as error:  # the commit is made; the next opening sweeps
            log.warning("rows of a commit that is made could not be swept: %s", error)
        return Committed(name, number, built.commit, candidate.files, candidate.added)

    def abandon(self, prepared: Prepared) -> None:
        """Let a prepared commit go: everything is uncommitted again."""
        if prepared.open:
            self._commits.thaw(prepared.area.branch.name)
            self._release(prepared)

    def _release(self, prepared: Prepared) -> None:
        prepared.open = False
        self._locks[prepared.area].release()

    async def commit(
        self, area: BranchArea, note: Note, who: Who, *,
        paths: list[bytes] | None = None, any_clock: bool, allow_empty: bool = False, progress: Progress = unwatched,
    ) -> Committed:  # fmt: skip
        """Prepare and finish in one. What `progress` raises ends it, up to the last moment."""
        prepared = await self.prepare(
            area, paths=paths, any_clock=any_clock, allow_empty=allow_empty, progress=progress
        )
        try:
            progress(0, 0)
        except BaseException:
            self.abandon(prepared)
            raise
        return await self.finish(prepared, note, who)
