"""Trees of nodes as docs/format.md says they are built, from its text alone: nothing of the package is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import msgspec
from blake3 import blake3
from xxhash import xxh3_64_intdigest

Row = tuple[bytes, bytes]
"""A key, and an encoded value."""

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


class Written(NamedTuple):
    """A tree: the id of its root, all its nodes' bytes by id, and how many levels there are."""

    root: bytes
    nodes: dict[bytes, bytes]
    levels: int


@dataclass(frozen=True)
class Rules:
    """What the text says about one sort of tree."""

    kind: str
    single: int
    """Rows of up to so many bytes together are one leaf."""
    ends: Callable[[int, bytes, int], bool]
    """Whether a row ends its node: level, key, size in bytes."""
    full: Callable[[int, int], bool]
    """Whether a node ends for its size: rows, bytes."""
    above: Callable[[int, Sequence[Row], bytes], Row]
    """The row for a node: its level, its rows, its id."""


@cache
def _key(kind: str) -> bytes:
    return blake3(bytes(32), derive_key_context=f"anabranch 2026-11 object {kind}").digest()


def identity(kind: str, raw: bytes) -> bytes:
    """The id of an object."""
    return blake3(raw, key=_key(kind)).digest()


def size_of(row: Row) -> int:
    """The length of a row's encoding."""
    return len(encode((row[0], msgspec.Raw(row[1]))))


def hashed(key: bytes, level: int) -> int:
    return xxh3_64_intdigest(key, seed=level)


def build(rows: Sequence[Row], rules: Rules) -> Written:
    """The tree of rows, level by level."""
    nodes: dict[bytes, bytes] = {}
    if not rows or sum(map(size_of, rows)) <= rules.single:
        return Written(_node(nodes, rules, 0, rows), nodes, 1)
    level = 0
    while True:
        pieces = _cut(rows, rules, level)
        ids = [_node(nodes, rules, level, piece) for piece in pieces]
        if len(pieces) == 1:
            return Written(ids[0], nodes, level + 1)
        rows = [rules.above(level, piece, child) for piece, child in zip(pieces, ids, strict=True)]
        level += 1


def _cut(rows: Sequence[Row], rules: Rules, level: int) -> list[list[Row]]:
    pieces: list[list[Row]] = [[]]
    total = 0
    for row in rows:
        pieces[-1].append(row)
        size = size_of(row)
        total += size
        enough = level == 0 or len(pieces[-1]) >= 2
        if enough and (rules.ends(level, row[0], size) or rules.full(len(pieces[-1]), total)):
            pieces.append([])
            total = 0
    return pieces if pieces[-1] else pieces[:-1]


def _node(nodes: dict[bytes, bytes], rules: Rules, level: int, rows: Sequence[Row]) -> bytes:
    raw = encode((level, [(key, msgspec.Raw(value)) for key, value in rows]))
    name = identity(rules.kind, raw)
    nodes[name] = raw
    return name


# --- trees and link trees ---


def _map_rules(leaf: Callable[[Row], tuple[int, ...]]) -> Rules:
    """`leaf` sums up a leaf's row: entries, size, files, bytes, subdirectories, links."""

    def above(level: int, rows: Sequence[Row], child: bytes) -> Row:
        sums = [decode(value)[1:] if level else leaf((key, value)) for key, value in rows]
        return rows[-1][0], encode((child, *map(sum, zip(*sums, strict=True))))

    return Rules(
        "tree",
        16_384,
        ends=lambda level, key, size: hashed(key, level) < size * 2**52,
        full=lambda _, size: size >= 16_384,
        above=above,
    )


def of_entry(row: Row) -> tuple[int, ...]:
    """The sums of one row of a tree."""
    kind, _, _, _, _, size, _, _, extra = decode(row[1])
    if kind == 2:
        extra = dict(extra or {})
        return 1, size_of(row), extra.get(1, 0), size, 1, extra.get(3, 0)
    return 1, size_of(row), 1, size, 0, int(kind == 4)


def of_link(row: Row) -> tuple[int, ...]:
    """The sums of one row of a link tree."""
    if len(row[0]) > 16:
        return 1, size_of(row), 0, 0, 0, 1
    return 1, size_of(row), 1, decode(row[1])[0][5], 0, 0


TREE = _map_rules(of_entry)
LINKS = _map_rules(of_link)


# --- manifests ---


def _bytes_of(value: bytes) -> int:
    length, repeat = decode(value)
    return int(length * repeat)


def _manifest_above(level: int, rows: Sequence[Row], child: bytes) -> Row:
    return child, encode(sum(decode(value) if level else _bytes_of(value) for _, value in rows))


MANIFEST = Rules(
    "manifest",
    -1,
    ends=lambda level, key, _: hashed(key, level) < 2**57,
    full=lambda rows, _: rows >= 512,
    above=_manifest_above,
)
