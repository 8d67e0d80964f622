"""The one way to a commit: freeze, ingest, build, compare-and-swap.

`build` runs in any thread on what was frozen and puts chunks and objects; nothing names them until the one transaction
that makes the commit is written: objects that are not yet durable, log row, ref, and the end of the frozen generation.
"""

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from anabranch.candidate import Builder, Candidate, Progress
from anabranch.errors import AnabranchError, RefusedError, UsageError
from anabranch.ids import ObjectId, RefName
from anabranch.settings import AUTHOR, Settings, check_author
from anabranch.store.env import Batch
from anabranch.store.meta import NUMBERS, ObjectStore
from anabranch.versions.objects import Commit, put_commit
from anabranch.versions.refs import Refs, Who
from anabranch.worktree import checkpoint, cuts
from anabranch.worktree.branch import Branch
from anabranch.worktree.checkpoint import Ended
from anabranch.worktree.cuts import Cut, WorktreeRow
from anabranch.worktree.frozen import Built, Frozen
from anabranch.worktree.keeper import Keeper

MESSAGE_MAX = 1024 * 1024
"""Bytes of a commit message, and of all metadata: a commit is one record, which every reader of history holds whole."""


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
        branch.tree.flatten()
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

        self._keeper.commit(cut, also, Ended(branch.number, frozen))
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
        with contextlib.suppress(OSError, AnabranchError):  # the commit is made; the next opening sweeps
            self.sweep(self._branch(name).number, ended)
        return Committed(name, number, built.commit, candidate.files, candidate.added)


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
