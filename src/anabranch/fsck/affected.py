"""What a row of `meta.mdb` is about: the paths and versions that are hit when it is damaged. Only reads.

A damaged row of a working tree closes all of them until it is mended, since what it says cannot be believed. Its key,
and the rows of names, still tell whose it is.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from anabranch.errors import DamagedError
from anabranch.fsck.findings import Hit
from anabranch.store.env import Environment
from anabranch.store.meta import LOGS, NAMES, NODES, REFS, WORKTREES
from anabranch.versions.refs import log_name, log_number
from anabranch.versions.walks import joined
from anabranch.worktree.cuts import EXTENTS, NUMBER, PLACE, WORKTREE, WorktreeRow, child_of, overlays_named

_Places = dict[int, set[tuple[int, bytes]]]
"""By inode: the names that lead to it, each in its directory."""


def uncommitted(branch: bytes) -> str:
    """What the uncommitted changes of a branch are called, where a version could be named."""
    return f"{branch.decode(errors='replace')} (uncommitted)"


class Affected:
    """What rows are about. Each table is read once."""

    def __init__(self, meta: Environment) -> None:
        self._meta = meta
        self._known: dict[int, _Places] = {}
        self._overlays: dict[int, dict[int, set[int]]] = {}

    def hits(self, table: str, key: bytes) -> list[Hit]:
        """What a row hits, as far as its key tells."""
        with contextlib.suppress(DamagedError):
            if table == LOGS:
                return [Hit(b"", [f"{log_name(key).decode(errors='replace')}@{log_number(key)}"])]
            if table == REFS:
                return [Hit(b"", [key.decode(errors="replace")])]
            if table == WORKTREES:
                return [Hit(b"", [uncommitted(key)])]
            if table in (NODES, NAMES) and len(key) >= PLACE.size:
                return self._in_working_tree(table, key)
        return []

    def _in_working_tree(self, table: str, key: bytes) -> list[Hit]:
        number, generation, ino = PLACE.unpack(key[: PLACE.size])
        if number not in self._trees:
            return []
        called, row = self._trees[number]
        if table == NAMES:
            name = key[PLACE.size :]
            paths = set() if name.startswith(b"/") else {joined(path, name) for path in self._paths(row, ino)}
        elif generation == EXTENTS:  # `ino` is the number of an overlay file
            paths = {path for each in self._holders(number).get(ino, ()) for path in self._paths(row, each)}
        else:
            paths = set(self._paths(row, ino))
        return [Hit(path, [called]) for path in sorted(paths or {b""})]

    @cached_property
    def _trees(self) -> dict[int, tuple[str, WorktreeRow]]:
        """What each working tree is called, and its row, by its number."""
        found: dict[int, tuple[str, WorktreeRow]] = {}
        for name, sealed in self._meta.scan(WORKTREES):
            with contextlib.suppress(DamagedError):
                row = WORKTREE.unseal(sealed, f"working tree of {name!r}", name)
                found[row.number] = uncommitted(name), row
        return found

    def _places(self, number: int) -> _Places:
        if number not in self._known:
            places = self._known[number] = defaultdict(set)
            for key, value in self._meta.scan(NAMES, NUMBER.pack(number)):
                with contextlib.suppress(DamagedError):
                    places[child_of(key, value)].add((PLACE.unpack(key[: PLACE.size])[2], key[PLACE.size :]))
        return self._known[number]

    def _paths(self, row: WorktreeRow, ino: int) -> Iterator[bytes]:
        """All paths of an inode, from the root on; none, if a name on the way is damaged, too."""
        places = self._places(row.number)
        todo = [(ino, b"", frozenset[int]())]
        while todo:
            at, below, passed = todo.pop()
            if at == row.root:
                yield below
            elif at not in passed:
                todo += [(parent, joined(name, below), passed | {at}) for parent, name in places.get(at, ())]

    def _holders(self, number: int) -> dict[int, set[int]]:
        """By the number of an overlay file: the inodes whose content it has."""
        if number not in self._overlays:
            holders = self._overlays[number] = defaultdict(set)
            for key, value in self._meta.scan(NODES, NUMBER.pack(number)):
                for overlay in overlays_named(key, value) if len(key) == PLACE.size else ():
                    holders[overlay].add(PLACE.unpack(key)[2])
        return self._overlays[number]
