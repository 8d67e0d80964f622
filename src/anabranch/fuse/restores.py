"""The files `restore` and `discard`: paths are written, one a line."""

import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from anabranch import report
from anabranch.errors import NotFoundError, UsageError
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.control import DISCARD
from anabranch.fuse.handles import Handle
from anabranch.fuse.orders import Order
from anabranch.fuse.outcomes import Outcome
from anabranch.fuse.reach import Reach
from anabranch.history import VersionName
from anabranch.ids import ObjectId, path_inside
from anabranch.repo import Repository
from anabranch.versions.trees import Version
from anabranch.worktree.restore import Restored

_TOP = Path("/-")


class Restore(Protocol):
    """Operations.restore."""

    def __call__(
        self, area: BranchArea, source: Version, paths: list[bytes], *, new_too: bool
    ) -> Awaitable[Restored]: ...


class Restoring(Order):
    """What is written to one handle of either."""

    def __init__(
        self, repository: Repository, restore: Restore, name: bytes,
        handle: Handle, branch: BranchArea, outcome: Outcome,
    ) -> None:  # fmt: skip
        super().__init__(name, branch, outcome)
        self._repository = repository
        self._restore = restore
        self._reach = Reach(handle.caller)

    async def carry_out(self, words: list[bytes]) -> str:
        """Restore, or discard, at each path."""
        discard, said = self.name == DISCARD, ""
        for source, paths in self._targets(words, discard=discard):
            version = self._repository.version(source.id)
            done = await self._restore(self.branch, version, paths, new_too=discard)
            said += report.restored_text(self.branch.branch.name, source, done)
        return said

    def _targets(self, words: list[bytes], *, discard: bool) -> list[tuple[VersionName, list[bytes]]]:
        """What is to be put back, path by path, of each version. All is looked up before anything is done."""
        last = self._repository.resolve(self.branch.branch.name)
        targets: dict[ObjectId, tuple[VersionName, list[bytes]]] = {}
        for word in words:
            source, path = (last, word) if discard else self._source(last, word)
            self._reach.check(self._repository.version(source.id), inside(path))
            targets.setdefault(source.id, (source, []))[1].append(inside(path))
        if not discard:
            for source, paths in targets.values():
                self._repository.check_held(source, paths)
        return list(targets.values())

    def _source(self, last: VersionName, word: bytes) -> tuple[VersionName, bytes]:
        """The version and the path of `REV:PATH`; of the last version, unless there is such a revision."""
        before, colon, after = word.partition(b":")
        if colon:
            try:
                return self._repository.resolve(before.decode()), after or b"."
            except (UnicodeDecodeError, UsageError):
                pass
            except NotFoundError:
                if self._repository.version(last.id).find(inside(word)) is None:
                    raise
        return last, word


def inside(word: bytes) -> bytes:
    """A path from the top of the branch. Raises UsageError."""
    if b"\0" in word:
        raise UsageError("a PATH has no zero bytes")
    return path_inside(_TOP, _TOP, os.fsdecode(word))
