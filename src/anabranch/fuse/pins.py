"""What is not committed, held still on disk for a client that copies it, while programs go on. (docs/design/008)

At one instant of all branches, as that of a commit, the overlay files are pinned and the working trees are cut; the cut
is taken into the meta environment, and nothing more is until the client has its read transaction there. The rest is the
client's work: here only the overlay files stay pinned, until it is done, or gone, or the mount ends.
"""

import trio

from anabranch.daemon.server import Caller
from anabranch.errors import RefusedError
from anabranch.fuse.operations import Operations
from anabranch.worktree.pins import OverlayPin

PATIENCE = 10.0
"""Seconds that a client may take to begin a transaction: commits wait for it."""


async def pinned(operations: Operations, caller: Caller) -> None:
    """Hold still for a client. Raises RefusedError."""
    repository, committer = operations.repository, operations.committer
    pins: list[OverlayPin] = []

    def pin() -> None:
        pins.append(OverlayPin(repository.overlays, repository.layout.overlays))

    caller.stay()
    areas = operations.open_branches()
    for area in areas:  # the bulk of what was written, before anybody is held up
        await committer.launder(area)
    try:
        async with operations.saver.checkpointed(committer.instant(areas), pin):
            caller.say_pinned()
            with trio.move_on_after(PATIENCE):
                await trio.lowlevel.wait_readable(caller)
            if not caller.has_answered():
                raise RefusedError("whoever asked for it has gone, or took too long")
        await trio.lowlevel.wait_readable(caller)
        for each in pins:
            if each.failed is not None:
                raise each.failed
    except OSError as error:
        why = f"what is not committed could not be held still: {error.strerror or error}"
        raise RefusedError(why, hint="make room on the disk of the repository, then try again") from error
    finally:
        for each in pins:
            each.release()
