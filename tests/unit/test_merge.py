"""What comes out of three versions, case by case; where two commits have parted; and at what cost. P97, P98, P104."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.ids import ObjectId, RefName
from anabranch.merging.proposal import Propose, conclude
from anabranch.repo import Repository
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind
from anabranch.versions.ancestry import is_ancestor, merge_bases
from anabranch.versions.merge import Chosen, Merged, Resolve, merge, unresolved
from anabranch.versions.objects import Commit, Entry, EntryKind, get_commit, put_commit
from anabranch.versions.threeway import Conflict, ConflictKind
from anabranch.versions.trees import EMPTY_TREE, Trees, Version
from tests.unit.helpers import MAIN, WHO, Branch, examples
from tests.unit.plain import DIRECTORY, Item, State, built, committed, entry_of, linked, merged_states, shown

FILE = Item(EntryKind.FILE, b"base", mtime=10)
OURS, THEIRS = replace(FILE, content=b"ours", mtime=20), replace(FILE, content=b"theirs", mtime=30)
SYMLINK = Item(EntryKind.SYMLINK, b"somewhere", 0o777)
ONE = linked(b"the link, 1 of 1")


def state(*directories: bytes, links: dict[bytes, Item] | None = None, **files: Item) -> State:
    """A state of directories and files; a directory is in a name as `__`."""
    made = State(links=links or {})
    made.paths |= dict.fromkeys(directories, DIRECTORY)
    for name, item in files.items():
        path = name.encode().replace(b"__", b"/")
        for end in (place for place, byte in enumerate(path) if byte == ord("/")):
            made.paths.setdefault(path[:end], DIRECTORY)
        made.paths[path] = item
    return made


class Three:
    """Merges states both ways round, and has all that comes out committed."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.tags = 0

    def built(self, which: State) -> Version:
        return built(self.repository.trees, which)

    def __call__(self, base: State, ours: State, theirs: State, resolve: Resolve = unresolved) -> Merged:
        made = self.merged(base, ours, theirs, resolve)
        if not made.conflicts:
            self.tags += 1
            self.repository.create_tag(f"t{self.tags}", committed(self.repository, made.version), WHO)
        return made

    def merged(self, base: State, ours: State, theirs: State, resolve: Resolve = unresolved) -> Merged:
        """As it is called, but not committed."""
        return merged_states(self.repository.trees, base, ours, theirs, resolve)

    def clean(self, base: State, ours: State, theirs: State) -> State:
        """What comes out, from either side."""
        one, other = self(base, ours, theirs), self(base, theirs, ours)
        assert not one.conflicts
        assert not other.conflicts
        assert shown(one.version) == shown(other.version)
        return shown(one.version)

    def disputed(self, base: State, ours: State, theirs: State) -> list[tuple[bytes, str]]:
        """The conflicts, from either side."""
        one, other = self(base, ours, theirs), self(base, theirs, ours)
        assert one.conflicts == [replace(each, ours=each.theirs, theirs=each.ours) for each in other.conflicts]
        for conflict in one.conflicts:
            assert shown(one.version).paths.get(conflict.path) == ours.paths.get(conflict.path)
        return [(conflict.path, conflict.kind.value) for conflict in one.conflicts]


@pytest.fixture
def three(repository: Repository) -> Three:
    return Three(repository)


def by(side: str) -> Callable[[Conflict], Chosen]:
    return lambda conflict: Chosen(getattr(conflict, side))


# --- kinds of conflicts (P98) ---

CONFLICTS: dict[str, tuple[State, State, State, list[tuple[bytes, str]]]] = {
    "content": (state(f=FILE), state(f=OURS), state(f=THEIRS), [(b"f", "both modified")]),
    "owners": (
        state(f=FILE), state(f=replace(FILE, owner=1)), state(f=replace(FILE, owner=2)), [(b"f", "both modified")],
    ),
    "attributes": (
        state(f=FILE), state(f=replace(FILE, xattr=b"1")), state(f=replace(FILE, xattr=b"2")),
        [(b"f", "both modified")],
    ),
    "deleted": (state(f=FILE), state(), state(f=THEIRS), [(b"f", "modified and deleted")]),
    "deleted and permissions changed": (
        state(f=FILE), state(), state(f=replace(FILE, mode=0o600)), [(b"f", "modified and deleted")],
    ),
    "added": (state(), state(f=OURS), state(f=THEIRS), [(b"f", "both added")]),
    "added, of two types": (state(), state(f=OURS), state(f=SYMLINK), [(b"f", "both added")]),
    "type": (state(f=FILE), state(f=OURS), state(f=SYMLINK), [(b"f", "type changed")]),
    "targets": (
        state(f=SYMLINK), state(f=replace(SYMLINK, content=b"a")), state(f=replace(SYMLINK, content=b"b")),
        [(b"f", "both modified")],
    ),
    "a directory for a file": (state(f=FILE), state(f__a=OURS), state(f=THEIRS), [(b"f", "directory against file")]),
    "a file for a directory": (
        state(f__a=FILE), state(f=OURS), state(f__a=THEIRS), [(b"f", "directory against file")],
    ),
    "deep in a directory that one deleted": (
        state(d__e__f=FILE, d__g=FILE), state(), state(d__e__f=THEIRS, d__g=FILE), [(b"d/e/f", "modified and deleted")],
    ),
    "several, in order of paths": (
        state(b__x=FILE, c=FILE), state(b__x=OURS, c=OURS, a=OURS), state(b__x=THEIRS, c=THEIRS, a=THEIRS),
        [(b"a", "both added"), (b"b/x", "both modified"), (b"c", "both modified")],
    ),
    "all names of one file, by its first": (
        state(a=ONE, b=ONE, links={ONE.content: FILE}), state(a=ONE, b=ONE, links={ONE.content: OURS}),
        state(a=ONE, b=ONE, links={ONE.content: THEIRS}), [(b"a", "both modified")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFLICTS)
def test_a_path_that_both_changed_differently_is_a_conflict_with_a_kind_p98(three: Three, name: str) -> None:
    base, ours, theirs, expected = CONFLICTS[name]
    assert three.disputed(base, ours, theirs) == expected


@pytest.mark.parametrize("name", list(CONFLICTS))
def test_a_conflict_that_is_resolved_by_a_side_is_what_that_side_has(three: Three, name: str) -> None:
    base, ours, theirs, expected = CONFLICTS[name]
    for side, wanted in (("ours", ours), ("theirs", theirs), ("base", base)):
        made = three(base, ours, theirs, by(side))
        assert not made.conflicts
        assert [(each.path, each.kind.value) for each in made.resolved] == expected
        result = shown(made.version)
        for path, _ in expected:
            assert result.below(path) == wanted.below(path)
        assert result.links == wanted.links


def test_a_directory_that_one_side_deleted_and_the_other_gave_other_attributes_is_a_conflict(three: Three) -> None:
    base, theirs = state(d__f=FILE), state(d__f=FILE)
    theirs.paths[b"d"] = replace(DIRECTORY, mode=0o700)
    assert three.disputed(base, state(), theirs) == [(b"d", "modified and deleted")]
    kept = three(base, state(), theirs, by("theirs"))
    assert shown(kept.version).paths == {b"": DIRECTORY, b"d": replace(DIRECTORY, mode=0o700)}
    assert shown(three(base, state(), theirs, by("ours")).version) == state()
    theirs.paths[b"d"] = replace(DIRECTORY, mtime=99)
    assert three.clean(base, state(), theirs) == state()


def test_two_new_directories_with_different_owners_were_both_added(three: Three) -> None:
    ours, theirs = state(d__a=OURS), state(d__b=THEIRS)
    ours.paths[b"d"] = replace(DIRECTORY, owner=7)
    assert three.disputed(state(), ours, theirs) == [(b"d", "both added")]
    for side, owner in (("ours", 7), ("theirs", DIRECTORY.owner)):
        result = shown(three(state(), ours, theirs, by(side)).version)
        assert result.paths[b"d"].owner == owner
        assert result.paths.keys() == {b"", b"d", b"d/a", b"d/b"}


# --- what comes together (P97) ---


def test_content_and_attributes_go_apart(three: Three) -> None:
    ours = state(f=replace(FILE, mode=0o755, owner=5))
    assert three.clean(state(f=FILE), ours, state(f=THEIRS)).paths[b"f"] == replace(THEIRS, mode=0o755, owner=5)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        (0o644, 0o755, 0o600, 0o711),
        (0o644, 0o664, 0o646, 0o666),
        (0o777, 0o770, 0o707, 0o700),
        (0o4755, 0o755, 0o4711, 0o711),
    ],
)
def test_permissions_come_together_bit_by_bit(three: Three, base: int, ours: int, theirs: int, expected: int) -> None:
    sides = [state(f=replace(FILE, mode=mode)) for mode in (base, ours, theirs)]
    assert three.clean(*sides).paths[b"f"].mode == expected


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(20, 30, 30), (20, 10, 20), (5, 10, 5), (5, 7, 7)])
def test_of_two_times_the_later_one_and_of_one_that_was_set_it(
    three: Three, ours: int, theirs: int, expected: int
) -> None:
    sides = [state(f=replace(FILE, mtime=time)) for time in (10, ours, theirs)]
    assert three.clean(*sides).paths[b"f"].mtime == expected


def test_the_same_change_on_both_sides_is_none_whatever_the_times(three: Three) -> None:
    both = three.clean(state(f=FILE), state(f=OURS, new=OURS), state(f=replace(OURS, mtime=99), new=OURS))
    assert both.paths[b"f"] == replace(OURS, mtime=99)
    assert both.paths[b"new"] == OURS


def test_new_directories_of_one_name_come_together(three: Three) -> None:
    assert three.clean(state(), state(d__a=OURS), state(d__b=THEIRS)) == state(d__a=OURS, d__b=THEIRS)


def test_what_was_added_in_a_directory_that_the_other_side_deleted_stays_with_the_directory(three: Three) -> None:
    base = state(d__e__f=FILE, d__g=FILE)
    ours = state(d__e__f=FILE, d__g=FILE, d__e__new=OURS)
    assert three.clean(base, ours, state()) == state(d__e__new=OURS)


def test_an_empty_directory_stays_and_goes(three: Three) -> None:
    assert three.clean(state(b"old"), state(b"old", b"new"), state()) == state(b"new")


def test_a_directory_that_became_a_file_on_one_side_and_stayed_on_the_other_is_a_file(three: Three) -> None:
    assert three.clean(state(d__f=FILE, g=FILE), state(d=OURS, g=FILE), state(d__f=FILE, g=THEIRS)) == state(
        d=OURS, g=THEIRS
    )


def test_names_that_are_no_text_are_names_like_others(three: Three) -> None:
    base, ours, theirs = state(), state(), state()
    for number, name in enumerate([b"\xff\xfe", b"\x01", b" ", b"\n", b"a" * 255]):
        ours.paths[name] = replace(OURS, mtime=number)
        theirs.paths[name + b"2" if len(name) < 255 else b"b" * 255] = THEIRS
    assert three.clean(base, ours, theirs).paths == ours.paths | theirs.paths


def test_a_path_may_be_deeper_than_pythons_stack(three: Three) -> None:
    base = State()
    path = b"/".join([b"d"] * 1_200)
    for end in range(1, len(path) + 1, 2):
        base.paths[path[:end]] = DIRECTORY
    ours, theirs = base.copy(), base.copy()
    ours.paths[path + b"/ours"], theirs.paths[path + b"/theirs"] = OURS, THEIRS
    assert shown(three.merged(base, ours, theirs).version).paths == ours.paths | theirs.paths
    theirs.paths[path + b"/ours"] = THEIRS
    made = three.merged(base, ours, theirs)
    assert [conflict.path for conflict in made.conflicts] == [path + b"/ours"]
    assert shown(three.merged(base, State(), base).version) == State()
    assert shown(three.merged(base, State(), ours).version) == ours


# --- directories that were renamed (P97) ---


def test_a_renamed_directory_takes_along_what_the_other_side_did_in_it(three: Three) -> None:
    base = state(d__f=FILE, d__g=FILE, d__e__h=FILE)
    ours = state(new__f=FILE, new__g=FILE, new__e__h=FILE)
    theirs = state(d__f=THEIRS, d__e__h=FILE, d__e__more=THEIRS)
    assert three.clean(base, ours, theirs) == state(new__f=THEIRS, new__e__h=FILE, new__e__more=THEIRS)


def test_a_renamed_directory_takes_along_its_own_attributes(three: Three) -> None:
    theirs = state(d__f=FILE)
    theirs.paths[b"d"] = replace(DIRECTORY, mode=0o700)
    assert three.clean(state(d__f=FILE), state(new__f=FILE), theirs).paths[b"new"].mode == 0o700


def test_a_directory_that_was_moved_into_a_new_one_is_followed(three: Three) -> None:
    base = state(d__f=FILE, g=FILE)
    assert three.clean(base, state(top__sub__d__f=FILE, g=FILE), state(d__f=THEIRS, g=FILE)) == state(
        top__sub__d__f=THEIRS, g=FILE
    )


def test_a_directory_in_one_that_was_taken_apart_is_followed(three: Three) -> None:
    base = state(d__e__f=FILE, d__g=FILE)
    assert three.clean(base, state(e__f=FILE, g=FILE), state(d__e__f=THEIRS, d__g=FILE)) == state(e__f=THEIRS, g=FILE)


def test_both_sides_rename_and_each_takes_along_what_the_other_changed(three: Three) -> None:
    base = state(a__f=FILE, b__g=replace(FILE, mtime=7))
    ours = state(a2__f=FILE, b__g=OURS)
    theirs = state(a__f=THEIRS, b2__g=replace(FILE, mtime=7))
    assert three.clean(base, ours, theirs) == state(a2__f=THEIRS, b2__g=OURS)


def test_one_side_renames_a_directory_and_the_other_one_in_it(three: Three) -> None:
    base = state(d__e__f=FILE, d__g=FILE)
    assert three.clean(base, state(new__e__f=FILE, new__g=FILE), state(d__e2__f=FILE, d__g=FILE)) == state(
        new__e2__f=FILE, new__g=FILE
    )


def test_of_a_directory_that_is_at_two_new_places_nothing_is_guessed(three: Three) -> None:
    ours = state(one__f=FILE, two__f=FILE)
    assert three.disputed(state(d__f=FILE), ours, state(d__f=THEIRS)) == [(b"d/f", "modified and deleted")]


def test_a_renamed_directory_with_something_in_the_way_is_not_followed(three: Three) -> None:
    base, ours = state(d__f=FILE), state(new__f=FILE)
    assert three.disputed(base, ours, state(d__f=THEIRS, new=THEIRS)) == [
        (b"d/f", "modified and deleted"), (b"new", "directory against file"),
    ]  # fmt: skip


def test_a_directory_that_both_renamed_differently_is_at_both_places_and_its_changes_are_conflicts(
    three: Three,
) -> None:
    base = state(d__f=FILE)
    assert three.clean(base, state(one__f=FILE), state(two__f=FILE)) == state(one__f=FILE, two__f=FILE)


# --- hard links ---

TWO = linked(b"a link of theirs")


def links(of: Item) -> dict[bytes, Item]:
    return {ONE.content: of}


def test_the_content_of_a_file_comes_to_all_names_that_either_side_gave_it(three: Three) -> None:
    base = state(a=ONE, b=ONE, links=links(FILE))
    ours, theirs = state(a=ONE, b=ONE, c=ONE, links=links(FILE)), state(a=ONE, links=links(THEIRS))
    assert three.clean(base, ours, theirs) == state(a=ONE, c=ONE, links=links(THEIRS))


def test_a_file_that_one_side_changed_and_the_other_deleted_by_all_names_is_a_conflict_at_each(three: Three) -> None:
    base, theirs = state(d__a=ONE, b=ONE, links=links(FILE)), state(d__a=ONE, b=ONE, links=links(THEIRS))
    expected = [(b"b", "modified and deleted"), (b"d/a", "modified and deleted")]
    assert three.disputed(base, state(), theirs) == expected
    assert shown(three(base, state(), theirs, by("theirs")).version) == theirs
    assert shown(three(base, state(), theirs, by("ours")).version) == state()
    assert shown(three(base, state(), theirs, by("base")).version) == base


def test_a_file_that_lost_its_last_name_by_both_sides_together_is_a_conflict(three: Three) -> None:
    """Each took one name away, which alone is no conflict; but one of them changed the file as well."""
    base = state(a=ONE, b=ONE, links=links(FILE))
    ours, theirs = state(b=ONE, links=links(OURS)), state(a=ONE, links=links(FILE))
    assert three.disputed(base, ours, theirs) == [(b"b", "modified and deleted")]
    assert shown(three(base, ours, theirs, by("ours")).version) == ours
    assert shown(three(base, ours, theirs, by("theirs")).version) == state()
    assert three.disputed(base, ours, state(a=ONE, links=links(THEIRS))) == [
        (b"a", "modified and deleted"), (b"b", "modified and deleted"),
    ]  # fmt: skip


def test_what_cannot_be_put_back_since_a_file_is_in_its_directorys_place_stays_a_conflict(three: Three) -> None:
    base, theirs = state(d__a=ONE, b=ONE, links=links(FILE)), state(d__a=ONE, b=ONE, links=links(THEIRS))
    made = three(base, state(d=OURS), theirs, by("theirs"))
    assert [conflict.path for conflict in made.conflicts] == [b"d/a"]


def test_links_that_both_made_of_one_file_come_together_or_are_conflicts(three: Three) -> None:
    base, ours = state(f=FILE), state(f=ONE, g=ONE, links=links(FILE))
    assert three.clean(base, ours, ours) == ours
    theirs = state(f=TWO, h=TWO, links={TWO.content: FILE})
    assert [path for path, _ in three.disputed(base, ours, theirs)] == [b"f"]
    assert shown(three(base, ours, theirs, by("ours")).version).paths[b"f"] == ONE


def test_a_renamed_directory_takes_along_hard_links(three: Three) -> None:
    base = state(d__a=ONE, d__f=FILE, b=ONE, links=links(FILE))
    ours = state(new__a=ONE, new__f=FILE, b=ONE, links=links(FILE))
    theirs = state(d__a=ONE, d__f=FILE, d__c=ONE, links=links(THEIRS))
    assert three.clean(base, ours, theirs) == state(new__a=ONE, new__f=FILE, new__c=ONE, links=links(THEIRS))


# --- merge bases ---

DAG = st.lists(st.lists(st.integers(0, 99), min_size=0, max_size=3), min_size=1, max_size=14)
NO_ROOT = Entry(EntryKind.DIRECTORY, 0o755, content=EMPTY_TREE)


class History:
    """Commits without files, by number; parents are numbers that came before."""

    def __init__(self, wanted: list[list[int]]) -> None:
        self.parents: list[list[int]] = []
        self.commits: dict[ObjectId, Commit] = {}
        self.read: list[ObjectId] = []
        for number, dice in enumerate(wanted):
            parents = list(dict.fromkeys(die % number for die in dice)) if number else []
            self.parents.append(parents)
            generation = 1 + max((self.commits[self.id(parent)].generation for parent in parents), default=-1)
            self.commits[self.id(number)] = Commit(
                NO_ROOT, EMPTY_TREE, tuple(map(self.id, parents)), generation, "", number % 3, "", {}
            )

    @staticmethod
    def id(number: int) -> ObjectId:
        return ObjectId((number * 7919 % 65_536).to_bytes(32, "big"))

    def at(self, identity: ObjectId) -> Commit:
        self.read.append(identity)
        return self.commits[identity]

    def closure(self, number: int) -> set[int]:
        found = [number]
        for each in found:
            found += [parent for parent in self.parents[each] if parent not in found]
        return set(found)

    def bases(self, ones: Iterable[int], others: Iterable[int]) -> list[ObjectId]:
        sides = [set[int]().union(*map(self.closure, side)) for side in (ones, others)]
        common = sides[0] & sides[1]
        return sorted(self.id(each) for each in common if not any(each in self.closure(o) - {o} for o in common))


@examples(2_000)
@given(DAG, st.sets(st.integers(0, 99), min_size=1, max_size=3), st.sets(st.integers(0, 99), min_size=1, max_size=2))
def test_merge_bases_are_the_common_ancestors_that_are_below_no_other(
    dag: list[list[int]], ones: set[int], others: set[int]
) -> None:
    history = History(dag)
    one, other = ({number % len(dag) for number in side} for side in (ones, others))
    expected = history.bases(one, other)
    assert merge_bases(history.at, map(history.id, one), map(history.id, other)) == expected
    assert merge_bases(history.at, map(history.id, other), map(history.id, one)) == expected


@examples(500)
@given(DAG)
def test_a_commit_is_an_ancestor_of_what_it_led_to_and_of_itself(dag: list[list[int]]) -> None:
    history = History(dag)
    for newer in range(len(dag)):
        closure = history.closure(newer)
        for older in range(len(dag)):
            assert is_ancestor(history.at, history.id(older), history.id(newer)) == (older in closure)


def test_merge_bases_are_found_in_what_differs_alone() -> None:
    """P104: after 10,000 common commits, two sides of 10."""
    history = History([[]] + [[number - 1] for number in range(1, 10_000)])
    wanted = list(history.parents)
    for _ in range(2):
        wanted.append([9_999])
        wanted += [[len(wanted) - 1 + more] for more in range(9)]
    history = History(wanted)
    one, other = history.id(10_009), history.id(10_019)
    history.read.clear()
    assert merge_bases(history.at, [one], [other]) == [history.id(9_999)]
    assert len(history.read) < 50


# --- several merge bases (P97) ---


class Branches:
    """Branches of a repository that merge one another."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def make(self, name: str, revision: str = "main") -> Branch:
        self.repository.create_branch(name, self.repository.resolve(revision).id, WHO)
        return Branch(self.repository, RefName(name))

    def merge(self, branch: Branch, revision: str, side: str = "") -> int:
        resolve = by(side) if side else unresolved
        proposal = Propose(self.repository, branch.name, resolve).merge(self.repository.resolve(revision))
        wanted = conclude(self.repository, proposal, proposal.note, "ann")
        self.repository.objects.flush()
        return self.repository.move(branch.name, wanted, WHO).number


def test_of_two_branches_that_merged_each_other_neither_change_comes_twice(repository: Repository) -> None:
    """After a criss-cross both have all; what each then changes, at what the other had changed before, is clean."""
    branches, main = Branches(repository), Branch(repository)
    main.write("f", b"1\n")
    main.write("g", b"1\n")
    main.commit()
    exp = branches.make("exp")
    main.write("f", b"main\n")
    main.commit()
    exp.write("g", b"exp\n")
    exp.commit()
    branches.merge(main, "exp@1")
    branches.merge(exp, "main@2")
    main.write("g", b"main again\n")
    main.commit()
    exp.write("f", b"exp again\n")
    exp.commit()
    tips = [repository.resolve(name).id for name in ("main", "exp")]
    assert len(merge_bases(partial(get_commit, repository.objects), tips[:1], tips[1:])) == 2
    branches.merge(main, "exp")
    assert (main.read("f"), main.read("g")) == (b"exp again\n", b"main again\n")


def test_where_several_bases_conflict_the_path_counts_as_in_their_own_base(repository: Repository) -> None:
    """Both decided the same conflict, each its own way: that is one again."""
    branches, main = Branches(repository), Branch(repository)
    main.write("f", b"0")
    main.commit()
    exp = branches.make("exp")
    main.write("f", b"main")
    main.commit()
    exp.write("f", b"exp")
    exp.commit()
    branches.merge(main, "exp@1", "ours")
    branches.merge(exp, "main@2", "ours")
    proposal = Propose(repository, MAIN, unresolved).merge(repository.resolve("exp"))
    (conflict,) = proposal.merged.conflicts
    assert (conflict.path, conflict.kind) == (b"f", ConflictKind.MODIFIED)
    assert [side and side.content for side in (conflict.base, conflict.ours, conflict.theirs)] == [
        b"0",
        b"main",
        b"exp",
    ]


def test_branches_that_merged_each_other_a_thousand_times_still_merge(repository: Repository) -> None:
    """Three of them, at every turn each what both others had before: all heads of a turn are bases of the next."""
    store, trees = repository.objects, repository.trees
    tips = [committed(repository, built(trees, state(f=FILE)))] * 3
    firsts = state(f=FILE, g0=OURS), state(f=FILE, g1=OURS), state(f=FILE, g2=OURS)
    tips = [committed(repository, built(trees, first), tips[0]) for first in firsts]
    every = built(trees, state(f=FILE, g0=OURS, g1=OURS, g2=OURS))
    for turn in range(1_100):
        tips = [_turned(store, every, tips, who, turn) for who in range(3)]
    store.flush()
    for number, tip in enumerate(tips):
        repository.create_branch(f"b{number}", tip, WHO)
    one, other = Branch(repository, RefName("b0")), Branch(repository, RefName("b1"))
    one.write("one", b"one")
    one.commit()
    other.write("other", b"other")
    other.commit()
    Branches(repository).merge(one, "b1")
    assert one.names() == ["f", "g0", "g1", "g2", "one", "other"]


def _turned(store: ObjectStore, version: Version, tips: list[ObjectId], who: int, turn: int) -> ObjectId:
    parents = (tips[who], *(tip for tip in tips if tip != tips[who]))
    return put_commit(store, Commit(version.root, version.links, parents, turn + 2, f"{who}", turn, "", {}))


# --- cost (P104) ---


def test_a_merge_reads_what_differs_and_the_way_to_it(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 changes on each side of 100,000 files."""
    trees = repository.trees
    folders = {b"%02d" % folder: folder_of(trees, folder, 1_000) for folder in range(100)}
    base = version_of(trees, folders)
    mine, other = (
        version_of(trees, folders | {b"%02d" % n: folder_of(trees, n, 1_000, extra) for n in which})
        for which, extra in ((range(10), b"ours"), (range(5, 15), b"theirs"))
    )
    repository.objects.flush()
    fresh = Trees(store := ObjectStore(repository.meta))
    sides = [Version(fresh, version.root, version.links) for version in (base, mine, other)]
    read, get = list[ObjectId](), store.get

    def counted(kind: Kind, identity: ObjectId) -> bytes:
        read.append(identity)
        return get(kind, identity)

    monkeypatch.setattr(store, "get", counted)
    made = merge(sides[0], sides[1], sides[2])
    assert not made.conflicts
    assert fresh.lookup(made.version.root.tree, b"07") is not None
    assert 20 < len(set(read)) <= len(read) < 300


def folder_of(trees: Trees, number: int, files: int, extra: bytes = b"") -> Entry:
    rows = [(b"file-%05d" % each, entry(b"%d %d" % (number, each))) for each in range(files)]
    if extra:
        rows.append((b"new of %b" % extra, entry(extra)))
    return trees.directory(NO_ROOT, trees.apply(trees.empty(), rows))


def version_of(trees: Trees, folders: dict[bytes, Entry]) -> Version:
    root = trees.directory(NO_ROOT, trees.apply(trees.empty(), sorted(folders.items(), key=lambda row: row[0])))
    return Version(trees, root, trees.empty())


def entry(content: bytes) -> Entry:
    return entry_of(Item(EntryKind.FILE, content))
