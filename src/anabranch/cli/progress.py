"""Progress bars of long work, in bytes, on standard error; nothing where nobody watches."""

import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """A bar, or the want of one. Any thread may advance it."""

    def __init__(self, drawn: "tuple[Progress, TaskID] | None" = None) -> None:
        self._drawn = drawn

    def advance(self, count: int) -> None:
        """So many bytes more are done."""
        if self._drawn is not None:
            progress, task = self._drawn
            progress.update(task, advance=count)

    def show(self, done: int, total: int) -> None:
        """So many bytes of so many are done."""
        if self._drawn is not None:
            progress, task = self._drawn
            progress.update(task, completed=done, total=total)

    def measure(self, sizes: Iterable[int]) -> None:
        """Find out beside the work how much there is to do."""
        if self._drawn is not None:
            threading.Thread(target=self._measure, args=(sizes,), daemon=True, name="measure").start()

    def _measure(self, sizes: Iterable[int]) -> None:
        assert self._drawn is not None
        progress, task = self._drawn
        with contextlib.suppress(OSError):  # then it stays unknown
            progress.update(task, total=sum(sizes))


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Bar]:
    """A bar while the block runs; `total` in bytes, None as long as it is unknown."""
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich import progress as rich  # takes 60 ms, and scripts do without
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}", markup=False), rich.BarColumn(), rich.DownloadColumn(),
        rich.TransferSpeedColumn(), rich.TimeRemainingColumn(),
    )  # fmt: skip
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield Bar((drawn, drawn.add_task(label, total=total)))


@contextmanager
def busy(label: str) -> Iterator[None]:
    """A sign that work goes on, of which nobody can say how much there is."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status(label):
        yield
