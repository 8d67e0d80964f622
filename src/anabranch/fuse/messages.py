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
from anabranch.fuse.commits import Committer, Prepared
from anabranch.fuse.control import failed
from anabranch.fuse.handles import Handle
from anabranch.fuse.roots import RootArea
from anabranch.repo import user_name
from anabranch.report import committed_text
from anabranch.versions.refs import Who
from anabranch.worktree.inodes import Inode
from anabranch.worktree.tree import failure

log = logging.getLogger(__name__)

CLOSE_WITHIN = 60.0
"""Seconds from the first write within which the message must be closed: the branch's commits wait for it."""


class Message:
    """What is being written to one handle."""

    def __init__(self, branch: BranchArea, process: int) -> None:
        self.branch = branch
        self.process = process
        self.text = bytearray()
        self.prepared: Prepared | None = None
        self.error: AnabranchError | OSError | None = None
        """Why the message was refused: each later write is told the same."""
        self.done = False

    def take(self) -> Prepared | None:
        """What was prepared, which is then the caller's."""
        prepared, self.prepared = self.prepared, None
        return prepared


class Messages:
    """The messages that are being written."""

    def __init__(self, committer: Committer, root: RootArea, nursery: trio.Nursery) -> None:
        self._committer = committer
        self._root = root
        self._nursery = nursery
        self._open: dict[Handle, Message] = {}

    def begin(self, handle: Handle, branch: BranchArea) -> None:
        """The commit file was opened for writing."""
        self._open[handle] = Message(branch, process_of(handle.caller.pid))

    async def write(self, handle: Handle, data: bytes) -> int:
        """Take a piece of a message. Raises what a commit may raise."""
        message = self._open[handle]
        if message.error is not None:
            raise message.error
        if message.done:
            raise failure(errno.EINVAL)
        if len(message.text) + len(data) > MESSAGE_MAX:
            if message.prepared is not None:
                self._drop(message, "its message is too long")
            self._fail(message, failure(errno.EFBIG))
            raise failure(errno.EFBIG)
        if message.prepared is None:
            await self._prepare(message, data)
        message.text += data
        return len(data)

    async def _prepare(self, message: Message, data: bytes) -> None:
        try:
            check_message(data.decode(errors="replace"))
            message.prepared = await self._committer.prepare(message.branch)
        except (AnabranchError, OSError) as error:
            self._fail(message, error)
            raise
        self._nursery.start_soon(self._give_up, message)

    async def flush(self, handle: Handle) -> None:
        """A descriptor was closed: commit, if that was the opener's last one."""
        message = self._open.get(handle)
        if message is None or message.prepared is None:
            return
        if await trio.to_thread.run_sync(has_open, message.process, handle.ino):
            return
        prepared = message.take()
        if prepared is None:  # meanwhile another flush was faster, or it was dropped
            return
        message.done = True
        who = Who(user_name(handle.caller.uid), "control file")
        try:
            done = await self._committer.finish(prepared, Note(bytes(message.text).decode(errors="replace")), who)
        except (AnabranchError, OSError) as error:
            self._fail(message, error)
            raise
        outcome = self._root.outcomes[message.branch]
        outcome.result, outcome.error = committed_text(done), ""

    def release(self, handle: Handle) -> None:
        """The handle is gone: a message that was not committed is dropped."""
        message = self._open.pop(handle, None)
        if message is not None and message.prepared is not None:
            self._drop(message, "its file was let go without a flush")

    async def _give_up(self, message: Message) -> None:
        await trio.sleep(CLOSE_WITHIN)
        if message.prepared is not None:
            self._drop(message, f"it was not closed within {CLOSE_WITHIN:.0f} seconds")

    def _drop(self, message: Message, why: str) -> None:
        log.warning("a commit of %s is dropped: %s", message.branch.branch.name, why)
        prepared = message.take()
        assert prepared is not None
        self._committer.abandon(prepared)
        self._fail(message, RefusedError(f"the commit was dropped: {why}"))

    def _fail(self, message: Message, error: AnabranchError | OSError) -> None:
        message.error = error
        self._root.outcomes[message.branch].error = failed(error)


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
