"""Backups beside a model: whatever is done to a repository, the last backup is as it was at its instant. P87."""

from contextlib import ExitStack, suppress

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from anabranch.errors import AnabranchError
from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.transfer.backup import Backup, make_place
from anabranch.worktree.pins import OverlayPin
from tests.unit.helpers import WHO, Branch, examples, make_repository, random_bytes, scratch

NAMES = st.sampled_from(["main", "exp", "trial"])
PATHS = st.sampled_from(["a", "b", "c"])
SIZES = st.sampled_from([10, 3_000, 70_000, 300_000])
OFFSETS = st.sampled_from([0, 5, 65_000, 200_000])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["write", "truncate", "unlink", "rename"]), PATHS, PATHS, OFFSETS, SIZES), max_size=4
)
Change = tuple[str, str, str, int, int]
State = tuple[dict[RefName, list[ObjectId]], dict[RefName, dict[str, bytes]]]
"""Of each name the commits of its log, and of each branch what its files hold."""


def state(repository: Repository) -> State:
    logs = {
        name: [ObjectId(row.commit) for _, row in repository.refs.log(name)]
        for name, _, _ in repository.refs.newest()
    }  # fmt: skip
    branches = [Branch(repository, ref.name) for ref in repository.branch_names()]
    return logs, {branch.name: {path: branch.read(path) for path in branch.names()} for branch in branches}


class Backups(RuleBasedStateMachine):
    """A repository, and a backup of it with the state that it should have."""

    @initialize()
    def begin(self) -> None:
        self.opened = ExitStack()
        self.place = self.opened.enter_context(scratch())
        self.source = make_repository(self.place / "source")
        self.kept: State | None = None
        self.seed = 0

    def teardown(self) -> None:
        with self.opened:
            self.source.close()
            self.check()

    def change(self, name: str, changes: list[Change]) -> None:
        branch = Branch(self.source, RefName(name))
        for what, path, other, offset, size in changes:
            self.seed += 1
            with suppress(FileNotFoundError):
                match what:
                    case "write":
                        branch.write(path, random_bytes(self.seed, size), offset)
                    case "truncate":
                        branch.truncate(path, offset)
                    case "unlink":
                        branch.unlink(path)
                    case "rename":
                        branch.rename(path, other)

    @rule(name=NAMES, changes=CHANGES)
    def work(self, name: str, changes: list[Change]) -> None:
        with suppress(AnabranchError):
            self.change(name, changes)

    @rule(name=NAMES)
    def commit(self, name: str) -> None:
        with suppress(AnabranchError):
            Branch(self.source, RefName(name)).commit()

    @rule(name=NAMES, start=NAMES)
    def branch(self, name: str, start: str) -> None:
        with suppress(AnabranchError):
            self.source.create_branch(name, self.source.resolve(start).id, WHO)

    @rule(name=NAMES, new=NAMES)
    def rename(self, name: str, new: str) -> None:
        with suppress(AnabranchError):
            self.source.rename_branch(name, new, WHO)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        with suppress(AnabranchError):
            self.source.delete_branch(name, WHO)

    @rule()
    def save(self) -> None:
        self.source.save()

    @rule()
    def reopen(self) -> None:
        """As after a crash, but that all was saved."""
        self.source.save()
        self.source.close()
        self.source = Repository(self.place / "source", writable=True)

    @rule(name=NAMES, meanwhile=st.lists(CHANGES, max_size=3), commits=st.booleans(), gives_up=st.booleans())
    def back_up(self, name: str, meanwhile: list[list[Change]], commits: bool, gives_up: bool) -> None:
        """Programs go on while what is not committed is copied, and when it is."""
        backup = Backup(self.source, make_place(self.source.layout, self.place / "copy"))
        self.source.settle_down()
        pin = OverlayPin(self.source.overlays, self.source.layout.overlays)
        expected = state(self.source)

        def work(_: int) -> None:
            if meanwhile:
                self.work(name, meanwhile.pop())
                self.source.save()

        backup.take_snapshot(lambda: None, work)
        assert pin.failed is None
        pin.release()
        if commits:
            self.commit(name)
        if not gives_up:
            backup.finish(lambda _: None)
            self.kept = expected

    @precondition(lambda self: self.kept is not None)
    @rule(changes=CHANGES)
    def work_in_the_backup(self, changes: list[Change]) -> None:
        """The next backup gives that up."""
        with Repository(self.place / "copy", writable=True) as copy:
            self.source, source = copy, self.source
            self.change(copy.default_branch(), changes)
            self.source = source
            self.kept = state(copy)
            copy.settle_down()

    @precondition(lambda self: self.kept is not None)
    @rule()
    def check(self) -> None:
        if self.kept is None:
            return
        with Repository(self.place / "copy", writable=True) as copy:
            assert state(copy) == self.kept
            consistency.check(copy)
            copy.settle_down()


TestBackups = Backups.TestCase
TestBackups.settings = examples(25, steps=25)
