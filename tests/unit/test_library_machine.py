"""The library beside a model: whatever transactions, commits, restores and branches come, both hold the same."""

from contextlib import ExitStack

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from anabranch import AnabranchError, Branch, NothingToCommitError, Repository, Transaction, Version
from anabranch.repo import Repository as Core
from anabranch.testing import consistency
from tests.unit.helpers import examples, scratch

PATHS = st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e", "e/f", "e/f/g"])
CONTENTS = st.sampled_from(["", "1", "two", "x" * 600, "y" * 3000])
STEPS = st.lists(st.tuples(st.sampled_from(["write", "append", "mkdir", "remove"]), PATHS, CONTENTS), max_size=6)
NAMES = st.sampled_from(["main", "exp", "trial"])

Model = dict[str, str | None]
"""Contents by path; None is a directory."""


class Impossible(Exception):  # noqa: N818  (what the model calls an error)
    """A step that must be refused."""


def above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def stepped(model: Model, step: str, path: str, text: str) -> Model:
    """The model after a step."""
    if step == "remove":
        if path not in model:
            raise Impossible
        return {each: content for each, content in model.items() if path not in (each, *above(each))}
    if any(model.get(each, None) is not None for each in above(path)):
        raise Impossible
    if path in model and (step == "mkdir" or model[path] is None):
        raise Impossible
    made = model | dict.fromkeys(above(path))
    return made | {path: None if step == "mkdir" else (model.get(path) or "") * (step == "append") + text}


def held(tree: Branch | Version) -> Model:
    """What a tree holds."""
    return {str(path): None if path.is_dir() else path.read_text() for path in tree.path().rglob("*")}


def carry_out(transaction: Transaction, step: str, path: str, text: str) -> None:
    match step:
        case "write":
            transaction.write_text(path, text)
        case "append":
            with transaction.open(path, "a") as file:
                file.write(text)
        case "mkdir":
            transaction.mkdir(path)
        case "remove":
            transaction.remove(path)


class Library(RuleBasedStateMachine):
    """Some branches, each with its model, and the model of every version."""

    @initialize()
    def begin(self) -> None:
        self.opened = ExitStack()
        self.path = self.opened.enter_context(scratch()) / "repo"
        self.repository = Repository.init(self.path, ignore_file=False)
        self.models: dict[str, Model] = {"main": {}}
        self.versions: list[tuple[Version, Model]] = [(self.repository.version("main@0"), {})]
        self.heads: dict[str, Model] = {"main": {}}

    @rule(name=NAMES, steps=STEPS, given_up=st.booleans())
    def transact(self, name: str, steps: list[tuple[str, str, str]], given_up: bool) -> None:
        if name not in self.models:
            return
        after = self.models[name]
        try:
            for step in steps:
                after = stepped(after, *step)
            if given_up:
                raise Impossible
        except Impossible:
            with pytest.raises((AnabranchError, Impossible)), self.repository.branch(name).transaction() as refused:  # noqa: PT012
                for step in steps:
                    carry_out(refused, *step)
                if given_up:
                    raise Impossible from None
            return
        with self.repository.branch(name).transaction() as transaction:
            for step in steps:
                carry_out(transaction, *step)
        self.models[name] = after

    @rule(name=NAMES)
    def commit(self, name: str) -> None:
        if name not in self.models:
            return
        branch = self.repository.branch(name)
        if not branch.status():
            assert self.models[name] == self.heads[name]
            with pytest.raises(NothingToCommitError):
                branch.commit("nothing")
            return
        self.versions.append((branch.commit("some"), dict(self.models[name])))
        self.heads[name] = dict(self.models[name])

    @rule(name=NAMES, which=st.integers(0, 100))
    def restore(self, name: str, which: int) -> None:
        if name in self.models:
            version, model = self.versions[which % len(self.versions)]
            self.repository.branch(name).restore(".", source=version)
            self.models[name] = dict(model)

    @rule(name=NAMES)
    def discard(self, name: str) -> None:
        if name in self.models:
            self.repository.branch(name).discard()
            self.models[name] = dict(self.heads[name])

    @rule(name=NAMES, which=st.integers(0, 100))
    def make_branch(self, name: str, which: int) -> None:
        version, model = self.versions[which % len(self.versions)]
        if name in self.models:
            with pytest.raises(AnabranchError):
                self.repository.create_branch(name, version)
            return
        self.repository.create_branch(name, version)
        self.models[name], self.heads[name] = dict(model), dict(model)

    @precondition(lambda self: hasattr(self, "repository"))
    @rule()
    def open_again(self) -> None:
        self.repository.close()
        self.repository = Repository(self.path)
        self.versions = [(self.repository.version(f"@{version.id}"), model) for version, model in self.versions]

    @invariant()
    def holds_the_same(self) -> None:
        if hasattr(self, "repository"):
            assert {branch.name: held(branch) for branch in self.repository.branches()} == self.models

    def teardown(self) -> None:
        if hasattr(self, "repository"):
            for version, model in self.versions:
                assert held(version) == model
            self.repository.close()
            with Core(self.path) as core:
                consistency.check(core)
            self.opened.close()


TestLibrary = Library.TestCase
TestLibrary.settings = examples(12, steps=15)
