"""Walking history: the commits that led to one, children before parents.

Only the frontier is held: commits that a child was met of, and that are not yet met themselves. Each commit is read
once, when it gets there, so the first few of a history of any length cost a few reads. Pure over `CommitAt`.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.versions.objects import Commit

CommitAt = Callable[[ObjectId], Commit]
"""How a commit is read by its id. Raises DamagedError."""
APART = 3600 * 1_000_000_000
"""How far the clocks may be apart that parents, children and rows of logs have their times from, in nanoseconds."""


class Frontier:
    """Commits that are to be met, the latest first: by generation, then time. Who was met does not come again.

    A parent's generation is smaller than its child's, so whoever is taken has no child left that could be met.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, ObjectId]] = []
        self._held: dict[ObjectId, Commit] = {}
        self._taken: int | None = None
        """The generation of the last one."""

    def __len__(self) -> int:
        """How many are held."""
        return len(self._heap)

    def __contains__(self, identity: ObjectId) -> bool:
        """Whether a commit is held."""
        return identity in self._held

    def add(self, identity: ObjectId, commit: Commit) -> None:
        """Hold a commit: the first one, or a parent of the last that was taken. Raises DamagedError if it is none."""
        if self._taken is not None and commit.generation >= self._taken:
            raise DamagedError(f"commit {identity.hex()} has no smaller generation than its child")
        if identity not in self._held:
            self._held[identity] = commit
            heappush(self._heap, (-commit.generation, -commit.time_ns, identity))

    def take(self) -> tuple[ObjectId, Commit]:
        """The latest of those that are held."""
        identity = heappop(self._heap)[2]
        commit = self._held.pop(identity)
        self._taken = commit.generation
        return identity, commit


def ancestors(start: ObjectId, commit_at: CommitAt, since_ns: int | None = None) -> Iterator[tuple[ObjectId, Commit]]:
    """A commit and all that led to it, children before parents; not what led to one made long before `since_ns`."""
    frontier = Frontier()
    frontier.add(start, commit_at(start))
    while frontier:
        identity, commit = frontier.take()
        yield identity, commit
        if since_ns is None or commit.time_ns >= since_ns - APART:
            for parent in map(ObjectId, commit.parents):
                if parent not in frontier:
                    frontier.add(parent, commit_at(parent))
