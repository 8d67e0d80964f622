"""A filesystem in plain Python, to hold the working tree against: items in dictionaries, nothing clever.

Hard links are one item under several names. Operations raise the OSError that the system call would give.
"""

import copy
import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from anabranch.versions.objects import EntryKind

Path = tuple[bytes, ...]


@dataclass(eq=False)
class Item:
    """A file, directory, link or FIFO. What is None was not looked at yet."""

    kind: EntryKind
    mode: int
    ino: int | None = None
    mtime_ns: int | None = None
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    children: dict[bytes, "Item"] = field(default_factory=dict)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    linked: bool = False
    """Whether it ever had a second name."""
    link_id: bytes = b""
    """What its names hold then, as it was seen."""

    @property
    def is_directory(self) -> bool:
        return self.kind == EntryKind.DIRECTORY

    @property
    def size(self) -> int:
        return len(self.target) if self.kind == EntryKind.SYMLINK else len(self.data)

    def copy(self) -> "Item":
        """Everything below, as it is now; hard links stay hard links."""
        return copy.deepcopy(self)


def failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Model:
    """One branch."""

    def __init__(self, root: Item) -> None:
        self.root = root

    # --- looking ---

    def walk(self) -> Iterator[tuple[Path, Item]]:
        """Every name but the root's, parents before children."""
        return walk(self.root)

    def directories(self) -> list[Path]:
        return [(), *(path for path, item in self.walk() if item.is_directory)]

    def at(self, path: Path) -> Item:
        item = self.root
        for name in path:
            item = item.children[name]
        return item

    # --- changing: each returns the items whose mtime moved ---

    def create(self, directory: Path, name: bytes, item: Item) -> list[Item]:
        parent = self.at(directory)
        if name in parent.children:
            raise failure(errno.EEXIST)
        parent.children[name] = item
        return [parent, item]

    def link(self, item: Item, directory: Path, name: bytes) -> list[Item]:
        if item.is_directory:
            raise failure(errno.EPERM)
        moved = self.create(directory, name, item)[:1]
        item.linked = True
        return moved

    def unlink(self, directory: Path, name: bytes) -> list[Item]:
        parent = self.at(directory)
        if parent.children[name].is_directory:
            raise failure(errno.EISDIR)
        del parent.children[name]
        return [parent]

    def rmdir(self, directory: Path, name: bytes) -> list[Item]:
        parent = self.at(directory)
        item = parent.children[name]
        if not item.is_directory:
            raise failure(errno.ENOTDIR)
        if item.children:
            raise failure(errno.ENOTEMPTY)
        del parent.children[name]
        return [parent]

    def rename(self, directory: Path, name: bytes, to: Path, new: bytes) -> list[Item]:
        parent, new_parent = self.at(directory), self.at(to)
        item, target = parent.children[name], new_parent.children.get(new)
        if target is item:
            return []
        if target is not None:
            if target.is_directory and not item.is_directory:
                raise failure(errno.EISDIR)
            if target.is_directory and target.children:
                raise failure(errno.ENOTEMPTY)
            if item.is_directory and not target.is_directory:
                raise failure(errno.ENOTDIR)
        del parent.children[name]
        new_parent.children[new] = item
        return [parent, new_parent]

    def exchange(self, directory: Path, name: bytes, to: Path, new: bytes) -> list[Item]:
        parent, new_parent = self.at(directory), self.at(to)
        item, target = parent.children[name], new_parent.children[new]
        if item is target:
            return []
        parent.children[name], new_parent.children[new] = target, item
        return [parent, new_parent]

    def above(self, path: Path) -> list[Item]:
        """What there is on the way to a path."""
        items, item = [], self.root
        for name in path[:-1]:
            if name not in item.children:
                break
            item = item.children[name]
            items.append(item)
        return items

    def restore(
        self, committed: Item | None, version: Item, path: Path, changed: set[Path], number: Callable[[Path], int]
    ) -> None:
        """Put back what a version holds at a path. `changed` are the paths that differ, `number` tells the inode
        numbers that came of it: a file that changed has a new one, and one that did not has the old one, but for hard
        links, where it depends on their other names.
        """
        known = {item.ino: item for _, item in self.walk() if not item.is_directory}
        made: dict[int, Item] = {}

        def back(source: Item, current: Item | None, at: Path) -> Item:
            if source.is_directory:
                kept = current if current is not None and current.is_directory else Item(source.kind, 0)
                kept.mode, kept.mtime_ns, kept.xattrs = source.mode, source.mtime_ns, dict(source.xattrs)
                kept.children = {
                    name: back(child, kept.children.get(name), (*at, name)) for name, child in source.children.items()
                }
                return kept
            ino = number(at)
            item = known.setdefault(ino, _anew(source))
            assert not _differ(source, item), f"{at}: the file of another name is not as in the version"
            assert made.setdefault(id(source), item) is item, f"{at}: names of one file were restored apart"
            if current is not None and not source.linked and not current.linked:
                assert (item is current) != (at in changed), f"{at}: changed, and has its old number, or neither"
            return item

        if not path:
            kept = self.root.children.get(IGNORED) if is_hidden(committed, self.root) else None
            self.root = back(version, self.root, ())
            if kept is not None:
                self.root.children.setdefault(IGNORED, kept)
            return
        here, source = self.root, version
        for name in path[:-1]:
            source = source.children[name]
            here.mtime_ns = None
            missing = Item(EntryKind.DIRECTORY, source.mode, xattrs=dict(source.xattrs))
            here = here.children.setdefault(name, missing)
        here.mtime_ns = None
        here.children[path[-1]] = back(source.children[path[-1]], here.children.get(path[-1]), path)

    @staticmethod
    def write(item: Item, offset: int, data: bytes) -> list[Item]:
        item.data.extend(bytes(max(0, offset - len(item.data))))
        item.data[offset : offset + len(data)] = data
        return [item]

    @staticmethod
    def truncate(item: Item, size: int) -> list[Item]:
        del item.data[size:]
        item.data.extend(bytes(size - len(item.data)))
        return [item]


def set_xattr(item: Item, name: bytes, value: bytes | None) -> list[Item]:
    if value is not None:
        item.xattrs[name] = value
    elif item.xattrs.pop(name, None) is None:
        raise failure(errno.ENODATA)
    return []


def walk(root: Item, path: Path = ()) -> Iterator[tuple[Path, Item]]:
    for name in sorted(root.children):
        item = root.children[name]
        yield (*path, name), item
        if item.is_directory:
            yield from walk(item, (*path, name))


def _anew(source: Item) -> Item:
    item = source.copy()
    item.ino = None
    return item


def link_counts(root: Item) -> dict[int, int]:
    """st_nlink by identity of the item."""
    names = Counter(id(item) for _, item in walk(root) if not item.is_directory)
    counts = dict(names)
    for item in (root, *(item for _, item in walk(root))):
        if item.is_directory:
            counts[id(item)] = 2 + sum(child.is_directory for child in item.children.values())
    return counts


def differences(old: Item | None, new: Item) -> set[Path]:
    """The paths on which two states differ, as a commit sees it: the time of a directory alone is no change."""
    before = {} if old is None else dict(walk(old))
    after = dict(walk(new))
    paths = {path for path in before.keys() | after.keys() if _differ(before.get(path), after.get(path))}
    if old is not None and (old.mode, old.xattrs) != (new.mode, new.xattrs):
        paths.add(())
    return paths


def _differ(old: Item | None, new: Item | None) -> bool:
    if old is None or new is None or (old.kind, old.mode, old.xattrs) != (new.kind, new.mode, new.xattrs):
        return True
    if old.is_directory:
        return False
    return (old.data, old.target, old.mtime_ns) != (new.data, new.target, new.mtime_ns)


def changes(old: Item | None, new: Item) -> set[Path]:
    """What a commit would be for: paths that differ, and names that became those of one file, or ceased to be."""
    return differences(old, new).union(*_groups(old) ^ _groups(new))


def _groups(root: Item | None) -> set[frozenset[Path]]:
    """Which paths are names of one file."""
    names: dict[int, set[Path]] = {}
    for path, item in () if root is None else walk(root):
        if not item.is_directory:
            names.setdefault(id(item), set()).add(path)
    return {frozenset(paths) for paths in names.values() if len(paths) > 1}


RULES, IGNORED = b".anaignore", b"e"


def is_hidden(committed: Item | None, now: Item) -> bool:
    """Whether a restore leaves what is ignored, by the rules of now or of the last commit."""
    ruled = any(root is not None and RULES in root.children for root in (committed, now))
    return ruled and (committed is None or IGNORED not in committed.children)


def visible(old: Item | None, new: Item) -> Item:
    """Without what is ignored: the name `e` at the top, if there is a file of rules, and the last commit lacks it."""
    hidden = RULES in new.children and (old is None or IGNORED not in old.children)
    shown = Item(new.kind, new.mode, new.ino, new.mtime_ns, children=dict(new.children), xattrs=new.xattrs)
    if hidden:
        shown.children.pop(IGNORED, None)
    return shown


def selected(old: Item | None, new: Item, asked: set[Path]) -> Item:
    """What a commit of some paths holds: there it is as it is now, elsewhere as in the last commit.

    All names of one file hold the same: what it is now, if any of its committed names is asked for.
    """
    new = visible(old, new)
    now = {item.link_id: item for _, item in walk(new) if item.link_id}

    def is_asked(path: Path) -> bool:
        return any(path[: len(top)] == top for top in asked)

    asked_for = {item.link_id for root in (old, new) if root for path, item in walk(root) if is_asked(path)}

    def as_it_was(item: Item) -> Item:
        if item.is_directory:
            children = {name: as_it_was(child) for name, child in item.children.items()}
            return Item(item.kind, item.mode, item.ino, item.mtime_ns, children=children, xattrs=dict(item.xattrs))
        return now.get(item.link_id, item) if item.link_id in asked_for else item

    def merge(path: Path, before: Item | None, after: Item | None) -> Item | None:
        leads = any(top[: len(path)] == path for top in asked)
        if is_asked(path) and (after is None or not after.is_directory):
            return after
        if not is_asked(path) and not (after is not None and after.is_directory and leads):
            return before and as_it_was(before)
        assert after is not None
        was = before if before is not None and before.is_directory else None
        dressed = after if is_asked(path) or was is None else was
        children = {}
        for name in (was.children.keys() if was else set()) | after.children.keys():
            child = merge((*path, name), was and was.children.get(name), after.children.get(name))
            if child is not None:
                children[name] = child
        dress = dressed.mode, after.ino, dressed.mtime_ns
        return Item(after.kind, *dress, children=children, xattrs=dict(dressed.xattrs))

    merged = merge((), old, new)
    assert merged is not None
    return merged


def set_user_bits_dropped(mode: int) -> int:
    """What a write leaves of a mode."""
    if mode & (stat.S_ISUID | stat.S_ISGID):
        mode &= ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
    return mode
