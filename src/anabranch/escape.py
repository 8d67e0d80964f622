"""Names and messages as people may see them: nothing in them moves a cursor, or shows them other than they are."""

import re
from collections.abc import Sequence

_UNSAFE = "\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Control characters beyond ASCII's first 32, ends of lines, and what turns the direction of the text after it."""
_IN_TEXT = re.compile(f"[\x00-\x1f\udc80-\udcff{_UNSAFE}]")
_IN_JSON = re.compile(f"[{_UNSAFE}]")


def show_path(path: bytes) -> str:
    """A path for people: control characters, what is not UTF-8, and backslashes escaped, so that each is another."""
    return show_name(path.decode(errors="surrogateescape").replace("\\", "\\\\"))


def show_name(text: str) -> str:
    """A name or a message for people: as it is, but for control characters and what is not UTF-8."""
    return _IN_TEXT.sub(lambda found: _escape(ord(found[0])), text)


def show_line(text: str) -> str:
    """A line of a text for people: as a message, but with its tabs."""
    return "\t".join(map(show_name, text.split("\t")))


def show_json(document: str) -> str:
    """A JSON document that says the same, and does nothing to a terminal."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"  # \x85 is a byte that is not UTF-8


def show_paths(paths: Sequence[bytes], most: int = 10) -> str:
    """The first of some paths, and how many more there are; the top is `.`."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(show_path(path) or "." for path in paths[:most]) + more
