"""The figures of a run: rates by case, filesystem and round, and what is said of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.filesystems import Filesystem
from benchmarks.scenarios import Case


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the least and the greatest."""

    median: float
    least: float
    greatest: float


@dataclass(slots=True)
class CaseResults:
    """The rates of one case: by the name of the filesystem, then by round."""

    name: str
    unit: str
    rates: dict[str, dict[int, float]] = field(default_factory=dict)

    def rate(self, filesystem: str) -> Spread | None:
        return _spread(list(self.rates.get(filesystem, {}).values()))

    def ratio(self, over: str, under: str) -> Spread | None:
        """Of the rates of two filesystems in the same round; more than 1 when `over` is the faster one."""
        top, bottom = self.rates.get(over, {}), self.rates.get(under, {})
        return _spread([top[number] / bottom[number] for number in top if number in bottom])


@dataclass(slots=True)
class Results:
    """All figures, and the read-ahead (KiB) of each filesystem's device where it is known."""

    cases: dict[str, CaseResults]
    read_ahead: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, cases: Iterable[Case]) -> Results:
        """No figures yet, for these cases, in their order."""
        return cls({case.name: CaseResults(case.name, case.unit) for case in cases})

    def add(self, case: Case, filesystem: Filesystem, number: int, rate: float) -> None:
        self.cases[case.name].rates.setdefault(filesystem.name, {})[number] = rate


def _spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None
