"""The one way to a commit: freeze, ingest, build, compare-and-swap.

`build` runs in any thread on what was frozen and puts chunks and objects; nothing names them until the one transaction
that makes the commit is written: objects that are not yet durable, log row, ref, and the end of the frozen generation.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from anabranch.errors import NothingToCommitError, RefusedError, UsageError
from anabranch.ids import ObjectId, RefName
from anabranch.settings import AUTHOR, Settings, check_author
from anabranch.store.env import Batch
from anabranch.store.meta import NUMBERS, ObjectStore
from anabranch.versions import xattrs
from anabranch.versions.contents import Contents
from anabranch.versions.diff import ChangeKind, diff, is_regrouped
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import Commit, Entry, EntryKind, LinkRow, Tag, get_commit, put_commit
from anabranch.versions.refs import Refs, Who
from anabranch.versions.trees import Trees, Version
from anabranch.worktree import checkpoint, cuts
from anabranch.worktree.branch import Branch
from anabranch.worktree.checkpoint import Ending
from anabranch.worktree.content import Content, MemoryContent, OverlayContent, Overlays, Sources, StoredContent
from anabranch.worktree.cuts import Cut, WorktreeRow
from anabranch.worktree.frozen import Built, Frozen, LeftOut
from anabranch.worktree.ingest import Ingest
from anabranch.worktree.inodes import WHITEOUT, Inode, Node, entry_of
from anabranch.worktree.keeper import Keeper
from anabranch.worktree.numbers import link_name, number_row
from anabranch.worktree.selection import divide

MESSAGE_MAX = 1024 * 1024
"""Bytes of a commit message, and of all metadata: a commit is one record, which every reader of history holds whole."""


Progress = Callable[[int, int], None]
"""Called now and then while a commit is built: about how many bytes of new content are read, and how many there are.
What it raises ends the commit.
"""


def unwatched(done: int, total: int) -> None:
    """Nobody wants to know."""


class Note(msgspec.Struct, frozen=True):
    """What a commit says of itself. Without an author, it is that of the settings, or whoever asked for the commit."""

    message: str
    author: str = ""
    metadata: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit came to."""

    branch: RefName
    number: int
    id: ObjectId
    files: int
    added: int


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
            files or 0, self._ingest.added, left,
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
                contents[ino] = self._ingest.run(node.content)
        return contents

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


class Commits:
    """The steps of a commit, in their order. Which thread each may run in is said there: the working trees belong to
    one thread, and a builder to one at a time.
    """

    def __init__(
        self,
        objects: ObjectStore,
        refs: Refs,
        keeper: Keeper,
        branch: Callable[[RefName], Branch],
        builder: Callable[[Callable[[], None]], Builder],
        settings: Settings,
    ) -> None:
        self._objects = objects
        self._refs = refs
        self._keeper = keeper
        self._branch = branch
        self._builder = builder
        self._settings = settings
        self.check: Callable[[], None] = lambda: None
        """Called by builders now and then, in their threads; what it raises ends the commit."""

    def freeze(self, name: RefName) -> Frozen:
        """Step 1, in the thread of the working trees: the instant that the commit captures. Raises RefusedError."""
        branch = self._branch(name)
        table = branch.tree.table
        if table.frozen is not None:
            raise RefusedError(f"another commit of {name} is being made", hint="try again when it is done")
        self._keeper.space.check()
        self._keeper.cut_before_freeze(branch)
        return table.freeze()

    def build(
        self,
        frozen: Frozen,
        paths: Collection[bytes] | None = None,
        *,
        allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Candidate:
        """Step 2, in any thread. Raises NothingToCommitError; then, as after every error, call `thaw`."""
        return self._builder(self.check).build(frozen, paths, allow_empty=allow_empty, progress=progress)

    def conclude(self, candidate: Candidate, note: Note, who: Who) -> Built:
        """Step 3, in any thread: store the commit with its note. Raises UsageError."""
        note = check_note(note)
        author = note.author or self._settings.get(AUTHOR) or who.actor
        commit = Commit(
            candidate.root, candidate.links, candidate.parents, candidate.generation, author, time.time_ns(),
            note.message, note.metadata,
        )  # fmt: skip
        identity = put_commit(self._objects, commit)
        return Built(identity, candidate.links, candidate.trees, candidate.contents, candidate.numbers, candidate.left)

    def cut(self, name: RefName, built: Built) -> Cut:
        """Step 4, in the thread of the working trees: the rows that go with the commit."""
        branch = self._branch(name)
        branch.tree.table.put_back(built.left)
        rebased = cuts.rebased_rows(branch.number, branch.tree.table.rebased(built))
        cut = self._keeper.cut()
        cut.rows |= rebased
        return cut

    def write(self, name: RefName, expected: int, built: Built, cut: Cut, who: Who) -> int:
        """Step 5, in any thread: the one transaction that makes the commit; returns its number."""
        branch = self._keeper.branches[name]
        table = branch.tree.table
        assert table.frozen is not None
        frozen, number, objects = table.frozen.generation, expected, list[ObjectId]()

        def also(batch: Batch) -> None:
            nonlocal number, objects
            objects = self._objects.write(batch)
            number = self._refs.advance(batch, name, expected, built.commit, who)
            row = WorktreeRow(branch.number, table.root, built.commit, (table.generation,))
            checkpoint.put_row(batch, name, row)
            for key, value in built.numbers:
                batch.set(NUMBERS, key, value)

        self._keeper.commit(cut, Ending(branch.number, frozen, also))
        self._objects.written(objects)
        return number

    def advance(self, name: RefName, built: Built, cut: Cut) -> int:
        """Step 6, in the thread of the working trees: the new base; returns the generation that ended."""
        table = self._branch(name).tree.table
        assert table.frozen is not None
        ended = table.frozen.generation
        table.advance(built)
        self._keeper.after(cut)
        return ended

    def sweep(self, worktree: int, generation: int) -> None:
        """Step 7, in any thread: delete what the commit left of the rows of a working tree's generation that ended."""
        self._keeper.sweep(worktree, generation)

    def thaw(self, name: RefName) -> None:
        """Instead of going on: what was frozen is uncommitted again."""
        self._branch(name).tree.table.thaw()

    def commit(
        self, name: RefName, note: Note, who: Who, *,
        paths: Collection[bytes] | None = None, any_clock: bool = False, allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Committed:  # fmt: skip
        """All steps in one thread, for a process that serves nobody else.

        Raises UsageError, NothingToCommitError, and RefusedError when the clock is a day behind, unless `any_clock`.
        """
        check_note(note)
        if not any_clock:
            self._refs.check_clock(name)
        expected = self._refs.get(name).number
        frozen = self.freeze(name)
        try:
            candidate = self.build(frozen, paths, allow_empty=allow_empty, progress=progress)
            built = self.conclude(candidate, note, who)
            cut = self.cut(name, built)
            try:
                number = self.write(name, expected, built, cut, who)
            except BaseException:
                self._keeper.keep(cut)
                raise
        except BaseException:
            self.thaw(name)
            raise
        ended = self.advance(name, built, cut)
        with contextlib.suppress(OSError):  # the commit is made; the next opening sweeps what this could not
            self.sweep(self._branch(name).number, ended)
        return Committed(name, number, built.commit, candidate.files, candidate.added)


def _unstored(content: Content) -> int:
    """About how many bytes of a content have to be read and cut."""
    if isinstance(content, OverlayContent):
        return sum(end - start for start, end in zip(content.ranges.starts, content.ranges.ends, strict=True))
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
        yield number_row(parent, name, None if node is None else (node.ino, node.ctime_ns))


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


def check_note(note: Note) -> Note:
    """A note as it is stored: the message without the white space around it, metadata in order. Raises UsageError."""
    check_author(note.author)
    for key in note.metadata:
        if not key or not key.isprintable() or "=" in key:
            raise UsageError(f"{key!r} is no key of metadata", hint="KEY=VALUE, the key without control characters")
    try:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in note.metadata.items())
    except UnicodeEncodeError:
        raise UsageError("the metadata are not UTF-8") from None
    if size > MESSAGE_MAX:
        raise UsageError(f"the metadata have more than {MESSAGE_MAX} bytes", hint="commit long texts as files")
    return Note(check_message(note.message), note.author, dict(sorted(note.metadata.items())))


def check_message(message: str) -> str:
    """A commit message without the white space around it. Raises UsageError on none, too long a one, or no text."""
    stripped = message.strip()
    if not stripped:
        raise UsageError("the message is empty", hint="say what changed")
    try:
        size = len(stripped.encode())
    except UnicodeEncodeError:
        raise UsageError("the message is not UTF-8") from None
    if size > MESSAGE_MAX:
        raise UsageError(f"the message has more than {MESSAGE_MAX} bytes", hint="commit long texts as files")
    return stripped
