"""Who last changed a name: against a model in plain Python, and at a cost that follows what changed."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import report_blame
from anabranch.errors import NotFoundError, UsageError
from anabranch.ids import ObjectId, RefName
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.versions import blame as blaming
from anabranch.versions.blame import blame
from anabranch.versions.objects import Commit, Entry, EntryKind, Form, LinkRow, get_commit, put_commit
from anabranch.versions.trees import EMPTY_TREE, Trees
from tests.unit.helpers import MAIN, WHO, Branch, examples, scratch

PATHS = (b"a", b"b", b"d/a", b"d/b", b"d/e/a", b"d/e/f/a", b"f", b"f/a")
DIRECTORIES = (b"d", b"d/e", b"d/e/f", b"f")
Value = tuple[int, int]
"""Content and mode of a file."""


@dataclass(frozen=True)
class State:
    """What a commit holds. A file that is one of several names has its link id as value."""

    files: dict[bytes, Value | bytes] = field(default_factory=dict)
    links: dict[bytes, Value] = field(default_factory=dict)
    modes: dict[bytes, int] = field(default_factory=dict)
    """Of directories that are not as others are."""
    time: int = 0
    """Of every directory."""

    def value(self, path: bytes) -> Value:
        value = self.files[path]
        return self.links[value] if isinstance(value, bytes) else value

    def directories(self) -> set[bytes]:
        return {directory for directory in DIRECTORIES if self.below(directory)}

    def below(self, directory: bytes) -> list[bytes]:
        prefix = directory + b"/" if directory else b""
        return [path for path in self.files if path.startswith(prefix)]

    def seen(self, path: bytes) -> object:
        """All that a name stands for; None where it is not there."""
        if path in self.files:
            return self.value(path)
        below = self.below(path)
        modes = {
            each: self.modes.get(each, 0o755) for each in self.directories() if each == path or each in above(below)
        }
        inside = {each: mode for each, mode in modes.items() if (each + b"/").startswith(path + b"/")}
        return (inside, {each: self.value(each) for each in below}) if below else None

    def names(self, directory: bytes) -> set[bytes]:
        start = len(directory) + 1 if directory else 0
        return {path[start:].partition(b"/")[0] for path in self.below(directory)}


def above(paths: list[bytes]) -> set[bytes]:
    return {path[:end] for path in paths for end in range(len(path)) if path[end : end + 1] == b"/"}


@dataclass(frozen=True)
class Past:
    """Commits, parents first: what each holds, and the numbers of its parents."""

    states: list[State]
    parents: list[list[int]]

    def blamed(self, number: int, path: bytes) -> int:
        """The commit that last changed a path: as git walks."""
        for parent in self.parents[number]:
            if self.states[parent].seen(path) == self.states[number].seen(path):
                return self.blamed(parent, path)
        return number


@st.composite
def edited(draw: st.DrawFn, state: State) -> State:
    """A state after a change of something."""
    files, links, modes = dict(state.files), dict(state.links), dict(state.modes)
    path, value = draw(st.sampled_from(PATHS)), (draw(st.integers(1, 3)), draw(st.sampled_from((0o644, 0o600))))
    match draw(st.sampled_from(("write", "write", "remove", "link", "mode", "time"))):
        case "write" | "link" as how:
            for other in [*files]:
                if other.startswith(path + b"/") or path.startswith(other + b"/"):
                    del files[other]
            if how == "link" and files:
                target = draw(st.sampled_from(sorted(files)))
                held = files[target]
                if not isinstance(held, bytes):
                    held = draw(st.binary(min_size=16, max_size=16))
                    links[held] = state.value(target)
                files[target] = files[path] = held
            elif isinstance(link := files.get(path), bytes):
                links[link] = value
            else:
                files[path] = value
        case "remove":
            files.pop(path, None)
        case "mode":
            modes[draw(st.sampled_from(DIRECTORIES))] = draw(st.sampled_from((0o700, 0o755)))
        case _:
            pass
    return State(files, links, modes, draw(st.integers(0, 3)))


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    """Some commits, of which the last leads to most others."""
    past = Past([State()], [[]])
    for number in range(1, draw(st.integers(2, 9))):
        parents = draw(st.lists(st.integers(max(0, number - 3), number - 1), min_size=1, max_size=2, unique=True))
        state = past.states[parents[0]]
        if len(parents) == 2:  # some of what the other one has
            other = past.states[parents[1]]
            keep = draw(st.sets(st.sampled_from(PATHS)))
            files = {path: value for path, value in state.files.items() if path in keep}
            taken = {path: value for path, value in other.files.items() if path not in keep}
            taken = {path: value for path, value in taken.items() if not above([path]) & files.keys()}
            files = {path: value for path, value in files.items() if not above([path]) & taken.keys()}
            state = State(files | taken, {**other.links, **state.links}, other.modes, other.time)
        for _ in range(draw(st.integers(0 if len(parents) == 2 else 1, 3))):
            state = draw(edited(state))
        past.states.append(state)
        past.parents.append(parents)
    return past


class Store:
    """Real commits of such states."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self.trees = Trees(objects)
        self.trees.empty()

    def at(self, identity: ObjectId) -> Commit:
        return get_commit(self.objects, identity)

    def keep(self, past: Past) -> list[ObjectId]:
        ids: list[ObjectId] = []
        for number, (state, parents) in enumerate(zip(past.states, past.parents, strict=True)):
            above = tuple(ids[parent] for parent in parents)
            generation = 1 + max((self.at(parent).generation for parent in above), default=-1)
            root = self._directory(state, b"")
            commit = Commit(root, self._links(state), above, generation, "ann", number, str(number), {})
            ids.append(put_commit(self.objects, commit))
        return ids

    def _directory(self, state: State, path: bytes) -> Entry:
        entries: list[tuple[bytes, Entry | None]] = []
        for name in sorted(state.names(path)):
            inside = path + b"/" + name if path else name
            if inside not in state.files:
                entries.append((name, self._directory(state, inside)))
            elif isinstance(held := state.files[inside], bytes):
                entries.append((name, Entry(EntryKind.LINK, content=held)))
            else:
                entries.append((name, _file(held)))
        dress = Entry(EntryKind.DIRECTORY, state.modes.get(path, 0o755), mtime_ns=state.time, content=EMPTY_TREE)
        return self.trees.directory(dress, self.trees.apply(EMPTY_TREE, entries))

    def _links(self, state: State) -> ObjectId:
        names = {(held, path): True for path, held in state.files.items() if isinstance(held, bytes)}
        counts = {held: sum(held == each for each, _ in names) for held, _ in names}
        rows: dict[bytes, LinkRow | None] = {
            held: LinkRow(_file(state.links[held]), count) for held, count in counts.items()
        }
        return self.trees.apply_links(EMPTY_TREE, rows, names)


def _file(value: Value) -> Entry:
    content, mode = value
    return Entry(EntryKind.FILE, mode, size=1, form=Form.INLINE, content=bytes([content]))


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """Of all examples: what is stored is named by what it is."""
    with scratch() as directory:
        meta = Environment(directory / "meta.mdb", TABLES)
        yield Store(ObjectStore(meta))
        meta.close()


@examples(400)
@given(past=pasts(), few=st.sampled_from((0, 8)), recursive=st.booleans())
def test_each_name_is_blamed_on_the_newest_commit_of_which_no_parent_has_the_same(
    store: Store, past: Past, few: int, recursive: bool
) -> None:
    ids = store.keep(past)
    last, state = len(ids) - 1, past.states[-1]
    for directory in (b"", *state.directories()):
        prefix = directory + b"/" if directory else b""
        names = {path[len(prefix) :] for path in state.below(directory)} if recursive else state.names(directory)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blaming, "_FEW", few)
            found = list(blame(store.trees, store.at, ids[-1], directory, recursive=recursive))
        got = {each.name: int(each.commit.message) for each in found}
        assert got == {name: past.blamed(last, prefix + name) for name in names}
        assert len(found) == len(names)
    for path in state.files:
        (alone,) = blame(store.trees, store.at, ids[-1], path, recursive=recursive)
        assert (alone.name, int(alone.commit.message)) == (path.rpartition(b"/")[2], past.blamed(last, path))


def test_a_model_that_is_wrong_would_be_noticed(store: Store) -> None:
    """The same content twice, with something else in between, is a change."""
    one, two = State({b"a": (1, 0o644)}), State({b"a": (2, 0o644)})
    past = Past([one, two, one, replace(one, time=3)], [[], [0], [1], [2]])
    (found,) = blame(store.trees, store.at, store.keep(past)[-1], b"")
    assert (found.commit.message, past.blamed(3, b"a")) == ("2", 2)


# --- what is read ---


def reads(main: Branch, path: bytes, *, recursive: bool = False) -> tuple[dict[bytes, str], int]:
    """The messages by name, and how many nodes were looked at."""
    objects = main.repository.objects
    trees = Trees(objects)
    found = blame(
        trees, lambda each: get_commit(objects, each), main.repository.resolve("main").id, path, recursive=recursive
    )
    return {each.name: each.commit.message for each in found}, trees.nodes.reads


def test_blame_reads_what_changed_and_never_what_is_below(main: Branch) -> None:
    for folder in range(10):
        main.mkdir(f"{folder}")
        for n in range(400):
            main.make(f"{folder}/{n:06}")
    main.commit("all")
    for n in range(30):
        main.write(f"3/{n:06}", b"changed")
        main.commit(f"change {n}")
    messages, count = reads(main, b"")
    assert messages == {b"%d" % folder: "change 29" if folder == 3 else "all" for folder in range(10)}
    assert count < 31 * 5, "a version costs its top directory, and that of its parent"
    messages, count = reads(main, b"3")
    assert [messages[b"%06d" % n] for n in (0, 29, 30, 399)] == ["change 0", "change 29", "all", "all"]
    assert count < 31 * 12, "a version costs the way to what changed"
    messages, count = reads(main, b"3/000399")
    assert messages == {b"000399": "all"}
    assert count < 31 * 12
    messages, count = reads(main, b"7")
    assert set(messages.values()) == {"all"}
    assert count < 31 * 3 + 20, "of a directory that did not change, its id alone is looked at"
    messages, _ = reads(main, b"", recursive=True)
    assert len(messages) == 4_000
    assert (messages[b"3/000007"], messages[b"4/000007"]) == ("change 7", "all")


def test_a_few_names_are_looked_up_however_much_else_changed_beside_them(main: Branch) -> None:
    """In one name's own history, and in a merge that took a few from a parent that lacks much else."""
    repository, names = main.repository, [f"{n:06}" for n in range(4_000)]
    taken = names[:9]
    for name in names:
        main.make(name)
    main.commit("all")
    repository.create_branch("exp", repository.resolve("main").id, WHO)
    side = Branch(repository, RefName("exp"))
    for name in taken:
        side.write(name, b"from exp")
        side.touch(name, 5)
    side.commit("on exp")
    for name in names[9:]:
        main.write(name, b"from main")
    main.commit("on main")
    nodes = main_nodes(main)
    messages, count = reads(main, taken[0].encode())
    assert messages == {taken[0].encode(): "all"}
    assert count < 20 < nodes
    ours, theirs = (repository.resolve(revision) for revision in ("main", "exp"))
    for name in taken:
        main.write(name, b"from exp")
        main.touch(name, 5)
    main.commit("as a merge has it")
    as_merged = repository.resolve("main").commit
    parents = (ours.id, theirs.id)
    merge = Commit(as_merged.root, as_merged.links, parents, 3, "ann", as_merged.time_ns, "merge", {})
    advance(main, put_commit(repository.objects, merge))
    messages, count = reads(main, b"")
    expected = {name.encode(): "on exp" if name in taken else "on main" for name in names}
    assert messages == expected
    assert count < 5 * nodes, "all names, both sides of what changed on main, and the way to each of a few"


def main_nodes(main: Branch) -> int:
    """Of the top directory of a branch."""
    trees = Trees(main.repository.objects)
    assert sum(1 for _ in trees.entries(main.repository.resolve("main").commit.root.tree))
    return trees.nodes.reads


def advance(main: Branch, commit: ObjectId) -> None:
    repository = main.repository
    repository.objects.flush()
    with repository.meta.write() as batch:
        repository.refs.advance(batch, MAIN, repository.refs.get(MAIN).number, commit, WHO)


# --- in a repository ---


def test_a_blame_names_versions_and_tells_what_is_not_there(main: Branch) -> None:
    repository = main.repository
    main.mkdir("raw")
    main.write("raw/a", b"1")
    main.commit("one")
    main.write("b", b"2")
    main.commit("a message that is much longer than what stands in a column")
    found = sorted(repository.blame(repository.resolve("main"), b""), key=lambda each: each.name)
    assert [(each.name, each.kind, str(each.version)) for each in found] == [
        (b"b", EntryKind.FILE, "main@2"), (b"raw", EntryKind.DIRECTORY, "main@1"),
    ]  # fmt: skip
    times = [line.partition(" UTC")[0][-19:] for line in report_blame.blame_text(found)]
    assert list(report_blame.blame_text(found)) == [
        f"main@2  {times[0]} UTC  ann  a message that is much longer than wh...  b\n",
        f"main@1  {times[1]} UTC  ann  one                                       raw/\n",
    ]
    assert list(report_blame.blame_text([])) == []
    repository.create_branch("exp", repository.resolve("main").id, WHO)
    names = [str(each.version) for each in repository.blame(repository.resolve("exp"), b"//raw/")]
    assert names == ["main@1"], "exp@0 holds what main@2 does"
    assert [str(each.version) for each in repository.blame(repository.resolve("exp"), b"b")] == ["exp@0"]
    for path, error in ((b"none", NotFoundError), (b"b/x", UsageError)):
        with pytest.raises(error):
            list(repository.blame(repository.resolve(MAIN), path))
    assert list(repository.blame(repository.resolve("main@0"), b"")) == []
    advance(main, repository.resolve("main@1").id)
    assert [str(each.version) for each in repository.blame(repository.resolve("main@3"), b"raw")] == ["main@1"]
