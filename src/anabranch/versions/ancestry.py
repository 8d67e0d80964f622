"""Which commits come before which: merge bases, found in what differs (docs/design/011)."""

from collections.abc import Iterable
from enum import IntFlag

from anabranch.ids import ObjectId
from anabranch.versions.graph import CommitAt, Frontier


class _Paint(IntFlag):
    """From where a commit is reached."""

    NONE = 0
    ONE = 1
    OTHER = 2
    STALE = 4
    """From a common ancestor: it is none of the best."""


_BOTH = _Paint.ONE | _Paint.OTHER


class _Painted:
    """A frontier whose commits have paint: all that they have is there when they are taken, after all children."""

    def __init__(self, commit_at: CommitAt) -> None:
        self._commit_at = commit_at
        self._frontier = Frontier()
        self._paint: dict[ObjectId, _Paint] = {}
        self._fresh = 0
        """How many that wait are not stale."""

    def reach(self, identity: ObjectId, paint: _Paint) -> None:
        """Paint a commit."""
        known = self._paint.get(identity, _Paint.NONE)
        if not known:
            self._frontier.add(identity, self._commit_at(identity))
        self._paint[identity] = known | paint
        was_fresh = known and not known & _Paint.STALE
        self._fresh += (not (known | paint) & _Paint.STALE) - bool(was_fresh)

    def take(self) -> tuple[ObjectId, tuple[ObjectId, ...], _Paint] | None:
        """The next one, its parents and its paint; None when only stale ones wait."""
        if not self._fresh:
            return None
        identity, commit = self._frontier.take()
        paint = self._paint.pop(identity)
        self._fresh -= not paint & _Paint.STALE
        return identity, tuple(map(ObjectId, commit.parents)), paint


def merge_bases(commit_at: CommitAt, ones: Iterable[ObjectId], others: Iterable[ObjectId]) -> list[ObjectId]:
    """The common ancestors of two sets of commits that are no ancestors of one another, by id.

    A commit is an ancestor of itself. Reads the commits that one side has without the other, and few more.
    """
    painted, found = _Painted(commit_at), list[ObjectId]()
    for side, paint in ((ones, _Paint.ONE), (others, _Paint.OTHER)):
        for identity in side:
            painted.reach(identity, paint)
    while (taken := painted.take()) is not None:
        identity, parents, paint = taken
        if paint == _BOTH:
            found.append(identity)
            paint |= _Paint.STALE
        for parent in parents:
            painted.reach(parent, paint)
    return sorted(found)


def is_ancestor(commit_at: CommitAt, older: ObjectId, newer: ObjectId) -> bool:
    """Whether a commit is another one, or came before it. Reads no commit of a smaller generation than `older`."""
    least = commit_at(older).generation
    todo, seen = [newer], {newer}
    for identity in todo:  # grows while it is walked
        if identity == older:
            return True
        for parent in map(ObjectId, commit_at(identity).parents):
            if parent not in seen and commit_at(parent).generation >= least:
                seen.add(parent)
                todo.append(parent)
    return False
