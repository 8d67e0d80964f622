"""The files `merge`, `revert`, `cherry-pick` and `reset`: a revision is written, and carried out at once.

What comes of it is computed in a worker thread, from history alone; then the branch is moved beside running programs
(outside.py).
"""

import errno
import os
from collections.abc import Awaitable, Callable

import trio

from anabranch import report_merging
from anabranch.commit import Note
from anabranch.daemon.undertaking import TRIES
from anabranch.errors import ConflictError, UsageError
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.control import CHERRY_PICK, MERGE, RESET, REVERT
from anabranch.fuse.handles import Handle
from anabranch.fuse.orders import Order
from anabranch.fuse.outcomes import Outcome
from anabranch.history import VersionName
from anabranch.merging.proposal import Proposal, Propose, conclude
from anabranch.moves import Move, Moved, reset_to
from anabranch.repo import Repository, user_name
from anabranch.versions.diff import Change
from anabranch.versions.merge import unresolved
from anabranch.versions.refs import Operation, Who

_PROPOSE: dict[bytes, Callable[[Propose, VersionName], Proposal]] = {
    MERGE: Propose.merge, REVERT: Propose.revert, CHERRY_PICK: Propose.cherry_pick,
}  # fmt: skip

MoveBranch = Callable[[BranchArea, Move, Who], Awaitable[Moved]]
"""Operations.move."""


class Merging(Order):
    """What is written to one handle of any of them."""

    def __init__(
        self, repository: Repository, move: MoveBranch, name: bytes,
        handle: Handle, branch: BranchArea, outcome: Outcome,
    ) -> None:  # fmt: skip
        super().__init__(name, branch, outcome)
        self._repository = repository
        self._move = move
        self._uid = handle.caller.uid

    async def carry_out(self, words: list[bytes]) -> str:
        """Do it with the revision that was written."""
        revision = _revision(words)
        if self._uid not in (0, os.getuid()):
            raise OSError(errno.EACCES, "only the owner of the mount may do this")
        who = Who(user_name(self._uid), "control file")
        source = self._repository.resolve(revision)
        if self.name == RESET:
            return await self._reset(source, who)
        self.outcome.conflicts = []
        for left in reversed(range(TRIES)):
            proposal, wanted = await trio.to_thread.run_sync(self._proposed, source, who)
            if wanted is None:
                return report_merging.nothing_text(proposal.branch, source)
            try:
                moved = await self._move(self.branch, wanted, who)
                return report_merging.moved_text(proposal.operation, source, moved, proposal.changes)
            except ConflictError:
                if not left:
                    raise
        raise AssertionError("BUG: neither moved nor refused")

    def _proposed(self, source: VersionName, who: Who) -> tuple[Proposal, Move | None]:
        """In a worker thread."""
        proposal = _PROPOSE[self.name](Propose(self._repository, self.branch.branch.name, unresolved), source)
        self.outcome.conflicts = proposal.merged.conflicts
        if proposal.is_nothing:
            return proposal, None
        return proposal, conclude(self._repository, proposal, Note(""), who.actor)

    async def _reset(self, source: VersionName, who: Who) -> str:
        ref = self._repository.refs.get(self.branch.branch.name)
        if ref.commit == source.id:
            return report_merging.nothing_text(ref.name, source)
        changes: list[Change] = await trio.to_thread.run_sync(
            lambda: list(self._repository.diff(ref.commit, source.id))
        )
        wanted = reset_to(ref.number, source.id, str(source))
        moved = await self._move(self.branch, wanted, who)
        return report_merging.moved_text(Operation.RESET, source, moved, changes)


def _revision(words: list[bytes]) -> str:
    """The one line of a write. Raises UsageError."""
    if len(words) != 1 or not words[0].strip():
        raise UsageError("one revision is expected, in one line", hint="echo exp > .ana/merge")
    try:
        return words[0].strip().decode()
    except UnicodeDecodeError:
        raise UsageError("a revision is UTF-8") from None
