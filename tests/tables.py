"""Tables as plain Python, and what comparing and merging them should come to: the model of tests/unit/test_tables*.py.

A table is a header and rows; a value that is not there is None. Rows are told apart by `plain`, for which NaN is NaN.
"""

import importlib.util
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness import REQUIRED

Row = tuple[Any, ...]
NEEDS = ("duckdb", "pyarrow")


def need_duckdb() -> None:
    """Skip the tests of a module without DuckDB; where the mounted ones must run, it must be there."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing and REQUIRED:
        pytest.fail(f"{', '.join(missing)} missing, and ANABRANCH_REQUIRE_FUSE=1", pytrace=False)
    if missing:
        pytest.skip(f"{', '.join(missing)} missing", allow_module_level=True)


@dataclass(frozen=True)
class Plain:
    """A table."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]

    def by(self, key: tuple[str, ...]) -> dict[Row, Row]:
        """The rows by their keys, in order."""
        places = [*map(self.header.index, key)]
        return {plain(tuple(row[place] for place in places)): row for row in self.rows}

    def only(self, header: tuple[str, ...]) -> "Plain":
        """Some columns, in another order perhaps."""
        places = [*map(self.header.index, header)]
        return Plain(header, tuple(tuple(row[place] for place in places) for row in self.rows))


def plain(value: Any) -> Any:
    """What can be compared: NaN equals itself, and minus nothing is nothing."""
    if isinstance(value, float):
        return "NaN" if value != value else value + 0.0
    if isinstance(value, dict):
        return tuple((name, plain(inside)) for name, inside in sorted(value.items()))
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def compared(old: Plain, new: Plain, key: tuple[str, ...]) -> tuple[list[Row], list[Row], list[Row]]:
    """The keys that were added, removed and changed: those in order of the new rows, the removed of the old ones."""
    common = tuple(name for name in new.header if name in old.header)
    before, after = (side.only(common).by(key) for side in (old, new))
    changed = [one for one in after if one in before and plain(before[one]) != plain(after[one])]
    return [one for one in after if one not in before], [one for one in before if one not in after], changed


def surplus(one: Plain, other: Plain) -> int:
    """How many rows one table has that the other has not, equal ones counted."""
    common = tuple(name for name in one.header if name in other.header)
    counts = [Counter(map(plain, side.only(common).rows)) for side in (one, other)]
    return (counts[0] - counts[1]).total()


def merged(base: Plain, ours: Plain, theirs: Plain, key: tuple[str, ...]) -> tuple[list[Row], set[Row]]:
    """The rows that a merge comes to, in order, and the keys that are in conflict."""
    before, mine, its = (side.only(ours.header).by(key) for side in (base, ours, theirs))
    taken: dict[Row, Row | None] = {}
    conflicts = set()
    for one in {**before, **its}:
        sides = [plain(side.get(one)) for side in (before, mine, its)]
        if sides[2] in (sides[0], sides[1]):
            continue
        taken[one] = its.get(one)
        if sides[1] != sides[0]:
            conflicts.add(one)
    kept = [taken.get(one, row) for one, row in mine.items()]
    new = [row for one, row in its.items() if one in taken and one not in mine]
    return [row for row in (*kept, *new) if row is not None], conflicts
