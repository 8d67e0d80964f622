"""Control files whose writes are carried out at once, each by itself, like `restore` and `merge`.

Shells look at the errors of write(2) only, so nothing may wait for the close. Nobody can tell a path from the first
half of one, so what may have been cut in two is refused: the kernel cuts large writes, and programs write what is in
their buffers when these are full. After an error, each later write of the handle gets the same one, and does nothing:
a shell without `set -e` goes on, and what belongs together would be done in part.
"""

import errno
from abc import ABC, abstractmethod

from anabranch.errors import AnabranchError, UsageError
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.outcomes import Outcome

WRITE_MAX = 64 * 1024
"""Bytes of a write: of a larger one, the kernel may send the beginning alone (at least 31 pages)."""
UNENDED_MAX = 4096
"""Bytes of a write that need not end with a line: a path is no longer, and a full buffer no shorter."""


class Order(ABC):
    """What is written to one handle of the file `name`."""

    def __init__(self, name: bytes, branch: BranchArea, outcome: Outcome) -> None:
        self.name = name
        self.branch = branch
        self.outcome = outcome
        self._error: AnabranchError | OSError | None = None

    @abstractmethod
    async def carry_out(self, words: list[bytes]) -> str:
        """Do what the lines of a write say; returns what reading the file tells then."""

    async def write(self, data: bytes) -> int:
        """Carry lines out, whole. Raises what that may raise, and OSError(EFBIG)."""
        if self._error is not None:
            raise self._error
        try:
            self.outcome.said[self.name] = await self.carry_out(_lines(data))
        except (AnabranchError, OSError) as error:
            self._error = error
            self.outcome.fail(error)
            raise
        self.outcome.failed = None
        return len(data)

    async def flush(self) -> None:  # noqa: B027  (there is nothing to override)
        """Everything is done already."""

    def release(self) -> None:  # noqa: B027
        """Everything is done already."""


def _lines(data: bytes) -> list[bytes]:
    """The lines of a write. Raises OSError(EFBIG), and UsageError on an empty line or one that may go on."""
    if len(data) > WRITE_MAX:
        raise OSError(errno.EFBIG, f"a write has at most {WRITE_MAX} bytes")
    if len(data) >= UNENDED_MAX and not data.endswith(b"\n"):
        raise UsageError("the write ends within a line", hint="write whole lines, or one by one")
    return data.removesuffix(b"\n").split(b"\n")
