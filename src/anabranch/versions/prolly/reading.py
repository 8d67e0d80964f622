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


class _Place(NamedTuple, Generic[P]):
    """A node that is not yet read, and the position before it."""

    base: P
    identity: ObjectId


def _differing(nodes: NodeStore[P], old: ObjectId, new: ObjectId) -> tuple[list[_Place[P]], list[_Place[P]]]:
    """The leaves in which two trees differ: open the highest nodes on both sides, drop what both have."""
    if old == new:
        return [], []
    origin, anchored = nodes.shape.origin, nodes.shape.anchored
    left, right = [_Place(origin, old)], [_Place(origin, new)]
    high, low = nodes.get(old).level, nodes.get(new).level
    while True:
        if high == low:
            both = {_key(place, anchored) for place in left} & {_key(place, anchored) for place in right}
            left, right = ([place for place in side if _key(place, anchored) not in both] for side in (left, right))
            if high == 0:
                return left, right
        level = max(high, low)
        if high == level:
            left, high = _opened(nodes, left), high - 1
        if low == level:
            right, low = _opened(nodes, right), low - 1


def _key(place: _Place[P], anchored: bool) -> object:
    return place if anchored else place.identity


def _opened(nodes: NodeStore[P], places: list[_Place[P]]) -> list[_Place[P]]:
    """The children of nodes that are all at one level above the leaves."""
    shape = nodes.shape
    opened: list[_Place[P]] = []
    for base, identity in places:
        node = nodes.get(identity)
        starts = [base, *(shape.absolute(base, position) for position in node.positions[:-1])]
        opened += map(_Place, starts, node.children)
    return opened


def _rows(nodes: NodeStore[P], leaves: Iterable[_Place[P]]) -> Iterator[tuple[P, Row]]:
    for base, identity in leaves:
        leaf = nodes.get(identity)
        if leaf.level:
            raise DamagedError(f"node {identity.hex()} stands at a wrong place")
        for relative, row in zip(leaf.positions, leaf.rows, strict=True):
            yield nodes.shape.absolute(base, relative), row


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
