"""A merge, revert or cherry-pick from beginning to end: computed in this process, carried out by the owner."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anabranch.commit import Note
from anabranch.daemon.client import Service
from anabranch.errors import ConflictError, NothingToCommitError
from anabranch.history import VersionName
from anabranch.ids import RefName
from anabranch.merging.proposal import Proposal, Propose, conclude
from anabranch.merging.resolution import Resolution
from anabranch.moves import Moved
from anabranch.repo import Repository

TRIES = 5
"""A branch may move on while a merge with it is computed: then it is computed anew."""

Make = Callable[[Propose, VersionName], Proposal]
"""`Propose.merge`, or another of its kind."""
Resolving = Callable[[Repository], Resolution]
"""What people said about conflicts, over a repository that takes contents."""


def keep_uncommitted(service: Service, branch: RefName, source: VersionName, actor: str) -> None:
    """Before a reset to `source`: make a version of what is not committed, if there is anything."""
    try:
        service.commit(branch, Note(f"Before the reset to {source}"), actor, any_clock=True)
    except NothingToCommitError:
        pass


@dataclass(frozen=True, slots=True)
class Undertaking:
    """What is to be done, to which branch, with what."""

    path: Path
    """Of the repository."""
    branch: RefName
    source: VersionName
    make: Make
    resolving: Resolving
    note: Note
    """Of the version; an empty message stands for the usual one."""

    def proposed(self, service: Service) -> Proposal:
        """What would come of it; nothing happens."""
        with Repository(self.path, sink=service) as core:
            return self._proposal(core)

    def done(self, service: Service, actor: str) -> tuple[Proposal, Moved | None]:
        """Do it; there is no move where there are conflicts, or nothing to do.

        Raises NothingToCommitError, RefusedError where uncommitted changes are in the way.
        """
        for left in reversed(range(TRIES)):
            with Repository(self.path, sink=service) as core:
                proposal = self._proposal(core)
                if proposal.merged.conflicts or proposal.is_nothing:
                    return proposal, None
                wanted = conclude(core, proposal, self.note, actor)
                core.chunks.flush()
                core.objects.flush()
            try:
                return proposal, service.move(self.branch, wanted, actor)
            except ConflictError:
                if not left:
                    raise
        raise AssertionError("BUG: neither moved nor refused")

    def _proposal(self, core: Repository) -> Proposal:
        return self.make(Propose(core, self.branch, self.resolving(core)), self.source)
