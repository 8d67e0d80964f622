"""Which bytes of a file there are: a set of ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise


class Ranges:
    """A set of byte ranges, kept sorted and merged: `starts[i]` up to `ends[i]`."""

    def __init__(self, starts: list[int] | None = None, ends: list[int] | None = None) -> None:
        self.starts = starts or []
        self.ends = ends or []
        self.total = sum(self.ends) - sum(self.starts)
        """How many bytes the ranges hold."""

    def check(self, end: int) -> None:
        """Raises ValueError unless each range ends before the next begins, and the last one by `end`."""
        bounds = [0, *(bound for pair in zip(self.starts, self.ends, strict=True) for bound in pair), end]
        if any(after < before for before, after in pairwise(bounds)):
            raise ValueError("ranges are out of order")

    def add(self, start: int, end: int) -> None:
        """Add a range, joining those it touches."""
        if self.ends and self.starts[-1] <= start <= self.ends[-1]:  # the common case: writing on at the end
            self.total += max(0, end - self.ends[-1])
            self.ends[-1] = max(self.ends[-1], end)
            return
        first = bisect_left(self.ends, start)
        last = bisect_right(self.starts, end)
        if first < last:
            start, end = min(start, self.starts[first]), max(end, self.ends[last - 1])
        self.total += end - start - sum(self.ends[first:last]) + sum(self.starts[first:last])
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]

    @property
    def end(self) -> int:
        """Where the last range ends."""
        return self.ends[-1] if self.ends else 0

    def cut(self, size: int) -> None:
        """Drop everything from `size` on."""
        keep = bisect_left(self.starts, size)
        self.total -= sum(self.ends[keep:]) - sum(self.starts[keep:])
        del self.starts[keep:], self.ends[keep:]
        if keep:
            self.total -= max(0, self.ends[-1] - size)
            self.ends[-1] = min(self.ends[-1], size)

    def remove(self, start: int, end: int) -> None:
        """Take a range out."""
        if start >= end:
            return
        kept = [
            (max(first, low), min(last, high))
            for first, last in zip(self.starts, self.ends, strict=True)
            for low, high in ((first, start), (end, last))
        ]
        kept = [(first, last) for first, last in kept if first < last]
        self.starts, self.ends = [first for first, _ in kept], [last for _, last in kept]
        self.total = sum(self.ends) - sum(self.starts)

    def next(self, start: int, otherwise: int) -> int:
        """The first byte from `start` on that a range holds."""
        index = bisect_right(self.ends, start)
        return max(start, self.starts[index]) if index < len(self.starts) else otherwise

    def walk(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """The range split where membership changes: (start, end, held)."""
        index = bisect_right(self.ends, start)
        while start < end:
            if index == len(self.starts) or self.starts[index] >= end:
                yield start, end, False
                return
            if start < self.starts[index]:
                yield start, self.starts[index], False
            start = max(start, self.starts[index])
            stop = min(end, self.ends[index])
            yield start, stop, True
            start, index = stop, index + 1
