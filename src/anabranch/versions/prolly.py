"""Prolly trees: sorted rows in content-addressed nodes whose borders depend on the rows alone.

A node is `[level, [[key, value], ...]]`. Level 0 holds the rows themselves; the value of a row above names a child
and sums it up. Where a node ends is decided by its last row (`Shape.cuts`) or by its size (`Shape.full`), never by
the order of edits, so equal rows give equal nodes. Rows below a change are read and written, all other nodes are
taken over as they are: O(changes x log n). docs/format.md, "Node".
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind

Row = tuple[bytes, bytes]
"""A key, and a value as encoded MessagePack."""

Change = tuple[bytes, bytes | None]
"""A key and its new value; None removes it."""

MAX_LEVEL = 32


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded node; keys and values in step."""

    level: int
    keys: list[bytes]
    values: list[bytes]

    def child(self, index: int) -> ObjectId:
        """The id of a child of an interior node: the first field of its value."""
        return child_of(self.values[index])


class Shape(Protocol):
    """The way to cut rows into nodes, and to sum nodes up."""

    single: int
    """Maps whose rows take up to this many bytes are one leaf, never cut."""

    def size(self, root: Node) -> int:
        """The encoded size of all rows below a root, in bytes."""

    def cuts(self, level: int, key: bytes, size: int) -> bool:
        """Whether a row of that encoded size, in bytes, ends its node."""

    def full(self, rows: int, size: int) -> bool:
        """Whether a node ends because it is large."""

    def above(self, level: int, rows: Sequence[Row], child: ObjectId) -> Row:
        """The row that stands for a node of that level, one level up."""


def row_size(row: Row) -> int:
    """The encoded size of a row, in bytes: array head, key with its head, value."""
    key, value = row
    return 1 + (2 if len(key) < 256 else 3) + len(key) + len(value)


_decoder = msgspec.msgpack.Decoder(tuple[int, list[tuple[bytes, msgspec.Raw]]])


def child_of(value: bytes) -> ObjectId:
    """The child's id: every interior value is an array that starts with a 32-byte id."""
    if len(value) < 3 + ID_SIZE or value[1:3] != b"\xc4\x20":
        raise DamagedError("an interior row names no child")
    return ObjectId(value[3 : 3 + ID_SIZE])


class NodeStore:
    """Nodes of one kind by id, with a bounded cache of decoded ones."""

    def __init__(self, objects: ObjectStore, kind: Kind, cache: int = 4096) -> None:
        self._objects = objects
        self._kind = kind
        self._limit = cache
        self._cache: OrderedDict[ObjectId, Node] = OrderedDict()

    def get(self, identity: ObjectId) -> Node:
        """Read and decode a node. Raises DamagedError."""
        node = self._cache.get(identity)
        if node is None:
            node = _decode(self._objects.get(self._kind, identity), identity)
            self._cache[identity] = node
            if len(self._cache) > self._limit:
                self._cache.popitem(last=False)
        return node

    def put(self, level: int, rows: Sequence[Row]) -> ObjectId:
        """Store a node."""
        return self._objects.put(self._kind, encode_node(level, rows))


def encode_node(level: int, rows: Sequence[Row]) -> bytes:
    """The canonical bytes of a node."""
    return msgspec.msgpack.encode((level, [(key, msgspec.Raw(value)) for key, value in rows]))


def _decode(raw: bytes, identity: ObjectId) -> Node:
    try:
        level, rows = _decoder.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DamagedError(f"node {identity.hex()} cannot be read: {error}") from error
    if not 0 <= level <= MAX_LEVEL or (level and not rows):
        raise DamagedError(f"node {identity.hex()} has a wrong shape")
    return Node(level, [key for key, _ in rows], [bytes(value) for _, value in rows])


@dataclass(slots=True)
class _Open:
    """A node that is being filled."""

    rows: list[Row] = field(default_factory=list)
    size: int = 0
    total: int = 0
    """Rows ever put at this level: one alone, at the end, is the root."""


class Builder:
    """Rows in, root out. Rows come in order; whole nodes may be taken over between them."""

    def __init__(self, nodes: NodeStore, shape: Shape) -> None:
        self._nodes = nodes
        self._shape = shape
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
        enough = level == 0 or len(node.rows) > 1
        if enough and (self._shape.cuts(level, row[0], size) or self._shape.full(len(node.rows), node.size)):
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
                return self._collapse(child_of(node.rows[0][1]))
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
            if node.level == 0 or len(node.keys) > 1:
                return root
            root = node.child(0)


def lookup(nodes: NodeStore, root: ObjectId, key: bytes) -> bytes | None:
    """The value of a key in a map."""
    node = nodes.get(root)
    while True:
        index = bisect_left(node.keys, key)
        if index == len(node.keys):
            return None
        if node.level == 0:
            return node.values[index] if node.keys[index] == key else None
        node = _step(nodes, node, index)


def iterate(nodes: NodeStore, root: ObjectId, start: bytes = b"") -> Iterator[Row]:
    """The rows of a map in order, from key `start` on."""
    return _iterate(nodes, nodes.get(root), start)


def _iterate(nodes: NodeStore, node: Node, start: bytes) -> Iterator[Row]:
    first = bisect_left(node.keys, start)
    if node.level == 0:
        yield from zip(node.keys[first:], node.values[first:], strict=True)
        return
    for index in range(first, len(node.keys)):
        yield from _iterate(nodes, _step(nodes, node, index), start)


def _step(nodes: NodeStore, node: Node, index: int) -> Node:
    """A child, which must be exactly one level down: so a circle of nodes cannot be entered."""
    child = nodes.get(node.child(index))
    if child.level != node.level - 1:
        raise DamagedError(f"node {node.child(index).hex()} stands at a wrong level")
    return child


def apply(nodes: NodeStore, shape: Shape, root: ObjectId, delta: Sequence[Change]) -> ObjectId:
    """The map `root` with a delta applied: keys in order, each with its new value or None to remove it."""
    return _Applier(nodes, shape, delta).run(root)


class _Applier:
    """Walks the old nodes beside the delta; what no change touches is taken over whole."""

    def __init__(self, nodes: NodeStore, shape: Shape, delta: Sequence[Change]) -> None:
        self._nodes = nodes
        self._shape = shape
        self._builder = Builder(nodes, shape)
        self._delta = delta
        self._next = 0

    def run(self, root: ObjectId) -> ObjectId:
        node = self._nodes.get(root)
        if node.level == 0:
            rows = list(self._merged(node, None))
            return self._single(rows) or self._build(rows)
        self._descend(node, None)
        root = self._builder.finish()
        if self._shape.size(self._nodes.get(root)) > self._shape.single:
            return root
        return self._single(list(iterate(self._nodes, root))) or root

    def _single(self, rows: list[Row]) -> ObjectId | None:
        """One leaf, if and only if the rows are few: small maps are never cut."""
        if sum(map(row_size, rows)) <= self._shape.single:
            return self._nodes.put(0, rows)
        return None

    def _build(self, rows: list[Row]) -> ObjectId:
        for row in rows:
            self._builder.add(row)
        return self._builder.finish()

    def _descend(self, node: Node, upper: bytes | None) -> None:
        """`upper` is the last key that belongs here; None at the right edge, where every later key does."""
        if node.level == 0:
            for row in self._merged(node, upper):
                self._builder.add(row)
            return
        last = len(node.keys) - 1
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            bound = None if upper is None and index == last else key
            if not self._touched(bound) and self._builder.aligned(node.level - 1):
                self._builder.add((key, value), node.level)
            else:
                self._descend(_step(self._nodes, node, index), bound)

    def _touched(self, upper: bytes | None) -> bool:
        return self._next < len(self._delta) and (upper is None or self._delta[self._next][0] <= upper)

    def _merged(self, node: Node, upper: bytes | None) -> Iterator[Row]:
        for key, value in zip(node.keys, node.values, strict=True):
            replaced = False
            while self._touched(key):
                replaced = self._delta[self._next][0] == key
                yield from self._take()
            if not replaced:
                yield key, value
        while self._touched(upper):
            yield from self._take()

    def _take(self) -> Iterator[Row]:
        key, value = self._delta[self._next]
        self._next += 1
        if value is not None:
            yield key, value


def diff(nodes: NodeStore, old: ObjectId, new: ObjectId) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """The differences of two maps in key order: key, old value, new value. Shared nodes are never read."""
    left, right = _differing(nodes, [old], [new])
    yield from _pair(_rows(left), _rows(right))


def _differing(nodes: NodeStore, old: list[ObjectId], new: list[ObjectId]) -> tuple[list[Node], list[Node]]:
    """The leaves in which two maps differ: open the highest nodes on both sides, drop what both have."""
    while True:
        common = set(old) & set(new)
        old, new = ([identity for identity in side if identity not in common] for side in (old, new))
        left, right = [nodes.get(identity) for identity in old], [nodes.get(identity) for identity in new]
        top = max((node.level for node in (*left, *right)), default=0)
        if top == 0:
            return left, right
        old, new = _opened(old, left, top), _opened(new, right, top)


def _opened(identities: list[ObjectId], nodes: list[Node], top: int) -> list[ObjectId]:
    """The same nodes, those of the top level replaced by their children."""
    opened: list[ObjectId] = []
    for identity, node in zip(identities, nodes, strict=True):
        opened += map(child_of, node.values) if node.level == top else [identity]
    return opened


def _rows(leaves: Iterable[Node]) -> Iterator[Row]:
    for leaf in leaves:
        yield from zip(leaf.keys, leaf.values, strict=True)


def _pair(old: Iterator[Row], new: Iterator[Row]) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    left, right = next(old, None), next(new, None)
    while left or right:
        if right is None or (left and left[0] < right[0]):
            assert left is not None
            yield left[0], left[1], None
            left = next(old, None)
        elif left is None or right[0] < left[0]:
            yield right[0], None, right[1]
            right = next(new, None)
        else:
            if left[1] != right[1]:
                yield left[0], left[1], right[1]
            left, right = next(old, None), next(new, None)
