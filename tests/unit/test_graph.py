"""Walking history, and names for what is met: children before parents, and no more is read than is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError, NotFoundError
from anabranch.history import VersionName
from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.versions.graph import APART, ancestors
from anabranch.versions.naming import Naming
from anabranch.versions.objects import Commit, Entry, EntryKind, get_commit, put_commit
from anabranch.versions.refs import LogRow, Operation, Refs
from anabranch.versions.trees import EMPTY_TREE
from tests.unit.helpers import MAIN, WHO, examples

ROOT = Entry(EntryKind.DIRECTORY, 0o755, content=EMPTY_TREE)
EXP, SIDE = RefName("exp"), RefName("a-side")


def an_id(number: int) -> ObjectId:
    return ObjectId(number.to_bytes(32, "big"))


@dataclass
class Commits:
    """Commits by number, and which of them were read."""

    held: dict[ObjectId, Commit] = field(default_factory=dict)
    read: list[ObjectId] = field(default_factory=list)

    def add(self, number: int, parents: list[int], time_ns: int | None = None, generation: int | None = None) -> None:
        above = [self.held[an_id(parent)].generation for parent in parents]
        real = 1 + max(above) if above else 0
        when = number if time_ns is None else time_ns
        level = real if generation is None else generation
        ids = tuple(map(an_id, parents))
        self.held[an_id(number)] = Commit(ROOT, EMPTY_TREE, ids, level, "ann", when, str(number), {})

    def at(self, identity: ObjectId) -> Commit:
        self.read.append(identity)
        return self.held[identity]

    def walk(self, start: int, since_ns: int | None = None) -> Iterator[int]:
        return (int(commit.message) for _, commit in ancestors(an_id(start), self.at, since_ns))


@st.composite
def histories(draw: st.DrawFn) -> Commits:
    """Up to 12 commits, parents first; the last one leads to some of them."""
    commits = Commits()
    for number in range(draw(st.integers(1, 12))):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        commits.add(number, parents, APART * draw(st.integers(0, 5)))
    return commits


def led_to(commits: Commits, number: int, since_ns: int) -> set[int]:
    """A commit and all that led to it, in the plainest way."""
    commit = commits.held[an_id(number)]
    if commit.time_ns < since_ns - APART:
        return {number}
    return {number}.union(*(led_to(commits, int.from_bytes(parent, "big"), since_ns) for parent in commit.parents))


@examples(300)
@given(histories(), st.integers(0, 5))
def test_each_commit_is_met_once_after_all_its_children(commits: Commits, since: int) -> None:
    since_ns = APART * since
    last = len(commits.held) - 1
    met = list(commits.walk(last, since_ns))
    assert sorted(met) == sorted(led_to(commits, last, since_ns))
    assert len(commits.read) == len(met)
    places = {number: place for place, number in enumerate(met)}
    for number in met:
        for parent in commits.held[an_id(number)].parents:
            assert places.get(int.from_bytes(parent, "big"), len(met)) > places[number]


def test_of_equal_generations_the_newer_commit_comes_first() -> None:
    commits = Commits()
    commits.add(0, [])
    for number, time_ns in ((1, 30), (2, 10), (3, 20)):
        commits.add(number, [0], time_ns)
    commits.add(4, [1, 2])
    commits.add(5, [4, 3])
    assert list(commits.walk(5)) == [5, 4, 1, 3, 2, 0]


def test_the_newest_of_a_long_history_cost_a_few_reads() -> None:
    commits = Commits()
    commits.add(0, [])
    for number in range(1, 100_000):
        commits.add(number, [number - 1])
    assert list(islice(commits.walk(99_999), 5)) == [99_999, 99_998, 99_997, 99_996, 99_995]
    assert len(commits.read) <= 6


def test_no_more_is_held_than_what_a_child_was_met_of() -> None:
    """Two branches that are merged over and over."""
    commits = Commits()
    commits.add(0, [])
    commits.add(1, [0])
    for number in range(2, 2_000, 2):
        commits.add(number, [number - 2, number - 1])
        commits.add(number + 1, [number - 1])
    for met, _ in enumerate(commits.walk(1_998), 1):
        assert len(commits.read) <= met + 3


def test_a_parent_that_is_no_older_than_its_child_is_damage_and_no_circle_goes_on() -> None:
    commits = Commits()
    commits.add(0, [])
    commits.add(1, [0], generation=7)
    commits.held[an_id(0)] = commits.held[an_id(1)]
    with pytest.raises(DamagedError, match="generation"):
        list(commits.walk(1))


# --- names ---


class CountingRefs(Refs):
    """Counts the rows that are read."""

    rows = 0

    def row(self, name: RefName, number: int) -> LogRow | None:
        self.rows += 1
        return super().row(name, number)


@dataclass
class Made:
    """Commits and rows of logs, each later than the one before."""

    repository: Repository
    now: int = 2_000_000_000_000_000_000
    step: int = 1_000_000_000

    def __post_init__(self) -> None:
        self.refs = CountingRefs(self.repository.meta, self.repository.objects, lambda: self.now)
        self.empty = self.repository.resolve("main").id

    def commit(self, *parents: ObjectId, message: str = "") -> ObjectId:
        self.now += self.step
        objects = self.repository.objects
        generation = 1 + max(get_commit(objects, parent).generation for parent in parents)
        made = put_commit(objects, Commit(ROOT, EMPTY_TREE, parents, generation, "ann", self.now, message, {}))
        objects.flush()
        return made

    def born(self, name: RefName, commit: ObjectId, *, tag: bool = False) -> None:
        self.now += self.step
        with self.repository.meta.write() as batch:
            self.refs.create(batch, name, commit, WHO, tag=tag)

    def moved(self, name: RefName, commit: ObjectId) -> ObjectId:
        self.now += self.step
        with self.repository.meta.write() as batch:
            self.refs.advance(batch, name, self.refs.get(name).number, commit, WHO)
        return commit

    def committed(self, name: RefName, *parents: ObjectId) -> ObjectId:
        return self.moved(name, self.commit(*parents))

    def gone(self, name: RefName) -> None:
        self.now += self.step
        with self.repository.meta.write() as batch:
            self.refs.end(batch, name, Operation.DELETE, WHO)

    def graph(self, name: RefName) -> list[str]:
        return [str(version) for version in self.repository.graph(name)]


@pytest.fixture
def made(repository: Repository) -> Made:
    return Made(repository)


def test_a_commit_is_named_by_the_log_of_the_branch_else_of_another_one(made: Made) -> None:
    one = made.committed(MAIN, made.empty)
    made.born(EXP, one)
    side = made.committed(EXP, one)
    two = made.committed(MAIN, one)
    merged = made.committed(MAIN, two, side)
    assert made.graph(MAIN) == ["main@3", "main@2", "exp@1", "main@1", "main@0"]
    assert made.graph(EXP) == ["exp@1", "exp@0", "main@0"]
    made.born(SIDE, merged)
    assert made.graph(SIDE) == ["a-side@0", "main@2", "exp@1", "main@1", "main@0"]


def test_the_newest_row_of_the_branch_names_what_several_hold(made: Made) -> None:
    """As after a reset."""
    one = made.committed(MAIN, made.empty)
    made.committed(MAIN, one)
    made.moved(MAIN, one)
    assert made.graph(MAIN) == ["main@3", "main@0"]
    three = made.committed(MAIN, one)
    made.moved(MAIN, three)
    versions = list(made.repository.graph(MAIN))
    assert [str(version) for version in versions] == ["main@5", "main@3", "main@0"]
    assert versions[0].time_ns == next(made.repository.log(MAIN)).time_ns, "the time leads back to the version"


def test_of_other_branches_the_one_names_a_commit_that_had_it_first_though_it_is_gone(made: Made) -> None:
    made.born(EXP, made.empty)
    side = made.committed(EXP, made.empty)
    made.born(SIDE, side)
    made.gone(EXP)
    made.committed(MAIN, made.empty, side)
    assert made.graph(MAIN) == ["main@1", "exp@1", "main@0"]
    assert made.repository.resolve("exp@1").id == side


def test_when_a_branch_had_a_commit_first_its_oldest_row_says_and_its_newest_names_it(made: Made) -> None:
    side = made.commit(made.empty)
    made.born(EXP, side)
    made.born(SIDE, side)
    made.moved(EXP, side)
    made.committed(MAIN, made.empty, side)
    assert made.graph(MAIN) == ["main@1", "exp@1", "main@0"]


def test_what_no_log_of_a_branch_has_is_named_by_its_id(made: Made) -> None:
    lost = made.commit(made.empty)
    made.born(RefName("v1"), lost, tag=True)
    made.committed(MAIN, made.empty, lost)
    assert made.graph(MAIN) == ["main@1", f"@{lost.hex()[:8]}", "main@0"]
    made.gone(RefName("v1"))
    made.born(RefName("v1"), made.empty)
    assert made.graph(MAIN) == ["main@1", f"@{lost.hex()[:8]}", "main@0"], "once it was a tag, now it is a branch"


def test_the_graph_of_a_branch_that_is_gone_begins_where_it_stood_and_one_that_never_was_has_none(made: Made) -> None:
    made.born(EXP, made.empty)
    made.committed(EXP, made.empty)
    made.gone(EXP)
    assert made.graph(EXP) == ["exp@1", "exp@0"]
    with pytest.raises(NotFoundError, match="a-side"):
        made.graph(SIDE)


def test_a_row_may_be_older_than_its_commit_by_another_clock(made: Made) -> None:
    ahead = made.commit(made.empty)
    made.now -= APART - 5 * made.step
    made.moved(MAIN, ahead)
    assert made.graph(MAIN) == ["main@1", "main@0"]


def names_of_the_newest(made: Made, start: ObjectId) -> tuple[list[str], int]:
    """Of five commits, and how many rows were read."""
    naming, made.refs.rows = Naming(made.refs, MAIN), 0
    newest = islice(ancestors(start, lambda each: get_commit(made.repository.objects, each)), 5)
    found = [naming.of(identity, commit) for identity, commit in newest]
    return [f"{each.name}@{each.number}" for each in found if each], made.refs.rows


def test_names_for_the_newest_cost_a_few_rows_whatever_the_length_of_the_logs(made: Made) -> None:
    made.born(EXP, made.empty)
    last = side = made.empty
    for _ in range(100):
        last, side = made.committed(MAIN, last), made.committed(EXP, side)
    names, rows = names_of_the_newest(made, made.committed(MAIN, last, side))
    assert names == ["main@101", "exp@100", "main@100", "exp@99", "main@99"]
    assert rows < 15


def test_names_for_the_newest_of_one_line_cost_a_row_each(made: Made) -> None:
    last = made.empty
    for _ in range(100):
        last = made.committed(MAIN, last)
    names, rows = names_of_the_newest(made, last)
    assert names == ["main@100", "main@99", "main@98", "main@97", "main@96"]
    assert rows <= 6


def test_versions_of_a_graph_tell_their_parents(made: Made) -> None:
    one = made.committed(MAIN, made.empty)
    found: list[VersionName] = list(made.repository.graph(MAIN))
    assert [(version.id, version.commit.parents) for version in found] == [(one, (made.empty,)), (made.empty, ())]
