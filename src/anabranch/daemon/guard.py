"""Ends the mount of a daemon that was killed.

A thread of the daemon that has the kernel write pages back waits for answers that only the daemon could give. When the
daemon is killed then, that thread cannot end, so the kernel keeps the connection, and every program on the mount hangs.
So a small process beside the daemon waits for its death, and has the kernel give the connection up.

Run as a script, with nothing but the standard library: it costs little memory and starts at once.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_MNT_FORCE = 1


def abort(device: str, directory: str) -> None:
    """Have the kernel give up the connection of a mount: what waits for its daemon gets an error.

    By fusectl, which the mount's owner may; where that is not mounted only root can do it, by a forced unmount. That is
    to give up the connection only: while we hold the directory it stays, and nobody writes into what lies under it.
    """
    if mount_id(device) is None:
        return
    minor = device.partition(":")[2]
    with contextlib.suppress(OSError):
        Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
        return
    with contextlib.suppress(OSError):
        held = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        ctypes.CDLL(None).umount2(os.fsencode(directory), _MNT_FORCE)
        os.close(held)


def mount_id(device: str) -> str | None:
    """The number that the kernel gave the mount of a device; None if it is gone."""
    rows = (line.split() for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines())
    return next((row[0] for row in rows if row[2] == device), None)


def main(device: str, directory: str, daemon: str) -> None:
    """Wait until the daemon, our parent, dies. It kills us when it ends by itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    watched = mount_id(device)
    if os.getppid() == int(daemon):
        signal.sigwait({signal.SIGUSR1})
    if mount_id(device) == watched:  # numbers of devices come again
        abort(device, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
