"""Nodes: their encoding, what tells one sort of tree from another, and the store that reads and writes them."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

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
MAX_BYTES = 64 * 1024
"""Of a node: a writer's are much smaller, and what is decoded takes many times as much memory."""


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

    def all_absolute(self, base: P, positions: list[P]) -> list[P]:
        """The same of many rows of a node."""

    def relative(self, base: P, position: P) -> P:
        """The other way: a row's position in its node."""

    def children(self, rows: Sequence[Row]) -> list[ObjectId]:
        """The nodes that rows above the leaves name. Raises DamagedError."""

    def size(self, above: Row) -> int:
        """The encoded size of all the rows that a row above the leaves stands for, in bytes."""

    def cuts(self, level: int, key: bytes, size: int) -> bool:
        """Whether a row of that encoded size, in bytes, ends its node."""

    def full(self, rows: int, size: int) -> bool:
        """Whether a node of so many rows and bytes ends because it is large."""

    def above(self, level: int, rows: Sequence[Row], child: ObjectId) -> Row:
        """The row that stands for a node of that level, one level up."""


def row_size(row: Row) -> int:
    """The encoded size of a row, in bytes: array head, key with its head, value."""
    key, value = row
    return _head_size(key) + len(key) + len(value)


def rows_size(rows: Sequence[Row]) -> int:
    """The encoded size of several rows, in bytes."""
    if not rows:
        return 0
    keys, values = zip(*rows, strict=True)
    longest = _head_size(max(keys, key=len))
    heads = 3 * len(rows) if longest == 3 else sum(map(_head_size, keys))
    return heads + sum(map(len, keys)) + sum(map(len, values))


def _head_size(key: bytes) -> int:
    return 3 if len(key) < 1 << 8 else 4 if len(key) < 1 << 16 else 6


_CODEC: Codec[tuple[int, list[tuple[bytes, msgspec.Raw]]]] = Codec(
    tuple[int, list[tuple[bytes, msgspec.Raw]]], "a node"
)


def encode_node(level: int, rows: Sequence[Row]) -> bytes:
    """The canonical bytes of a node."""
    return encode((level, [(key, msgspec.Raw(value)) for key, value in rows]))


def decode_node(shape: Shape[P], raw: bytes, what: str) -> Node[P]:
    """A node from its canonical bytes. Raises DamagedError, naming what they were to be."""
    if len(raw) > MAX_BYTES:
        raise DamagedError(f"{what} is too long")
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

    def __init__(self, objects: ObjectStore, kind: Kind, shape: Shape[P], cache: int = 256 * 1024) -> None:
        """`cache` is how many rows are kept: nodes are small, but need not be."""
        self.shape = shape
        self._objects = objects
        self._kind = kind
        self._limit = cache
        self._cache: OrderedDict[ObjectId, Node[P]] = OrderedDict()
        self._cached = 0
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
            if identity not in self._cache:
                self._cached += len(node.rows) + 1
            self._cache[identity] = node
            while self._cached > self._limit:
                self._cached -= len(self._cache.popitem(last=False)[1].rows) + 1

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
