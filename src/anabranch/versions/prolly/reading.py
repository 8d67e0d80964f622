"""Reading trees: looking a key up, walking rows from a position on, and the differences of two trees."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.versions.prolly.nodes import Node, NodeStore, P, Row


class Change(NamedTuple, Generic[P]):
    """A position at which two trees hold different rows; None where one holds none."""

    position: P
    old: Row | None
    new: Row | None


def lookup(nodes: NodeStore[bytes], root: ObjectId, key: bytes) -> bytes | None:
    """The value of a key in a map."""
    node = nodes.get(root)
    while True:
        index = bisect_left(node.positions, key)
        if index == len(node.positions):
            return None
        if node.level == 0:
            return node.rows[index][1] if node.rows[index][0] == key else None
        node = nodes.child(node, index)


def iterate(
    nodes: NodeStore[P], root: ObjectId, start: P | None = None, stop: P | None = None
) -> Iterator[tuple[P, Row]]:
    """The rows at positions from `start` up to, without, `stop`, each with its position."""
    origin = nodes.shape.origin
    return _iterate(nodes, nodes.get(root), origin, origin if start is None else start, stop)


def _iterate(nodes: NodeStore[P], node: Node[P], base: P, start: P, stop: P | None) -> Iterator[tuple[P, Row]]:
    shape, positions = nodes.shape, node.positions
    first = bisect_left(positions, shape.relative(base, start))
    if node.level == 0:
        last = len(positions) if stop is None else bisect_left(positions, shape.relative(base, stop))
        for index in range(first, last):
            yield shape.absolute(base, positions[index]), node.rows[index]
        return
    for index in range(first, len(positions)):
        before = shape.absolute(base, positions[index - 1]) if index else base
        if stop is not None and before >= stop:
            return
        yield from _iterate(nodes, nodes.child(node, index), before, start, stop)


def diff(nodes: NodeStore[P], old: ObjectId, new: ObjectId) -> Iterator[Change[P]]:
    """The positions at which two trees differ, in order. Nodes that both have are never read."""
    left, right = _differing(nodes, old, new)
    return _pair(_rows(nodes, left), _rows(nodes, right))


_Place = tuple[P, ObjectId, P | None]
"""A node that is not yet read: the position before it, its id, and where it ends in itself; None of a root."""


def _differing(nodes: NodeStore[P], old: ObjectId, new: ObjectId) -> tuple[list[_Place[P]], list[_Place[P]]]:
    """The leaves in which two trees differ: open the highest nodes on both sides, drop what both have."""
    if old == new:
        return [], []
    left: list[_Place[P]] = [(nodes.shape.origin, old, None)]
    right: list[_Place[P]] = [(nodes.shape.origin, new, None)]
    high, low = nodes.get(old).level, nodes.get(new).level
    while True:
        if high == low:
            left, right = _without_common(left, right, anchored=nodes.shape.anchored)
            if high == 0:
                return left, right
        level = max(high, low)
        if high == level:
            left, high = _opened(nodes, left, level), high - 1
        if low == level:
            right, low = _opened(nodes, right, level), low - 1


def _without_common(
    left: list[_Place[P]], right: list[_Place[P]], *, anchored: bool
) -> tuple[list[_Place[P]], list[_Place[P]]]:
    if anchored:
        places = set(left) & set(right)
        return [place for place in left if place not in places], [place for place in right if place not in places]
    one, other = ({identity for _, identity, _ in places} for places in (left, right))
    return [place for place in left if place[1] not in other], [place for place in right if place[1] not in one]


def _opened(nodes: NodeStore[P], places: list[_Place[P]], level: int) -> list[_Place[P]]:
    """The children of nodes that are all to be at one level above the leaves."""
    opened: list[_Place[P]] = []
    shape = nodes.shape
    for place in places:
        node, base = _at(nodes, place, level), place[0]
        starts = [shape.origin, *node.positions[:-1]]
        ends = [shape.relative(start, end) for start, end in zip(starts, node.positions, strict=True)]
        starts = [base, *shape.all_absolute(base, node.positions[:-1])]
        opened += zip(starts, node.children, ends, strict=True)
    return opened


def _at(nodes: NodeStore[P], place: _Place[P], level: int) -> Node[P]:
    """The node of a place, which must be one of that level and end where the row said that named it."""
    _, identity, end = place
    node = nodes.get(identity)
    if node.level != level or (end is not None and node.positions[-1:] != [end]):
        raise DamagedError(f"node {identity.hex()} stands at a wrong place")
    return node


def _rows(nodes: NodeStore[P], leaves: Iterable[_Place[P]]) -> Iterator[tuple[P, Row]]:
    for place in leaves:
        leaf = _at(nodes, place, 0)
        yield from zip(nodes.shape.all_absolute(place[0], leaf.positions), leaf.rows, strict=True)


def _pair(old: Iterator[tuple[P, Row]], new: Iterator[tuple[P, Row]]) -> Iterator[Change[P]]:
    left, right = next(old, None), next(new, None)
    while left or right:
        if right is None or (left and left[0] < right[0]):
            assert left is not None
            yield Change(*left, None)
            left = next(old, None)
        elif left is None or right[0] < left[0]:
            yield Change(right[0], None, right[1])
            right = next(new, None)
        else:
            if left[1] != right[1]:
                yield Change(*left, right[1])
            left, right = next(old, None), next(new, None)
