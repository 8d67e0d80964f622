"""`.anaignore` files: which names stay out of commits. The patterns and their rules are those of gitignore(5).

A name that the base commit has is never ignored (docs/design/006).
"""

import re
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from anabranch.versions import manifests
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import EMPTY_TREE, Version
from anabranch.worktree.content import Content, Sources, StoredContent, read_waiting
from anabranch.worktree.inodes import Node
from anabranch.worktree.sides import Pair, Side, is_directory, side_at
from anabranch.worktree.table import Table

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAME = b".anaignore"
SIZE_MAX = 64 * 1024
"""Bytes of such a file that are read: it is looked at for each status and commit."""
STARS_MAX = 3
"""In a part of a pattern: with more, a name that nearly matches takes seconds (255 bytes, and more in each star)."""
FIRST = """\
# What matches stays in the working tree, and out of commits. The patterns are those of gitignore(5).
.ipynb_checkpoints/
__pycache__/
.Trash-*/
.DS_Store
.~lock.*#
*.swp
*.crc
_temporary/
"""
"""What a new repository starts with: what editors, notebooks and Spark leave beside data."""


class Rules:
    """The patterns that hold in one directory: its own, over those of the directories above."""

    def __init__(self, levels: "tuple[tuple[int, GitIgnoreSpec], ...]" = (), *, everything: bool = False) -> None:
        self._levels = levels
        """Length of the directory's path with its slash, and its patterns; the deepest first."""
        self._everything = everything
        """Whether the directory matches itself, or is in one that does."""

    def within(self, directory: bytes, text: bytes | None) -> "Rules":
        """The rules in a directory that has such a file, or none."""
        if text is None:
            return self
        start = len(directory) + 1 if directory else 0
        return Rules(((start, _compiled(text)), *self._levels), everything=self._everything)

    def below(self, matches: bool) -> "Rules":
        """The rules that a directory in this one begins with, when it matches or does not."""
        return self if matches == self._everything else Rules(self._levels, everything=matches)

    def ignores(self, path: bytes, *, directory: bool) -> bool:
        """Whether a path below matches. The nearest file that says something of it decides."""
        if self._everything:
            return True
        for start, spec in self._levels:
            found = spec.check_file(path[start:].decode(errors="surrogateescape") + "/" * directory).include
            if found is not None:
                return found
        return False


@lru_cache(maxsize=64)
def _compiled(text: bytes) -> "GitIgnoreSpec":
    """Lines that are no patterns are passed over, as git does, and those that would take too long to match."""
    from pathspec import GitIgnoreSpec  # takes 25 ms, and most commands do without

    lines = []
    with warnings.catch_warnings(action="ignore"):  # the regular expressions are not the user's
        for line in text.decode(errors="surrogateescape").splitlines():
            if line.count("**") > STARS_MAX or max(map(_stars, line.split("/"))) > STARS_MAX:
                continue
            try:
                GitIgnoreSpec.from_lines([line])
            except (ValueError, re.error):
                continue
            lines.append(line)
        return GitIgnoreSpec.from_lines(lines)


def _stars(part: str) -> int:
    return len(re.findall(r"\*+", part))


def patterns(side: Node | Entry | None, sources: Sources) -> bytes | None:
    """The text of an ignore file, waiting for the disk; None of what is no file."""
    if side is None or side.kind is not EntryKind.FILE:
        return None
    content: Content = StoredContent(manifests.of(side)) if isinstance(side, Entry) else side.content
    return read_waiting(content, sources, 0, SIZE_MAX)


class Ignored:
    """What is ignored in a working tree as it is now, over its base commit. For one look: it remembers.

    With `by_last`, by the rules of the base commit in the place of those of the working tree.
    """

    def __init__(self, table: Table, base: Version, sources: Sources, *, by_last: bool = False) -> None:
        self._rules_at: Callable[[bytes], Side] = base.find if by_last else partial(side_at, table)
        self._table = table
        self._base = base
        self._sources = sources
        self._known: dict[bytes, Rules] = {}
        """By directory."""

    def hides(self, path: bytes, side: Side) -> bool:
        """Whether what is at a path stays out of commits."""
        if not path or not isinstance(side, Node):
            return False
        directory, _, name = path.rpartition(b"/")
        matches = self._within(directory).ignores(path, directory=is_directory(side))
        return matches and self._base.named(path) is None and not self._came_along(directory, name)

    def _came_along(self, directory: bytes, name: bytes) -> bool:
        """Whether a name is one of a directory that was moved, or brought back, with all that is in it."""
        above = side_at(self._table, directory)
        if not isinstance(above, Node) or above.base == EMPTY_TREE:
            return False
        return self._base.trees.lookup(above.base, name) is not None

    def hides_pair(self, pair: Pair) -> bool:
        """Whether a path that an older version lacks stays out of commits."""
        return pair[1] is None and self.hides(pair[0], pair[2])

    def _within(self, directory: bytes) -> Rules:
        missing = [directory]
        while missing[-1] and missing[-1] not in self._known:  # a loop: paths may be deeper than Python's stack
            missing.append(missing[-1].rpartition(b"/")[0])
        for path in reversed(missing):
            if path not in self._known:
                self._known[path] = self._look(path)
        return self._known[directory]

    def _look(self, directory: bytes) -> Rules:
        rules, place = Rules(), NAME
        if directory:
            above, place = self._known[directory.rpartition(b"/")[0]], directory + b"/" + NAME
            rules = above.below(above.ignores(directory, directory=True))
        return rules.within(directory, patterns(self._rules_at(place), self._sources))
