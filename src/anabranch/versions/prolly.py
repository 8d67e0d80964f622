"""Prolly trees: ordered rows in content-addressed nodes whose borders depend on the rows alone.

A node is `[level, [[key, value], ...]]`. Level 0 holds the rows themselves; a row above names a child and sums it up.
Where a node ends is decided by its last row or by its size (`Shape`), never by the order of edits, so equal rows give
equal nodes. Nodes that a change does not touch are taken over unread: O(changes x log n). docs/format.md, "Node".

Rows have positions, which only grow: in a map (a directory) the position of a row is its key, in a sequence (the
content of a file) it is the number of bytes up to its end. Positions in a node count from the row before the node, so
that moving content does not change its nodes; `Shape.absolute` makes them whole again.
"""

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.codec import Codec, encode
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind


class Position(Protocol):
    """A key, or a number of bytes."""

    def __lt__(self, other: Any, /) -> bool: ...  # noqa: ANN401  (of the same sort)
    def __le__(self, other: Any, /) -> bool: ...  # noqa: ANN401


P = TypeVar("P", bound=Position)

Row = tuple[bytes, bytes]
"""A key, and a value as encoded MessagePack."""

MAX_LEVEL = 32


class Edit(NamedTuple, Generic[P]):
    """Rows at positions from `first` to `last` give way to new rows. With `last` before `first`, none do."""

    first: P
    last: P
    rows: Sequence[Row]


class Change(NamedTuple, Generic[P]):
    """A position at which two trees hold different rows; None where one holds none."""

    position: P
    old: Row | None
    new: Row | None


@dataclass(frozen=True, slots=True)
class Node(Generic[P]):
    """A decoded node: rows and positions in step, and above the leaves the children that the rows name."""

    level: int
    rows: Sequence[Row]
    positions: list[P]
    children: list[ObjectId]


class Shape(Protocol[P]):
    """What tells one sort of tree from another: its positions, its sums, and the way to cut rows into nodes."""

    origin: P
    """Before every position."""
    anchored: bool
    """Whether equal nodes at different positions are different content."""
    single: int
    """Trees whose rows take up to this many bytes are one leaf, never cut."""

    def positions(self, level: int, rows: Sequence[Row]) -> list[P]:
        """The positions of a node's rows. Raises DamagedError on rows that no writer writes."""

    def absolute(self, base: P, position: P) -> P:
        """A row's position in the whole, from the position before its node and that in the node."""

    def relative(self, base: P, position: P) -> P:
        """The other way: a row's position in its node."""

    def children(self, rows: Sequence[Row]) -> list[ObjectId]:
        """The nodes that rows above the leaves name. Raises DamagedError."""

    def size(self, root: Node[P]) -> int:
        """The encoded size of all rows below a root, in bytes."""

    def ends(self, level: int, key: bytes, size: int, rows: int, total: int) -> bool:
        """Whether a node ends with a row of that key and encoded size, which makes it one of so many rows and bytes."""

    def above(self, level: int, rows: Sequence[Row], child: ObjectId) -> Row:
        """The row that stands for a node of that level, one level up."""


def row_size(row: Row) -> int:
    """The encoded size of a row, in bytes: array head, key with its head, value."""
    key, value = row
    return 1 + (2 if len(key) < 1 << 8 else 3 if len(key) < 1 << 16 else 5) + len(key) + len(value)


_CODEC: Codec[tuple[int, list[tuple[bytes, msgspec.Raw]]]] = Codec(
    tuple[int, list[tuple[bytes, msgspec.Raw]]], "a node"
)


def encode_node(level: int, rows: Sequence[Row]) -> bytes:
    """The canonical bytes of a node."""
    return encode((level, [(key, msgspec.Raw(value)) for key, value in rows]))


def decode_node(shape: Shape[P], raw: bytes, what: str) -> Node[P]:
    """A node from its canonical bytes. Raises DamagedError, naming what they were to be."""
    level, rows = _CODEC.decode(raw, what)
    if not 0 <= level <= MAX_LEVEL or (level and not rows):
        raise DamagedError(f"{what} has a wrong shape")
    node = _node(shape, level, [(key, bytes(value)) for key, value in rows])
    if any(after <= before for before, after in pairwise(node.positions)):
        raise DamagedError(f"{what} is out of order")
    return node


def _node(shape: Shape[P], level: int, rows: Sequence[Row]) -> Node[P]:
    return Node(level, rows, shape.positions(level, rows), shape.children(rows) if level else [])


class NodeStore(Generic[P]):
    """Nodes of one sort by id, with a bounded cache of decoded ones. Safe for use by several threads."""

    def __init__(self, objects: ObjectStore, kind: Kind, shape: Shape[P], cache: int = 4096) -> None:
        self.shape = shape
        self._objects = objects
        self._kind = kind
        self._limit = cache
        self._cache: OrderedDict[ObjectId, Node[P]] = OrderedDict()
        self._lock = threading.Lock()
        self.reads = 0
        """Nodes looked at, whether they were in the cache or not. With `writes`, what an operation costs."""
        self.writes = 0

    def get(self, identity: ObjectId) -> Node[P]:
        """Read and decode a node. Raises DamagedError."""
        self.reads += 1
        with self._lock:
            if (node := self._cache.get(identity)) is not None:
                self._cache.move_to_end(identity)
                return node
        raw = self._objects.get(self._kind, identity)
        node = decode_node(self.shape, raw, f"{self._kind.name.lower()} node {identity.hex()}")
        self._keep(identity, node)
        return node

    def _keep(self, identity: ObjectId, node: Node[P]) -> None:
        with self._lock:
            self._cache[identity] = node
            if len(self._cache) > self._limit:
                self._cache.popitem(last=False)

    def child(self, node: Node[P], index: int) -> Node[P]:
        """A child, which must be exactly one level down: so a circle of nodes cannot be entered.

        And it must end where the row says that names it.
        """
        identity = node.children[index]
        child = self.get(identity)
        before = node.positions[index - 1] if index else self.shape.origin
        end = self.shape.relative(before, node.positions[index])
        if child.level != node.level - 1 or child.positions[-1:] != [end]:
            raise DamagedError(f"{self._kind.name.lower()} node {identity.hex()} stands at a wrong place")
        return child

    def put(self, level: int, rows: Sequence[Row]) -> ObjectId:
        """Store a node."""
        self.writes += 1
        identity = self._objects.put(self._kind, encode_node(level, rows))
        self._keep(identity, _node(self.shape, level, rows))
        return identity


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
        while len(self._levels) <= level:
            self._levels.append(_Open())
        node = self._levels[level]
        size = row_size(row)
        node.rows.append(row)
        node.size += size
        node.total += 1
        rows = len(node.rows)
        if (rows > 1 or not level) and self._shape.ends(level, row[0], size, rows, node.size):
            self._close(level)

    def aligned(self, level: int) -> bool:
        """Whether a node of that level can be taken over here: no node up to that level is half full."""
        return not any(node.rows for node in self._levels[: level + 1])

    def finish(self) -> ObjectId:
        """Close every node and return the root; no row at all gives the empty leaf."""
        if not self._levels:
            return self._nodes.put(0, [])
        level = 0
        while True:
            node = self._levels[level]
            if level and node.total == 1 and len(self._levels) == level + 1:
                return self._collapse(*self._shape.children(node.rows))
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
    return builder.finish()


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
            rows = [*self._merged(node, self._shape.origin), *self._rest()]
            return self._single(rows) or build(self._nodes, rows)
        self._descend(node, self._shape.origin, last=True)
        self._add(self._rest())
        root = self._builder.finish()
        if self._shape.size(self._nodes.get(root)) > self._shape.single:
            return root
        return self._single([row for _, row in iterate(self._nodes, root)]) or root

    def _single(self, rows: list[Row]) -> ObjectId | None:
        """One leaf, if and only if the rows are few: small trees are never cut."""
        if sum(map(row_size, rows)) <= self._shape.single:
            return self._nodes.put(0, rows)
        return None

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._builder.add(row)

    def _descend(self, node: Node[P], base: P, *, last: bool) -> None:
        """`last`: at the right edge, where rows to come would go on with the open nodes."""
        if node.level == 0:
            self._add(self._merged(node, base))
            return
        start = base
        for index, row in enumerate(node.rows):
            end = self._shape.absolute(base, node.positions[index])
            edge = last and index == len(node.rows) - 1
            if self._drops(start, end):
                self._add(self._insert())
            elif not self._touches(end, edge) and self._builder.aligned(node.level - 1):
                self._builder.add(row, node.level)
            else:
                self._descend(self._nodes.child(node, index), start, last=edge)
            start = end

    def _drops(self, start: P, end: P) -> bool:
        """Whether the next edit drops all rows after `start` up to `end`."""
        if self._next == len(self._edits):
            return False
        first, last, _ = self._edits[self._next]
        return first <= start and end <= last

    def _touches(self, end: P, edge: bool) -> bool:
        return self._next < len(self._edits) and (edge or self._edits[self._next].first <= end)

    def _merged(self, node: Node[P], base: P) -> Iterator[Row]:
        for row, relative in zip(node.rows, node.positions, strict=True):
            position = self._shape.absolute(base, relative)
            dropped = False
            while not dropped and self._next < len(self._edits) and self._edits[self._next].first <= position:
                yield from self._insert()
                dropped = position <= self._edits[self._next].last
                if position >= self._edits[self._next].last:
                    self._next += 1
                    self._inserted = False
            if not dropped:
                yield row

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
