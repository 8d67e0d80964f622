"""Walking down directories, which end: a directory that is in itself is damage, and so is one that lies too deep.

Two trees of one content have one id, so in a version a tree cannot be below itself: an id that comes again under itself
was made up. docs/design/009.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from anabranch.errors import DamagedError
from anabranch.escape import show_path
from anabranch.versions.objects import Entry, EntryKind

DEEPEST = 8_191
"""Bytes of a path in a version: twice what a system call takes."""

AnyPair = TypeVar("AnyPair", bound=tuple[bytes, object, object])


class Descent:
    """The directories that somebody is in, from the top down."""

    def __init__(self) -> None:
        self._inside: set[object] = set()
        self._levels: list[set[object]] = []

    def enter(self, path: bytes, trees: Iterable[object]) -> None:
        """Go into a directory, in each of several trees perhaps. Raises DamagedError."""
        entered = set(trees)
        if len(path) > DEEPEST:
            raise DamagedError(f"a path is longer than {DEEPEST} bytes: {show_path(path[:60])}...")
        if not entered.isdisjoint(self._inside):
            raise DamagedError(f"directory {show_path(path[-200:])} is inside itself")
        self._inside |= entered
        self._levels.append(entered)

    def leave(self) -> None:
        """Go back up."""
        self._inside -= self._levels.pop()


def walk(top: Iterator[AnyPair], below: Callable[[AnyPair], Iterator[AnyPair] | None]) -> Iterator[AnyPair]:
    """The pairs of a directory, each followed by what is below it, if anything is to be looked at there.

    Raises DamagedError where that would have no end.
    """
    stack, descent = [top], Descent()
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            if stack:
                descent.leave()
            continue
        yield pair
        if (inside := below(pair)) is not None:
            descent.enter(pair[0], _trees(pair))
            stack.append(inside)


def _trees(pair: tuple[bytes, object, object]) -> Iterator[object]:
    """The trees of a pair's directories, each for its side. One that was changed has no tree yet."""
    for side, entry in enumerate(pair[1:]):
        if isinstance(entry, Entry) and entry.kind is EntryKind.DIRECTORY:
            yield side, entry.content


def directories_above(path: bytes) -> Iterator[bytes]:
    """The directories above a path, the nearest first, without the top."""
    while path := path.rpartition(b"/")[0]:
        yield path


def is_below(path: bytes, top: bytes) -> bool:
    """Whether a path is another one, or below it; all are below the top, which is empty."""
    return not top or path == top or path.startswith(top + b"/")


def joined(above: bytes, below: bytes) -> bytes:
    """A path below another one; either may be empty."""
    return above + b"/" + below if above and below else above or below
