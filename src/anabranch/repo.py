"""Repository: the facade over history and working trees; what all may read is in history.py.

Thin: it opens, closes, and puts the rooms' own calls in order. Reading is free for every process; a writable repository
belongs to one process (daemon/lock.py), and its working trees to one thread of it. Steps that may run in any other
thread say so; a commit is taken apart into such steps, so that a daemon can go on serving between them.
"""

import contextlib
import errno
import logging
import os
import pwd
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from anabranch.candidate import Builder, Progress
from anabranch.commit import Commits, Committed, Note
from anabranch.errors import DamagedError, NotFoundError, RefusedError, UsageError
from anabranch.history import History, Sink
from anabranch.ids import ObjectId, RefName, ref_name
from anabranch.moves import Look, Move, Moved, Moves, Step
from anabranch.settings import COMPRESSION, DEFAULT_BRANCH, ON, XATTR, Setting, Settings, key_of
from anabranch.store import daily, private
from anabranch.store import layout as layouts
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.meta import NAMES, NODES, SETTINGS, TABLES, WORKTREES, ObjectStore, Rows
from anabranch.versions.contents import NotLoaded
from anabranch.versions.diff import Change
from anabranch.versions.objects import Commit, Entry, EntryKind, get_commit, put_commit
from anabranch.versions.refs import Operation, Ref, Refs, Who
from anabranch.versions.trees import EMPTY_TREE, Trees, Version
from anabranch.worktree import checkpoint, cuts
from anabranch.worktree.branch import Branch, new_worktree, open_worktree
from anabranch.worktree.changes import changes, ignored_paths, is_clean
from anabranch.worktree.content import Overlays, Sources
from anabranch.worktree.ignore import NAME as IGNORE_FILE
from anabranch.worktree.ignore import Ignored
from anabranch.worktree.ingest import Ingest
from anabranch.worktree.journal import Journal
from anabranch.worktree.keeper import Keeper
from anabranch.worktree.numbers import Numbers
from anabranch.worktree.pins import BEFORE
from anabranch.worktree.restore import Restored, Stale, carry_out
from anabranch.worktree.restore_plan import plan
from anabranch.worktree.sides import Side, side_at, side_content, side_entry, sides_in
from anabranch.worktree.space import MARGIN, Space
from anabranch.worktree.tree import WorkingTree

log = logging.getLogger(__name__)

FIRST_BRANCH = "main"


def create(path: Path, *, branch: str = FIRST_BRANCH, source: str, ignore: str = "") -> None:
    """Make a repository with one branch at the empty commit, and if given, an `.anaignore` file, not committed.

    Raises ExistsError, UsageError, DeniedError.
    """
    name = ref_name(branch)
    layout = layouts.create(path)
    meta = Environment(layout.meta, TABLES)
    try:
        objects = ObjectStore(meta)
        Trees(objects).empty()
        root = Entry(EntryKind.DIRECTORY, 0o755, content=EMPTY_TREE)
        empty = put_commit(objects, Commit(root, EMPTY_TREE, (), 0, "", 0, "", {}))
        objects.flush()
        with meta.write() as batch:
            Refs(meta, objects).create(batch, name, empty, Who(user_name(os.getuid()), source), tag=False)
            Settings(meta).put(batch, DEFAULT_BRANCH, name)
    finally:
        meta.close()
    ChunkStore(path, writable=True).close()
    layouts.write_record(layout)
    if ignore:
        with Repository(path, writable=True) as repository:
            tree = repository.branch(name).tree
            file = tree.create(tree.root, IGNORE_FILE, EntryKind.FILE, 0o644, os.geteuid(), os.getegid())
            tree.write(file.ino, 0, ignore.encode())
            repository.settle_down()


def user_name(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class Repository(History):
    """An open repository. A writable one has working trees, and is its owner's."""

    def __init__(self, path: Path, *, writable: bool = False, sink: Sink | None = None) -> None:
        super().__init__(path, writable=writable, sink=sink)
        if writable:
            try:
                self._open_for_writing()
            except BaseException:
                super().close()
                raise

    def _open_for_writing(self) -> None:
        self._checked = False
        self.numbers = Numbers(self.meta)
        self.overlays = Overlays(self.layout.overlays)
        self.space = Space(self.layout.reserve)
        private.make_directory(self.layout.journal)
        for table in (WORKTREES, SETTINGS):
            checkpoint.check_rows(self.meta, table)
        self.recovered = self.space.insisting(lambda: checkpoint.recover(self.meta, self.layout.journal))
        journal = Journal(self.layout.journal, checkpoint.position(self.meta))
        journal.forget(journal.next)
        self.keeper = Keeper(self.meta, self.overlays, journal, self.space)
        self.commits = Commits(self.objects, self.refs, self.keeper, self.branch, self._builder, self.settings)
        self.moves = Moves(self.objects, self.refs, self.trees, self.keeper, self.branch)
        self._remove_lost_overlays()

    def _builder(self, check: Callable[[], None]) -> Builder:
        return Builder(self.objects, self.trees, self.contents, self.layout.overlays, check)

    def close(self) -> None:
        """Close the files. Of a writable repository, what was not saved is lost."""
        if self.writable:
            self.keep_copy()
            self.keeper.close()
            self.overlays.close()
        super().close()

    def keep_copy(self) -> None:
        """Make the daily copy of what history and working trees are, if there is none yet. Any thread."""
        try:
            if daily.is_due(self.layout):
                daily.make(self.layout, self.meta)
        except (DamagedError, OSError) as error:
            log.error("there is no copy of %s for today: %s", self.layout.meta, error)

    # --- settings ---

    def configure(self, name: str, value: str | None, actor: str) -> Setting:
        """Change a setting, or with None go back to its default; returns how it is now.

        Raises UsageError, NotFoundError for a branch that is not there.
        """
        key = key_of(name)
        if key is DEFAULT_BRANCH and value is not None:
            self.refs.named(value, tag=False)
        if key is XATTR and value == ON:
            self.keep_xattrs()
        with self.meta.write() as batch:
            self.settings.unset(batch, key) if value is None else self.settings.put(batch, key, value)
        self.chunks.level = self.settings.get(COMPRESSION)
        return self.settings.shown(key, actor)

    def keep_xattrs(self) -> None:
        """Before the first extended attribute comes: programs that would drop it may not write any more."""
        layouts.demand(self.layout, layouts.XATTR)

    def ingest(self, check: Callable[[], None]) -> Ingest:
        """What stores contents, in one thread; `check` is called now and then, and what it raises ends it."""
        return Ingest(self.chunks, Sources(self.contents, Overlays(self.layout.overlays, open_files=1)), check)

    # --- branches and tags ---

    def create_branch(self, name: str, start: ObjectId, who: Who) -> Ref:
        """Make a branch at a commit; nothing is copied."""
        checked = ref_name(name)
        with self.meta.write() as batch:
            self.refs.create(batch, checked, start, who, tag=False)
        return self.refs.get(checked)

    def create_tag(self, name: str, target: ObjectId, who: Who) -> Ref:
        """Name a commit for good."""
        checked = ref_name(name)
        with self.meta.write() as batch:
            self.refs.create(batch, checked, target, who, tag=True)
        return self.refs.get(checked)

    def rename_branch(self, old: str, new: str, who: Who) -> None:
        """Give a branch, with its uncommitted changes, another name. The old name's log stays."""
        source, target = ref_name(old), ref_name(new)
        ref = self.refs.named(source, tag=False)
        if source == target:
            return
        branch = self.keeper.branches.pop(source, None)
        try:
            with self.meta.write() as batch:
                self.refs.end(batch, source, Operation.RENAME, who, detail=target)
                self.refs.create(batch, target, ref.commit, who, tag=False, detail=source)
                checkpoint.rename_row(batch, source, target)
                if self.default_branch() == source:
                    self.settings.put(batch, DEFAULT_BRANCH, target)
        except BaseException:
            if branch is not None:
                self.keeper.branches[source] = branch
            raise
        if branch is not None:
            branch.name = target
            self.keeper.branches[target] = branch

    def delete_branch(self, name: str, who: Who) -> None:
        """Delete a branch without uncommitted changes. Its versions stay."""
        checked = ref_name(name)
        self.refs.named(checked, tag=False)
        if checked == self.default_branch():
            raise RefusedError(f"{name} is the default branch and cannot be deleted")
        if not self.is_clean(checked):
            raise RefusedError(
                f"branch {name} has uncommitted changes",
                hint=f"commit them first, or give them up: ana discard -b {name}",
            )
        branch = self.keeper.branches.get(checked)
        with self.meta.write() as batch:
            self.refs.end(batch, checked, Operation.DELETE, who)
            batch.delete(WORKTREES, checked.encode())
        self.keeper.branches.pop(checked, None)
        if branch is not None:
            with contextlib.suppress(OSError, DamagedError):  # it is deleted; rows that nobody names mean nothing
                checkpoint.sweep(self.meta, branch.number)

    def delete_tag(self, name: str, who: Who) -> None:
        """Delete a tag. What it named stays."""
        ref = self.refs.named(name, tag=True)
        with self.meta.write() as batch:
            self.refs.end(batch, ref.name, Operation.DELETE, who)

    def bring_back(self, name: str, who: Who) -> Ref:
        """Make a deleted branch again, where it stood. Raises ExistsError, NotFoundError."""
        checked = ref_name(name)
        with self.meta.write() as batch:
            self.refs.revive(batch, checked, who)
        return self.refs.get(checked)

    def put(self, chunks: list[bytes], objects: Rows) -> None:
        """Make durable what another process has made. Any thread. Raises DamagedError, OSError(ENOSPC)."""
        size = sum(map(len, chunks)) + sum(len(record) for _, record in objects)
        if self.space.free() - size < MARGIN:
            raise OSError(errno.ENOSPC, f"the disk of {self.layout.path} is full")
        self.chunks.take(chunks)
        self.objects.take(objects)

    # --- working trees: all in one thread, but for what says otherwise ---

    def branch(self, name: RefName) -> Branch:
        """The open working tree of a branch. Raises NotFoundError."""
        if (known := self.keeper.branches.get(name)) is None:
            known = self.keeper.branches[name] = self._open_branch(name)
        return known

    def check_working_trees(self) -> None:
        """Look at all rows of working trees, before the first is opened: a damaged one could be any one's.

        Raises DamagedError.
        """
        if not self._checked:  # later, rows are ours
            for table in (NODES, NAMES):
                checkpoint.check_rows(self.meta, table)
        self._checked = True

    def _open_branch(self, name: RefName) -> Branch:
        ref = self.refs.named(name, tag=False)
        self.check_working_trees()
        row = checkpoint.read_row(self.meta, name) or new_worktree(self.meta, self.numbers, name, ref.commit)
        commit = get_commit(self.objects, ObjectId(row.base))
        tree = open_worktree(
            self.meta, self.trees, self.numbers, Sources(self.contents, self.overlays), row, commit,
            self.layout.path.stat(), self.space,
        )  # fmt: skip
        return Branch(name, row.number, tree)

    def status(self, name: RefName) -> list[Change]:
        """The uncommitted changes of a branch."""
        tree, base = self._tree(name)
        return list(changes(tree.table, base, ignored=Ignored(tree.table, base, tree.sources)))

    def ignored(self, name: RefName) -> list[bytes]:
        """The paths of a branch that stay out of commits; of an ignored directory its own."""
        tree, base = self._tree(name)
        return list(ignored_paths(tree.table, base, Ignored(tree.table, base, tree.sources)))

    def look(self, name: RefName, path: bytes) -> Entry | None:
        """What is at a path of a branch, hard links resolved; of content that is not stored yet only its size."""
        tree, base = self._tree(name)
        return side_entry(tree.table, base, side_at(tree.table, path))

    def listing(self, name: RefName, path: bytes) -> list[tuple[bytes, EntryKind]]:
        """The names in a directory of a branch, in order, and what each is. Raises NotFoundError, UsageError."""
        tree, base = self._tree(name)
        found = ((child, side_entry(tree.table, base, side)) for child, side in sides_in(tree.table, path))
        return [(child, entry.kind) for child, entry in found if entry is not None]

    def diff_working(self, old: ObjectId, name: RefName) -> list[Change]:
        """The changes from a commit to the working tree of a branch."""
        tree, base = self._tree(name)
        return list(changes(tree.table, base, self.version(old), ignored=Ignored(tree.table, base, tree.sources)))

    def read_working(self, name: RefName, path: bytes, offset: int, length: int) -> bytes:
        """A range of a file of a branch's working tree, cut off at its end, waiting for the disk.

        Raises NotFoundError, and UsageError when the path is no file.
        """
        while True:
            try:
                return self.read_loaded(name, path, offset, length)
            except NotLoaded as missing:
                self.contents.load(missing.chunks)

    def read_loaded(self, name: RefName, path: bytes, offset: int, length: int) -> bytes:
        """As `read_working`, from memory and overlay files only. Raises NotLoaded."""
        tree = self.branch(name).tree
        side = side_at(tree.table, path)
        if side is None:
            raise NotFoundError(f"{name} has no {path.decode(errors='replace')}")
        content = side_content(tree.table, self.version(tree.table.base_commit), side)
        if content is None:
            raise UsageError(f"{path.decode(errors='replace')} is not a file")
        return content.read(tree.sources, offset, length)

    def is_clean(self, name: RefName) -> bool:
        """Whether a branch equals its last commit."""
        tree, base = self._tree(name)
        return is_clean(tree.table, base, Ignored(tree.table, base, tree.sources))

    def _tree(self, name: RefName) -> tuple[WorkingTree, Version]:
        tree = self.branch(name).tree
        return tree, self.version(tree.table.base_commit)

    def restore(
        self, name: RefName, source: Version, paths: Collection[bytes], *,
        new_too: bool = False, kept: Collection[bytes] = (), stale: Stale | None = None,
    ) -> Restored:  # fmt: skip
        """Put into a branch what a version holds at some paths, and take away what it does not hold there, but for what
        is ignored, or among the paths in `kept`, or leads to one of them.

        All at one instant, or nothing. A path that the version does not hold at all is an error, or with `new_too`
        taken away. What a kernel must be told is added to `stale`. Raises NotFoundError, RefusedError, OSError(ENOSPC).
        """
        tree, base = self._tree(name)
        ignored = Ignored(tree.table, base, tree.sources)
        ignored_before = Ignored(tree.table, base, tree.sources, by_last=True)  # who went back has older rules now
        staying = _leading_to(kept)

        def stays(path: bytes, side: Side) -> bool:
            return path in staying or ignored.hides(path, side) or ignored_before.hides(path, side)

        planned = plan(tree.table, base, source, paths, stays, new_too=new_too)
        return carry_out(tree, base, source, planned, Stale() if stale is None else stale)

    def move(self, name: RefName, wanted: Move, who: Who) -> Moved:
        """Move a branch, in a process that serves nobody else.

        Raises RefusedError, ConflictError, OSError: then nothing has happened.
        """
        step = self.begin_move(name, wanted, Stale())
        try:
            self.moves.write(step, who)
        except BaseException:
            self.moves.undo(step, Stale())
            raise
        return self.moves.end(step)

    def begin_move(self, name: RefName, wanted: Move, stale: Stale) -> Step:
        """The first step of a move; see Moves."""
        tree, base = self._tree(name)
        look = Look(partial(self.is_clean, name), Ignored(tree.table, base, tree.sources).hides)
        return self.moves.begin(name, wanted, look, stale)

    def save(self) -> None:
        """Make everything that is not committed durable."""
        self.keeper.save()

    def settle_down(self) -> None:
        """Before a long pause: save, and leave the journal empty."""
        self.keeper.save()
        self.keeper.checkpoint()

    # --- commits ---

    def commit(
        self, name: RefName, note: Note | str, who: Who, *,
        paths: Collection[bytes] | None = None, any_clock: bool = False, allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Committed:  # fmt: skip
        """Make a version of a branch, or of some paths of it, in a process that serves nobody else."""
        note = Note(note) if isinstance(note, str) else note
        done = self.commits.commit(
            name, note, who, paths=paths, any_clock=any_clock, allow_empty=allow_empty, progress=progress
        )
        with contextlib.suppress(OSError, DamagedError):  # it is made; the next opening saves the rest
            if self.keeper.has_unsaved():
                self.keeper.save()
        return done

    def _remove_lost_overlays(self) -> None:
        """After a crash: overlay files that no row names."""
        (self.layout.overlays / BEFORE).unlink(missing_ok=True)
        on_disk = self.overlays.numbers()
        if not on_disk:
            return
        named: set[int] = set()
        try:
            for key, _ in list(self.meta.scan(WORKTREES)):
                named |= cuts.overlays_of(self.branch(RefName(key.decode())).tree.table)
        except DamagedError:  # whoever opens a branch is told; until it is mended, nobody knows what is lost
            return
        for number in on_disk:
            if number not in named:
                self.overlays.remove(number)


def _leading_to(paths: Iterable[bytes]) -> set[bytes]:
    """Some paths, and the directories above them."""
    found: set[bytes] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition(b"/")[0]
    return found
