"""What a table is on a disk: a CSV or Parquet file, or a directory of such files as Spark writes it.

Found by names alone, but for a CSV file's header; what is in the files, DuckDB reads (engine.py).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from anabranch.errors import NotFoundError, UsageError
from anabranch.tables.texts import Dialect, head_of


class Format(StrEnum):
    """How the rows of a table are written."""

    CSV = "csv"
    PARQUET = "parquet"


_NAMES = {
    Format.CSV: re.compile(r".\.[ct]sv(\.gz)?$", re.IGNORECASE),
    Format.PARQUET: re.compile(r".\.parquet$", re.IGNORECASE),
}
_PARTITION = re.compile(r"[^=]+=")
_HINT = "a table is a .csv, .tsv (also .gz) or .parquet file, or a directory of them"
SUCCESS = "_SUCCESS"
"""The empty file that Spark puts beside the parts of a whole table."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table on a disk. Of CSV the names of its columns are known, but for those of partitions."""

    path: Path
    format: Format
    files: tuple[Path, ...]
    """In the order of their rows."""
    is_directory: bool
    is_partitioned: bool
    dialect: Dialect | None = None
    header: tuple[str, ...] = ()


def format_of(name: str) -> Format | None:
    """The format of a file by its name; None if it is no table."""
    return next((format for format, pattern in _NAMES.items() if pattern.search(name)), None)


def is_part(name: str) -> bool:
    """Whether a file is a part of a table that is a directory, by its name."""
    return name.startswith("part-") and format_of(name) is not None


def ending(path: Path) -> str:
    """The end of a file's name that tells its format: `.csv.gz`."""
    found = next(match for pattern in _NAMES.values() if (match := pattern.search(path.name)))
    return found[0][1:]


def is_partition(name: str) -> bool:
    """Whether a directory holds the rows of one value of a column, as `year=2013`."""
    return _PARTITION.match(name) is not None


def find(path: Path) -> Table:
    """The table at a path. Raises UsageError when there is none, or it has no header; NotFoundError."""
    if not path.exists():
        raise NotFoundError(f"there is no {path}")
    if not path.is_dir():
        files: tuple[Path, ...] = (path,)
        format = format_of(path.name)
        if format is None:
            raise UsageError(f"{path.name} is no table", hint=_HINT)
    else:
        format, files = _in_directory(path)
    partitioned = path.is_dir() and any(file.parent != path for file in files)
    if format is Format.PARQUET:
        return Table(path, format, files, path.is_dir(), partitioned)
    files = tuple(file for file in files if file.stat().st_size) or files[:1]  # Spark makes empty parts, too
    first, *others = map(head_of, files)
    odd = next((at for at, head in enumerate(others, 1) if head != first), None)
    if odd is not None:
        raise UsageError(f"{files[odd].name} has another header than {files[0].name}")
    return Table(path, format, files, path.is_dir(), partitioned, first.dialect, first.names)


def _in_directory(directory: Path) -> tuple[Format, tuple[Path, ...]]:
    files = tuple(_files(directory))
    formats = [*{format for file in files if (format := format_of(file.name)) is not None}]
    if len(formats) != 1:
        why = "has files of different formats" if formats else "has no files with rows"
        raise UsageError(f"{directory.name} {why}", hint=_HINT)
    return formats[0], files


def _files(directory: Path) -> Iterator[Path]:
    """The files with rows in a directory and its partitions, in order of their names."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir() and is_partition(entry.name):
            yield from _files(Path(entry.path))
        elif entry.is_file() and format_of(entry.name) is not None:
            yield Path(entry.path)
        else:
            raise UsageError(f"{entry.name} in {directory.name} is no part of a table", hint=_HINT)
