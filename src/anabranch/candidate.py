"""What a commit of a frozen branch holds: its contents ingested, its directories built from the bottom up.

Runs in any thread, on frozen nodes, and puts chunks and objects. Nothing names them until the one transaction that
makes the commit (commit.py).
"""

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from anabranch.errors import DamagedError, NothingToCommitError
from anabranch.escape import show_path
from anabranch.ids import ObjectId
from anabranch.store.meta import ObjectStore
from anabranch.versions import xattrs
from anabranch.versions.contents import Contents
from anabranch.versions.diff import ChangeKind, diff, is_regrouped
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import MAX_FILE, Commit, Entry, EntryKind, LinkRow, Tag, get_commit
from anabranch.versions.trees import Trees, Version
from anabranch.worktree.content import Content, MemoryContent, OverlayContent, Overlays, Sources, StoredContent
from anabranch.worktree.frozen import Frozen, LeftOut
from anabranch.worktree.ingest import Ingest
from anabranch.worktree.inodes import WHITEOUT, Inode, Kept, Node, entry_of
from anabranch.worktree.numbers import link_name, number_rows
from anabranch.worktree.selection import divide

Progress = Callable[[int, int], None]
"""Called now and then while a commit is built: about how many bytes of new content are read, and how many there are.
What it raises ends the commit.
"""


def unwatched(done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit in all but its message."""

    root: Entry
    links: ObjectId
    parents: tuple[ObjectId, ...]
    generation: int
    trees: dict[Inode, ObjectId]
    contents: dict[Inode, Stored]
    numbers: list[tuple[bytes, bytes | None]]
    files: int
    """How many paths that are no directories changed."""
    added: int
    """Bytes that were new to the store."""
    left: LeftOut


class Builder:
    """Makes candidates of frozen generations. One a thread. `check` is called now and then; what it raises ends it."""

    def __init__(
        self,
        objects: ObjectStore,
        trees: Trees,
        contents: Contents,
        overlay_directory: Path,
        check: Callable[[], None],
    ) -> None:
        self._objects = objects
        self._trees = trees
        self._chunks = contents.chunks
        self._overlays = Overlays(overlay_directory, open_files=1)
        self._sources = Sources(contents, self._overlays)
        self._going_on = check
        self._progress: Progress = unwatched
        self._total = 0
        self._ingest = Ingest(self._chunks, self._sources, self._check)

    def build(
        self,
        frozen: Frozen,
        paths: Collection[bytes] | None = None,
        *,
        allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Candidate:
        """Ingest what is new, build the trees from the bottom up; of `paths`, only what is there.

        Raises NothingToCommitError, unless `allow_empty`, and what `divide` raises.
        """
        self._progress = progress or unwatched
        base = get_commit(self._objects, frozen.base_commit)
        if base.generation == MAX_FILE:
            raise DamagedError(f"commit {frozen.base_commit.hex()} is the last that can be")
        before = Version(self._trees, base.root, ObjectId(base.links))
        try:
            frozen, left = divide(frozen, before, self._sources, paths)
            contents = self._contents(frozen)
        finally:
            self._overlays.close()
        trees: dict[Inode, ObjectId] = {}
        root = self._directories(frozen, contents, trees)
        links = self._links(frozen, base, root, contents)
        files = self._count(before, Version(self._trees, root, links))
        if files is None and not allow_empty:
            raise _nothing(left, paths)
        self._chunks.flush()
        return Candidate(
            root, links, (frozen.base_commit,), base.generation + 1, trees, contents, list(_numbers(frozen)),
            files or 0, self._ingest.added + sum(node.content.added for node in frozen.nodes.values()), left,
        )  # fmt: skip

    def _check(self) -> None:
        self._going_on()
        self._progress(self._ingest.done, self._total)

    def _contents(self, frozen: Frozen) -> dict[Inode, Stored]:
        self._total = sum(_unstored(node.content) for node in frozen.nodes.values() if node.kind is EntryKind.FILE)
        contents = {}
        for ino, node in frozen.nodes.items():
            xattrs.put(self._objects, node.xattrs)
            if node.kind == EntryKind.FILE and not isinstance(node.content, StoredContent):
                self._objects.pace()
                self._check()
                contents[ino] = self._content(frozen, node)
        return contents

    def _content(self, frozen: Frozen, node: Node) -> Stored:
        """Who cannot commit must know for which file."""
        try:
            return self._ingest.run(node.content)
        except DamagedError as error:
            raise DamagedError(f"{show_path(frozen.path(node))}: {error.message}", hint=error.hint) from error
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise OSError(errno.EIO, f"{show_path(frozen.path(node))}: {error.strerror}") from error

    def _count(self, old: Version, new: Version) -> int | None:
        """How many paths that are no directories differ; None if nothing does."""
        changed = files = 0
        for change in diff(old, new):
            self._objects.pace()
            self._check()
            changed += 1
            files += change.kind != EntryKind.DIRECTORY or change.change == ChangeKind.TYPE
        return files if changed or is_regrouped(old, new) else None

    def _links(self, frozen: Frozen, base: Commit, root: Entry, contents: dict[Inode, Stored]) -> ObjectId:
        rows: dict[bytes, LinkRow | None] = dict.fromkeys(frozen.dead_links)
        for ino, node in frozen.nodes.items():
            if node.link_id:
                rows[node.link_id] = LinkRow(_leaf(node, contents.get(ino)), node.links)
        any_links = base.root.tag(Tag.LINKS) or root.tag(Tag.LINKS)
        moved = self._trees.moved_links(base.root.tree, root.tree) if any_links else {}
        links = ObjectId(base.links)
        self._recount(links, rows, moved, all_rows=frozen.partial)
        return self._trees.apply_links(links, rows, moved) if rows or moved else links

    def _recount(
        self,
        links: ObjectId,
        rows: dict[bytes, LinkRow | None],
        moved: dict[tuple[bytes, bytes], bool],
        *,
        all_rows: bool,
    ) -> None:
        """Rows say how many names a commit holds. Where something is left out, now or before, nodes do not know."""
        change: Counter[bytes] = Counter()
        for (link_id, _), there in moved.items():
            change[link_id] += 1 if there else -1
        for link_id in {*rows, *change} if all_rows else {each for each in change if each not in rows and change[each]}:
            old, row = self._trees.link(links, link_id), rows.get(link_id)
            count = (old.names if old else 0) + change[link_id]
            entry = row.entry if row else old and old.entry
            rows[link_id] = LinkRow(entry, count) if count and entry else None

    def _directories(self, frozen: Frozen, contents: dict[Inode, Stored], trees: dict[Inode, ObjectId]) -> Entry:
        """Build every changed directory after those below it; returns the root's entry."""
        entries: dict[Inode, Entry] = {}
        for directory in _bottom_up(frozen):
            delta: list[tuple[bytes, Entry | None]] = []
            for name in sorted(directory.changes):
                child = directory.changes[name]
                if child == WHITEOUT:
                    delta.append((name, None))
                elif child in entries:
                    delta.append((name, entries[child]))
                else:
                    node = frozen.nodes[child]
                    linked = Entry(EntryKind.LINK, content=node.link_id) if node.link_id else None
                    delta.append((name, linked or _leaf(node, contents.get(child))))
            trees[directory.ino] = tree = self._apply(directory.base, delta)
            dress = Entry(
                EntryKind.DIRECTORY, directory.mode, directory.uid, directory.gid, directory.mtime_ns, content=tree,
                extra=directory.xattrs.tags() or None,
            )  # fmt: skip
            entries[directory.ino] = self._trees.directory(dress, tree)
        return entries[frozen.root]

    def _apply(self, base: ObjectId, delta: list[tuple[bytes, Entry | None]]) -> ObjectId:
        return self._trees.apply(base, delta) if delta else base


def _unstored(content: Content) -> int:
    """About how many bytes of a content have to be read and cut."""
    if isinstance(content, OverlayContent):
        return content.ranges.total
    return content.size if isinstance(content, MemoryContent) else 0


def _nothing(left: LeftOut, paths: Collection[bytes] | None) -> NothingToCommitError:
    if paths is not None:
        return NothingToCommitError("nothing to commit: these paths are as in the last commit, or ignored")
    if left:
        return NothingToCommitError(
            "nothing to commit: all that has changed is ignored, or as in the last commit",
            hint="'ana status --ignored' lists what is ignored",
        )
    return NothingToCommitError("nothing to commit: the branch equals its last commit")


def _leaf(node: Node, stored: Stored | None) -> Entry:
    if node.kind == EntryKind.FILE and stored is None:
        assert isinstance(node.content, StoredContent), f"BUG: inode {node.ino} was not ingested"
        stored = node.content.stored
    return entry_of(node, stored)


def _bottom_up(frozen: Frozen) -> list[Node]:
    """The changed directories, each after those below it."""
    order = [frozen.nodes[frozen.root]]
    for directory in order:  # grows while it is walked: parents before children
        for child in directory.changes.values():
            if child != WHITEOUT and frozen.nodes[child].kind == EntryKind.DIRECTORY:
                order.append(frozen.nodes[child])
    return order[::-1]


def _numbers(frozen: Frozen) -> Iterator[tuple[bytes, bytes | None]]:
    """Rows of the numbers that names keep when they are clean. Only the commit itself may write them: until then
    the names belong to the old base, whose numbers others may have by now.
    """
    for parent, name, node in _names(frozen):
        kept = None if node is None else Kept(node.ino, node.ctime_ns, node.atime_ns)
        yield from number_rows(parent, name, kept)


def _names(frozen: Frozen) -> Iterator[tuple[Inode, bytes, Node | None]]:
    for link_id in frozen.dead_links:
        yield frozen.root, link_name(link_id), None
    for ino, node in frozen.nodes.items():
        if node.link_id:
            yield frozen.root, link_name(node.link_id), node
        for name, child in node.changes.items():
            if child == WHITEOUT:
                yield ino, name, None
            elif not frozen.nodes[child].link_id:
                yield ino, name, frozen.nodes[child]
