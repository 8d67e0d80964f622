"""The daemon's life: own the repository, mount it, serve, and bring everything to disk at the end."""

import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from anabranch.commit import check_note
from anabranch.daemon import guard, mounts
from anabranch.daemon import lock as locks
from anabranch.daemon.client import perform
from anabranch.daemon.protocol import (
    READS,
    Commit,
    DeleteBranch,
    MoveBranch,
    Pin,
    Ping,
    Put,
    Read,
    RenameBranch,
    Request,
    Restore,
)
from anabranch.daemon.server import Caller, Server
from anabranch.errors import AnabranchError, DamagedError, DeniedError, RefusedError
from anabranch.fuse import pyfuse
from anabranch.fuse.chores import for_ever
from anabranch.fuse.operations import Operations
from anabranch.fuse.pins import pinned
from anabranch.ids import ObjectId, RefName, ref_name
from anabranch.repo import Repository
from anabranch.settings import MEMORY, ON, XATTR
from anabranch.store.layout import check
from anabranch.versions.refs import Who
from anabranch.worktree.checkpoint import Recovered

log = logging.getLogger(__name__)

READ_AHEAD_KIB = 1024
"""The kernel's default for FUSE, 128 KiB, halves sequential reading."""
KNOWN_FILES = 256
"""Files that the kernel may know for each MiB of memory, before the oldest are taken from it: a file costs 1.2 KiB."""
END_WITHIN = 10.0
"""Seconds that each part of the end of a mount may take, before the kernel is made to give it up."""
_PATIENCE = 1.0
"""Seconds that a mount waits for a command that is just ending."""
_SWITCH_INTERVAL = 1e-4
"""Python-bound work in a worker thread must not starve the loop (default: 5 ms a turn)."""


Ready = Callable[[Recovered, str], None]
"""Called when a mount can be used, with what the process before had left in the journal, and why no branch can be
opened, if that is so.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """How a repository is mounted."""

    memory: int | None
    """MiB, about, of what is kept only for speed; None: what the repository's setting says."""
    read_only: bool = False
    """Whether the kernel refuses every change."""
    allow_other: bool = False
    """Whether other users see the mount."""
    xattr: bool | None = None
    """Whether there are extended attributes; None: what the repository's setting says."""


def serve(repository_path: Path, mount_point: Path, ready: Ready, options: Options) -> None:
    """Mount a repository and serve it until it is unmounted.

    Raises RefusedError when it is in use, DeniedError, and what opening a repository raises.
    """
    layout = check(repository_path, writable=True)
    # Never let go: 'ana umount' waits for the process's end.
    lock = locks.acquire(layout, mount_point=str(mount_point), patience=_PATIENCE)
    _raise_limit()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    _ignore_signals()
    try:
        with Repository(repository_path, writable=True) as repository:
            log.info("process %d mounts %s at %s", os.getpid(), repository_path, mount_point)
            try:
                found, damage = repository.recovered, _damage(repository)
                if found.records or found.dropped:
                    log.warning("the last owner died: %s", found)
                _run(repository, mount_point, lambda: ready(found, damage), options)
            finally:
                repository.settle_down()
    except BaseException:
        lock.say(None, failed=True)
        raise
    log.info("process %d unmounted %s: everything is on disk", os.getpid(), mount_point)
    lock.say(None)


def _damage(repository: Repository) -> str:
    """Why no working tree can be opened; empty when they can. Versions can be read all the same."""
    try:
        repository.check_working_trees()
    except DamagedError as error:
        log.error("no branch can be opened: %s", error)
        return error.message
    return ""


def _ignore_signals() -> None:
    """While the loop runs, it takes them (`_stop_on_signal`); after it, what it left must still come to disk."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _raise_limit() -> None:
    """A daemon keeps more files open than the usual limit of a shell's programs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(repository: Repository, mount_point: Path, ready: Callable[[], None], options: Options) -> None:
    try:
        trio.run(_main, repository, mount_point, ready, options)
    except ExceptionGroup as group:  # a nursery wraps even the one error that ends it
        known, others = group.split(AnabranchError)
        if known is None or others is not None:
            raise
        raise known.exceptions[0] from known


async def _main(repository: Repository, mount_point: Path, ready: Callable[[], None], options: Options) -> None:
    async with trio.open_nursery() as nursery:
        kernel, memory = pyfuse.PyfuseKernel(mount_point), options.memory or repository.settings.get(MEMORY)
        operations = Operations(repository, kernel, nursery, known_files=memory * KNOWN_FILES)
        xattr = options.xattr if options.xattr is not None else repository.settings.get(XATTR) == ON
        if xattr:
            repository.keep_xattrs()
        try:
            pyfuse.mount(
                operations, str(mount_point), str(repository.layout.path),
                read_only=options.read_only, allow_other=options.allow_other, xattr=xattr,
            )  # fmt: skip
        except RuntimeError as error:
            raise DeniedError(
                f"the kernel refused the mount at {mount_point}", hint="the daemon's log says what fusermount3 answered"
            ) from error
        watching: subprocess.Popen[bytes] | None = None
        try:
            watching = _watch_over(mount_point)
            server = Server(repository.layout.socket, _handler(operations, options, trio.lowlevel.current_trio_token()))
            try:
                nursery.start_soon(for_ever, operations.saver.run)
                nursery.start_soon(for_ever, operations.saver.settle_idle)
                nursery.start_soon(for_ever, operations.saver.keep_copies)
                nursery.start_soon(for_ever, operations.committer.launder_often)
                nursery.start_soon(for_ever, operations.eviction.of_cold)
                nursery.start_soon(_stop_on_signal, operations, server, mount_point)
                nursery.start_soon(_announce, operations, mount_point, ready)
                await pyfuse.serve()
            finally:
                with trio.CancelScope(shield=True):  # who has asked is answered: an unmount waits for a commit
                    await trio.to_thread.run_sync(server.close)
        finally:
            pyfuse.close()
            _lift(mount_point)
            if watching is not None:
                watching.kill()
                watching.wait()
        nursery.cancel_scope.cancel()


def _lift(mount_point: Path) -> None:
    """The session does not unmount what the kernel has given up."""
    mount = mounts.at(mount_point)
    if mount is not None and mount.is_dead():
        subprocess.run(["fusermount3", "-u", "-z", str(mount_point)], check=False)


def _watch_over(mount_point: Path) -> subprocess.Popen[bytes]:
    """Start the guard; from the main thread, with whose death it is to wake up."""
    mount = mounts.at(mount_point)
    device = "" if mount is None else mount.device
    script = [sys.executable, "-I", "-S", guard.__file__, device, str(mount_point), str(os.getpid())]
    nothing = subprocess.DEVNULL  # not our log: it would keep the repository's disk busy
    return subprocess.Popen(script, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", start_new_session=True)


async def _announce(operations: Operations, mount_point: Path, ready: Callable[[], None]) -> None:
    """Say that the mount can be used, once it has answered the first requests, which come from a worker."""
    await trio.to_thread.run_sync(operations.absence.probe, mount_point, pyfuse.PyfuseKernel(mount_point))
    _widen_read_ahead(mount_point)  # not before: the answer to the kernel's first request sets it back
    ready()


async def _stop_on_signal(operations: Operations, server: Server, mount_point: Path) -> None:
    """SIGTERM and Ctrl-C end the mount."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        number = await anext(signals)
        log.info("signal %s: unmounting", signal.Signals(number).name)
        await _end(operations, server, mount_point)


async def _end(operations: Operations, server: Server, mount_point: Path) -> None:
    """The order in which a mount ends that nobody has unmounted. Cancelled when it has ended.

    First comes what asks the kernel something, while the kernel's own requests are still answered: it may hold a lock
    for one of those. Then what programs have written is brought in, and they can write no more.
    """
    await operations.committer.end()
    with trio.move_on_after(END_WITHIN) as limit:
        await trio.to_thread.run_sync(server.close, abandon_on_cancel=True)
        await operations.eviction.stop()
    async with operations.last_instant():
        pyfuse.stop()
    await trio.sleep(0 if limit.cancelled_caught else END_WITHIN)
    log.warning("the mount does not end: the kernel has to give it up")
    mount = mounts.at(mount_point)
    if mount is not None:
        await trio.to_thread.run_sync(guard.abort, mount.device, str(mount_point))


def _handler(
    operations: Operations, options: Options, token: trio.lowlevel.TrioToken
) -> Callable[[Request, Caller], object]:
    """Carry requests of other processes out in the loop, where the working trees live."""

    def handle(request: Request, caller: Caller) -> object:
        if isinstance(request, Pin):
            return trio.from_thread.run(partial(pinned, operations, caller), trio_token=token)
        if options.read_only and not isinstance(request, READS):
            raise RefusedError("the repository is mounted read-only", hint="unmount it, then mount it without that")
        if isinstance(request, Put):  # no working tree is touched
            return perform(operations.repository, request)
        return trio.from_thread.run(partial(_perform, operations, request, caller), trio_token=token)

    return handle


async def _perform(operations: Operations, request: Request, caller: Caller) -> object:
    if isinstance(request, Commit):
        check_note(request.note)
        area = operations.root.branch(RefName(request.branch))
        who = Who(request.actor, "command")
        return await operations.committer.commit(
            area, request.note, who,
            paths=request.paths, any_clock=request.any_clock, allow_empty=request.allow_empty, progress=caller.tell,
        )  # fmt: skip
    if isinstance(request, Restore):
        area = operations.root.branch(RefName(request.branch))
        source = operations.repository.given(request.root, ObjectId(request.links))
        return await operations.restore(area, source, request.paths, new_too=request.new_too, kept=request.kept)
    if isinstance(request, MoveBranch):
        area = operations.root.branch(RefName(request.branch))
        return await operations.outside.move(area, request.move, Who(request.actor, "command"))
    if isinstance(request, DeleteBranch):
        await operations.delete_branch(RefName(request.name), Who(request.actor, "command"))
        return None
    if isinstance(request, RenameBranch):
        await operations.rename_branch(RefName(request.old), ref_name(request.new), Who(request.actor, "command"))
        return None
    if isinstance(request, READS) and not isinstance(request, Ping):
        await operations.committer.launder(operations.root.branch(RefName(request.branch)))
    if isinstance(request, Read):
        return await operations.read_path(RefName(request.branch), request.path, request.offset, request.length)
    return perform(operations.repository, request)


def _widen_read_ahead(mount_point: Path) -> None:
    """Only root may; without it reading is slower, no more."""
    mount = mounts.at(mount_point)
    if mount is None:
        return
    try:
        Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))
    except OSError as error:
        log.info("read-ahead stays as it is: %s", error.strerror)
