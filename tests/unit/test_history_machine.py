"""A whole repository against plain dictionaries: branches, tags, commits, times, differences, reopening and crashes.

A commit in the model is a dictionary from path to what is there. No version ever changes, and no number its meaning.
"""

import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from anabranch.errors import ExistsError, NotFoundError, NothingToCommitError, RefusedError, UsageError
from anabranch.ids import AtTime, Head, Numbered, ObjectId, RefName
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.diff import Change, ChangeKind
from anabranch.versions.manifests import of
from anabranch.versions.objects import Entry, EntryKind, get_commit
from anabranch.versions.refs import Operation
from anabranch.versions.trees import Version
from tests.unit.helpers import (
    GID,
    MAIN,
    UID,
    WHO,
    Branch,
    CoarseClock,
    examples,
    make_repository,
    random_bytes,
    scratch,
)
from tests.unit.model import Item, Model, Path

REFS = [MAIN, *map(RefName, ["exp", "exp2", "v1.0", "té st"])]
NAMES = [b"a", b"b", b"c", b"data.csv", "é".encode()]
SIZES = [0, 1, 512, 513, 5_000, 70_000, 200_000]
MODES = [0o644, 0o600, 0o755]
DEEPEST = 3
ENDS = (Operation.DELETE, Operation.RENAME)

refs = st.sampled_from(REFS)
names = st.sampled_from(NAMES)
picks = st.integers(0, 255)
ways = st.sampled_from(["number", "number", "head", "time", "prefix"])


# --- the model ---


@dataclass(frozen=True)
class Seen:
    """What is at a path. The time of a directory does not count, and is 0 here."""

    kind: EntryKind
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    data: bytes
    """Content, or target."""
    group: frozenset[Path]
    """All names of the file."""

    @property
    def size(self) -> int | None:
        return None if self.kind is EntryKind.DIRECTORY else len(self.data)

    @property
    def attributes(self) -> tuple[object, ...]:
        return self.mode, self.owner, self.mtime_ns


Files = dict[Path, Seen]


@dataclass
class Made:
    """A commit, and what it must hold for ever; `root` is the same as `files`, for new working trees."""

    commit: ObjectId
    tree: ObjectId
    files: Files
    root: Item

    @property
    def is_empty(self) -> bool:
        """Whether it is the empty commit, whose root directory is nobody's."""
        return self.files[()].owner == (-1, -1)


@dataclass
class Row:
    """A row of a log; `made` is None where the name was given up."""

    operation: Operation
    made: Made | None
    time_ns: int


@dataclass
class Log:
    """A name, with all that ever happened to it."""

    rows: list[Row] = field(default_factory=list)
    alive: bool = False
    is_tag: bool = False

    @property
    def head(self) -> Made:
        made = self.rows[-1].made
        assert made is not None
        return made

    def versions(self) -> list[tuple[int, Made]]:
        return [(number, row.made) for number, row in enumerate(self.rows) if row.made is not None]


@dataclass
class Work:
    """The working tree of a branch, and its root as a crash would bring it back."""

    model: Model
    saved: Item


def differences(old: Files, new: Files, path: Path = ()) -> list[Change]:
    """What differs at a path and below it, in the order of a walk."""
    found = []
    for at in sorted(old.keys() | new.keys()):
        if at[: len(path)] == path and (change := difference(at, old.get(at), new.get(at))) is not None:
            found.append(change)
    return found


def difference(path: Path, old: Seen | None, new: Seen | None) -> Change | None:
    one = new or old
    assert one is not None
    if old is None or new is None:
        kind = ChangeKind.ADDED if old is None else ChangeKind.DELETED
    elif old.kind != new.kind:
        kind = ChangeKind.TYPE
    elif old.data != new.data:
        kind = ChangeKind.MODIFIED
    elif old.attributes != new.attributes:
        kind = ChangeKind.ATTRIBUTES
    else:
        return None
    return Change(b"/".join(path) or b".", kind, one.kind, old.size if old else None, new.size if new else None)


def expected_diff(old: Made | None, new: Files, path: Path = ()) -> list[Change]:
    """From a commit, or nothing; the empty commit has no root of its own, so that does not differ."""
    if old is None or old.is_empty:
        return [change for change in differences({(): new[()]}, new, path) if change.path != b"."]
    return differences(old.files, new, path)


def text(path: Path) -> str:
    return b"/".join(path).decode()


def moment(time_ns: int) -> str:
    second, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H%M%S}.{rest:09}Z"


# --- the machine ---


class HistoryMachine(RuleBasedStateMachine):
    """The rules are what people do, and the power supply."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("anabranch.worktree.tree.now_ns", CoarseClock())
        self.path = self._scratch.__enter__() / "repository"
        self.repository = make_repository(self.path)
        self.dice = random.Random(1)
        self.count = 0
        self.writes: list[tuple[int, int, bytes]] = []
        """Since the last checkpoint: inode, offset, bytes."""
        row = self.repository.refs.row(MAIN, 0)
        assert row is not None
        self.now = row.time_ns + 1
        self._keep_time()
        self.owner = self.path.stat().st_uid, self.path.stat().st_gid
        self.default = MAIN
        self.made = [self._empty(ObjectId(row.commit))]
        self.logs = {name: Log() for name in REFS}
        self.logs[MAIN] = Log([Row(Operation.BIRTH, self.made[0], row.time_ns)], alive=True)
        self.works = {MAIN: self._work(self.made[0])}

    @staticmethod
    def _empty(commit: ObjectId) -> Made:
        root = Seen(EntryKind.DIRECTORY, 0o755, (-1, -1), 0, b"", frozenset([()]))
        return Made(commit, ObjectId(b""), {(): root}, Item(EntryKind.DIRECTORY, 0o755))

    @staticmethod
    def _work(made: Made) -> Work:
        return Work(Model(made.root.copy()), made.root.copy())

    def teardown(self) -> None:
        try:
            self.repository.close()
            with Repository(self.path) as reader:
                for made in self.made:
                    self._holds(reader, made)
                assert consistency.check(reader) == len(self.made)
        finally:
            self._patch.undo()
            self._scratch.__exit__(None, None, None)

    def _keep_time(self) -> None:
        self.repository.refs.clock = lambda: self.now

    def _append(self, name: RefName, operation: Operation, made: Made | None) -> int:
        log = self.logs[name]
        log.rows.append(Row(operation, made, max(self.now, log.rows[-1].time_ns + 1 if log.rows else 0)))
        log.alive = operation not in ENDS
        log.is_tag = operation is Operation.TAG
        return len(log.rows) - 1

    # --- files ---

    def _chosen(self, pick: int) -> tuple[Branch, Model]:
        """A branch that exists, and its model."""
        name = sorted(self.works)[pick % len(self.works)]
        return Branch(self.repository, name), self.works[name].model

    @staticmethod
    def _folder(model: Model, pick: int, deepest: int = DEEPEST) -> Path:
        found = [path for path in model.directories() if len(path) < deepest]
        return found[pick % len(found)]

    @staticmethod
    def _named(model: Model, pick: int, kinds: Callable[[Item], bool] = lambda _: True) -> tuple[Path, Item] | None:
        found = [(path, item) for path, item in model.walk() if kinds(item)]
        return found[pick % len(found)] if found else None

    @staticmethod
    def _both(real: Callable[[], object], model: Callable[[], object]) -> bool:
        """Do it on both sides: both succeed, or fail alike."""
        try:
            model()
        except OSError as expected:
            code = expected.errno
        else:
            real()
            return True
        with pytest.raises(OSError) as caught:
            real()
        assert caught.value.errno == code, errno.errorcode[caught.value.errno or 0]
        return False

    @initialize()
    def begin(self) -> None:
        """Something committed: a directory, a hard link into it, a file of several chunks."""
        self.make(0, 0, b"a", EntryKind.DIRECTORY)
        self.write(0, 1, b"b", 200_000, False)
        self.write(0, 1, b"c", 512, False)
        self.link(0, 2, 0, b"data.csv")
        self.commit(0)

    @rule(pick=picks, folder=picks, name=names, size=st.sampled_from(SIZES), append=st.booleans())
    def write(self, pick: int, folder: int, name: bytes, size: int, append: bool) -> None:
        """A new file, or new bytes in one that is there."""
        branch, model = self._chosen(pick)
        path = (*self._folder(model, folder), name)
        siblings = model.at(path[:-1]).children
        if name not in siblings:
            branch.make(text(path))
            siblings[name] = Item(EntryKind.FILE, 0o644)
        item = siblings[name]
        offset = len(item.data) if append else 0
        if size and item.kind is EntryKind.FILE and offset + size <= 600_000:
            self.count += 1
            data = random_bytes(self.count, size)
            branch.write(text(path), data, offset)
            self.writes.append((branch.find(text(path)), offset, data))
            model.write(item, offset, data)

    @rule(
        pick=picks, folder=picks, name=names,
        kind=st.sampled_from([EntryKind.DIRECTORY, EntryKind.DIRECTORY, EntryKind.SYMLINK, EntryKind.FIFO]),
    )  # fmt: skip
    def make(self, pick: int, folder: int, name: bytes, kind: EntryKind) -> None:
        branch, model = self._chosen(pick)
        path = self._folder(model, folder)
        mode, target = (0o755 if kind is EntryKind.DIRECTORY else 0o644), b""
        if kind is EntryKind.SYMLINK:
            target = b"to-%d" % pick
        self._both(
            lambda: branch.make(text((*path, name)), kind, mode, target=target),
            lambda: model.create(path, name, Item(kind, mode, target=target)),
        )

    @rule(pick=picks, file=picks, folder=picks, new=names)
    def link(self, pick: int, file: int, folder: int, new: bytes) -> None:
        branch, model = self._chosen(pick)
        if (found := self._named(model, file, lambda item: not item.is_directory)) is not None:
            to = self._folder(model, folder)
            self._both(
                lambda: branch.link(text(found[0]), text((*to, new))), lambda: model.link(found[1], to, new)
            )  # fmt: skip

    @rule(pick=picks, file=picks)
    def remove(self, pick: int, file: int) -> None:
        branch, model = self._chosen(pick)
        if (found := self._named(model, file)) is not None:
            *folder, name = found[0]
            real, plain = (branch.rmdir, model.rmdir) if found[1].is_directory else (branch.unlink, model.unlink)
            self._both(lambda: real(text(found[0])), lambda: plain(tuple(folder), name))

    @rule(pick=picks, folder=picks)
    def remove_all_below(self, pick: int, folder: int) -> None:
        """As rm -r does it."""
        branch, model = self._chosen(pick)
        top = self._folder(model, folder)
        for path, item in sorted(model.walk(), key=lambda pair: pair[0], reverse=True):
            if path[: len(top)] == top and len(path) > len(top):
                (branch.rmdir if item.is_directory else branch.unlink)(text(path))
                del model.at(path[:-1]).children[path[-1]]

    @rule(pick=picks, file=picks, folder=picks, new=names, directories=st.booleans())
    def rename(self, pick: int, file: int, folder: int, new: bytes, directories: bool) -> None:
        branch, model = self._chosen(pick)
        found = self._named(model, file, lambda item: item.is_directory or not directories)
        if found is None:
            return
        path, item = found
        to = self._folder(model, folder, DEEPEST - 1 if item.is_directory else DEEPEST)
        goal = (*to, new)
        if goal != path and path == goal[: len(path)]:
            return  # into itself: the kernel refuses
        if goal != path and goal == path[: len(goal)]:
            return  # over what it is in: the kernel refuses
        self._both(
            lambda: branch.rename(text(path), text(goal)), lambda: model.rename(path[:-1], path[-1], to, new)
        )  # fmt: skip

    @rule(pick=picks, file=picks, mode=st.sampled_from(MODES), root=st.booleans())
    def chmod(self, pick: int, file: int, mode: int, root: bool) -> None:
        branch, model = self._chosen(pick)
        path, item = (None if root else self._named(model, file)) or ((), model.root)
        branch.chmod(text(path), mode)
        item.mode = mode

    # --- history ---

    def _files(self, branch: Branch, root: Item) -> Files:
        """The model as a dictionary. Times are taken from the real files: no rule of these tests sets them."""
        groups: dict[int, list[Path]] = {}
        items = [((), root), *Model(root).walk()]
        for path, item in items:
            groups.setdefault(id(item), []).append(path)
        files: Files = {}
        for path, item in items:
            time = 0 if item.is_directory else branch.tree.getattr(branch.find(text(path))).mtime_ns
            data = item.target if item.kind is EntryKind.SYMLINK else bytes(item.data)
            owner = (UID, GID) if path else self.owner
            files[path] = Seen(item.kind, item.mode, owner, time, data, frozenset(groups[id(item)]))
        return files

    @rule(pick=picks)
    def commit(self, pick: int) -> None:
        branch, model = self._chosen(pick)
        files = self._files(branch, model.root)
        changes = expected_diff(self.logs[branch.name].head, files)
        assert self.repository.status(branch.name) == changes
        if not changes:
            with pytest.raises(NothingToCommitError):
                branch.commit()
            return
        number = branch.commit()
        ref = self.repository.refs.get(branch.name)
        made = Made(ref.commit, self.repository.version(ref.commit).root.tree, files, model.root.copy())
        self.made.append(made)
        assert number == ref.number == self._append(branch.name, Operation.COMMIT, made)
        self._all_is_saved()

    @rule(pick=picks, seed=st.integers(0, 1 << 16), count=st.integers(1, 6))
    def work_and_commit(self, pick: int, seed: int, count: int) -> None:
        """Some changes in a row: most histories should have many versions."""
        dice = random.Random(seed)
        for _ in range(count):
            self._change(dice, pick)
        self.commit(pick)

    def _change(self, dice: random.Random, pick: int) -> None:
        file, folder, name = dice.randrange(256), dice.randrange(256), dice.choice(NAMES)
        match dice.choice(["write", "write", "directory", "symlink", "link", "remove", "rename", "chmod"]):
            case "write":
                self.write(pick, folder, name, dice.choice(SIZES), dice.random() < 0.5)
            case "directory":
                self.make(pick, folder, name, EntryKind.DIRECTORY)
            case "symlink":
                self.make(pick, folder, name, EntryKind.SYMLINK)
            case "link":
                self.link(pick, file, folder, name)
            case "remove":
                self.remove(pick, file)
            case "rename":
                self.rename(pick, file, folder, name, dice.random() < 0.5)
            case _:
                self.chmod(pick, file, dice.choice(MODES), False)

    def _all_is_saved(self) -> None:
        self.writes.clear()
        for work in self.works.values():
            work.saved = work.model.root.copy()

    def _revision(self, pick: int, other: int, way: str) -> tuple[str, Made | None]:
        """A revision, and the commit that it should name."""
        names = [name for name, log in self.logs.items() if log.rows]
        name = names[pick % len(names)]
        log = self.logs[name]
        if way == "prefix":
            made = self.made[other % len(self.made)]
            return f"@{self._prefix(made)}", made
        if way == "head":
            return f"{name}{'@head' * (other % 2)}", log.head if log.alive else None
        number = other % len(log.rows)
        if way == "number":
            return f"{name}@{number}", log.rows[number].made
        time_ns = log.rows[number].time_ns + pick % 3 - 1
        return f"{name}@{moment(time_ns)}", self._at(log, time_ns)[1]

    def _prefix(self, made: Made) -> str:
        digits = made.commit.hex()
        size = 4
        while sum(other.commit.hex().startswith(digits[:size]) for other in self.made) > 1:
            size += 1
        return digits[:size]

    def _at(self, log: Log, time_ns: int) -> tuple[int, Made | None]:
        """The newest row at or before a time, and what it names."""
        number = sum(row.time_ns <= time_ns for row in log.rows) - 1
        return number, log.rows[number].made if number >= 0 and time_ns < self.now else None

    @rule(new=refs, pick=picks, other=picks, way=ways, tag=st.booleans())
    def make_a_name(self, new: RefName, pick: int, other: int, way: str, tag: bool) -> None:
        """A branch or a tag, from any version, under a new name or one that was given up."""
        revision, made = self._revision(pick, other, way)
        if made is None:
            with pytest.raises(NotFoundError):
                self.repository.resolve(revision)
            return
        found = self.repository.resolve(revision).id
        assert found == made.commit
        create = self.repository.create_tag if tag else self.repository.create_branch
        if self.logs[new].alive:
            with pytest.raises(ExistsError):
                create(new, found, WHO)
            return
        assert create(new, found, WHO).number == self._append(new, Operation.TAG if tag else Operation.BIRTH, made)
        if not tag:
            self.works[new] = self._work(made)

    @rule(name=refs, pick=picks, clean=st.booleans())
    def delete(self, name: RefName, pick: int, clean: bool) -> None:
        """Mostly a branch that can be deleted, if there is one."""
        branches = sorted(self.works.keys() - {self.default})
        if branches and pick % 4:
            name = branches[pick % len(branches)]
        log = self.logs[name]
        if clean and name in self.works:
            self.commit(sorted(self.works).index(name))
        if not log.alive:
            with pytest.raises(NotFoundError):
                self.repository.delete_branch(name, WHO)
        elif log.is_tag:
            with pytest.raises(UsageError):
                self.repository.delete_branch(name, WHO)
        elif name == self.default or self._is_dirty(name):
            with pytest.raises(RefusedError):
                self.repository.delete_branch(name, WHO)
        else:
            self.repository.delete_branch(name, WHO)
            self._append(name, Operation.DELETE, None)
            del self.works[name]

    def _is_dirty(self, name: RefName) -> bool:
        files = self._files(Branch(self.repository, name), self.works[name].model.root)
        return bool(expected_diff(self.logs[name].head, files))

    @rule(pick=picks, new=refs)
    def rename_a_branch(self, pick: int, new: RefName) -> None:
        old = sorted(self.works)[pick % len(self.works)]
        if old == new:
            self.repository.rename_branch(old, new, WHO)  # does nothing
            return
        if self.logs[new].alive:
            with pytest.raises(ExistsError):
                self.repository.rename_branch(old, new, WHO)
            return
        made = self.logs[old].head
        self.repository.rename_branch(old, new, WHO)
        self._append(old, Operation.RENAME, None)
        self._append(new, Operation.BIRTH, made)
        self.works[new] = self.works.pop(old)
        if self.default == old:
            self.default = new

    @rule(step=st.sampled_from([0, 1, 1_000, 3_600 * 10**9, -500]))
    def tick(self, step: int) -> None:
        self.now += step

    # --- looking ---

    @rule(name=refs, pick=picks, step=st.integers(-1, 1))
    def look_a_time_up(self, name: RefName, pick: int, step: int) -> None:
        log = self.logs[name]
        time_ns = (log.rows[pick % len(log.rows)].time_ns if log.rows else self.now - 5) + step
        number, made = self._at(log, time_ns)
        if made is None:
            with pytest.raises(NotFoundError):
                self.repository.refs.resolve(AtTime(name, time_ns))
        else:
            assert self.repository.refs.resolve(AtTime(name, time_ns)) == (name, number, made.commit)

    @rule(first=picks, second=picks, below=st.booleans(), file=picks)
    def diff(self, first: int, second: int, below: bool, file: int) -> None:
        """Any two versions, whichever is older; all of them, or at a path."""
        old, new = self.made[first % len(self.made)], self.made[second % len(self.made)]
        path: Path = ()
        if below:
            paths = sorted(old.files.keys() | new.files.keys())
            path = paths[file % len(paths)]
        found = list(self.repository.diff(old.commit, new.commit, b"/".join(path)))
        changes = expected_diff(old, new.files, path)
        assert found == [change for change in changes if change.path != b"." or not new.is_empty]

    @rule(pick=picks, file=picks)
    def log_of_a_path(self, pick: int, file: int) -> None:
        branch, _ = self._chosen(pick)
        versions = self.logs[branch.name].versions()
        paths = sorted({path for _, made in versions for path in made.files})
        path = paths[file % len(paths)]
        changed = [(number, made.commit) for number, made in versions if self._differs(self._parent(made), made, path)]
        found = self.repository.log_of(branch.name, b"/".join(path))
        assert [(version.number, version.id) for version in found] == changed[::-1]

    def _parent(self, made: Made) -> Made | None:
        parents = get_commit(self.repository.objects, made.commit).parents
        known = [row.made for log in self.logs.values() for row in log.rows if row.made is not None]
        return next((one for one in known if parents and one.commit == parents[0]), None)

    @staticmethod
    def _differs(old: Made | None, new: Made, path: Path) -> bool:
        changes = expected_diff(old, new.files, path)
        return any(change.path != b"." or not new.is_empty for change in changes)

    # --- the power supply ---

    @rule()
    def checkpoint(self) -> None:
        self.repository.save()
        self._all_is_saved()

    @rule()
    def reopen(self) -> None:
        self.checkpoint()
        self._open_again()

    def _open_again(self) -> None:
        self.repository.close()
        self.repository = Repository(self.path, writable=True)
        self._keep_time()

    @rule()
    def crash(self) -> None:
        """What was not kept is gone; but bytes written into a file that was kept may be there."""
        self._open_again()
        for name, work in self.works.items():
            work.model = Model(work.saved)
            branch = Branch(self.repository, name)
            for path, item in work.model.walk():
                if item.kind is EntryKind.FILE:
                    self._take_what_is_there(branch, text(path), item)
        self._all_is_saved()

    def _take_what_is_there(self, branch: Branch, path: str, item: Item) -> None:
        found, ino = branch.read(path), branch.find(path)
        assert len(found) == len(item.data)
        later = [(offset, data) for written, offset, data in self.writes if written == ino]
        for at in range(len(found)):
            if found[at] != item.data[at]:
                assert any(o <= at < o + len(data) and data[at - o] == found[at] for o, data in later)
        item.data[:] = found

    # --- what always holds ---

    @invariant()
    def every_number_names_what_it_always_named(self) -> None:
        for name, log in self.logs.items():
            found = self.repository.refs.find(name)
            assert (found is not None) == log.alive
            if found is not None:
                head = (found.number, found.commit, found.is_tag)
                assert head == (len(log.rows) - 1, log.head.commit, log.is_tag)
                assert self.repository.refs.resolve(Head(name))[2] == log.head.commit
            for number, row in enumerate(log.rows):
                if row.made is None:
                    with pytest.raises(NotFoundError):
                        self.repository.refs.resolve(Numbered(name, number))
                else:
                    assert self.repository.refs.resolve(Numbered(name, number))[1:] == (number, row.made.commit)

    @invariant()
    def every_log_shows_all_versions(self) -> None:
        assert self.repository.default_branch() == self.default
        for name, log in self.logs.items():
            if not log.rows:
                with pytest.raises(NotFoundError):
                    next(self.repository.log(name))
                continue
            found = [(version.number, version.id, version.time_ns) for version in self.repository.log(name)]
            versions = [(number, made.commit, log.rows[number].time_ns) for number, made in log.versions()]
            assert found == versions[::-1]

    @invariant()
    def every_version_holds_what_it_always_held(self) -> None:
        for made in self.made[1:]:
            assert self.repository.version(made.commit).root.tree == made.tree
        self._holds(self.repository, self.dice.choice(self.made))

    def _holds(self, repository: Repository, made: Made) -> None:
        version = repository.version(made.commit)
        paths = set()
        for path, entry in walk(version, version.root):
            paths.add(path)
            self._same(repository, version, path, entry, made)
        assert paths == made.files.keys()

    @staticmethod
    def _same(repository: Repository, version: Version, path: Path, entry: Entry, made: Made) -> None:
        seen = made.files[path]
        found, links = version.resolve(entry)
        assert (found.kind, found.mode) == (seen.kind, seen.mode), path
        if seen.kind is EntryKind.DIRECTORY:
            return
        assert ((found.uid, found.gid), found.mtime_ns, found.size) == (seen.owner, seen.mtime_ns, seen.size), path
        assert links == len(seen.group)
        if entry.kind is EntryKind.LINK:
            named = version.trees.link_names(version.links, entry.content)
            assert {tuple(name.split(b"/")) for name in named} == seen.group
        if seen.kind is EntryKind.FILE:
            assert b"".join(repository.contents.stream(of(found))) == seen.data, path
        elif seen.kind is EntryKind.SYMLINK:
            assert found.content == seen.data

    @invariant()
    def a_working_tree_is_as_it_was_left(self) -> None:
        name = self.dice.choice(sorted(self.works))
        branch, model = Branch(self.repository, name), self.works[name].model
        paths = [(), *(path for path, item in model.walk() if item.is_directory)]
        for path in paths:
            assert [name.encode() for name in branch.names(text(path))] == sorted(model.at(path).children)
        for path, item in model.walk():
            attributes = branch.tree.getattr(branch.find(text(path)))
            assert (attributes.kind, attributes.mode) == (item.kind, item.mode)
            if item.kind is EntryKind.FILE:
                assert branch.read(text(path)) == item.data


def walk(version: Version, folder: Entry, path: Path = ()) -> Iterator[tuple[Path, Entry]]:
    """Every path of a version with its own entry, the root too."""
    yield path, folder
    for name, entry in version.trees.entries(folder.tree):
        if entry.kind is EntryKind.DIRECTORY:
            yield from walk(version, entry, (*path, name))
        else:
            yield (*path, name), entry


def test_a_history_is_what_was_committed_whatever_happens_to_names_and_machine() -> None:
    """P4, P5, P6, P19, P31."""
    run_state_machine_as_test(HistoryMachine, settings=examples(150, steps=50))
