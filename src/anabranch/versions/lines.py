"""The lines on which two texts differ, as a unified diff, in a time that grows with their length alone.

Lines that both texts have once, in the same order, hold the comparison; between two of them it starts anew ("patience
diff"). Where no such line is left, what is equal at both ends is equal, and the rest differs: what is told is always
true, if not always the least that could be told.
"""

from bisect import bisect_left
from collections.abc import Iterator
from io import StringIO

from anabranch.versions.diff import Change, ChangeKind
from anabranch.versions.objects import EntryKind

TEXT_MAX = 512 * 1024
"""Larger files, in bytes, are not compared by lines."""
SHOWN = 200
"""So many changed lines of a file are told, and then only how many more there are."""
_CONTEXT = 3
_ROUNDS = 8
"""How often the comparison starts anew within a part: real texts need two or three."""

Match = tuple[int, int]
"""The numbers of a line in the old text and in the new one, from 0."""
Row = tuple[str, str]
"""A line, and what happened to it: `-`, `+` or a space."""


def may_tell(change: Change) -> bool:
    """Whether the two sides of a change are worth reading: a modified file that may be text of a bearable length."""
    sizes = (change.old_size or 0, change.new_size or 0)
    return change.change == ChangeKind.MODIFIED and change.kind == EntryKind.FILE and max(sizes) <= TEXT_MAX


def unified(old: bytes, new: bytes) -> Iterator[str]:
    """The changed lines between their surroundings, without line ends; nothing if either side is no text."""
    before, after = _lines(old), _lines(new)
    if before is None or after is None:
        return
    rows = _rows(before, after)
    changed = [number for number, (mark, _) in enumerate(rows) if mark != " "]
    told = 0
    for line in _hunks(rows, changed):
        is_change = line.startswith(("+", "-"))
        if is_change and told == SHOWN:
            more = len(changed) - SHOWN
            yield f"... {more:,} more {'line' if more == 1 else 'lines'}"
            return
        told += is_change
        yield line


def _lines(data: bytes) -> list[str] | None:
    """The lines of a text with their ends; None of what is none."""
    if len(data) > TEXT_MAX or b"\0" in data:
        return None
    try:
        return StringIO(data.decode()).readlines()  # not splitlines(), which knows ten other ends of a line
    except UnicodeDecodeError:
        return None


def _hunks(rows: list[Row], changed: list[int]) -> Iterator[str]:
    old = new = at = 0
    for first, last in _together(changed):
        start, stop = max(0, first - _CONTEXT), last + _CONTEXT + 1
        old, new = old + start - at, new + start - at  # what is between two hunks is on both sides
        inside = rows[start:stop]
        removed, added = (sum(mark != other for mark, _ in inside) for other in "+-")
        yield f"@@ -{_range(old, removed)} +{_range(new, added)} @@"
        for mark, line in inside:
            yield mark + line.removesuffix("\n")
            if not line.endswith("\n"):
                yield "\\ No newline at end of file"
        old, new, at = old + removed, new + added, stop


def _range(start: int, length: int) -> str:
    """Lines as they are counted from 1; of none, the line before."""
    return f"{start + 1 if length else start},{length}"


def _together(changed: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of changed rows whose surroundings touch."""
    first = last = -1
    for number in changed:
        if first < 0:
            first = number
        elif number - last > 2 * _CONTEXT + 1:
            yield first, last
            first = number
        last = number
    if changed:
        yield first, last


def _rows(old: list[str], new: list[str]) -> list[Row]:
    rows: list[Row] = []
    i = j = 0
    for a, b in [*sorted(_matches(old, new)), (len(old), len(new))]:
        rows += [("-", line) for line in old[i:a]]
        rows += [("+", line) for line in new[j:b]]
        rows += [(" ", line) for line in old[a : a + 1]]
        i, j = a + 1, b + 1
    return rows


def _matches(old: list[str], new: list[str]) -> Iterator[Match]:
    """The lines that are equal, none crossing another; in any order."""
    parts = [(0, len(old), 0, len(new), _ROUNDS)]
    while parts:
        a, old_end, b, new_end, rounds = parts.pop()
        while a < old_end and b < new_end and old[a] == new[b]:
            yield a, b
            a, b = a + 1, b + 1
        while a < old_end and b < new_end and old[old_end - 1] == new[new_end - 1]:
            old_end, new_end = old_end - 1, new_end - 1
            yield old_end, new_end
        if a == old_end or b == new_end or not rounds:
            continue
        held = _ascending(_once_in_both(old, a, old_end, new, b, new_end))
        yield from held
        for x, y in [*held, (old_end, new_end)] if held else []:
            parts.append((a, x, b, y, rounds - 1))
            a, b = x + 1, y + 1


def _once_in_both(old: list[str], a: int, old_end: int, new: list[str], b: int, new_end: int) -> list[Match]:
    """The lines of two parts that each of them has once, in order of the old one."""
    before, after = _once(old, a, old_end), _once(new, b, new_end)
    return [(x, y) for line, x in before.items() if x >= 0 and (y := after.get(line, -1)) >= 0]


def _once(lines: list[str], start: int, stop: int) -> dict[str, int]:
    """Where each line of a part is; -1 for one that comes again."""
    numbers: dict[str, int] = {}
    for number in range(start, stop):
        line = lines[number]
        numbers[line] = -1 if line in numbers else number
    return numbers


def _ascending(matches: list[Match]) -> list[Match]:
    """The most matches of which none crosses another: the longest ascending sequence of the new side's numbers."""
    ends: list[int] = []
    """The least number on which a sequence of each length can end, so far."""
    last: list[int] = []
    """Whose number that is."""
    before: list[int] = []
    """For each match, the one before it in its sequence, or -1."""
    for index, (_, y) in enumerate(matches):
        length = bisect_left(ends, y)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [y]
        last[length : length + 1] = [index]
    found: list[Match] = []
    index = last[-1] if last else -1
    while index >= 0:
        found.append(matches[index])
        index = before[index]
    return found[::-1]
