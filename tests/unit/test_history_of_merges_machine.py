"""Branches that commit, merge, revert, pick and go back, with uncommitted changes: against history as dictionaries.

P97 to P102. A commit of the model has parents and a state; what a merge makes is worked out of these by the book
(plain.py), with the bases of bases found by their closures. Where somebody renamed a directory, which the book leaves
out, the state is taken from the repository, and all the rest is still looked at.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from anabranch.errors import MergeConflictError, NotFoundError, NothingToCommitError, RefusedError, UsageError
from anabranch.history import VersionName
from anabranch.ids import ObjectId, RefName
from anabranch.merging.proposal import Proposal, Propose, conclude
from anabranch.merging.resolution import Resolution, Rule
from anabranch.moves import Move
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.objects import EntryKind, get_commit
from anabranch.versions.refs import Operation
from tests.unit.helpers import MAIN, WHO, Branch, CoarseClock, examples, make_repository, random_bytes, scratch
from tests.unit.plain import Item, State, merged, plain_time
from tests.unit.plain import shown as state_of
from tests.unit.test_moves_machine import PATHS, Shown, differing, meet, shown

NAMES = [MAIN, RefName("exp"), RefName("third")]
SIDES = ["", "", "ours", "theirs", "base"]
paths = st.sampled_from(PATHS)
picks = st.integers(0, 99)


@dataclass
class Made:
    """A commit of the model."""

    parents: tuple[ObjectId, ...]
    state: State


@dataclass
class Log:
    """The rows of a branch's log."""

    rows: list[ObjectId] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)


def seen(state: State) -> Shown:
    """What a branch shows that is as a version has it."""
    groups = {path: tuple(p.decode() for p in state.names(link)) for link in state.links for path in state.names(link)}

    def row(path: bytes, item: Item) -> tuple[Any, ...]:
        names = groups.get(path, (path.decode(),))
        item = state.links[item.content] if item.kind is EntryKind.LINK else item
        content = None if item.is_directory else item.content
        alone = not item.is_directory and (len(names), item.mtime)
        return item.kind.name, item.mode, content, alone, names if item.kind is EntryKind.FILE else ()

    return {path.decode(): row(path, item) for path, item in state.paths.items() if path}


def is_renaming(base: State, side: State) -> bool:
    """Whether a directory with something in it has gone, and what was in it is in a new one."""

    def inside(state: State, top: bytes) -> dict[bytes, Item]:
        return {rest: item for rest, item in state.below(top).items() if rest}

    gone, new = (
        [inside(one, path) for path in one.directories() if path not in other.directories()]
        for one, other in ((base, side), (side, base))
    )
    return any(each and each in new for each in gone)


class MergesMachine(RuleBasedStateMachine):
    """Three branches at most, of one repository."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = contextlib.ExitStack()
        self.place = self.closing.enter_context(scratch()) / "repo"
        patch = self.closing.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("anabranch.worktree.tree.now_ns", CoarseClock())
        self.repository = make_repository(self.place)
        first = self.repository.refs.get(MAIN).commit
        self.made = {first: Made((), self.held(first))}
        self.logs = {MAIN: Log([first], ["birth"])}
        self.seed = 0

    # --- the model ---

    def held(self, commit: ObjectId) -> State:
        return state_of(self.repository.version(commit))

    def closure(self, commits: Iterable[ObjectId]) -> set[ObjectId]:
        found = list(commits)
        for each in found:  # grows while it is walked
            found += [parent for parent in self.made[each].parents if parent not in found]
        return set(found)

    def bases(self, ones: Iterable[ObjectId], others: Iterable[ObjectId]) -> list[ObjectId]:
        common = self.closure(ones) & self.closure(others)
        below = self.closure(parent for each in common for parent in self.made[each].parents)
        return sorted(common - below)

    def base(self, ones: list[ObjectId], others: list[ObjectId]) -> State | None:
        """The virtual base; None where a renamed directory is in the play."""
        bases = self.bases(ones, others)
        state: State | None = self.made[bases[0]].state
        for number, following in enumerate(bases[1:], 1):
            base = self.base(bases[:number], [following])
            if base is None or state is None or self.is_renamed(base, state, self.made[following].state):
                return None
            state = merged(base, state, self.made[following].state, "base")[0]
        return state

    @staticmethod
    def is_renamed(base: State, ours: State, theirs: State) -> bool:
        return is_renaming(base, ours) or is_renaming(base, theirs)

    def branch(self, pick: int) -> Branch:
        names = sorted(self.logs)
        return Branch(self.repository, names[pick % len(names)])

    def head(self, branch: Branch) -> ObjectId:
        return self.logs[branch.name].rows[-1]

    def source(self, pick: int) -> VersionName:
        """Any version of any branch; often the last of one."""
        rows = [(name, number) for name, log in self.logs.items() for number in range(len(log.rows))]
        name, number = rows[pick % len(rows)]
        return self.repository.resolve(name if pick % 3 else f"{name}@{number}")

    def advanced(self, branch: Branch, operation: Operation, commit: ObjectId, state: State | None = None) -> None:
        """A row of the model's log; of a new commit, that it holds what it must."""
        log = self.logs[branch.name]
        log.rows.append(commit)
        log.operations.append(operation.value)
        if commit not in self.made:
            parents = tuple(map(ObjectId, get_commit(self.repository.objects, commit).parents))
            self.made[commit] = Made(parents, self.held(commit))
        if state is not None:
            assert plain_time(self.made[commit].state) == plain_time(state)

    # --- files ---

    @initialize(furnished=st.booleans(), crossed=st.booleans())
    def furnish(self, furnished: bool, crossed: bool) -> None:
        """Two branches that have parted; or that have merged each other, and so have two merge bases."""
        if furnished:
            for path in ("d", "d/s", "e"):
                self.mkdir(0, path)
            for path in ("a", "d/a", "d/s/a", "e/a"):
                self.write(0, path, 9)
            self.link(0, "a", "d/b")
        self.write(0, "b", 9)
        self.commit(0)
        self.start(len(self.logs[MAIN].rows) - 1)
        for pick, path in ((0, "b"), (1, "a"), (1, "e/a"), (0, "d/a")):
            self.write(pick, path, 3)
        self.commit(0)
        self.commit(1)
        if crossed:
            heads = [self.repository.resolve(name) for name in sorted(self.logs)]
            for pick, other in ((0, heads[1]), (1, heads[0])):
                branch = self.branch(pick)
                proposal = self.propose(branch, "ours").merge(other)
                base = self.base([self.head(branch)], [other.id])
                self.proposed(branch, proposal, base, self.made[other.id].state, "ours", other.id)

    def try_to(self, call: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(OSError):
            call(*arguments)

    @rule(pick=picks, path=paths, size=st.sampled_from([0, 3, 3, 300]))
    def write(self, pick: int, path: str, size: int) -> None:
        self.seed += 1
        self.try_to(self.branch(pick).write, path, random_bytes(self.seed % 7, size))

    @rule(pick=picks, path=paths)
    def mkdir(self, pick: int, path: str) -> None:
        self.try_to(self.branch(pick).mkdir, path)

    @rule(pick=picks, path=paths)
    def remove(self, pick: int, path: str) -> None:
        self.try_to(self.branch(pick).unlink, path)
        self.try_to(self.branch(pick).rmdir, path)

    @rule(pick=picks, old=paths, new=paths)
    def rename(self, pick: int, old: str, new: str) -> None:
        if not new.startswith(old + "/"):
            self.try_to(self.branch(pick).rename, old, new)

    @rule(pick=picks, old=paths, new=paths)
    def link(self, pick: int, old: str, new: str) -> None:
        self.try_to(self.branch(pick).link, old, new)

    @rule(pick=picks, path=paths, mode=st.sampled_from([0o600, 0o644, 0o755]))
    def chmod(self, pick: int, path: str, mode: int) -> None:
        self.try_to(self.branch(pick).chmod, path, mode)

    @rule(pick=picks, path=paths)
    def symlink(self, pick: int, path: str) -> None:
        self.try_to(lambda: self.branch(pick).make(path, EntryKind.SYMLINK, target=b"to-%d" % (pick % 2)))

    # --- versions ---

    @rule(pick=picks)
    def commit(self, pick: int) -> None:
        branch = self.branch(pick)
        before = shown(branch)
        with contextlib.suppress(NothingToCommitError):
            branch.commit()
            self.advanced(branch, Operation.COMMIT, self.repository.refs.get(branch.name).commit)
            assert seen(self.made[self.head(branch)].state) == before
        assert shown(branch) == before

    @rule(pick=picks)
    def start(self, pick: int) -> None:
        """A new branch, of any version."""
        name = next((name for name in NAMES if name not in self.logs), None)
        if name is not None:
            source = self.source(pick)
            self.repository.create_branch(name, source.id, WHO)
            self.logs[name] = Log([source.id], ["birth"])

    @rule(pick=picks, source=picks, side=st.sampled_from(SIDES), squash=st.booleans(), ff_only=st.booleans())
    def merge(self, pick: int, source: int, side: str, squash: bool, ff_only: bool) -> None:
        branch, version = self.branch(pick), self.source(source)
        ours, theirs = self.head(branch), version.id
        is_there, is_ahead = theirs in self.closure([ours]), ours in self.closure([theirs])
        propose = self.propose(branch, side)
        if ff_only and not is_there and not is_ahead:
            with pytest.raises(RefusedError):
                propose.merge(version, ff_only=True)
            return
        proposal = propose.merge(version, ff_only=ff_only, squash=squash)
        assert proposal.is_nothing == is_there
        if is_there:
            assert not proposal.changes
        elif ff_only:
            self.concluded(branch, proposal, ours, theirs)
            assert self.head(branch) in (ours, theirs)  # what is uncommitted may be in the way
        else:
            base = self.base([ours], [theirs])
            self.proposed(branch, proposal, base, self.made[theirs].state, side, theirs)
            if self.head(branch) != ours:
                assert self.made[self.head(branch)].parents == ((ours,) if squash else (ours, theirs))

    @rule(pick=picks, source=picks, side=st.sampled_from(SIDES))
    def revert(self, pick: int, source: int, side: str) -> None:
        self.take(pick, source, side, Propose.revert)

    @rule(pick=picks, source=picks, side=st.sampled_from(SIDES))
    def cherry_pick(self, pick: int, source: int, side: str) -> None:
        self.take(pick, source, side, Propose.cherry_pick)

    def take(self, pick: int, source: int, side: str, make: Callable[[Propose, VersionName], Proposal]) -> None:
        branch, version = self.branch(pick), self.source(source)
        ours = self.head(branch)
        if not self.made[version.id].parents:
            with pytest.raises(UsageError):
                make(self.propose(branch, side), version)
            return
        states = self.made[self.made[version.id].parents[0]].state, self.made[version.id].state
        base, theirs = states if make is Propose.cherry_pick else states[::-1]
        self.proposed(branch, make(self.propose(branch, side), version), base, theirs, side, version.id)
        if self.head(branch) != ours:
            assert self.made[self.head(branch)].parents == (ours,)

    def propose(self, branch: Branch, side: str) -> Propose:
        """By rule or by strategy, which is the same."""
        rules = [Rule.parse(f"**={side}")] if side and (self.seed % 2 or side == "base") else []
        return Propose(self.repository, branch.name, Resolution(self.repository, side or None, rules))

    def proposed(
        self, branch: Branch, proposal: Proposal, base: State | None, theirs: State, side: str, source: ObjectId
    ) -> None:
        """It is what the model says, and so is what comes of it."""
        head = self.head(branch)
        ours, expected = self.made[head].state, None
        told = {(conflict.path, conflict.kind.value) for conflict in proposal.merged.conflicts}
        if base is not None and not self.is_renamed(base, ours, theirs):
            expected, conflicts = merged(base, ours, theirs, side)
            assert told == conflicts
            if not conflicts:
                assert plain_time(state_of(proposal.merged.version)) == plain_time(expected)
        if proposal.merged.conflicts:
            with pytest.raises(MergeConflictError):
                conclude(self.repository, proposal, proposal.note, "ann")
        else:
            self.concluded(branch, proposal, head, source, expected)

    def concluded(
        self, branch: Branch, proposal: Proposal, ours: ObjectId, source: ObjectId, expected: State | None = None
    ) -> None:
        """The branch goes there, with what is uncommitted, or stays if that is in the way."""
        try:
            wanted = conclude(self.repository, proposal, proposal.note, "ann")
        except NothingToCommitError:
            assert not proposal.changes
            assert proposal.operation is not Operation.MERGE
            return
        self.repository.objects.flush()
        self.moved(branch, wanted, expected)

    def moved(self, branch: Branch, wanted: Move, expected: State | None = None) -> None:
        base, before = seen(self.made[self.head(branch)].state), shown(branch)
        goal = seen(self.held(ObjectId(wanted.target)))
        changed, moved = differing(base, before), differing(base, goal)
        try:
            self.repository.move(branch.name, wanted, WHO)
        except RefusedError:
            assert changed, "nothing was in the way"
            assert wanted.alone or meet(changed, moved, base, goal, before)
            assert shown(branch) == before
            return
        assert not changed or not wanted.alone
        assert not (changed & moved)
        assert shown(branch) == {
            path: what
            for path in before.keys() | goal.keys()
            if (what := (before if path in changed else goal).get(path)) is not None
        }
        self.advanced(branch, Operation(wanted.operation), ObjectId(wanted.target), expected)

    @rule(pick=picks, source=picks, force=st.sampled_from([False, False, False, True]))
    def reset(self, pick: int, source: int, force: bool) -> None:
        """P101."""
        branch, version = self.branch(pick), self.source(source)
        if force:
            self.commit(pick)
        before = len(self.logs[branch.name].rows)
        number = self.repository.refs.get(branch.name).number
        wanted = Move(number, version.id, Operation.RESET, str(version), alone=True)
        self.moved(branch, wanted)
        if force:
            assert len(self.logs[branch.name].rows) == before + 1

    @rule(pick=picks, path=paths, source=picks)
    def restore(self, pick: int, path: str, source: int) -> None:
        branch = self.branch(pick)
        version = self.source(source)
        with contextlib.suppress(OSError, RefusedError, NotFoundError):
            branch.restore(path, revision=f"@{version.id.hex()}", new_too=True)

    @rule(pick=picks)
    def discard(self, pick: int) -> None:
        branch = self.branch(pick)
        if self.made[self.head(branch)].parents:
            branch.restore("", new_too=True)
            assert shown(branch) == seen(self.made[self.head(branch)].state)

    @rule(pick=picks)
    def forget(self, pick: int) -> None:
        self.branch(pick).forget_all()

    @rule(save=st.booleans())
    def open_again(self, save: bool) -> None:
        before = {name: shown(Branch(self.repository, name)) for name in self.logs}
        self.repository.save()
        if save:
            self.repository.settle_down()
        self.repository.close()
        self.repository = Repository(self.place, writable=True)
        assert {name: shown(Branch(self.repository, name)) for name in self.logs} == before

    def teardown(self) -> None:
        for name, log in self.logs.items():
            rows = [self.repository.refs.row(name, number) for number in range(len(log.rows) + 1)]
            assert rows.pop() is None
            assert [row and (row.commit, row.operation) for row in rows] == [
                *zip(log.rows, log.operations, strict=True)
            ]
        for commit, made in self.made.items():
            assert self.held(commit) == made.state
        self.repository.save()
        consistency.check(self.repository)
        self.repository.close()
        self.closing.close()


def test_branches_that_merge_and_go_back_are_what_the_book_says() -> None:
    run_state_machine_as_test(MergesMachine, settings=examples(60, steps=50))


@pytest.mark.slow
def test_branches_that_merge_and_go_back_very_often() -> None:
    run_state_machine_as_test(MergesMachine, settings=examples(2_000, steps=80))
