"""The commit file: a message is written, a commit is made. docs/design/002 has the reasons.

The first write checks, freezes, builds, and returns every error, since shells look at the errors of write(2) only; the
flush by which the opener lets the file go commits under the whole message. A flush comes each time any process
closes any copy of the descriptor, so it is asked whether the opener still has the file open. The offsets of writes
mean nothing: with `>>` they are what the kernel believes the size to be.
"""

import errno
import logging
import os
from pathlib import Path

import trio

from anabranch.commit import MESSAGE_MAX, Note, check_message
from anabranch.errors import AnabranchError, RefusedError
from anabranch.fuse.branches import BranchArea
from anabranch.fuse.chores import once
from anabranch.fuse.commits import Committer, Prepared
from anabranch.fuse.handles import Handle
from anabranch.fuse.outcomes import Outcome
from anabranch.repo import user_name
from anabranch.versions.refs import Who
from anabranch.worktree.inodes import Inode
from anabranch.worktree.tree import failure

log = logging.getLogger(__name__)

CLOSE_WITHIN = 60.0
"""Seconds from the first write within which the message must be closed: the branch's commits wait for it."""


class Message:
    """What is written to one handle."""

    def __init__(
        self, committer: Committer, nursery: trio.Nursery, handle: Handle, branch: BranchArea, outcome: Outcome
    ) -> None:
        self._committer = committer
        self._nursery = nursery
        self._handle = handle
        self._process = process_of(handle.caller.pid)
        self._branch = branch
        self._outcome = outcome
        self._text = bytearray()
        self._prepared: Prepared | None = None
        self._error: AnabranchError | OSError | None = None
        """Why the message was refused: each later write is told the same."""
        self._done = False

    async def write(self, data: bytes) -> int:
        """Take a piece of the message. Raises what a commit may raise."""
        if self._error is not None:
            raise self._error
        if self._done:
            raise failure(errno.EINVAL)
        if len(self._text) + len(data) > MESSAGE_MAX:
            if self._prepared is not None:
                self._drop("its message is too long")
            self._fail(failure(errno.EFBIG))
            raise failure(errno.EFBIG)
        if self._prepared is None:
            await self._prepare(data)
        self._text += data
        return len(data)

    async def _prepare(self, data: bytes) -> None:
        try:
            check_message(data.decode(errors="replace"))
            self._prepared = await self._committer.prepare(self._branch)
        except (AnabranchError, OSError) as error:
            self._fail(error)
            raise
        self._nursery.start_soon(once, self._give_up)

    async def flush(self) -> None:
        """A descriptor was closed: commit, if that was the opener's last one."""
        if self._prepared is None:
            return
        if await trio.to_thread.run_sync(has_open, self._process, self._handle.ino):
            return
        prepared = self._take()
        if prepared is None:  # meanwhile another flush was faster, or it was dropped
            return
        self._done = True
        who = Who(user_name(self._handle.caller.uid), "control file")
        author = "" if self._handle.caller.uid == os.getuid() else who.actor  # or the setting's, which is not his
        try:
            note = Note(bytes(self._text).decode(errors="replace"), author)
            done = await self._committer.finish(prepared, note, who)
        except (AnabranchError, OSError) as error:
            self._fail(error)
            raise
        self._outcome.committed, self._outcome.failed = done, None

    def release(self) -> None:
        """A message that was not committed is dropped."""
        if self._prepared is not None:
            self._drop("its file was let go without a flush")

    async def _give_up(self) -> None:
        await trio.sleep(CLOSE_WITHIN)
        if self._prepared is not None:
            self._drop(f"it was not closed within {CLOSE_WITHIN:.0f} seconds")

    def _drop(self, why: str) -> None:
        log.warning("a commit of %s is dropped: %s", self._branch.branch.name, why)
        prepared = self._take()
        assert prepared is not None
        self._committer.abandon(prepared)
        self._fail(RefusedError(f"the commit was dropped: {why}"))

    def _take(self) -> Prepared | None:
        """What was prepared, which is then the caller's."""
        prepared, self._prepared = self._prepared, None
        return prepared

    def _fail(self, error: AnabranchError | OSError) -> None:
        self._error = error
        self._outcome.fail(error)


def process_of(thread: int) -> int:
    """The process of a thread, which is what requests are labelled with; 0 if it cannot be told."""
    try:
        status = Path(f"/proc/{thread}/status").read_bytes()  # the process's name in it may be anything
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.split(b"\n") if line.startswith(b"Tgid:")), 0)


def has_open(process: int, ino: Inode) -> bool:
    """Whether a process has a file of this inode number open for writing. Asks nothing of the mount."""
    try:
        paths = list(Path(f"/proc/{process}/fdinfo").iterdir())
    except OSError:
        return False
    return any(_writes(path, ino) for path in paths)


def _writes(path: Path, ino: Inode) -> bool:
    try:
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    except OSError:  # closed meanwhile
        return False
    return int(fields.get("ino", 0)) == ino and int(fields["flags"], 8) & os.O_ACCMODE != os.O_RDONLY
