"""The files `restore` and `discard`: paths are written, one a line, and each write is carried out at once.

Shells look at the errors of write(2) only, so nothing may wait for the close. Nobody can tell a path from the first
half of one, so what may have been cut in two is refused: the kernel cuts large writes, and programs write what is in
their buffers when these are full. After an error, each later write of the handle gets the same one, and does nothing:
a shell without `set -e` goes on, and what belongs together would be done in part.
"""

import errno
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from anabranch import report
from anabranch.errors import AnabranchError, NotFoundError, UsageError
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.control import DISCARD
from anabranch.fuse.handles import Handle
from anabranch.fuse.outcomes import Outcome
from anabranch.ids import ObjectId, path_inside
from anabranch.repo import Repository, VersionName
from anabranch.versions.trees import Version
from anabranch.worktree.restore import Restored

WRITE_MAX = 64 * 1024
"""Bytes of a write: of a larger one, the kernel may send the beginning alone (at least 31 pages)."""
UNENDED_MAX = 4096
"""Bytes of a write that need not end with a line: a path is no longer, and a full buffer no shorter."""
_TOP = Path("/-")


class Restore(Protocol):
    """Operations.restore."""

    def __call__(
        self, area: BranchArea, source: Version, paths: list[bytes], *, new_too: bool
    ) -> Awaitable[Restored]: ...


class Order:
    """What is written to one handle of the file `name`."""

    def __init__(
        self,
        repository: Repository,
        restore: Restore,
        name: bytes,
        handle: Handle,
        branch: BranchArea,
        outcome: Outcome,
    ) -> None:
        self._repository = repository
        self._restore = restore
        self._name = name
        self._branch = branch
        self._outcome = outcome
        self._error: AnabranchError | OSError | None = None

    async def write(self, data: bytes) -> int:
        """Carry lines out, whole. Raises what a restore may raise, and OSError(EFBIG)."""
        if self._error is not None:
            raise self._error
        try:
            self._outcome.said[self._name] = await self._carry_out(data)
        except (AnabranchError, OSError) as error:
            self._error = error
            self._outcome.fail(error)
            raise
        self._outcome.failed = None
        return len(data)

    async def flush(self) -> None:
        """Everything is done already."""

    def release(self) -> None:
        """Everything is done already."""

    async def _carry_out(self, data: bytes) -> str:
        discard, said = self._name == DISCARD, ""
        for source, paths in self._targets(lines(data), discard=discard):
            version = self._repository.version(source.id)
            done = await self._restore(self._branch, version, paths, new_too=discard)
            said += report.restored_text(self._branch.branch.name, source, done)
        return said

    def _targets(self, words: list[bytes], *, discard: bool) -> list[tuple[VersionName, list[bytes]]]:
        """What is to be put back, path by path, of each version. All is looked up before anything is done."""
        last = self._repository.resolve(self._branch.branch.name)
        targets: dict[ObjectId, tuple[VersionName, list[bytes]]] = {}
        for word in words:
            source, path = (last, word) if discard else self._source(last, word)
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


def lines(data: bytes) -> list[bytes]:
    """The lines of a write. Raises OSError(EFBIG), and UsageError on an empty line or one that may go on."""
    if len(data) > WRITE_MAX:
        raise OSError(errno.EFBIG, f"a write has at most {WRITE_MAX} bytes")
    if len(data) >= UNENDED_MAX and not data.endswith(b"\n"):
        raise UsageError("the write ends within a line", hint="write whole lines, or one by one")
    return data.removesuffix(b"\n").split(b"\n")


def inside(word: bytes) -> bytes:
    """A path from the top of the branch. Raises UsageError."""
    if b"\0" in word:
        raise UsageError("a PATH has no zero bytes")
    return path_inside(_TOP, _TOP, os.fsdecode(word))
