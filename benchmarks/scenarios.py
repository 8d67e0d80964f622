"""What the benchmarks have in common: a case is one timed thing, a scenario a row of cases on the same data.

The cases of a scenario run in order on one filesystem, each on what those before it left. A case is the same code for
every filesystem. It prepares, times, and then checks what it got; only the middle part is inside the `Stopwatch`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.filesystems import Filesystem
from benchmarks.timing import drop_caches

MIB_A_SECOND, FILES_A_SECOND, READS_A_SECOND = "MiB/s", "files/s", "reads/s"


@dataclass(frozen=True, slots=True)
class Case:
    """`run` gives a rate in `unit`: more is better. `needs` names cases of the same scenario that must have run."""

    name: str
    unit: str
    run: Callable[[Filesystem], float]
    needs: tuple[str, ...] = ()
    is_commit: bool = False  # only where the filesystem has commits
    is_cold: bool = False  # drops the kernel's caches, which needs root


class Scenario(ABC):
    """Cases over one set of data; made without any work, `prepare` makes the data."""

    name: str
    cases: tuple[Case, ...]

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Make the data; what needs to be on a disk goes into `folder`."""

    def to_run(self, selected: Collection[str]) -> list[Case]:
        """The selected cases and those that they need, in order."""
        wanted: set[str] = set()
        for case in reversed(self.cases):  # a case needs only earlier ones
            if case.name in selected or case.name in wanted:
                wanted |= {case.name, *case.needs}
        return [case for case in self.cases if case.name in wanted]


def make_cold(filesystem: Filesystem) -> None:
    """Empty the caches: the daemon's by mounting anew, then the kernel's."""
    filesystem.remount()
    drop_caches()


def expect(what: str, got: object, wanted: object) -> None:
    """A wrong answer ends the run."""
    if got != wanted:
        raise BenchmarkError(f"wrong answer: {what} is {_short(got)}, not {_short(wanted)}")


def count_wrong(got: Sequence[bytes], wanted: Sequence[bytes]) -> int:
    """How many pieces of content differ."""
    return sum(one != other for one, other in zip(got, wanted, strict=True))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
