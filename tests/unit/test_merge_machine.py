"""Three-way merges of random versions: against a merge of plain dictionaries, and against the laws of a merge. P97."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.merge import Chosen, Merged, Resolve, merge, unresolved
from anabranch.versions.objects import EntryKind
from anabranch.versions.threeway import Conflict
from anabranch.versions.trees import Version
from tests.unit.helpers import WHO, examples, make_repository, scratch
from tests.unit.plain import (
    DIRECTORY,
    Item,
    State,
    above,
    built,
    child,
    committed,
    is_within,
    linked,
    merged,
    merged_states,
    plain_time,
    shown,
)

NAMES = [b"a", b"b", b"\xff", "é".encode()]
DEEPEST = 3
CONTENTS = [b"", b"one", b"two", b"three"]

Edit = tuple[str, int, int]
"""What is done, and two numbers that say to what."""
KINDS = [
    "write", "write", "make", "mkdir", "remove", "rename", "rename", "chmod", "touch", "own", "mark", "link", "symlink",
    "fifo",
]  # fmt: skip
edits = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99)), max_size=8)
bases = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99)), max_size=14)


def edited(state: State, steps: list[Edit], author: int) -> State:
    """A state after some changes; every author has link ids of his own."""
    state = state.copy()
    for number, (what, one, other) in enumerate(steps):
        _edit(state, what, one, other, b"%08d%08d" % (author, number))
        state.tidy()
    return state


def _edit(state: State, what: str, one: int, other: int, link: bytes) -> None:
    everything = sorted(state.paths)
    there = everything[one % len(everything)]
    folders = [path for path in state.directories() if path.count(b"/") < DEEPEST - 1]
    new = child(folders[one % len(folders)], NAMES[other % len(NAMES)])
    if what == "make" and new not in state.paths:
        state.paths[new] = Item(EntryKind.FILE, CONTENTS[one % len(CONTENTS)], mtime=other % 3)
    elif what == "mkdir" and new not in state.paths:
        state.paths[new] = replace(DIRECTORY, mtime=one % 3)
    elif what == "symlink" and new not in state.paths:
        state.paths[new] = Item(EntryKind.SYMLINK, b"to-%d" % (one % 2), 0o777)
    elif what == "fifo" and new not in state.paths:
        state.paths[new] = Item(EntryKind.FIFO)
    elif what == "remove" and there:
        state.remove(there)
    elif what == "rename" and there:
        to = child(folders[other % len(folders)], NAMES[(one + other) % len(NAMES)])
        if not is_within(to, there) and not is_within(there, to):
            state.move(there, to)
    elif what == "link" and new not in state.paths and not state.paths[there].is_directory:
        if state.paths[there].kind is not EntryKind.LINK:
            state.links[link] = state.paths[there]
            state.paths[there] = linked(link)
        state.paths[new] = state.paths[there]
    elif what in CHANGES:
        item = state.paths[there]
        if item.kind is EntryKind.LINK:
            state.links[item.content] = CHANGES[what](state.links[item.content], other)
        else:
            state.paths[there] = CHANGES[what](item, other)


def _write(item: Item, dice: int) -> Item:
    if item.kind is not EntryKind.FILE:
        return item
    return replace(item, content=CONTENTS[dice % len(CONTENTS)], mtime=dice % 5)


CHANGES: dict[str, Callable[[Item, int], Item]] = {
    "write": _write,
    "chmod": lambda item, dice: replace(item, mode=(0o600, 0o640, 0o755, 0o4711)[dice % 4]),
    "touch": lambda item, dice: replace(item, mtime=dice % 5),
    "own": lambda item, dice: replace(item, owner=1000 + dice % 3),
    "mark": lambda item, dice: replace(item, xattr=(b"", b"x", b"y")[dice % 3]),
}


class World:
    """A repository for all that a test makes. Every result becomes a tag, and so is looked at in the end."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.trees = repository.trees
        self.results: dict[object, Version] = {}

    def built(self, state: State) -> Version:
        return built(self.trees, state)

    def merge(self, base: State, ours: State, theirs: State, resolve: Resolve = unresolved) -> Merged:
        return merged_states(self.trees, base, ours, theirs, resolve)

    def keep(self, version: Version) -> None:
        self.results[version.root.tree, version.links, repr(version.root)] = version

    def end(self) -> None:
        for number, version in enumerate(self.results.values()):
            self.repository.create_tag(f"t{number}", committed(self.repository, version), WHO)
        consistency.check(self.repository)


@contextmanager
def world() -> Iterator[World]:
    with scratch() as place, make_repository(place / "repository") as repository:
        made = World(repository)
        yield made
        made.end()


def same(one: Version, other: Version) -> bool:
    return (one.root, one.links) == (other.root, other.links)


def told(made: Merged) -> set[tuple[bytes, str]]:
    return {(conflict.path, conflict.kind.value) for conflict in made.conflicts}


def swapped(conflicts: list[Conflict]) -> list[Conflict]:
    return [replace(conflict, ours=conflict.theirs, theirs=conflict.ours) for conflict in conflicts]


def may_be_renamed(base: State, renamer: State) -> bool:
    """Whether a directory of the base is another place's now, with all that was in it."""
    new = [path for path in renamer.directories() if not (path in base.paths and base.paths[path].is_directory)]
    inside = [{rest: item for rest, item in renamer.below(path).items() if rest} for path in new]
    gone = [path for path in base.directories() if not (path in renamer.paths and renamer.paths[path].is_directory)]
    return any({rest: item for rest, item in base.below(path).items() if rest} in inside for path in gone)


def drive(count: int, test: Callable[[World, State, State, State], None]) -> None:
    """Try it with random bases, and two sides that begin with one."""
    with world() as here:

        @examples(count)
        @given(bases, edits, edits)
        def tried(first: list[Edit], mine: list[Edit], other: list[Edit]) -> None:
            base = edited(State(), first, 0)
            test(here, base, edited(base, mine, 1), edited(base, other, 2))

        tried()


COUNTS = [pytest.param(150, id="a few"), pytest.param(5_000, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_a_merge_is_what_the_rules_say(count: int) -> None:
    """Without directories that somebody renamed, which are another test's."""

    def check(here: World, base: State, ours: State, theirs: State) -> None:
        assume(not may_be_renamed(base, ours) and not may_be_renamed(base, theirs))
        expected, conflicts = merged(base, ours, theirs)
        made = here.merge(base, ours, theirs)
        assert told(made) == conflicts
        if not conflicts:
            assert shown(made.version) == expected
            here.keep(made.version)
        for side in ("ours", "theirs", "base"):
            expected, conflicts = merged(base, ours, theirs, side)
            made = here.merge(base, ours, theirs, partial(chosen, side))
            assert told(made) == conflicts
            if not conflicts:
                assert plain_time(shown(made.version)) == plain_time(expected)
                here.keep(made.version)

    drive(count, check)


@pytest.mark.parametrize("count", COUNTS)
def test_a_merge_is_the_same_from_both_sides(count: int) -> None:
    """Conflicts too, and what comes of it when somebody resolves them all by one side, or as in the base."""

    def check(here: World, base: State, ours: State, theirs: State) -> None:
        one, other = here.merge(base, ours, theirs), here.merge(base, theirs, ours)
        assert one.conflicts == swapped(other.conflicts)
        if not one.conflicts:
            assert same(one.version, other.version)
        for mine, its in (("ours", "theirs"), ("theirs", "ours"), ("base", "base")):
            decided = here.merge(base, ours, theirs, partial(chosen, mine))
            again = here.merge(base, theirs, ours, partial(chosen, its))
            if decided.conflicts:
                assert again.conflicts == swapped(decided.conflicts)
                continue
            assert shown(decided.version) == shown(again.version)
            here.keep(decided.version)

    drive(count, check)


def chosen(side: str, conflict: Conflict) -> Chosen:
    return Chosen(getattr(conflict, side))


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_there_already_changes_nothing(count: int) -> None:
    """A merge with itself, with the base, and with what was merged before."""

    def check(here: World, base: State, ours: State, theirs: State) -> None:
        old, mine, other = map(here.built, (base, ours, theirs))
        for base_of, one, another in ((old, mine, mine), (old, mine, old), (old, old, mine)):
            made = merge(base_of, one, another)
            assert not made.conflicts
            assert same(made.version, mine)
        made = merge(old, mine, other)
        if not made.conflicts:
            again = merge(other, made.version, other)
            assert not again.conflicts
            assert same(again.version, made.version)

    drive(count, check)


@pytest.mark.parametrize("count", COUNTS)
def test_what_was_reverted_and_picked_again_is_what_was_there(count: int) -> None:
    """Wherever it lies over changes at other paths: a revert takes back just what its version changed. P100."""

    def check(here: World, base: State, ours: State, theirs: State) -> None:
        old, mine, other = map(here.built, (base, ours, theirs))
        back = merge(mine, mine, old)
        assert not back.conflicts
        assert same(back.version, old)
        again = merge(old, back.version, mine)
        assert same(again.version, mine)
        assume(not set(changed(base, ours)) & set(changed(base, theirs)))
        both = merge(old, mine, other)
        if not both.conflicts:
            back = merge(mine, both.version, old)
            assert not back.conflicts
            assert plain_time(shown(back.version)) == plain_time(theirs)

    drive(count, check)


def changed(old: State, new: State) -> Iterator[bytes]:
    """The paths that differ, and the directories above those; and of a file with hard links all names."""
    for path in old.paths.keys() | new.paths.keys():
        one, other = old.paths.get(path), new.paths.get(path)
        links = {item.content for item in (one, other) if item is not None and item.kind is EntryKind.LINK}
        if one == other and all(old.links.get(link) == new.links.get(link) for link in links):
            continue
        for link in links:
            yield from (*old.names(link), *new.names(link))
        yield path
        while path := above(path):
            yield path


@pytest.mark.parametrize("count", COUNTS)
def test_a_renamed_directory_takes_along_what_the_other_side_changed_in_it(count: int) -> None:
    """Files and directories in it, its own attributes, and hard links; also where it was nested, or goes deeper."""
    with world() as here:

        @examples(count)
        @given(bases, edits, st.integers(0, 99), st.integers(0, 99))
        def tried(first: list[Edit], other: list[Edit], what: int, where: int) -> None:
            base = edited(State(), [("mkdir", 0, 0), ("make", 1, 1), *first], 0)
            theirs = edited(base, other, 2)
            folders = [path for path in base.directories() if path and len(base.below(path)) > 1]
            assume(folders)
            old = folders[what % len(folders)]
            tops = [path for path in base.directories() if not is_within(path, old)]
            new = child(tops[where % len(tops)], b"new")
            is_alone = Counter(map(repr, map(inside(base), base.directories())))[repr(inside(base)(old))] == 1
            assume(is_alone and all(top in theirs.directories() for top in (old, above(new))))
            assume(is_within(above(new), above(old)) or above(new) in theirs.directories())
            ours, expected = base.copy(), theirs.copy()
            ours.move(old, new)
            expected.move(old, new)
            for made in (here.merge(base, ours, theirs), here.merge(base, theirs, ours)):
                assert not made.conflicts
                assert plain_time(shown(made.version)) == plain_time(expected)
            here.keep(made.version)

        tried()


def inside(state: State) -> Callable[[bytes], dict[bytes, Item]]:
    return lambda path: {rest: item for rest, item in state.below(path).items() if rest}


@pytest.mark.parametrize("count", COUNTS)
def test_changes_at_different_paths_come_together(count: int) -> None:
    """However many, and whatever was renamed."""

    def check(here: World, base: State, ours: State, theirs: State) -> None:
        mine, other = ({path for path in changed(base, side) if path} for side in (ours, theirs))
        shared = {path for path in mine & other if not all(path in side.directories() for side in (base, ours, theirs))}
        touched = {link for side in (ours, theirs) for link in side.links if link in base.links}
        assume(not shared and not touched and not any(item.content in base.links for item in base.paths.values()))
        assume(all(own(base, path) == own(ours, path) or own(base, path) == own(theirs, path) for path in mine & other))
        expected = base.copy()
        for side, paths in ((ours, mine), (theirs, other)):
            expected.links |= side.links
            for path in paths | {b""}:
                if path not in side.paths:
                    expected.paths.pop(path, None)
                elif own(side, path) != own(base, path):
                    expected.paths[path] = side.paths[path]
        made = here.merge(base, ours, theirs)
        if own(base, b"") == own(ours, b"") or own(base, b"") == own(theirs, b""):
            assert not made.conflicts
            assert plain_time(shown(made.version)) == plain_time(expected)
            here.keep(made.version)

    drive(count, check)


def own(state: State, path: bytes) -> Item | None:
    item = state.paths.get(path)
    return replace(item, mtime=0) if item is not None and item.is_directory else item
