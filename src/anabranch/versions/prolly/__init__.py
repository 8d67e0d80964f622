"""Prolly trees: ordered rows in content-addressed nodes whose borders depend on the rows alone.

A node is `[level, [[key, value], ...]]`. Level 0 holds the rows themselves; a row above names a child and sums it up.
Where a node ends is decided by its last row or by its size (`Shape`), never by the order of edits, so equal rows give
equal nodes. Nodes that a change does not touch are taken over unread: O(changes x log n). docs/format.md, "Node".

Rows have positions, which only grow: in a map (a directory) the position of a row is its key, in a sequence (the
content of a file) it is the number of bytes up to its end. Positions in a node count from the row before the node, so
that moving content does not change its nodes; `Shape.absolute` makes them whole again.
"""

from anabranch.versions.prolly.edits import Edit, apply, build
from anabranch.versions.prolly.nodes import Node, NodeStore, Row, Shape, encode_node, rows_size
from anabranch.versions.prolly.reading import Change, diff, iterate, lookup

__all__ = [
    "Change", "Edit", "Node", "NodeStore", "Row", "Shape", "apply", "build", "diff", "encode_node",
    "iterate", "lookup", "rows_size",
]  # fmt: skip
