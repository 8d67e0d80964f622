"""CSV as text: how a file is written, its header, and its records one by one. Pure Python, over streams of bytes.

DuckDB reads the values; here only the text is looked at, so that a record can be copied as it stands. Both must see the
same rows, so a record with quotes in it that does not fit is refused, not guessed at.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from anabranch.errors import UsageError

HEAD = 1024 * 1024
"""Bytes at the beginning of a file that tell how it is written; its header is in them."""
_PIECE = 1024 * 1024
_SAMPLE = 100
"""Records that must have equally many columns for a delimiter to be one."""
_DELIMITERS = (b",", b"\t", b";", b"|")
_ESCAPES = (b'"', b"\\")
_BOM = b"\xef\xbb\xbf"

Fields = list[bytes]
"""The values of a record, without quotes."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written. Values are quoted by `"`."""

    delimiter: bytes
    escape: bytes
    """What stands before a quote in a quoted value: another quote, or a backslash."""
    newline: bytes

    @property
    def quoted(self) -> bytes:
        """A pattern of what is between quotes."""
        return rb'[^"]*+(?:""[^"]*+)*+' if self.escape == b'"' else rb'[^"\\]*+(?:\\.[^"\\]*+)*+'

    @property
    def plain(self) -> bytes:
        """A pattern of a value without quotes; it may have some inside."""
        return rb'(?:[^"%b\r\n][^%b\r\n]*)?' % (2 * (re.escape(self.delimiter),))

    def record(self, values: Iterable[str | None]) -> bytes:
        """Values as a record without an end of line: quoted where they must be, and where a value is empty."""
        return self.delimiter.join(map(self._value, values))

    def _value(self, value: str | None) -> bytes:
        if value is None:
            return b""
        text = value.encode()
        if text and text == text.strip(b" ") and not any(sign in text for sign in (self.delimiter, b'"', b"\r", b"\n")):
            return text
        if self.escape != b'"':
            text = text.replace(self.escape, 2 * self.escape)
        return b'"' + text.replace(b'"', self.escape + b'"') + b'"'


@dataclass(frozen=True, slots=True)
class Head:
    """How a file is written, and its column names."""

    dialect: Dialect
    names: tuple[str, ...]


def is_packed(path: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return path.name.lower().endswith(".gz")


def open_text(path: Path) -> BinaryIO:
    """A file's bytes, unpacked."""
    return cast(BinaryIO, gzip.open(path)) if is_packed(path) else path.open("rb")


@contextmanager
def new_text(path: Path) -> Iterator[BinaryIO]:
    """A new file, whose bytes are packed if its name says so."""
    with path.open("xb", _PIECE) as stream:
        if not is_packed(path):
            yield stream
            return
        with gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed:
            yield cast(BinaryIO, packed)


def head_of(path: Path) -> Head:
    """How a CSV file is written. Raises UsageError when it has no header, or is no text."""
    try:
        with open_text(path) as stream:
            text = stream.read(HEAD + 1)
    except (EOFError, OSError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from error
    whole, text = len(text) <= HEAD, text[:HEAD].removeprefix(_BOM)
    if not text.split(b"\n", 1)[0].strip(b"\r\n \t"):
        raise UsageError(f"{path.name} has no header", hint="the first line of a CSV file names its columns")
    newline = _newline(text)
    delimiters = (b"\t",) if ".tsv" in path.name.lower() else _DELIMITERS
    best = (-1, 0)
    for dialect in (Dialect(delimiter, escape, newline) for delimiter in delimiters for escape in _ESCAPES):
        score, fields = _fit(text, dialect, whole)
        if fields and score > best:
            best, header, chosen = score, fields, dialect
    if best[0] < 0:
        raise UsageError(f"{path.name} has no header in its first {HEAD} bytes")
    return Head(chosen, _names(path, header))


def _newline(text: bytes) -> bytes:
    first = re.search(rb"\r\n|\n|\r", text)
    return first[0] if first else b"\n"


def _fit(text: bytes, dialect: Dialect, whole: bool) -> tuple[tuple[int, int], Fields]:
    """How well a dialect fits, and the header that it sees: how many columns the first records have, and how many
    records there are. A single column proves nothing; and where their number differs, DuckDB says what is wrong.
    """
    found = []
    for fields, end in islice(_heads(text, dialect), _SAMPLE):
        if end == len(text) and not whole:
            break
        found.append(fields)
    counts = {len(fields) for fields in found if fields != [b""]} or {1}
    fits = len(counts) == 1 and counts != {1}
    return (counts.pop(), len(found)) if fits else (0, 0), found[0] if found else []


def _heads(text: bytes, dialect: Dialect) -> Iterator[tuple[Fields, int]]:
    """Records from the beginning of a text, each with where it ends; nothing after one that does not fit."""
    pattern = rb'(?:"(%b)"|(%b))(%b|\r\n|\n|\r|\Z)' % (dialect.quoted, dialect.plain, re.escape(dialect.delimiter))
    field, at = re.compile(pattern, re.DOTALL), 0
    fields: Fields = []
    while at < len(text) or fields:
        found = field.match(text, at)
        if found is None:
            yield [], len(text)
            return
        inside, plain, end = found.groups()
        fields.append(plain if inside is None else inside.replace(dialect.escape + b'"', b'"'))
        at = found.end()
        if end != dialect.delimiter:
            yield fields, at
            fields = []


def _names(path: Path, header: Fields) -> tuple[str, ...]:
    try:
        names = tuple(name.decode() for name in header)
    except UnicodeDecodeError:
        raise UsageError(f"{path.name} is not UTF-8", hint="CSV is read as UTF-8 text") from None
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{path.name} has two columns with the name {twice}")
    return names


def records(stream: BinaryIO, dialect: Dialect, columns: int) -> Iterator[bytes]:
    """The records of a file as they stand, the header first, each with its end of line and empty lines after it.

    Raises UsageError where it is not sure where one ends.
    """
    if dialect.newline == b"\r":
        raise UsageError("lines that end with a carriage return alone cannot be copied one by one")
    value = rb'(?:"%b"|%b)' % (dialect.quoted, dialect.plain)
    more = rb"(?:%b%b){%d}" % (re.escape(dialect.delimiter), value, columns - 1)
    whole = re.compile(rb"(?:\xef\xbb\xbf)?%b%b(?:\r?\n)*" % (value, more), re.DOTALL)
    waiting = b""
    for record in _lines(stream, dialect, whole):
        if columns > 1 and not record.strip(b"\r\n"):
            waiting += record
            continue
        if waiting:
            yield waiting
        waiting = record
    if waiting:
        yield waiting


def _lines(stream: BinaryIO, dialect: Dialect, whole: re.Pattern[bytes]) -> Iterator[bytes]:
    """Lines, and those in one where a quoted value holds their ends."""
    for line in stream:
        if b'"' in line and whole.fullmatch(line) is None:
            line = _joined(line, stream, dialect)
            if whole.fullmatch(line) is None:
                raise UsageError(f"a record cannot be told from the next one: {line[:60].decode(errors='replace')}")
        yield line


def _joined(line: bytes, more: Iterable[bytes], dialect: Dialect) -> bytes:
    """A line, and the following ones as long as a quoted value is open at their end."""
    begin = re.compile(rb'(?:\xef\xbb\xbf)?"')
    plain = re.compile(rb"[^%b\r\n]*" % re.escape(dialect.delimiter))
    rest = re.compile(rb'%b"' % dialect.quoted, re.DOTALL)
    parts, at, inside = [line], 0, False
    lines = iter(more)
    while True:
        if not inside and begin.match(parts[-1], at):
            at, inside = parts[-1].index(b'"', at) + 1, True
        found = (rest if inside else plain).match(parts[-1], at)
        if found is not None:
            at, inside = found.end() + 1, False
            if at >= len(parts[-1]) or parts[-1][at - 1 : at] != dialect.delimiter:
                return b"".join(parts)
        else:
            following = next(lines, None)
            if following is None:
                return b"".join(parts)
            parts.append(following)
            at = 0
