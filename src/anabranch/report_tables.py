"""What people and scripts read of tables, row by row. As report.py: text ends with a newline, JSON is plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from anabranch.escape import show_name, show_path
from anabranch.report import Json, json_path, plural

if TYPE_CHECKING:
    from anabranch.errors import AnabranchError
    from anabranch.merging.rows import RowsTold
    from anabranch.tables.engine import Column, Row
    from anabranch.tables.merge import Conflict
    from anabranch.tables.rows import Difference, Rows, SchemaChange

_CELL_MAX = 40
"""Characters of a value that people see."""
_INDENT = " " * 4


def difference_text(found: Difference) -> Iterator[str]:
    """What differs between two tables, below the line that names them: counts, columns, and the first rows aligned."""
    yield f"{_INDENT}{_counts(found)}\n"
    yield from (f"{_INDENT}{line}\n" for line in (*_schema_lines(found.schema), *_key_lines(found)))
    yield from _rows_text("+", found.added)
    yield from _rows_text("-", found.removed)
    lines = [(*row.key, cell.column, cell.before, cell.after) for row in found.changed_rows for cell in row.cells]
    yield from _aligned("~", (*found.key, "column", "before", "after"), lines)
    yield from _more(found.changed - len(found.changed_rows), bool(lines))


def _counts(found: Difference) -> str:
    """`16 -> 17 rows: 2 added, 1 removed, 1 changed`."""
    kinds = (("added", found.added.count), ("removed", found.removed.count), ("changed", found.changed))
    said = ", ".join(f"{count} {word}" for word, count in kinds if count) or "none differs"
    return f"{found.old_rows} -> {plural(found.new_rows, 'row')}: {said}"


def _schema_lines(schema: SchemaChange) -> Iterator[str]:
    yield from (f"column {_cell(column.name)} ({column.type}) added" for column in schema.added)
    yield from (f"column {_cell(column.name)} ({column.type}) removed" for column in schema.removed)
    yield from (f"column {_cell(column.name)}: {column.old} -> {column.new}" for column in schema.retyped)
    if schema.reordered:
        yield "columns in another order"


def _key_lines(found: Difference) -> Iterator[str]:
    """Why no row has met another, perhaps: values of two types are compared as they are written."""
    retyped = [_cell(column.name) for column in found.schema.retyped if column.name in found.key]
    if retyped and 0 < found.added.count == found.new_rows and 0 < found.removed.count == found.old_rows:
        yield f"no row has the same key: {', '.join(retyped)} is of another type"


def _rows_text(sign: str, rows: Rows) -> Iterator[str]:
    yield from _aligned(sign, rows.columns, rows.shown)
    yield from _more(rows.count - len(rows.shown), bool(rows.shown))


def _aligned(sign: str, titles: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Rows below their titles, each column as wide as it must be; nothing without rows."""
    if not rows:
        return
    cells = [[_cell(value) for value in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for mark, row in zip((" ", *sign * len(rows)), cells, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{_INDENT}{mark} {line}".rstrip() + "\n"


def _more(count: int, begun: bool) -> Iterator[str]:
    if count and begun:
        yield f"{_INDENT}  ... {count} more\n"


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = show_name(value if len(value) <= _CELL_MAX else value[: _CELL_MAX - 3] + "...")
    return text or '""'


def difference_json(path: bytes, found: Difference | AnabranchError, key: Sequence[str]) -> Json:
    """What differs between two tables for scripts; or why it cannot be told."""
    head = {**json_path(path), "key": list(key)}
    if isinstance(found, Exception):
        return {**head, "error": found.message, **dict.fromkeys(_NUMBERS), **{name: [] for name in _LISTS}}
    return {
        **head,
        "error": None,
        "old_rows": found.old_rows,
        "new_rows": found.new_rows,
        "added": found.added.count,
        "removed": found.removed.count,
        "changed": found.changed,
        "columns_reordered": found.schema.reordered,
        "columns_added": _columns_json(found.schema.added),
        "columns_removed": _columns_json(found.schema.removed),
        "columns_retyped": [
            {"name": column.name, "old_type": column.old, "new_type": column.new} for column in found.schema.retyped
        ],
        "added_rows": _rows_json(found.added),
        "removed_rows": _rows_json(found.removed),
        "changed_rows": [
            {
                "key": dict(zip(found.key, row.key, strict=True)),
                "cells": [{"column": cell.column, "before": cell.before, "after": cell.after} for cell in row.cells],
            }
            for row in found.changed_rows
        ],
    }


def merged_text(told: RowsTold) -> Iterator[str]:
    """What became of a table that both sides of a merge had changed; row conflicts with their keys."""
    merged = told.merged
    yield f"rows of {show_path(told.path)}: "
    if merged is None:
        yield f"not merged: {told.why}\n"
    elif not merged.conflicts:
        yield f"{merged.added} added, {merged.removed} removed, {merged.changed} changed by theirs\n"
    else:
        yield f"{plural(merged.conflicts, 'key')} changed by both\n"
        rows = [(*each.key, *_both(merged.columns, each)) for each in merged.listed]
        yield from _aligned("!", (*merged.key, "ours", "theirs"), rows)
        yield from _more(merged.conflicts - len(merged.listed), bool(rows))


def _both(columns: Sequence[str], conflict: Conflict) -> Iterator[str]:
    """What each side has where they differ."""
    ours, theirs = conflict.ours, conflict.theirs
    for side, other in ((ours, theirs), (theirs, ours)):
        if side is None:
            yield "removed"
            continue
        cells = zip(columns, side, other or conflict.base or side, strict=True)
        yield ", ".join(f"{name}={_cell(value)}" for name, value, another in cells if value != another)


def merged_json(told: RowsTold) -> Json:
    """The same for scripts."""
    merged = told.merged
    head: Json = {**json_path(told.path), "error": told.why or None}
    if merged is None:
        return {**head, **dict.fromkeys(("key", "added", "removed", "changed", "conflicts")), "conflict_rows": []}
    return {
        **head, "key": list(merged.key), "added": merged.added, "removed": merged.removed, "changed": merged.changed,
        "conflicts": merged.conflicts,
        "conflict_rows": [_conflict_json(merged.key, merged.columns, each) for each in merged.listed],
    }  # fmt: skip


def _conflict_json(key: Sequence[str], columns: Sequence[str], conflict: Conflict) -> Json:
    rows = (("base", conflict.base), ("ours", conflict.ours), ("theirs", conflict.theirs))
    named = {side: None if row is None else dict(zip(columns, row, strict=True)) for side, row in rows}
    return {"key": dict(zip(key, conflict.key, strict=True)), **named}


_NUMBERS = ("old_rows", "new_rows", "added", "removed", "changed", "columns_reordered")
_LISTS = ("columns_added", "columns_removed", "columns_retyped", "added_rows", "removed_rows", "changed_rows")


def _columns_json(columns: Iterable[Column]) -> list[Json]:
    return [{"name": column.name, "type": column.type} for column in columns]


def _rows_json(rows: Rows) -> list[Json]:
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.shown]
