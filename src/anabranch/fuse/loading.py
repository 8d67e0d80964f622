"""Chunks that a request needs and that are not in memory are loaded in worker threads; who reads in order finds the
next ones loaded ahead. Runs in the mount's loop.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

import trio

from anabranch.errors import AnabranchError
from anabranch.fuse.chores import once
from anabranch.fuse.handles import Handle
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.versions.contents import NotLoaded

log = logging.getLogger(__name__)

T = TypeVar("T")

LARGE_READ = 64 * 1024
"""Reads of so many bytes come from the kernel's read-ahead, so the file is being read in order."""
AHEAD = 4 * 1024 * 1024
"""How far ahead of such reads chunks are loaded, in bytes: decoding takes 1 to 3 ms a MiB."""
AHEAD_STEP = 1024 * 1024
LOADERS = 16
"""Requests that wait for chunks at once; what each loads fits into the cache beside the others'."""


class Loading:
    """Of one mount."""

    def __init__(self, repository: Repository, nursery: trio.Nursery) -> None:
        self._contents = repository.contents
        self._nursery = nursery
        self._turns = trio.Semaphore(LOADERS)
        self._workers = trio.CapacityLimiter(2 * LOADERS)

    async def with_chunks(self, call: Callable[[], T]) -> T:
        """Call; while chunks are missing, have them loaded and call again."""
        while True:
            try:
                return call()
            except NotLoaded as missing:
                await self._loaded(missing)

    async def read(self, handle: Handle, offset: int, length: int) -> bytes:
        """A range of an open file."""
        area, ino = handle.area, handle.ino
        while True:
            try:
                data = area.read(ino, offset, length)
                break
            except NotLoaded as missing:
                if handle.loading is None:
                    await self._loaded(missing)
                else:
                    await handle.loading.wait()
        if length >= LARGE_READ:
            self._read_ahead(handle, offset + length)
        return data

    async def _loaded(self, missing: NotLoaded) -> None:
        async with self._turns:
            await trio.to_thread.run_sync(self._contents.load, missing.chunks, limiter=self._workers)

    def _read_ahead(self, handle: Handle, offset: int) -> None:
        """Have the next chunks loaded while the kernel and the program are busy with these."""
        if not offset <= handle.ahead <= offset + 2 * AHEAD:
            handle.ahead = offset
        handle.wanted = offset + AHEAD
        if handle.loading is None and handle.ahead < handle.wanted:
            handle.loading = trio.Event()
            self._nursery.start_soon(once, self._load_ahead, handle, handle.loading)

    async def _load_ahead(self, handle: Handle, loading: trio.Event) -> None:
        """Step by step, so that who waits for the first chunks need not wait for the last; each step by two workers,
        whose decoding runs beside each other.
        """
        try:
            while handle.ahead < handle.wanted:
                chunks = handle.area.missing(handle.ino, handle.ahead, AHEAD_STEP)
                handle.ahead += AHEAD_STEP
                if chunks:
                    async with trio.open_nursery() as both:
                        both.start_soon(self._load_early, chunks[::2])
                        both.start_soon(self._load_early, chunks[1::2])
                    loading.set()
                    loading = handle.loading = trio.Event()
        except (AnabranchError, OSError) as error:
            log.warning("reading ahead ended: %s", error)  # whoever reads there will be told
        finally:
            handle.loading = None
            loading.set()

    async def _load_early(self, chunks: list[ObjectId]) -> None:
        try:
            await trio.to_thread.run_sync(self._contents.load, chunks, limiter=self._workers)
        except (AnabranchError, OSError) as error:
            log.warning("reading ahead failed: %s", error)  # whoever reads there will be told
