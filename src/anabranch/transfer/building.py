"""A version in the making: entries that come by path, in any order, become trees and a link tree.

A directory that is complete can be closed: then only its entry is kept. Files with several names get link ids, unless
one of the names is all that came.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from anabranch.errors import UsageError
from anabranch.ids import CONTROL_NAME
from anabranch.transfer.sieve import Sieve
from anabranch.versions.objects import Entry, EntryKind, LinkRow, fresh_link_id
from anabranch.versions.trees import EMPTY_TREE, Trees, Version, is_name
from anabranch.versions.walks import DEEPEST
from anabranch.worktree.ignore import NAME as RULES
from anabranch.worktree.inodes import now_ns


@dataclass(slots=True)
class _Directory:
    dress: Entry
    """Its mode, owners and time."""
    children: "dict[bytes, Entry | _Directory]" = field(default_factory=dict)
    linking: bool = False
    """Whether a name of a file with several names is somewhere below: then it cannot be closed."""


class Building:
    """Entries by path, from the top of a branch. `dress` is how directories look that nobody has described."""

    def __init__(self, trees: Trees, dress: Entry) -> None:
        self._trees = trees
        self._dress = dress
        self._root = _Directory(dress)
        self._linked: dict[bytes, Entry] = {}
        self._names: dict[bytes, set[bytes]] = {}

    def add(self, path: bytes, entry: Entry) -> None:
        """Put an entry at a path, over what came there before. A directory keeps what is in it. Raises UsageError."""
        if not path:
            self._root.dress = entry
            return
        above, name = self._above(path)
        old = above.children.get(name)
        if isinstance(old, _Directory) and entry.kind is EntryKind.DIRECTORY:
            old.dress = entry
            return
        self._drop(path, old)
        above.children[name] = _Directory(entry) if entry.kind is EntryKind.DIRECTORY else entry

    def add_name(self, path: bytes, link_id: bytes, entry: Entry) -> None:
        """Put a name of a file that may have others at a path."""
        self.add(path, Entry(EntryKind.LINK, content=link_id))
        self._linked[link_id] = entry
        self._names.setdefault(link_id, set()).add(path)
        directory = self._root
        for name in path.split(b"/")[:-1]:
            directory.linking = True
            below = directory.children[name]
            assert isinstance(below, _Directory)
            directory = below
        directory.linking = True

    def link(self, path: bytes, target: bytes) -> None:
        """Make a path another name of what came at `target`. Raises UsageError."""
        above, name = self._above(target)
        entry = above.children.get(name)
        if entry is None or isinstance(entry, _Directory):
            raise UsageError(f"is a link to {target.decode(errors='replace')}, which did not come before")
        if entry.kind is not EntryKind.LINK:
            link_id = fresh_link_id()
            self.add_name(target, link_id, entry)
        else:
            link_id = entry.content
        self.add_name(path, link_id, self._linked[link_id])

    def close(self, path: bytes) -> None:
        """A directory is complete, if it came at all."""
        if not path:
            return
        above, name = self._above(path)
        directory = above.children.get(name)
        if isinstance(directory, _Directory) and not directory.linking:
            above.children[name] = self._build(directory)

    def sift(self, top: bytes, sieve: Sieve, text: Callable[[Entry], bytes]) -> int:
        """Take away what a sieve leaves out below a directory that is not closed; returns how many paths that were.

        `text` reads a file.
        """
        above = self._above(top)[0].children.get(top.rpartition(b"/")[2]) if top else self._root
        todo, count = [(top, above, sieve)], 0
        for path, directory, rules in todo:  # grows while it is walked
            if not isinstance(directory, _Directory):
                continue
            entry = directory.children.get(RULES)
            is_file = isinstance(entry, Entry) and entry.kind is EntryKind.FILE
            inside = rules.within(path, text(entry)) if is_file and isinstance(entry, Entry) else rules
            for name, child in list(directory.children.items()):
                below = path + b"/" + name if path else name
                passed = inside.passed(below, is_directory=isinstance(child, _Directory))
                if passed is None:
                    self._drop(below, directory.children.pop(name))
                    count += 1
                else:
                    todo.append((below, child, passed))
        return count

    def finish(self) -> Version:
        """All of it, put into the store."""
        for link_id, names in self._names.items():
            if len(names) == 1:
                above, name = self._above(next(iter(names)))
                above.children[name] = self._linked.pop(link_id)
        root = self._build(self._root)
        moved = self._trees.moved_links(EMPTY_TREE, root.tree)
        rows: dict[bytes, LinkRow | None] = {
            link_id: LinkRow(entry, len(self._names[link_id])) for link_id, entry in self._linked.items()
        }
        links = self._trees.apply_links(EMPTY_TREE, rows, moved) if rows else EMPTY_TREE
        return Version(self._trees, root, links)

    def _above(self, path: bytes) -> tuple[_Directory, bytes]:
        """The directory of a path, made if nobody has described it."""
        check_path(path)
        *parts, last = path.split(b"/")
        directory = self._root
        for name in parts:
            below = directory.children.get(name)
            if below is None:
                below = directory.children[name] = _Directory(self._dress)
            if not isinstance(below, _Directory):
                raise UsageError("a part of the path is not a directory")
            directory = below
        return directory, last

    def _drop(self, path: bytes, old: "Entry | _Directory | None") -> None:
        """What came before goes, with its names."""
        gone = [(path, old)]
        for above, each in gone:  # grows while it is walked
            if isinstance(each, _Directory):
                gone += ((above + b"/" + name, child) for name, child in each.children.items())
            elif each is not None and each.kind is EntryKind.LINK:
                self._names[each.content].discard(above)
                if not self._names[each.content]:
                    del self._names[each.content], self._linked[each.content]

    def _build(self, top: _Directory) -> Entry:
        """The entry of a directory, after those of the directories below it."""
        order = [top]
        for directory in order:  # grows while it is walked: parents before children
            order += _directories(directory)
        built: dict[int, Entry] = {}
        for directory in reversed(order):
            rows = [
                (name, built[id(child)] if isinstance(child, _Directory) else child)
                for name, child in sorted(directory.children.items())
            ]
            tree = self._trees.apply(EMPTY_TREE, rows) if rows else EMPTY_TREE
            built[id(directory)] = self._trees.directory(directory.dress, tree)
        return built[id(top)]


def check_path(path: bytes) -> None:
    """Raises UsageError on what cannot be a path in a branch."""
    names = path.split(b"/")
    if not all(map(is_name, names)) or len(path) > DEEPEST:
        raise UsageError("is no path that a directory can hold")
    if names[0] == CONTROL_NAME:
        raise UsageError("is where a branch has its control files")


def _directories(directory: _Directory) -> Iterator[_Directory]:
    return (child for child in directory.children.values() if isinstance(child, _Directory))


def own_directory() -> Entry:
    """How directories look that are made on the way: this process's, and of now."""
    return directory(0o755, os.geteuid(), os.getegid(), now_ns())


def directory(mode: int, uid: int, gid: int, mtime_ns: int) -> Entry:
    """How a directory looks; what is in it comes later."""
    return Entry(EntryKind.DIRECTORY, mode, uid, gid, mtime_ns, content=EMPTY_TREE)
