"""A branch moves between commits with its uncommitted changes: against a dictionary of paths."""

import contextlib
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from anabranch.errors import NothingToCommitError, RefusedError
from anabranch.moves import Move
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.objects import EntryKind
from anabranch.versions.refs import Operation
from anabranch.worktree.inodes import Inode
from tests.unit.helpers import MAIN, WHO, Branch, examples, make_repository, random_bytes, scratch

PATHS = ["a", "b", "d", "d/a", "d/b", "d/s", "d/s/a", "e", "e/a", "e/s", "e/s/a"]
paths = st.sampled_from(PATHS)
Shown = dict[str, tuple[Any, ...]]
"""What there is at each path: kind, permissions, content, links and time, and the other names of a file."""


def shown(branch: Branch) -> Shown:
    """All that a program could see of the branch, but for times of directories, and numbers."""
    found: dict[str, tuple[Any, ...]] = {}
    names: dict[Inode, list[str]] = {}
    todo = [""]
    for above in todo:  # grows while it is walked
        for name in branch.names(above):
            path = f"{above}/{name}".strip("/")
            ino = branch.find(path)
            at = branch.tree.getattr(ino)
            content: object = None
            if at.kind is EntryKind.DIRECTORY:
                todo.append(path)
            elif at.kind is EntryKind.SYMLINK:
                content = branch.tree.readlink(ino)
            else:
                content = branch.read(path)
                names.setdefault(ino, []).append(path)
            alone = at.kind is not EntryKind.DIRECTORY
            found[path] = (at.kind.name, at.mode, content, alone and (at.links, at.mtime_ns))
    groups = {path: tuple(sorted(group)) for group in names.values() for path in group}
    return {path: (*what, groups.get(path, ())) for path, what in found.items()}


def differing(old: Shown, new: Shown) -> set[str]:
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def meet(changed: set[str], moved: set[str], *sides: Shown) -> bool:
    """Whether changes and a move touch the same: a path, or what is in a directory that is not one on all sides."""

    def leads(above: str, below: str) -> bool:
        return below.startswith(above + "/") and len({side.get(above, ("",))[0] for side in sides}) > 1

    return any(one == other or leads(one, other) or leads(other, one) for one in changed for other in moved)


class MovingMachine(RuleBasedStateMachine):
    """One branch, and all the versions that it ever had."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = contextlib.ExitStack()
        self.place = self.closing.enter_context(scratch()) / "repo"
        self.repository = make_repository(self.place)
        self.branch = Branch(self.repository)
        self.versions = [shown(self.branch)]
        self.base = 0
        """The version that the working tree stands on."""
        self.seed = 0

    @initialize(furnished=st.booleans())
    def furnish(self, furnished: bool) -> None:
        if not furnished:
            return
        for path in ("d", "d/s", "e"):
            self.mkdir(path)
        for path in ("a", "d/a", "d/s/a", "e/a"):
            self.write(path, 9)
        self.link("a", "d/b")
        self.commit()
        self.write("d/a", 600)
        self.remove("e/a")
        self.commit()
        self.write("d/b", 9)
        self.rename("d/s", "e/s")
        self.commit()

    def try_to(self, call: Any, *arguments: Any) -> None:
        with contextlib.suppress(OSError):
            call(*arguments)

    @rule(path=paths, size=st.sampled_from([0, 9, 600, 70_000]))
    def write(self, path: str, size: int) -> None:
        self.seed += 1
        self.try_to(self.branch.write, path, random_bytes(self.seed, size))

    @rule(path=paths)
    def mkdir(self, path: str) -> None:
        self.try_to(self.branch.mkdir, path)

    @rule(path=paths)
    def remove(self, path: str) -> None:
        self.try_to(self.branch.unlink, path)
        self.try_to(self.branch.rmdir, path)

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        if not new.startswith(old + "/"):  # which the kernel refuses
            self.try_to(self.branch.rename, old, new)

    @rule(old=paths, new=paths)
    def link(self, old: str, new: str) -> None:
        self.try_to(self.branch.link, old, new)

    @rule(path=paths, mode=st.sampled_from([0o600, 0o644, 0o755]))
    def chmod(self, path: str, mode: int) -> None:
        self.try_to(self.branch.chmod, path, mode)

    @rule(path=paths)
    def symlink(self, path: str) -> None:
        self.try_to(lambda: self.branch.make(path, EntryKind.SYMLINK, target=b"somewhere"))

    @rule()
    def commit(self) -> None:
        before = shown(self.branch)
        with contextlib.suppress(NothingToCommitError):
            self.branch.commit()
            self.base = len(self.versions)
            self.versions.append(before)
        assert shown(self.branch) == before

    @rule()
    def forget(self) -> None:
        self.branch.forget_all()

    @rule(save=st.booleans())
    def open_again(self, save: bool) -> None:
        before = shown(self.branch)
        self.repository.save()
        if save:
            self.repository.settle_down()
        self.repository.close()
        self.repository = Repository(self.place, writable=True)
        self.branch = Branch(self.repository)
        assert shown(self.branch) == before

    @rule(number=st.integers(0, 99), watched=st.booleans())
    def move(self, number: int, watched: bool) -> None:
        target = number % len(self.versions)
        base, goal, before = self.versions[self.base], self.versions[target], shown(self.branch)
        if watched:
            self.branch.tree.table.known |= self.branch.tree.table.nodes.keys()
        commit = self.repository.resolve(f"main@{target}").id
        wanted = Move(self.repository.refs.get(MAIN).number, commit, Operation.RESET)
        changed, moved = differing(base, before), differing(base, goal)
        try:
            self.repository.move(MAIN, wanted, WHO)
        except RefusedError:
            assert changed, "nothing was in the way"
            assert meet(changed, moved, base, goal, before)
            assert shown(self.branch) == before
            return
        assert not (changed & moved)
        assert shown(self.branch) == {
            path: what
            for path in before.keys() | goal.keys()
            if (what := (before if path in changed else goal).get(path)) is not None
        }
        self.base = len(self.versions)
        self.versions.append(goal)
        found = {change.path.decode() for change in self.repository.status(MAIN)}
        assert found - {"."} == changed or any(what[4][1:] for what in (*before.values(), *base.values())), found

    def teardown(self) -> None:
        for number, version in enumerate(self.versions):
            self.branch.repository.save()
            held = self.repository.version(self.repository.resolve(f"main@{number}").id)
            assert {path for path in version if held.named(path.encode()) is None} == set()
        consistency.check(self.repository)
        self.repository.close()
        self.closing.close()


def test_a_branch_goes_anywhere_and_keeps_what_is_not_committed() -> None:
    run_state_machine_as_test(MovingMachine, settings=examples(60, steps=40))


@pytest.mark.slow
def test_a_branch_goes_anywhere_very_often() -> None:
    run_state_machine_as_test(MovingMachine, settings=examples(2_000, steps=60))
