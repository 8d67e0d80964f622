r"""History as a drawing: a column for each line that leads down to a commit, as `git log --graph` has them.

    *      a merge: its first parent goes on in its column, the others get columns at the right of it
    |\
    | *    a commit
    * |
    |/     lines that lead to one commit become one, at the left

A line that has to cross others runs beneath them: in `|_|/` the third one joins the first. Pure: what is drawn are keys
that can be told apart, children before parents.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Graph(Generic[K]):
    """The columns between two rows: to which commit the line in each leads. No two lead to the same one."""

    def __init__(self) -> None:
        self._columns: list[K] = []
        self._ended_here = False
        """Whether what comes as a new last column would look like a parent of the commit above, which has none."""

    def add(self, key: K, parents: Iterable[K], line: str) -> Iterator[str]:
        """The rows of the next commit: its line, and those that lead down from it to its parents."""
        if key not in self._columns:
            if self._ended_here:
                yield _bars(len(self._columns)).rstrip()
            self._columns.append(key)
        self._ended_here = False
        at = self._columns.index(key)
        yield _bars(at) + "* " + _bars(len(self._columns) - at - 1) + line
        for row in self._below(at, list(dict.fromkeys(parents))):
            yield row.rstrip()

    def _below(self, at: int, parents: list[K]) -> Iterator[str]:
        if not parents:
            yield from self._ended(at)
            return
        first, *others = parents
        self._columns[at] = first
        beside = [side for side in (at - 1, at + 1) if side in range(len(self._columns))]
        if (side := next((side for side in beside if [self._columns[side]] == others), None)) is not None:
            bars, between = _bars(len(self._columns)), at + side
            yield bars[:between] + ("\\" if side > at else "/") + bars[between + 1 :]
        else:
            for column, other in enumerate(others, at + 1):
                yield _bars(column)[:-1] + "\\ " * (len(self._columns) - column + 1)
                self._columns.insert(column, other)
        yield from self._joined()

    def _ended(self, at: int) -> Iterator[str]:
        """A commit without parents: the lines at its right come nearer."""
        del self._columns[at]
        self._ended_here = at == len(self._columns)
        if not self._ended_here:
            yield _bars(at) + " /" * (len(self._columns) - at)

    def _joined(self) -> Iterator[str]:
        """Of lines that lead to one commit, the right one runs to the left one, and those behind it come nearer."""
        right = 1
        while right < len(self._columns):
            left = self._columns.index(self._columns[right])
            if left == right:
                right += 1
                continue
            behind = len(self._columns) - right - 1
            yield _bars(left) + "|" + "_|" * (right - left - 1) + "/" + " /" * behind
            del self._columns[right]


def _bars(count: int) -> str:
    return "| " * count


def drawn(commits: Iterable[tuple[K, Iterable[K], str]]) -> Iterator[str]:
    """The rows of a history: of each commit its key, those of its parents, and its own line."""
    graph = Graph[K]()
    for key, parents, line in commits:
        yield from graph.add(key, parents, line)
