"""Moving a branch to a commit that is there already: a merge, a revert, a reset (docs/design/011).

The steps, in their order; which thread each may run in is said there. Until `write` has returned nothing is durable,
and `undo` takes it all back: nobody may write to the working tree meanwhile, nor save it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from anabranch.errors import ConflictError, RefusedError, UsageError
from anabranch.escape import show_paths
from anabranch.ids import ObjectId, RefName, short
from anabranch.store.env import Batch
from anabranch.store.meta import NUMBERS, ObjectStore
from anabranch.versions.ancestry import is_ancestor
from anabranch.versions.objects import Count, IdBytes, get_commit
from anabranch.versions.refs import Operation, Refs, Who
from anabranch.versions.trees import Trees, Version
from anabranch.worktree import checkpoint
from anabranch.worktree.branch import Branch
from anabranch.worktree.cuts import Cut, WorktreeRow
from anabranch.worktree.keeper import Keeper
from anabranch.worktree.move import Hidden, in_the_way, plan, plan_back, way
from anabranch.worktree.rebase import Rebased, rebase
from anabranch.worktree.restore import Restored, Stale, carry_out

_OPERATIONS = (Operation.MERGE, Operation.REVERT, Operation.PICK, Operation.RESET)


class Move(msgspec.Struct, frozen=True):
    """Where a branch is to go: from the row that it stands at to a commit that is stored."""

    expected: Count
    target: IdBytes
    operation: Operation
    detail: str = ""
    alone: bool = False
    """Whether it is refused while anything is uncommitted, be it elsewhere."""


def reset_to(number: int, target: ObjectId, detail: str) -> Move:
    """A reset, of a branch that stands at a row of its log; `detail` is what the target is called."""
    return Move(number, target, Operation.RESET, detail, alone=True)


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move came to."""

    branch: RefName
    number: int
    id: ObjectId
    files: int
    """How many paths that are no directories were put in place."""
    removed: int
    """How many names were taken away, each with all that was below."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the working tree tells, before anything is done."""

    is_clean: Callable[[], bool]
    hides: Hidden


@dataclass(slots=True)
class Step:
    """A working tree that lies over its new base, and is not yet written so."""

    branch: Branch
    move: Move
    old: ObjectId
    rebased: Rebased
    cut: Cut
    restored: Restored
    number: int = 0


class Moves:
    """Makes moves."""

    def __init__(
        self, objects: ObjectStore, refs: Refs, trees: Trees, keeper: Keeper, branch: Callable[[RefName], Branch]
    ) -> None:
        self._objects = objects
        self._refs = refs
        self._trees = trees
        self._keeper = keeper
        self._branch = branch

    def begin(self, name: RefName, wanted: Move, look: Look, stale: Stale) -> Step:
        """Step 1, in the thread of the working trees: everything is in place. What a kernel must be told is added to
        `stale`.

        Raises RefusedError where uncommitted changes are in the way, ConflictError when the branch has moved,
        UsageError for a commit that would lose what the branch has, unless it is a reset.
        """
        branch = self._branch(name)
        table = branch.tree.table
        ref = self._refs.get(name)
        if ref.number != wanted.expected:
            raise ConflictError(f"branch {name} was moved meanwhile", hint="try again")
        if table.frozen is not None:
            raise RefusedError(f"a commit of {name} is being made", hint="try again when it is done")
        if wanted.alone and not look.is_clean():
            raise RefusedError(
                f"branch {name} has uncommitted changes",
                hint="commit or discard them; or --force, which keeps them as a version first",
            )
        old, target = table.base_commit, ObjectId(wanted.target)
        if wanted.operation not in _OPERATIONS:
            raise UsageError(f"a branch is not moved by {wanted.operation}")
        if wanted.operation is not Operation.RESET and not is_ancestor(partial(get_commit, self._objects), old, target):
            raise UsageError(f"commit {short(target)} does not come after the last version of {name}")
        base, new = self._version(old), self._version(target)
        going = way(base, new)
        if touched := in_the_way(table, base, new, going, look.hides):
            raise _refused(branch.name, touched)
        planned = plan(table, base, new, going)
        rebased: Rebased | None = None
        try:
            restored = carry_out(branch.tree, base, new, planned, stale)
            rebased = rebase(table, target, new)
            return Step(branch, wanted, old, rebased, self._keeper.cut(), restored)
        except BaseException:
            self._back(branch, old, target, rebased, stale)
            raise

    def _version(self, identity: ObjectId) -> Version:
        commit = get_commit(self._objects, identity)
        return Version(self._trees, commit.root, ObjectId(commit.links))

    def write(self, step: Step, who: Who) -> None:
        """Step 2, in any thread: the one transaction that moves the branch. Raises OSError, ConflictError."""
        name, wanted, written = step.branch.name, step.move, list[ObjectId]()

        def also(batch: Batch) -> None:
            written[:] = self._objects.write(batch)
            step.number = self._refs.advance(
                batch, name, wanted.expected, ObjectId(wanted.target), who,
                operation=wanted.operation, detail=wanted.detail,
            )  # fmt: skip
            table = step.branch.tree.table  # its own row, also where no node has changed
            row = WorktreeRow(step.branch.number, table.root, wanted.target, (table.generation,))
            checkpoint.put_row(batch, name, row)
            for key, value in step.rebased.rows.items():
                batch.set(NUMBERS, key, value)

        self._keeper.commit(step.cut, also)
        self._objects.written(written)

    def end(self, step: Step) -> Moved:
        """Step 3, in the thread of the working trees."""
        self._keeper.after(step.cut)
        step.rebased.end()
        restored = step.restored
        return Moved(step.branch.name, step.number, ObjectId(step.move.target), restored.files, restored.removed)

    def undo(self, step: Step, stale: Stale) -> None:
        """Instead of step 3, in that thread: the working tree lies over its old base again."""
        self._keeper.keep(step.cut)
        self._back(step.branch, step.old, ObjectId(step.move.target), step.rebased, stale)

    def _back(
        self, branch: Branch, old: ObjectId, target: ObjectId, rebased: Rebased | None, stale: Stale
    ) -> None:  # fmt: skip
        """The way back, however far it was gone. What is put back is a new file again, though it is as in the base."""
        if rebased is not None:
            rebased.undo()
        base = self._version(old)
        planned = plan_back(branch.tree.table, base, self._version(target))
        carry_out(branch.tree, base, base, planned, stale, surely=True)


def _refused(branch: RefName, touched: list[bytes]) -> RefusedError:
    return RefusedError(
        f"uncommitted changes of {branch} are in the way: {show_paths(touched)}",
        hint="commit or discard these first; what is ignored, move away",
    )
