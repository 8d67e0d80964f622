"""Writing trees: building one from rows in order, and applying edits to one at a cost that follows the edits."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple

from anabranch.ids import ObjectId
from anabranch.versions.prolly.nodes import Node, NodeStore, P, Row, row_size, rows_size
from anabranch.versions.prolly.reading import iterate


class Edit(NamedTuple, Generic[P]):
    """Rows at positions from `first` to `last` give way to new rows. With `last` before `first`, none do."""

    first: P
    last: P
    rows: Sequence[Row]


@dataclass(slots=True)
class _Open:
    """A node that is being filled."""

    rows: list[Row] = field(default_factory=list)
    size: int = 0
    total: int = 0
    """Rows ever put at this level: one alone, at the end, is the root."""


class Builder:
    """Rows in, root out. Rows come in order; whole nodes may be taken over between them."""

    def __init__(self, nodes: NodeStore[Any]) -> None:
        self._nodes = nodes
        self._shape = nodes.shape
        self._levels: list[_Open] = []

    def add(self, row: Row, level: int = 0) -> None:
        """Put the next row at a level; below it, every open node must be empty."""
        node = self._level(level)
        size = row_size(row)
        node.rows.append(row)
        node.size += size
        node.total += 1
        rows = len(node.rows)
        if (rows > 1 or not level) and (self._shape.full(rows, node.size) or self._shape.cuts(level, row[0], size)):
            self._close(level)

    def take(self, rows: Sequence[Row], level: int) -> None:
        """Put rows that stood inside a node of that level: none of them cuts, so only their number and size count."""
        node = self._level(level)
        size = rows_size(rows)
        if self._shape.full(len(node.rows) + len(rows), node.size + size):
            for row in rows:
                self.add(row, level)
            return
        node.rows += rows
        node.size += size
        node.total += len(rows)

    def _level(self, level: int) -> _Open:
        while len(self._levels) <= level:
            self._levels.append(_Open())
        return self._levels[level]

    def aligned(self, level: int) -> bool:
        """Whether a node of that level can be taken over here: no node up to that level is half full."""
        return not any(node.rows for node in self._levels[: level + 1])

    def finish(self) -> tuple[ObjectId, int]:
        """Close every node; the root, and the size of all rows in bytes. No row at all gives the empty leaf."""
        if not self._levels:
            return self._nodes.put(0, []), 0
        level = 0
        while True:
            node = self._levels[level]
            if level and node.total == 1 and len(self._levels) == level + 1:
                return self._collapse(*self._shape.children(node.rows)), self._shape.size(node.rows[0])
            if node.rows:
                self._close(level)
            level += 1

    def _close(self, level: int) -> None:
        node = self._levels[level]
        rows, node.rows, node.size = node.rows, [], 0
        child = self._nodes.put(level, rows)
        self.add(self._shape.above(level, rows, child), level + 1)

    def _collapse(self, root: ObjectId) -> ObjectId:
        while True:
            node = self._nodes.get(root)
            if node.level == 0 or len(node.rows) > 1:
                return root
            root = node.children[0]


def build(nodes: NodeStore[Any], rows: Iterable[Row]) -> ObjectId:
    """The tree of rows that come in order."""
    builder = Builder(nodes)
    for row in rows:
        builder.add(row)
    return builder.finish()[0]


def apply(nodes: NodeStore[P], root: ObjectId, edits: Sequence[Edit[P]]) -> ObjectId:
    """The tree `root` with edits applied, which come in order and do not overlap."""
    return _Applier(nodes, edits).run(root)


class _Applier(Generic[P]):
    """Walks the old nodes beside the edits; what no edit touches is taken over whole, what one drops is left unread."""

    def __init__(self, nodes: NodeStore[P], edits: Sequence[Edit[P]]) -> None:
        self._nodes = nodes
        self._shape = nodes.shape
        self._builder = Builder(nodes)
        self._edits = edits
        self._next = 0
        self._inserted = False
        """Whether the next edit's rows are in place: then it goes on dropping old ones."""

    def run(self, root: ObjectId) -> ObjectId:
        node = self._nodes.get(root)
        if node.level == 0:
            merged = (row for run, _ in self._merged(node, self._shape.origin) for row in run)
            rows = [*merged, *self._rest()]
            return self._single(rows) or build(self._nodes, rows)
        self._descend(node, self._shape.origin, last=True)
        self._add(self._rest())
        root, size = self._builder.finish()
        if size > self._shape.single:
            return root
        return self._single([row for _, row in iterate(self._nodes, root)]) or root

    def _single(self, rows: list[Row]) -> ObjectId | None:
        """One leaf, if and only if the rows are few: small trees are never cut."""
        if rows_size(rows) <= self._shape.single:
            return self._nodes.put(0, rows)
        return None

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._builder.add(row)

    def _descend(self, node: Node[P], base: P, *, last: bool) -> None:
        """`last`: at the right edge, where rows to come would go on with the open nodes."""
        if node.level == 0:
            for run, inside in self._merged(node, base):
                self._builder.take(run, 0) if inside else self._add(run)
            return
        index = 0
        while index < len(node.rows):
            start = self._shape.absolute(base, node.positions[index - 1]) if index else base
            touched = self._touched(node, base, index, last=last)
            if index < touched and self._builder.aligned(node.level - 1):
                self._take_over(node, index, touched)
                index = touched
                continue
            if self._drops(start, self._shape.absolute(base, node.positions[index])):
                self._add(self._insert())
            else:
                child = self._nodes.child(node, index)
                self._descend(child, start, last=last and index == len(node.rows) - 1)
            index += 1

    def _take_over(self, node: Node[P], first: int, end: int) -> None:
        """Whole children. The first row of a node may be one that cuts: alone, it did not end the node."""
        inside = slice(max(first, 1), min(end, len(node.rows) - 1))
        for row in node.rows[first : inside.start]:
            self._builder.add(row, node.level)
        self._builder.take(node.rows[inside], node.level)
        for row in node.rows[max(inside.start, inside.stop) : end]:
            self._builder.add(row, node.level)

    def _touched(self, node: Node[P], base: P, index: int, *, last: bool) -> int:
        """The first row, from an index on, that the next edit touches; the number of rows if it touches none."""
        if self._next == len(self._edits):
            return len(node.rows)
        first = self._shape.relative(base, self._edits[self._next].first)
        touched = bisect_left(node.positions, first, index)
        return min(touched, len(node.rows) - 1) if last else touched

    def _drops(self, start: P, end: P) -> bool:
        """Whether the next edit drops all rows after `start` up to `end`."""
        if self._next == len(self._edits):
            return False
        first, last, _ = self._edits[self._next]
        return first <= start and end <= last

    def _merged(self, node: Node[P], base: P) -> Iterator[tuple[Sequence[Row], bool]]:
        """The rows of a leaf and the edits among them, in runs; and whether a run stood inside the leaf."""
        index, end = 0, len(node.rows)
        while index < end:
            touched = self._touched(node, base, index, last=False)
            if index < touched:
                inside = min(touched, end - 1)
                yield node.rows[index:inside], True
                yield node.rows[inside:touched], False
                index = touched
                continue
            yield self._insert(), False
            position, last = self._shape.absolute(base, node.positions[index]), self._edits[self._next].last
            if position <= last:
                index += 1
            if last <= position:
                self._next += 1
                self._inserted = False

    def _insert(self) -> Sequence[Row]:
        """The new rows of the next edit, once."""
        if self._inserted:
            return ()
        self._inserted = True
        return self._edits[self._next].rows

    def _rest(self) -> Iterator[Row]:
        while self._next < len(self._edits):
            yield from self._insert()
            self._next += 1
            self._inserted = False
