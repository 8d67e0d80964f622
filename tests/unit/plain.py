"""Versions as plain dictionaries: how tests of merging build them, read them back, and merge them by the book.

A state has what is at each path, directories too; a name of a file with hard links is a LINK with its id, and what is
behind it is among the links. `merged` has the rules of docs/design/011 but one: directories that were renamed.
"""

from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.versions import xattrs
from anabranch.versions.merge import Merged, Resolve, merge, unresolved
from anabranch.versions.objects import Commit, Entry, EntryKind, Form, LinkRow, Tag, get_commit, put_commit
from anabranch.versions.trees import EMPTY_TREE, Trees, Version

OWNER = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """What is at a path, or behind a hard link. Content: of a symbolic link its target, of a LINK its id."""

    kind: EntryKind
    content: bytes = b""
    mode: int = 0o644
    mtime: int = 0
    owner: int = OWNER
    xattr: bytes = b""

    @property
    def is_directory(self) -> bool:
        return self.kind is EntryKind.DIRECTORY


FILE = Item(EntryKind.FILE)
DIRECTORY = Item(EntryKind.DIRECTORY, mode=0o755)
Paths = dict[bytes, Item]


@dataclass
class State:
    """All of a version."""

    paths: Paths = field(default_factory=lambda: {b"": DIRECTORY})
    links: Paths = field(default_factory=dict)

    def copy(self) -> "State":
        return State(dict(self.paths), dict(self.links))

    def directories(self) -> list[bytes]:
        return sorted(path for path, item in self.paths.items() if item.is_directory)

    def below(self, top: bytes) -> Paths:
        """What is at a path and below it, by the rest of the path."""
        if top not in self.paths:
            return {}
        return {path[len(top) :]: item for path, item in self.paths.items() if is_within(path, top)}

    def remove(self, top: bytes) -> None:
        for path in [path for path in self.paths if is_within(path, top)]:
            del self.paths[path]
        self.tidy()

    def move(self, old: bytes, new: bytes) -> None:
        items, links = self.below(old), dict(self.links)
        self.remove(old)
        self.remove(new)
        self.paths |= {new + rest: item for rest, item in items.items()}
        self.links = links
        self.tidy()

    def tidy(self) -> None:
        """Files without a name are none."""
        named = {item.content for item in self.paths.values() if item.kind is EntryKind.LINK}
        self.links = {link: item for link, item in self.links.items() if link in named}

    def names(self, link: bytes) -> list[bytes]:
        return sorted(path for path, item in self.paths.items() if item == linked(link))


def is_within(path: bytes, top: bytes) -> bool:
    return not top or path == top or path.startswith(top + b"/")


def child(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def linked(link: bytes) -> Item:
    return Item(EntryKind.LINK, link, 0, 0, 0)


def plain_time(state: State) -> State:
    """Without the times of directories, which alone are no change."""
    paths = {path: replace(item, mtime=0) if item.is_directory else item for path, item in state.paths.items()}
    return State(paths, state.links)


# --- versions -----------------------------------------------------------------------------------------------------


def entry_of(item: Item) -> Entry:
    """The entry of what is no directory."""
    if item.kind is EntryKind.LINK:
        return Entry(EntryKind.LINK, content=item.content)
    is_file, extra = item.kind is EntryKind.FILE, xattr_tags(item)
    return Entry(
        item.kind, item.mode, item.owner, item.owner, item.mtime, len(item.content),
        Form.INLINE if is_file and item.content else Form.EMPTY, item.content, extra,
    )  # fmt: skip


def xattr_tags(item: Item) -> dict[int, int | bytes] | None:
    return xattrs.made({b"user.x": item.xattr}).tags() if item.xattr else None


def item_of(entry: Entry) -> Item:
    if entry.kind is EntryKind.LINK:
        return linked(entry.content)
    content = b"" if entry.kind is EntryKind.DIRECTORY else entry.content
    held = entry.extra.get(Tag.XATTRS, b"") if entry.extra else b""
    assert isinstance(held, bytes)
    values = msgspec.msgpack.decode(held, type=dict[bytes, bytes]) if held else {}
    return Item(entry.kind, content, entry.mode, entry.mtime_ns, entry.uid, values.get(b"user.x", b""))


def built(trees: Trees, state: State) -> Version:
    """A version that holds a state, from the bottom up."""
    children: dict[bytes, list[tuple[bytes, Entry | None]]] = {path: [] for path in state.directories()}
    names: dict[tuple[bytes, bytes], bool] = {}
    root = None
    for path in sorted(state.paths, reverse=True):
        item = state.paths[path]
        if item.is_directory:
            dress = Entry(
                EntryKind.DIRECTORY, item.mode, item.owner, item.owner, item.mtime,
                content=EMPTY_TREE, extra=xattr_tags(item),
            )  # fmt: skip
            entry = trees.directory(dress, trees.apply(trees.empty(), sorted(children[path], key=lambda row: row[0])))
        else:
            entry = entry_of(item)
        if item.kind is EntryKind.LINK:
            names[item.content, path] = True
        if path:
            children[above(path)].append((path.rpartition(b"/")[2], entry))
        else:
            root = entry
    assert root is not None
    rows = {link: LinkRow(entry_of(item), len(state.names(link))) for link, item in state.links.items()}
    return Version(trees, root, trees.apply_links(trees.empty(), dict(rows), names))


def shown(version: Version) -> State:
    """The state that a version holds."""
    state = State({b"": item_of(version.root)})
    todo = [(b"", version.root)]
    for path, directory in todo:  # grows while it is walked
        for name, entry in version.trees.entries(directory.tree):
            state.paths[child(path, name)] = item_of(entry)
            if entry.kind is EntryKind.DIRECTORY:
                todo.append((child(path, name), entry))
    state.links = {link: item_of(row.entry) for link, row in version.trees.links(version.links)}
    return state


def merged_states(trees: Trees, base: State, ours: State, theirs: State, resolve: Resolve = unresolved) -> Merged:
    """What a merge makes of three states."""
    return merge(built(trees, base), built(trees, ours), built(trees, theirs), resolve)


def committed(repository: Repository, version: Version, *parents: ObjectId) -> ObjectId:
    """A commit of a version, which no branch has."""
    generation = 1 + max((get_commit(repository.objects, parent).generation for parent in parents), default=-1)
    commit = Commit(version.root, version.links, tuple(parents), generation, "ann", 0, "a message", {})
    identity = put_commit(repository.objects, commit)
    repository.objects.flush()
    return identity


# --- the merge, by the book -----------------------------------------------------------------------------------------

Told = tuple[bytes, str]
"""A conflict: path and kind."""


def merged(base: State, ours: State, theirs: State, side: str = "") -> tuple[State, set[Told]]:
    """What comes out, and the conflicts that nobody resolved, at which it is as in ours.

    A side may be said that all conflicts are resolved by, if they can be.
    """
    made = _Made(base, ours, theirs, side)
    made.name(b"")
    made.behind_links()
    made.result.tidy()
    return made.result, made.conflicts


class _Made:
    def __init__(self, base: State, ours: State, theirs: State, side: str) -> None:
        self.base, self.ours, self.theirs = base, ours, theirs
        self.taken = {"": ours, "ours": ours, "theirs": theirs, "base": base}[side]
        self.is_decided = bool(side)
        self.result = State({}, {})
        self.conflicts: set[Told] = set()

    def conflict(self, path: bytes, kind: str) -> None:
        if not self.is_decided:
            self.conflicts.add((path, kind))

    def name(self, path: bytes) -> None:
        """A name and all below it."""
        base, ours, theirs = self.base.below(path), self.ours.below(path), self.theirs.below(path)
        if ours == theirs or theirs == base:
            self.put(path, ours)
        elif ours == base:
            self.put(path, theirs)
        elif self.is_entered(base, ours, theirs):
            self.directory(path, base.get(b""), ours.get(b""), theirs.get(b""))
        else:
            item = leaf(base.get(b""), ours.get(b""), theirs.get(b""))
            if item is None:
                self.conflict(path, kind(base.get(b""), ours.get(b""), theirs.get(b"")))
                self.put(path, self.taken.below(path))
            else:
                self.put(path, {b"": item})

    def put(self, path: bytes, items: Paths) -> None:
        self.result.paths |= {path + rest: item for rest, item in items.items()}

    @staticmethod
    def is_entered(base: Paths, ours: Paths, theirs: Paths) -> bool:
        are = [side[b""].is_directory if side else None for side in (ours, theirs)]
        was = bool(base) and base[b""].is_directory
        return are == [True, True] or (was and are in ([True, None], [None, True]))

    def directory(self, path: bytes, base: Item | None, ours: Item | None, theirs: Item | None) -> None:
        base = base if base is not None and base.is_directory else None
        prefix = path + b"/" if path else b""
        names = {
            each[len(prefix) :].partition(b"/")[0]
            for side in (self.base, self.ours, self.theirs)
            for each in side.paths
            if each and each.startswith(prefix)
        }
        for name in names:
            self.name(prefix + name)
        stays = any(each and each.startswith(prefix) for each in self.result.paths)
        is_disputed = any(each and each.startswith(prefix) for each, _ in self.conflicts)
        taken = base if self.taken is self.base else ours if self.taken is self.ours else theirs
        if ours is not None and theirs is not None:
            if (item := dressed(base, ours, theirs)) is None:
                self.conflict(path, kind(base, ours, theirs))
                item = taken
            if item is None:
                self.result.remove(path)
            else:
                self.result.paths[path] = item
            return
        there = ours or theirs
        assert base is not None
        assert there is not None
        if stays:
            self.result.paths[path] = there
        elif not is_disputed and replace(there, mtime=0) != replace(base, mtime=0):
            self.conflict(path, "modified and deleted")
            if taken is not None:
                self.result.paths[path] = taken

    def behind_links(self) -> None:
        """One content for all names; what one side changed, and of which no name is left, is a conflict."""
        for link in self.ours.links.keys() | self.theirs.links.keys():
            base, ours, theirs = (side.links.get(link) for side in (self.base, self.ours, self.theirs))
            self.result.links[link] = ours or theirs  # type: ignore[assignment]  # one side has it
            if ours == theirs:
                continue
            names = [name for name in self.result.names(link) if not self.is_disputed(name)]
            if names and ours is not None and theirs is not None:
                item = theirs if ours == base else ours if theirs == base else leaf(base, ours, theirs)
                if item is None:
                    self.conflict(names[0], kind(base, ours, theirs))
                self.result.links[link] = item or self.taken.links.get(link, ours)
            elif not names and not any(map(self.is_disputed, (*self.ours.names(link), *self.theirs.names(link)))):
                for side, was in ((self.ours, ours), (self.theirs, theirs)):
                    if base is not None and was is not None and was != base:
                        for name in side.names(link):
                            self.lost(name, link)

    def lost(self, name: bytes, link: bytes) -> None:
        """A name that one side took away and the other side's change was at."""
        self.conflict(name, "modified and deleted")
        if self.taken.paths.get(name) != linked(link):
            return
        tops = [name[:end] for end in range(len(name)) if name[end : end + 1] == b"/"]
        if not all(self.result.paths.get(top, DIRECTORY).is_directory for top in tops):
            self.conflicts.add((name, "modified and deleted"))
            return
        for top in tops:
            self.result.paths.setdefault(top, self.base.paths.get(top, DIRECTORY))
        self.result.paths[name] = linked(link)
        self.result.links[link] = self.taken.links[link]

    def is_disputed(self, path: bytes) -> bool:
        """Whether a conflict says that nobody knows which side's this is."""
        return any(
            is_within(path, top)
            for top, _ in self.conflicts
            if not all(side.paths.get(top, FILE).is_directory for side in (self.ours, self.theirs))
        )


def kind(base: Item | None, ours: Item | None, theirs: Item | None) -> str:
    """What a conflict is called."""
    if ours is None or theirs is None:
        return "modified and deleted"
    if ours.is_directory != theirs.is_directory:
        return "directory against file"
    if base is None:
        return "both added"
    return "both modified" if base.kind == ours.kind == theirs.kind else "type changed"


def leaf(base: Item | None, ours: Item | None, theirs: Item | None) -> Item | None:
    """Two things that are no directories, content and attributes apart; None: they do not go together."""
    if ours is None or theirs is None or ours.kind != theirs.kind or ours.kind is EntryKind.LINK:
        return None
    base = base if base is not None and base.kind == ours.kind else None
    content = either(None if base is None else base.content, ours.content, theirs.content)
    dress = dressed(base, ours, theirs)
    return None if content is None or dress is None else replace(dress, content=content)


def dressed(base: Item | None, ours: Item, theirs: Item) -> Item | None:
    """The attributes of both; without a base, permissions are what both allow."""
    owner = either(None if base is None else base.owner, ours.owner, theirs.owner)
    xattr = either(None if base is None else base.xattr, ours.xattr, theirs.xattr)
    if owner is None or xattr is None:
        return None
    mode = 0
    for bit in (1 << place for place in range(12)):
        was = None if base is None else base.mode & bit
        mine, other = ours.mode & bit, theirs.mode & bit
        mode |= (other if mine == was else mine) if was is not None else mine & other
    times = [side.mtime for side in (ours, theirs) if base is None or side.mtime != base.mtime]
    return replace(ours, owner=owner, xattr=xattr, mode=mode, mtime=max(times, default=ours.mtime))


def either(base: T | None, ours: T, theirs: T) -> T | None:
    """What both say, or the one that says something new."""
    if ours == theirs or theirs == base:
        return ours
    return theirs if ours == base else None
