"""A working tree, its checkpoints and its commits against a plain model, through crashes too.

The machine does what the mount does: look up, load what is missing and try again, cut and write checkpoints, take a
commit apart into its steps with changes between them. After every step the whole branch is compared with the model.
"""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from anabranch.candidate import Candidate
from anabranch.commit import Note
from anabranch.errors import NothingToCommitError, RefusedError
from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.contents import NotLoaded
from anabranch.versions.diff import ChangeKind
from anabranch.versions.objects import INLINE_MAX, Entry, EntryKind
from anabranch.worktree import settle
from anabranch.worktree.content import StoredContent
from anabranch.worktree.cuts import Cut, overlays_of
from anabranch.worktree.frozen import Built, Frozen
from anabranch.worktree.inodes import Attributes, Inode, Node
from anabranch.worktree.journal import encode_mark
from anabranch.worktree.keeper import Taken
from anabranch.worktree.restore import Stale
from anabranch.worktree.tree import RENAME_EXCHANGE, AttributeChanges, WorkingTree
from tests.unit.helpers import GID, MAIN, UID, WHO, CoarseClock, T, examples, make_repository, random_bytes, scratch
from tests.unit.model import (
    IGNORED,
    RULES,
    Item,
    Model,
    Path,
    changes,
    differences,
    is_hidden,
    link_counts,
    selected,
    set_xattr,
    visible,
    walk,
)

NAMES = [b"a", b"b", b"c", b"d", b"e", b"data.csv", b"\xff\xfe"]
ATTRIBUTES = [b"user.a", b"user.b"]
MODES = [0o644, 0o600, 0o755]
KINDS = [EntryKind.FILE, EntryKind.FILE, EntryKind.DIRECTORY, EntryKind.SYMLINK, EntryKind.FIFO]
SIZES = [1, 100, 511, 513, 3_000, 60_000, 70_000, 150_000]
OFFSETS = [None, 0, 0, 1, 400, 10_000, 65_536, 100_000, 262_144]
TRUNCATED = [0, 1, 512, 5_000, 65_536, 65_537, 140_000, 300_000]
DEEPEST = 3

names = st.sampled_from(NAMES)
modes = st.sampled_from(MODES)
picks = st.integers(0, 255)
odds = st.integers(0, 9)


@dataclass
class Version:
    """A commit, and what it must hold for ever."""

    number: int
    commit: ObjectId
    root: Item


@dataclass
class State:
    """One branch as it should be."""

    name: RefName
    model: Model
    versions: list[Version] = field(default_factory=list)
    opened: list[Item] = field(default_factory=list)

    @property
    def committed(self) -> Item | None:
        """The last commit; None for the empty one."""
        return self.versions[-1].root if self.versions else None


@dataclass
class Moment:
    """All branches at the instant of a cut: what a crash brings back."""

    roots: dict[RefName, Item]
    written: int
    """How much of the log of writes had happened: later ones may or may not be there after a crash."""


@dataclass
class Commit:
    """A commit under way."""

    state: State
    frozen: Frozen
    root: Item
    expected: int
    paths: list[bytes] | None = None
    """Of a commit of some paths."""
    candidate: Candidate | None = None
    built: Built | None = None
    cut: Cut | None = None
    moment: Moment | None = None
    number: int | None = None


MARK = len(encode_mark(bytes(64)))
"""Bytes of what follows a record that is on disk."""


class WorkingTreeMachine(RuleBasedStateMachine):
    """The rules are what programs, the mount and the power supply do."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("anabranch.worktree.tree.now_ns", CoarseClock())
        self._patch.setattr("anabranch.worktree.content.SEGMENT", 50_000)
        self.path = self._scratch.__enter__() / "repository"
        self.repository = make_repository(self.path)
        self.states = {MAIN: State(MAIN, Model(Item(EntryKind.DIRECTORY, 0o755)))}
        self.state = self.states[MAIN]
        self.moment = Moment({}, 0)
        self.writes: list[tuple[RefName, int | None, int, bytes]] = []
        self.commit: Commit | None = None
        self.saving: tuple[Cut, Moment] | None = None
        self.taking: Taken | None = None
        self.small: tuple[RefName, list[settle.Chosen], list[StoredContent]] | None = None
        self.count = 0

    def teardown(self) -> None:
        try:
            self.repository.close()
            with Repository(self.path) as reader:
                for state in self.states.values():
                    for version in state.versions:
                        self._holds(reader, version)
                consistency.check(reader)
        finally:
            self._patch.undo()
            self._scratch.__exit__(None, None, None)

    # --- helpers ---

    @property
    def model(self) -> Model:
        return self.state.model

    @property
    def tree(self) -> WorkingTree:
        return self.repository.branch(self.state.name).tree

    def _loaded(self, call: Callable[[], T]) -> T:
        """As the mount: load what is missing, try again."""
        while True:
            try:
                return call()
            except NotLoaded as missing:
                self.repository.contents.load(missing.chunks)

    def _find(self, path: Path) -> Inode:
        ino, item = self.tree.root, self.model.root
        for name in path:
            attributes, item = self.tree.lookup(ino, name), item.children[name]
            ino = attributes.ino
            assert item.ino in (None, ino), f"{path}: the inode number changed"
            item.ino = ino
        return ino

    def _both(self, real: Callable[[], object], model: Callable[[], list[Item]]) -> bool:
        """Do it on both sides; both succeed or fail alike. The times that moved are taken from the real one."""
        try:
            moved = model()
        except OSError as expected:
            code = expected.errno
        else:
            self._loaded(real)
            for item in moved:
                item.mtime_ns = None
            return True
        with pytest.raises(OSError) as caught:
            self._loaded(real)
        assert caught.value.errno == code, errno.errorcode[caught.value.errno or 0]
        return False

    def _named(self, pick: int, kinds: Callable[[Item], bool] = lambda item: True) -> tuple[Path, Item] | None:
        found = [(path, item) for path, item in self.model.walk() if path != (RULES,) and kinds(item)]
        return found[pick % len(found)] if found else None

    def _file(self, pick: int) -> tuple[Inode, Item] | None:
        """Any file: by one of its names, or by an open handle."""
        found = self._named(pick, lambda item: item.kind == EntryKind.FILE)
        opened = self.state.opened
        if opened and pick % 3 == 0:
            item = opened[pick % len(opened)]
            assert item.ino is not None
            return Inode(item.ino), item
        return None if found is None else (self._find(found[0]), found[1])

    def _folder(self, pick: int, deepest: int = DEEPEST) -> Path:
        found = [path for path in self.model.directories() if len(path) < deepest]
        return found[pick % len(found)]

    def _free(self, folder: Path, name: bytes) -> bytes:
        """The name, or if it is taken, often another one: too many failures teach nothing."""
        taken = self.model.at(folder).children
        free = [other for other in NAMES if other not in taken]
        return free[0] if name in taken and free and len(taken) % 4 else name

    def _data(self, size: int) -> bytes:
        self.count += 1
        return random_bytes(self.count, size)

    # --- what programs do ---

    @initialize(begin=st.booleans())
    def begin(self, begin: bool) -> None:
        """Half of the histories start with something committed."""
        if begin:
            self.make(0, b"a", EntryKind.DIRECTORY, 0o755)
            self.copy_in(0, b"b", 70_000)
            self.copy_in(1, b"c", 3_000)
            self.copy_in(1, b"d", 100)
            self.link(1, 0, b"e")
            self.commit_at_once()

    @rule(folder=picks, name=names, kind=st.sampled_from(KINDS), mode=modes)
    def make(self, folder: int, name: bytes, kind: EntryKind, mode: int) -> None:
        path = self._folder(folder)
        name = self._free(path, name)
        target = b"to " + name if kind == EntryKind.SYMLINK else b""
        item = Item(kind, mode, target=target)
        parent = self._find(path)
        self._both(
            lambda: self.tree.create(parent, name, kind, mode, UID, GID, target=target),
            lambda: self.model.create(path, name, item),
        )

    @rule(folder=picks, name=names, size=st.sampled_from(SIZES))
    def copy_in(self, folder: int, name: bytes, size: int) -> None:
        """A new file with content, as cp makes it."""
        path = self._folder(folder)
        name = self._free(path, name)
        item = Item(EntryKind.FILE, 0o644)
        parent = self._find(path)
        made = self._both(
            lambda: self.tree.create(parent, name, EntryKind.FILE, 0o644, UID, GID),
            lambda: self.model.create(path, name, item),
        )
        if made:
            self._write(self._find((*path, name)), item, 0, self._data(size))

    @rule(pick=picks, offset=st.sampled_from(OFFSETS), size=st.sampled_from(SIZES), zeros=st.booleans())
    def write(self, pick: int, offset: int | None, size: int, zeros: bool) -> None:
        if (found := self._file(pick)) is not None:
            at = len(found[1].data) if offset is None else offset
            if at + size <= 512 * 1024:
                self._write(*found, at, bytes(size) if zeros else self._data(size))

    def _write(self, ino: Inode, item: Item, offset: int, data: bytes) -> None:
        self._both(lambda: self.tree.write(ino, offset, data), lambda: self.model.write(item, offset, data))
        self.writes.append((self.state.name, item.ino, offset, data))

    @rule(pick=picks, size=st.sampled_from(TRUNCATED))
    def truncate(self, pick: int, size: int) -> None:
        if (found := self._file(pick)) is not None:
            ino, item = found
            self._both(
                lambda: self.tree.setattr(ino, AttributeChanges(size=size)), lambda: self.model.truncate(item, size)
            )

    @rule(pick=picks, mode=modes)
    def chmod(self, pick: int, mode: int) -> None:
        if (found := self._named(pick)) is not None:
            ino = self._find(found[0])
            self.tree.setattr(ino, AttributeChanges(mode=mode))
            found[1].mode = mode

    @rule(pick=picks, name=st.sampled_from(ATTRIBUTES), size=st.sampled_from([None, 0, 100, 300]))
    def set_xattr(self, pick: int, name: bytes, size: int | None) -> None:
        if (found := self._named(pick)) is not None:
            ino, value = self._find(found[0]), None if size is None else self._data(size)
            self._both(lambda: self.tree.set_xattr(ino, name, value), lambda: set_xattr(found[1], name, value))

    @rule(pick=picks, mtime=st.sampled_from([1_000_000_000, 2_000_000_007]))
    def touch(self, pick: int, mtime: int) -> None:
        if (found := self._named(pick)) is not None:
            self.tree.setattr(self._find(found[0]), AttributeChanges(mtime_ns=mtime))
            found[1].mtime_ns = mtime

    @rule(pick=picks, folder=picks, new=names, exchange=st.booleans())
    def rename(self, pick: int, folder: int, new: bytes, exchange: bool) -> None:
        if (found := self._named(pick)) is None:
            return
        path, item = found
        to = self._folder(folder, DEEPEST - 1 if item.is_directory else DEEPEST)
        if ((*to, new)[: len(path)] == path and (*to, new) != path) or path[: len(to) + 1] == (*to, new) != path:
            return  # a directory into itself: the kernel refuses
        target = self.model.at(to).children.get(new)
        if exchange and (target is None or (target.is_directory and len(path) >= DEEPEST)):
            return
        old_parent, new_parent = self._find(path[:-1]), self._find(to)
        change = self.model.exchange if exchange else self.model.rename
        self._both(
            lambda: self.tree.rename(old_parent, path[-1], new_parent, new, RENAME_EXCHANGE if exchange else 0),
            lambda: change(path[:-1], path[-1], to, new),
        )

    @rule(pick=picks, folder=picks, new=names)
    def link(self, pick: int, folder: int, new: bytes) -> None:
        if (found := self._named(pick, lambda item: not item.is_directory)) is not None:
            to = self._folder(folder)
            new = self._free(to, new)
            ino, parent = self._find(found[0]), self._find(to)
            self._both(lambda: self.tree.link(ino, parent, new), lambda: self.model.link(found[1], to, new))

    @rule(pick=picks, wrong=st.integers(0, 9))
    def remove(self, pick: int, wrong: int) -> None:
        if (found := self._named(pick)) is not None:
            *folder, name = found[0]
            parent = self._find(tuple(folder))
            if found[1].is_directory != (wrong == 0):
                self._both(lambda: self.tree.rmdir(parent, name), lambda: self.model.rmdir(tuple(folder), name))
            else:
                self._both(lambda: self.tree.unlink(parent, name), lambda: self.model.unlink(tuple(folder), name))

    @rule(again=odds)
    def ignore(self, again: int) -> None:
        """A file of rules appears, or goes."""
        root = self.tree.root
        if RULES in self.model.root.children:
            if again == 0:
                self._both(lambda: self.tree.unlink(root, RULES), lambda: self.model.unlink((), RULES))
            return
        if self.commit is not None or self._has_ignored():
            return  # what is below a directory that matches, and is in the last commit, is not for this model
        item = Item(EntryKind.FILE, 0o644)
        self._both(
            lambda: self.tree.create(root, RULES, EntryKind.FILE, 0o644, UID, GID),
            lambda: self.model.create((), RULES, item),
        )
        self._write(self._find((RULES,)), item, 0, b"/" + IGNORED + b"\n")

    def _has_ignored(self) -> bool:
        return IGNORED in self._committed_names()

    def _committed_names(self) -> set[bytes]:
        return set(self.state.committed.children) if self.state.committed is not None else set()

    @rule(pick=picks)
    def open(self, pick: int) -> None:
        if (found := self._named(pick, lambda item: item.kind == EntryKind.FILE)) is not None:
            ino = self._find(found[0])
            if found[1] not in self.state.opened:
                self.tree.table.known.add(ino)
                self.state.opened.append(found[1])

    @precondition(lambda self: self.state.opened)
    @rule(pick=picks)
    def close(self, pick: int) -> None:
        item = self.state.opened.pop(pick % len(self.state.opened))
        assert item.ino is not None
        self.tree.table.forget(Inode(item.ino))

    @rule()
    def forget(self) -> None:
        """The kernel drops all that is not open."""
        opened = {item.ino for item in self.state.opened}
        for ino in list(self.tree.table.nodes):
            if ino not in opened:
                self.tree.table.forget(ino)

    # --- a commit, step by step ---

    @rule(odd=odds, pick=picks, other=picks)
    def step(self, odd: int, pick: int, other: int) -> None:
        """The next step of a commit, or, at odds of one in ten, its failure."""
        commit = self.commit
        if commit is None:
            self._freeze(self._paths(pick, other) if odd > 5 else None)
        elif commit.number is not None:
            self._advance(commit)
        elif odd == 0:
            if commit.cut is not None:  # the disk is full
                self.repository.keeper.keep(commit.cut)
            self._thaw(commit)
        elif commit.candidate is None:
            self._build(commit)
        elif commit.cut is not None:
            self._write_commit(commit)
        elif self.saving is None and self.taking is None:  # the saver's locks are free
            self._conclude(commit, commit.candidate)

    def _paths(self, *picks: int) -> list[bytes]:
        """Some paths: of what is there, and of what the last commit has."""
        roots = [root for root in (self.state.committed, self.model.root) if root is not None]
        found = sorted({path for root in roots for path, _ in walk(root)}) or [()]
        return [b"/".join(found[pick % len(found)]) for pick in picks]

    def _freeze(self, paths: list[bytes] | None) -> None:
        expected = self.repository.refs.get(self.state.name).number
        frozen = self.repository.commits.freeze(self.state.name)
        self.commit = Commit(self.state, frozen, self._to_commit(paths), expected, paths)

    def _to_commit(self, paths: list[bytes] | None) -> Item:
        asked = {tuple(filter(None, path.split(b"/"))) for path in paths or [b""]}
        return selected(self.state.committed, self._observed(), asked).copy()

    def _thaw(self, commit: Commit) -> None:
        self.repository.commits.thaw(commit.state.name)
        self.commit = None

    def _build(self, commit: Commit) -> None:
        changed = changes(commit.state.committed, commit.root)
        try:
            commit.candidate = self.repository.commits.build(commit.frozen, commit.paths)
        except NothingToCommitError:
            assert not changed
            self._thaw(commit)
        except RefusedError:  # a part of a directory that was renamed
            assert commit.paths is not None
            self._thaw(commit)
        else:
            assert changed

    def _conclude(self, commit: Commit, candidate: Candidate) -> None:
        self.count += 1
        commit.built = self.repository.commits.conclude(candidate, Note(f"message {self.count}"), WHO)
        commit.cut = self.repository.commits.cut(commit.state.name, commit.built)
        commit.moment = self._moment()

    def _write_commit(self, commit: Commit) -> None:
        assert commit.built is not None
        assert commit.cut is not None
        assert commit.moment is not None
        name = commit.state.name
        commit.number = self.repository.commits.write(name, commit.expected, commit.built, commit.cut, WHO)
        self.moment = commit.moment
        commit.state.versions.append(Version(commit.number, commit.built.commit, commit.root))
        assert self.repository.resolve(f"{name}@{commit.number}").id == commit.built.commit

    def _advance(self, commit: Commit) -> None:
        assert commit.built is not None
        assert commit.cut is not None
        ended = self.repository.commits.advance(commit.state.name, commit.built, commit.cut)
        self.repository.commits.sweep(self.repository.branch(commit.state.name).number, ended)
        self.commit = None
        self._holds(self.repository, commit.state.versions[-1])

    @precondition(lambda self: self.commit is None and self.saving is None and self.taking is None)
    @rule(pick=picks, other=picks, partly=st.booleans())
    def commit_at_once(self, pick: int = 0, other: int = 0, partly: bool = False) -> None:
        paths = self._paths(pick, other) if partly else None
        root = self._to_commit(paths)
        changed = changes(self.state.committed, root)
        try:
            done = self.repository.commit(self.state.name, "at once", WHO, paths=paths)
        except NothingToCommitError:
            assert not changed
        except RefusedError:  # a part of a directory that was renamed
            assert partly
        else:
            assert changed
            differing = differences(self.state.committed, root)
            assert done.files == sum(1 for path in differing if not self._only_directory(path, root))
            self.moment = self._moment()
            self.state.versions.append(Version(done.number, done.id, root))
            assert partly or not self.repository.status(self.state.name)

    def _only_directory(self, path: Path, root: Item) -> bool:
        sides = [dict(walk(side)).get(path) for side in (self.state.committed, root) if side is not None]
        return path == () or all(side is None or side.is_directory for side in sides)

    @precondition(lambda self: self.state.versions)
    @rule(version=picks, pick=picks, whole=st.booleans())
    def restore(self, version: int, pick: int, whole: bool) -> None:
        """A change that does not come through the kernel, beside whatever is under way."""
        chosen = self.state.versions[version % len(self.state.versions)]
        places = [path for path, _ in walk(chosen.root)]
        path = () if whole or not places else places[pick % len(places)]
        if RULES in chosen.root.children and self._has_ignored():
            return
        commit = self.commit
        made = commit is not None and commit.number is not None and commit.state is self.state
        if made and RULES in {*self.model.root.children, *chosen.root.children, *self._committed_names()}:
            return  # the new version is there, the table is just not told yet: which rules are the last ones?
        hidden = is_hidden(self.state.committed, self.model.root)
        arguments = self.state.name, self.repository.version(chosen.commit), [b"/".join(path)]
        if any(not item.is_directory for item in self.model.above(path)):
            with pytest.raises(RefusedError):
                self.repository.restore(*arguments)
            return
        self._observed()
        differing = self.repository.diff_working(chosen.commit, self.state.name)
        names, attributes = self._cached()
        stale = Stale()
        self.repository.restore(*arguments, stale=stale)
        self._nothing_else_is_stale(names, attributes, stale)
        changed = {tuple(change.path.split(b"/")) for change in differing}
        self.model.restore(self.state.committed, chosen.root, path, changed, self._number)
        differing_now = differences(chosen.root, self._observed())
        assert not any(at[: len(path)] == path and not (hidden and at[0] == IGNORED) for at in differing_now if at)

    def _cached(self) -> tuple[dict[tuple[Inode, bytes], Inode], dict[Inode, tuple[int, ...]]]:
        """What a kernel may know that has looked at everything: names, and attributes."""
        names: dict[tuple[Inode, bytes], Inode] = {}
        attributes: dict[Inode, tuple[int, ...]] = {}
        numbers = [self.tree.root, *(Inode(item.ino) for item in self.state.opened if item.ino)]
        for ino in numbers:  # grows while it is walked
            of = self.tree.getattr(ino)
            attributes[ino] = (of.mode, of.uid, of.gid, of.size, of.mtime_ns, of.ctime_ns, of.links)
            for name in [name for name, _ in self.tree.entries(ino)] if of.kind == EntryKind.DIRECTORY else ():
                names[ino, name] = self.tree.lookup(ino, name).ino
                numbers.append(names[ino, name])
        return names, attributes

    def _nothing_else_is_stale(
        self, names: dict[tuple[Inode, bytes], Inode], attributes: dict[Inode, tuple[int, ...]], stale: Stale
    ) -> None:
        now, attributes_now = self._cached()
        changed = {place for place in names.keys() | now.keys() if names.get(place) != now.get(place)}
        assert {place for place in changed if place[0] in attributes} <= stale.names
        kept = attributes.keys() & attributes_now.keys()
        assert {ino for ino in kept if attributes[ino] != attributes_now[ino]} <= stale.inodes

    def _number(self, path: Path) -> Inode:
        ino = self.tree.root
        for name in path:
            ino = self.tree.lookup(ino, name).ino
        return ino

    # --- checkpoints and crashes ---

    def _moment(self) -> Moment:
        roots = {name: state.model.root.copy() for name, state in self.states.items()}
        return Moment(roots, len(self.writes))

    @rule(odd=odds)
    def save(self, odd: int) -> None:
        """The saver cuts; when it goes on, what was cut is written, and what changed meanwhile is for the next time."""
        if self.saving is None:
            if self._may_save():
                self.saving = self.repository.keeper.cut(), self._moment()
            return
        (cut, moment), self.saving = self.saving, None
        if odd == 0:  # the disk is full
            self.repository.keeper.keep(cut)
            return
        if odd == 1:
            self._die_while_writing(cut)
            return
        self.repository.keeper.write(cut)
        self.repository.keeper.after(cut)
        self.moment = moment

    def _die_while_writing(self, cut: Cut) -> None:
        """The process ends in the middle of appending to the journal: any part of the record may be there."""
        before = {path: path.read_bytes() for path in self._journal()}
        self.repository.keeper.write(cut)
        if written := [path for path in self._journal() if path.read_bytes() != before.get(path)]:
            (path,) = written
            old, new = before.get(path, b""), path.read_bytes()
            start = len(old) if new.startswith(old) else 0  # a torn file is begun anew, maybe shorter
            end = len(new) - MARK  # a record is whole without the mark that follows it
            self.count += 1
            os.truncate(path, start + self.count * 7919 % (end - start))
        self._start_again()

    def _journal(self) -> list[FilePath]:
        return sorted((self.path / "journal").iterdir())

    @precondition(lambda self: self._may_save() or self.taking is not None)
    @rule(odd=odds)
    def take_in(self, odd: int) -> None:
        """The journal is long: its rows go into the meta environment, while others are written."""
        keeper = self.repository.keeper
        if self.taking is None:
            if self.commit is None or self.commit.cut is None:
                self.taking = keeper.begin_checkpoint()
        elif odd < 5:  # the disk is full
            keeper.put_back(self.taking)
            self.taking = None
        else:
            keeper.take_in(self.taking)
            self.taking = None

    def _may_save(self) -> bool:
        """Whether nobody has the saver's lock."""
        return self.saving is None and (self.commit is None or self.commit.cut is None)

    @precondition(_may_save)
    @rule()
    def checkpoint(self) -> None:
        """fsync, and all that it covers."""
        self._observed()
        self.repository.save()
        self.moment = self._moment()
        if self.commit is None:
            tables = [branch.tree.table for branch in self.repository.keeper.branches.values()]
            assert set(self.repository.overlays.numbers()) == set().union(*map(overlays_of, tables))

    @rule(large=st.booleans())
    def settle(self, large: bool) -> None:
        """The saver stores files ahead; what was written to them meanwhile counts."""
        if self.small is not None:
            name, chosen, stored = self.small
            settle.settle(self.repository.branch(name).tree.table, chosen, stored)
            self.small = None
            return
        repository = self.repository
        if large:
            later = time.monotonic_ns() + settle.IDLE_NS
            idle = settle.choose_idle(self.tree.table, set(), later)
            if idle is not None:
                arguments = (repository.objects, repository.contents, repository.layout.overlays)
                self.small = self.state.name, [idle], [settle.store_idle(*arguments, idle, lambda: None)]
            return
        chosen = settle.choose(self.tree.table, set())
        stored = settle.store(repository.objects, repository.chunks, self.tree.sources, chosen)
        self.small = self.state.name, chosen, stored

    @rule(odd=odds)
    def reopen(self, odd: int) -> None:
        """Now and then the process ends, half of the times after a last checkpoint, in the middle of a commit too."""
        if odd > 3:
            return
        if odd < 2 and self._may_save():
            self.checkpoint()
        self._start_again()

    def _start_again(self) -> None:
        self.repository.close()
        self.repository = Repository(self.path, writable=True)
        self.commit = self.saving = self.small = self.taking = None
        for name, state in self.states.items():
            state.opened = []
            last = state.committed
            fresh = Item(EntryKind.DIRECTORY, 0o755) if last is None else _without_numbers(last)
            state.model = Model(self.moment.roots[name].copy() if name in self.moment.roots else fresh)
            self._accept_torn_writes(state)
        self.moment = self._moment()

    def _accept_torn_writes(self, state: State) -> None:
        """A write after the last checkpoint may be there in part, if the file was unsaved already then."""
        later = self.writes[self.moment.written :]
        for path, item in walk(state.model.root):
            writes = [(at, data) for name, ino, at, data in later if (name, ino) == (state.name, item.ino)]
            if item.kind == EntryKind.FILE and writes:
                actual = self._content(state, path)
                assert len(actual) == len(item.data), "a crash changed the size of a file"
                for at in [at for at, (old, new) in enumerate(zip(item.data, actual, strict=True)) if old != new]:
                    written = (data[at - start] for start, data in writes if 0 <= at - start < len(data))
                    assert actual[at] in written, "a crash left bytes that nobody wrote there"
                item.data = bytearray(actual)

    def _content(self, state: State, path: Path) -> bytes:
        tree = self.repository.branch(state.name).tree
        ino = tree.root
        for name in path:
            ino = tree.lookup(ino, name).ino
        return self._loaded(lambda: tree.read(ino, 0, 1 << 30))

    # --- branches ---

    @precondition(lambda self: self.state.versions and len(self.states) < 3)
    @rule(pick=picks)
    def branch(self, pick: int) -> None:
        version = self.state.versions[pick % len(self.state.versions)]
        name = RefName(f"branch{len(self.states)}")
        self.repository.create_branch(name, version.commit, WHO)
        model = Model(_without_numbers(version.root))
        self.state = self.states[name] = State(name, model)
        self.state.versions.append(Version(0, version.commit, self._observed().copy()))

    @rule(pick=picks)
    def switch(self, pick: int) -> None:
        self.state = list(self.states.values())[pick % len(self.states)]

    # --- what always holds ---

    def _observed(self) -> Item:
        """Fill in the times that moved, which only the clock knows."""
        self._the_branch_is_as_the_model()
        return self.model.root

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self._the_branch_is_as_the_model()
        self._status_shows_what_a_commit_would_change()

    def _the_branch_is_as_the_model(self) -> None:
        root, counts = self.model.root, link_counts(self.model.root)
        self._same(self.tree.getattr(self.tree.root), root, counts)
        seen: dict[int, Item] = {}
        self._directory(self.tree.root, root, counts, seen)
        for item in self.state.opened:
            assert item.ino is not None
            attributes = self.tree.getattr(Inode(item.ino))
            self._same(attributes, item, counts)
            assert self._read(attributes) == item.data

    def _directory(self, ino: Inode, directory: Item, counts: dict[int, int], seen: dict[int, Item]) -> None:
        listed = dict(self.tree.entries(ino))
        assert list(listed) == sorted(directory.children)
        for name, item in sorted(directory.children.items()):
            attributes = self.tree.lookup(ino, name)
            assert self.tree.listed(ino, name, listed[name]) is attributes
            self._same(attributes, item, counts)
            assert self.tree.xattrs(attributes.ino) == item.xattrs
            assert seen.setdefault(attributes.ino, item) is item, f"{name!r} has the number of another file"
            if item.kind == EntryKind.FILE:
                assert self._read(attributes) == item.data, f"the content of {name!r} is wrong"
            elif item.kind == EntryKind.SYMLINK:
                assert self.tree.readlink(attributes.ino) == item.target
            elif item.is_directory:
                self._directory(attributes.ino, item, counts, seen)

    def _read(self, attributes: Attributes) -> bytes:
        tree = self.tree
        return self._loaded(lambda: tree.read(attributes.ino, 0, attributes.size))

    @staticmethod
    def _same(attributes: Attributes, item: Item, counts: dict[int, int]) -> None:
        if item.ino is None:
            item.ino = attributes.ino
        if item.mtime_ns is None:
            item.mtime_ns = attributes.mtime_ns
        assert isinstance(attributes, Node)
        item.link_id = attributes.link_id
        assert (attributes.ino, attributes.mtime_ns) == (item.ino, item.mtime_ns)
        assert (attributes.kind, attributes.mode) == (item.kind, item.mode)
        assert attributes.links == counts.get(id(item), 0)
        assert item.is_directory or attributes.size == item.size

    def _status_shows_what_a_commit_would_change(self) -> None:
        if self.commit is not None and self.commit.number is not None and self.commit.state is self.state:
            return  # the new version is there, the table is just not told yet
        shown_root = visible(self.state.committed, self.model.root)
        expected = differences(self.state.committed, shown_root)
        status = {change.path: change for change in self.repository.status(self.state.name)}
        shown = {() if path == b"." else tuple(path.split(b"/")) for path in status}
        assert expected <= shown
        for path in shown - expected:  # larger content written with the same bytes is not compared
            change = status[b"/".join(path)]
            assert (change.change, change.old_size) == (ChangeKind.MODIFIED, change.new_size)
            assert (change.new_size or 0) > INLINE_MAX
        if not shown or expected:
            clean = not changes(self.state.committed, shown_root)
            assert self.repository.is_clean(self.state.name) == clean

    def _holds(self, repository: Repository, version: Version) -> None:
        """Read a commit by path: everything is as the model was."""
        found = repository.version(version.commit)
        counts = link_counts(version.root)
        todo: list[tuple[Entry, Item]] = [(found.root, version.root)]
        while todo:
            entry, item = todo.pop()
            assert (entry.kind, entry.mode) == (item.kind, item.mode)
            assert item.mtime_ns in (None, entry.mtime_ns)
            assert repository.xattrs(entry) == item.xattrs
            if item.is_directory:
                entries = dict(found.trees.entries(entry.tree))
                assert entries.keys() == item.children.keys()
                for name, child in item.children.items():
                    resolved, links = found.resolve(entries[name])
                    assert links == counts[id(child)]
                    todo.append((resolved, child))
            elif item.kind == EntryKind.FILE:
                assert b"".join(repository.read(entry)) == item.data
            elif item.kind == EntryKind.SYMLINK:
                assert entry.content == item.target


def _without_numbers(root: Item) -> Item:
    """The same files on another branch, where they have other inode numbers."""
    root = root.copy()
    for item in (root, *(item for _, item in walk(root))):
        item.ino = None
    return root


def test_a_working_tree_behaves_like_the_model_through_commits_and_crashes() -> None:
    run_state_machine_as_test(WorkingTreeMachine, settings=examples(400, steps=80))
