"""What is timed and what is not: a stopwatch, and bringing the kernel's caches to a known state."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from types import TracebackType

from benchmarks.errors import BenchmarkError

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_SETTLE_SECONDS = 0.2


class Stopwatch:
    """`with Stopwatch() as watch: ...; watch.seconds`. Python's collector is off meanwhile."""

    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        gc.collect()
        gc.disable()
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.seconds = time.perf_counter() - self._start
        gc.enable()


def can_drop_caches() -> bool:
    """Whether this user may empty the kernel's caches."""
    return os.access(_DROP_CACHES, os.W_OK)


def drop_caches() -> None:
    """Empty the kernel's caches of pages, names and inodes.

    A mount gets its FORGETs asynchronously: the pause lets its daemon finish them outside the timed part.
    """
    os.sync()
    try:
        _DROP_CACHES.write_text("3\n")
    except OSError as error:
        raise BenchmarkError(f"cannot drop the kernel's caches (are you root?): {error}") from error
    time.sleep(_SETTLE_SECONDS)
