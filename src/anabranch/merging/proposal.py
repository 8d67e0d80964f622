"""Proposals: a merge, a revert, a cherry-pick, computed from history alone, in any process that can put objects.

`Propose` makes one, and nothing has happened; `conclude` stores its commit and says which move the owner is to make
(moves.py). The rules are in docs/design/011.
"""

import time
from dataclasses import dataclass
from functools import partial

from anabranch.commit import Note, check_note
from anabranch.errors import MergeConflictError, NothingToCommitError, RefusedError, UsageError
from anabranch.escape import show_paths
from anabranch.history import History, VersionName
from anabranch.ids import ObjectId, RefName
from anabranch.moves import Move
from anabranch.settings import AUTHOR
from anabranch.versions.ancestry import is_ancestor, merge_bases
from anabranch.versions.diff import Change, diff
from anabranch.versions.merge import Merged, Resolve, as_base, merge
from anabranch.versions.objects import Commit, get_commit, put_commit
from anabranch.versions.refs import Operation
from anabranch.versions.trees import Version

_Commits = tuple[ObjectId, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would come of it. Without conflicts it can be concluded."""

    branch: RefName
    expected: int
    """The row of its log that the branch stands at."""
    operation: Operation
    source: VersionName
    merged: Merged
    changes: list[Change]
    """What differs on the branch then."""
    parents: tuple[ObjectId, ...]
    note: Note
    """Of its commit, where nobody says another."""
    forward: bool = False
    """Whether the branch goes to the commit of the source, and none is made."""

    @property
    def is_nothing(self) -> bool:
        """Whether the branch has it already."""
        return self.forward and self.parents == (self.source.id,)


class Propose:
    """Proposals for one branch as it stands now."""

    def __init__(self, history: History, branch: RefName, resolve: Resolve) -> None:
        self._history = history
        self._resolve = resolve
        self._ref = history.refs.named(branch, tag=False)
        self._commit_at = partial(get_commit, history.objects)

    def merge(self, source: VersionName, *, ff_only: bool = False, squash: bool = False) -> Proposal:
        """Both sides' changes since they parted. Raises RefusedError when only a merge commit would do."""
        ours, theirs = self._ref.commit, source.id
        note = Note(f"Merge {source} into {self._ref.name}")
        if is_ancestor(self._commit_at, theirs, ours):
            return self._forward(source, (theirs,), self._version(ours), note)
        if ff_only:
            if not is_ancestor(self._commit_at, ours, theirs):
                raise RefusedError(
                    f"{self._ref.name} has versions that {source} has not: it cannot just go there",
                    hint=f"ana merge {source}, without --ff-only",
                )
            return self._forward(source, (ours,), self._version(theirs), note)
        base = self._base((ours,), (theirs,))
        parents = (ours,) if squash else (ours, theirs)
        return self._propose(Operation.MERGE, source, base, self._version(theirs), parents, note)

    def revert(self, source: VersionName) -> Proposal:
        """What a version changed is changed back. Raises UsageError for one that has nothing before it."""
        before = self._before(source)
        first = source.commit.message.partition("\n")[0]
        note = Note(f"Revert {source}: {first}" if first else f"Revert {source}")
        parents = (self._ref.commit,)
        return self._propose(Operation.REVERT, source, self._version(source.id), self._version(before), parents, note)

    def cherry_pick(self, source: VersionName) -> Proposal:
        """What a version changed is changed here, too. Raises UsageError for one that has nothing before it."""
        before, commit = self._before(source), source.commit
        note = Note(commit.message or f"Pick {source}", commit.author, commit.metadata)
        parents = (self._ref.commit,)
        return self._propose(Operation.PICK, source, self._version(before), self._version(source.id), parents, note)

    def _before(self, source: VersionName) -> ObjectId:
        if not source.commit.parents:
            raise UsageError(f"{source} has no version before it: it changed nothing")
        return ObjectId(source.commit.parents[0])

    def _version(self, identity: ObjectId) -> Version:
        return self._history.version(identity)

    def _forward(self, source: VersionName, parents: tuple[ObjectId, ...], version: Version, note: Note) -> Proposal:
        return self._proposal(Operation.MERGE, source, Merged(version, [], []), parents, note, forward=True)

    def _propose(
        self, operation: Operation, source: VersionName, base: Version, theirs: Version,
        parents: tuple[ObjectId, ...], note: Note,
    ) -> Proposal:  # fmt: skip
        merged = merge(base, self._version(self._ref.commit), theirs, self._resolve)
        return self._proposal(operation, source, merged, parents, note)

    def _proposal(
        self, operation: Operation, source: VersionName, merged: Merged, parents: tuple[ObjectId, ...], note: Note, *,
        forward: bool = False,
    ) -> Proposal:  # fmt: skip
        changes = list(diff(self._version(self._ref.commit), merged.version))
        name, number = self._ref.name, self._ref.number
        return Proposal(name, number, operation, source, merged, changes, parents, note, forward)

    def _base(self, ones: _Commits, others: _Commits) -> Version:
        """The merge base; of several, a virtual one: all merged, each conflict as in the bases of the bases.

        Those have several in turn where branches merge each other for ever: no recursion, and nothing twice.
        """
        made: dict[_Commits, Version] = {}
        below: dict[_Commits, list[_Commits]] = {}
        top = self._bases(ones, others)
        todo = [top]
        while todo:
            bases = todo[-1]
            if bases not in below:
                below[bases] = [self._bases(bases[:end], bases[end : end + 1]) for end in range(1, len(bases))]
                todo += (each for each in below[bases] if each not in made)
            else:
                made[bases] = self._joined(bases, [made[each] for each in below[bases]])
                todo.pop()
        return made[top]

    def _bases(self, ones: _Commits, others: _Commits) -> _Commits:
        return tuple(merge_bases(self._commit_at, ones, others))

    def _joined(self, commits: _Commits, bases: list[Version]) -> Version:
        """Several commits as one version, over the base of each with those before it."""
        if not commits:
            return self._history.nothing()
        version = self._version(commits[0])
        for commit, base in zip(commits[1:], bases, strict=True):
            version = merge(base, version, self._version(commit), as_base).version
        return version


def conclude(history: History, proposal: Proposal, note: Note, actor: str) -> Move:
    """Store the commit of a proposal, and return the move that makes it a version; an empty message is the proposal's.

    Raises MergeConflictError, NothingToCommitError, UsageError.
    """
    if proposal.merged.conflicts:
        raise conflicted(proposal)
    detail = str(proposal.source)
    if proposal.forward:
        return Move(proposal.expected, proposal.source.id, proposal.operation, detail)
    if not proposal.changes and proposal.operation is not Operation.MERGE:
        raise NothingToCommitError(f"nothing to do: {proposal.branch} has no change of {detail} left to take")
    note = check_note(
        Note(note.message or proposal.note.message, note.author or proposal.note.author,
             {**proposal.note.metadata, **note.metadata})
    )  # fmt: skip
    parents = [get_commit(history.objects, parent) for parent in proposal.parents]
    version = proposal.merged.version
    commit = Commit(
        version.root, version.links, proposal.parents, 1 + max(parent.generation for parent in parents),
        note.author or history.settings.get(AUTHOR) or actor, time.time_ns(), note.message, note.metadata,
    )  # fmt: skip
    return Move(proposal.expected, put_commit(history.objects, commit), proposal.operation, detail)


def conflicted(proposal: Proposal, *, rows: bool = False) -> MergeConflictError:
    """The error of a proposal with conflicts; `rows`: tables were merged row by row, as far as they could be."""
    paths = show_paths([conflict.path for conflict in proposal.merged.conflicts])
    return MergeConflictError(
        f"{proposal.source} and {proposal.branch} disagree on {paths}; nothing was changed",
        hint="decide with --resolve GLOB=ours|theirs|base|FILE, or --strategy ours|theirs"
        + ("" if rows else "; tables: --rows --key COLUMN"),
    )
