"""ana init, mount, umount."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from anabranch import repo
from anabranch.cli import checks
from anabranch.cli.context import say_what_was_brought_back, say_who_died
from anabranch.cli.output import complain, say, show
from anabranch.daemon import guard, mounts, users
from anabranch.daemon import lock as locks
from anabranch.daemon.logs import LogFile
from anabranch.errors import BY_NAME, AnabranchError, DaemonError, DeniedError, NotFoundError, RefusedError, UsageError
from anabranch.escape import show_name
from anabranch.store import private
from anabranch.store.layout import Layout, check
from anabranch.worktree import ignore
from anabranch.worktree.checkpoint import Recovered

_UMASK = 0o077
"""A daemon's: what it makes, its log too, is its owner's. The files on the mount are made by the kernel's umask."""
_BUSY_WITHIN = 1.0
"""Seconds for which a mount may be busy because its own daemon has something written back."""
_PAUSE = 0.1
_SHOWN = 5
"""Of the processes that keep a mount busy, so many are named."""
_UNMOUNT_SECONDS = 3600.0
_ENDS_WITHIN = 5.0
"""Seconds that a daemon that cannot start, or was killed, is given to end."""


class _Failure(msgspec.Struct, frozen=True, tag=True):
    """How a daemon that cannot start tells its parent why."""

    error: str
    message: str
    hint: str | None


class _Ready(msgspec.Struct, frozen=True, tag=True):
    """How a daemon that serves tells its parent what it found."""

    found: Recovered
    damage: str


@dataclass(frozen=True, slots=True)
class _Options:
    """What was said about a mount, which its daemon has to know."""

    memory: int | None
    read_only: bool
    allow_other: bool
    xattr: bool | None
    log_level: str


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, readable=False), metavar="REPO")
@click.option("--branch", default=repo.FIRST_BRANCH, show_default=True, help="The name of the first branch.")
@click.option("--no-ignore", is_flag=True, help="Make no .anaignore file.")
def init(repository: Path, branch: str, no_ignore: bool) -> None:
    """Make a repository in the folder REPO. Its branch is empty but for a first .anaignore, not yet committed.

    \b
    Example: ana init /data/repo
    """
    path = Path(os.path.abspath(repository))
    repo.create(path, branch=branch, source="command", ignore="" if no_ignore else ignore.FIRST)
    said = f"{path} is a repository now, with the branch {branch}. To use it: ana mount {repository} DIR"
    show(show_name(said) + "\n")


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, readable=False), metavar="REPO")
@click.argument("directory", type=click.Path(path_type=Path, readable=False), metavar="DIR")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, and log to the terminal too.")
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="About how much memory the daemon may use to be quick; default: the setting memory (ana config).",
)
@click.option("--read-only", is_flag=True, help="Refuse every change, commits too.")
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as the files' permissions allow it.")
@click.option(
    "--xattr/--no-xattr",
    default=None,
    help="Whether there are extended attributes, which make small writes slower; default: the setting xattr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What the daemon's log is told.",
)
@click.option("--ready-fd", type=int, hidden=True)
def mount(
    repository: Path,
    directory: Path,
    foreground: bool,
    memory: int | None,
    read_only: bool,
    allow_other: bool,
    xattr: bool | None,
    log_level: str,
    ready_fd: int | None,
) -> None:
    """Mount the repository REPO at the empty directory DIR.

    Returns when the mount can be used; a daemon serves it until 'ana umount DIR'. Its log is REPO/daemon.log.

    \b
    Example: ana mount /data/repo /mnt/repo && ls /mnt/repo
    """
    options = _Options(memory, read_only, allow_other, xattr, log_level)
    if ready_fd is not None:
        _be_daemon(repository, directory, options, ready_fd)
        return
    path, point = Path(os.path.abspath(repository)).resolve(), mounts.absolute(directory)
    layout = check(path, writable=True)
    _check_machine(allow_other=allow_other)
    if locks.is_held(layout) and not _ends(layout):
        raise locks.in_use(layout)
    _lift_dead_mounts(layout)
    _check_mount_point(point)
    say_who_died(layout.path, locks.last_to_die(layout))

    def tell(found: Recovered, damage: str) -> None:
        say_what_was_brought_back(found)
        if damage:
            complain(
                f"no branch can be opened, but versions can: {damage}", f"ana umount {point} && ana fsck -R {path}"
            )
        if foreground:
            say(f"{path} is mounted at {point}; end with Ctrl-C")

    if foreground:
        _serve(layout, point, tell, options, log_here=True)
    else:
        ready = _start_daemon(layout, point, options)
        tell(ready.found, ready.damage)


def _check_machine(*, allow_other: bool) -> None:
    _demand(checks.fusermount(shutil.which("fusermount3")))
    _demand(checks.fuse_device(Path("/dev/fuse")))
    if allow_other and os.geteuid() != 0 and not checks.lets_others_in(Path("/etc/fuse.conf")):
        raise DeniedError(
            "only root may let others in here", hint="have root write the line user_allow_other into /etc/fuse.conf"
        )


def _demand(finding: checks.Finding) -> None:
    if finding.state is checks.State.FAIL:
        raise DeniedError(finding.found, hint=finding.hint)


def _ends(layout: Layout) -> bool:
    """Whether the owner has ended just now, or was killed; then wait for its end, which its own mount may hold up."""
    if not locks.is_dying(layout):
        return not locks.is_held(layout)
    if not locks.wait_until_free(layout, _ENDS_WITHIN):
        for known in mounts.of(layout.path):
            guard.abort(known.device, str(known.directory))
    return locks.wait_until_free(layout, _ENDS_WITHIN)


def _lift_dead_mounts(layout: Layout) -> None:
    """Nobody owns the repository: what is mounted of it leads nowhere any more."""
    for known in mounts.of(layout.path):
        if known.is_dead():
            _unmount(known.directory, lazily=True)
            say(f"the dead mount at {known.directory} was lifted")


def _check_mount_point(point: Path) -> None:
    try:
        str(point).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the path {point} is not UTF-8", hint="mount it elsewhere") from None
    known = mounts.at(point)
    if known is not None and known.is_dead():
        raise RefusedError(
            f"{point} is a dead mount of {known.repository}: its daemon has ended",
            hint=f"ana umount {point}, then again",
        )
    if known is not None:
        raise RefusedError(f"{known.repository} is already mounted at {point}", hint=f"ana umount {point}")
    try:
        entries = any(point.iterdir())
    except FileNotFoundError:
        raise NotFoundError(f"the mount point {point} does not exist", hint=f"mkdir {point}") from None
    except NotADirectoryError:
        raise UsageError(f"the mount point {point} is not a directory") from None
    except PermissionError as error:
        raise DeniedError(f"cannot read the mount point {point}: {error.strerror}") from error
    if entries:
        raise RefusedError(f"the mount point {point} is not empty", hint="choose an empty directory")


def _start_daemon(layout: Layout, point: Path, options: _Options) -> _Ready:
    """The daemon is a fresh process: nothing of LMDB survives a fork."""
    reader, writer = os.pipe()
    words = ["--ready-fd", str(writer), "--log-level", options.log_level]
    words += [] if options.memory is None else ["--memory", str(options.memory)]
    words += ["--read-only"] * options.read_only + ["--allow-other"] * options.allow_other
    words += [] if options.xattr is None else ["--xattr" if options.xattr else "--no-xattr"]
    command = [sys.executable, "-m", "anabranch", "mount", *words, str(layout.path), str(point)]
    with os.fdopen(private.open_file(layout.log, os.O_WRONLY | os.O_APPEND), "ab") as log:
        daemon = subprocess.Popen(
            command,
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    said = msgspec.json.decode(answer, type=_Failure | _Ready) if answer else None
    if isinstance(said, _Ready):
        return said
    with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.wait(_ENDS_WITHIN)  # until then the repository is in use
    if said is None:
        raise DaemonError("the daemon ended before it could serve", hint=f"see {layout.log}")
    raise BY_NAME.get(said.error, AnabranchError)(said.message, hint=said.hint)


def _be_daemon(repository: Path, point: Path, options: _Options, ready: int) -> None:
    answered = False

    def answer(said: _Failure | _Ready) -> None:
        nonlocal answered
        if not answered:
            os.write(ready, msgspec.json.encode(said))
            os.close(ready)
        answered = True

    try:
        _serve(check(repository, writable=True), point, lambda *found: answer(_Ready(*found)), options, log_here=False)
    except AnabranchError as error:
        logging.error("the daemon ended: %s", error)
        answer(_Failure(type(error).__name__, error.message, error.hint))
        sys.exit(error.exit_code)


def _serve(
    layout: Layout, point: Path, ready: Callable[[Recovered, str], None], options: _Options, *, log_here: bool
) -> None:
    from anabranch.fuse import mount as daemon  # only here: pyfuse3 and trio take their time

    os.umask(_UMASK)
    handlers: list[logging.Handler] = [LogFile(layout.log, alone=not log_here)]
    if log_here:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=options.log_level.upper(),
        handlers=handlers,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    try:
        how = daemon.Options(
            options.memory, read_only=options.read_only, allow_other=options.allow_other, xattr=options.xattr
        )
        daemon.serve(layout.path, point, ready, how)
    except AnabranchError:
        raise
    except Exception:
        logging.exception("BUG: the daemon failed")
        raise


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, readable=False), metavar="DIR")
def umount(directory: Path) -> None:
    """Unmount DIR. Returns when everything is on disk and the daemon has ended.

    \b
    Example: ana umount /mnt/repo
    """
    point = mounts.absolute(directory)
    known = mounts.at(point)
    if known is None:
        raise NotFoundError(f"no repository is mounted at {point}")
    _demand(checks.fusermount(shutil.which("fusermount3")))
    dead = known.is_dead()
    _unmount(point, lazily=dead)
    if not dead and not locks.wait_until_free(Layout(known.repository), _UNMOUNT_SECONDS):
        raise DaemonError(f"the daemon of {known.repository} does not end", hint="its log may say why")
    last = locks.owner(Layout(known.repository).lock)
    if not dead and last is not None and last.failed:
        log = Layout(known.repository).log
        raise DaemonError(f"the daemon of {known.repository} ended badly; not all may be on disk", hint=f"see {log}")


def _unmount(point: Path, *, lazily: bool) -> None:
    command = ["fusermount3", "-u", *(["-z"] if lazily else []), str(point)]
    end = time.monotonic() + _BUSY_WITHIN
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "busy" in done.stderr and time.monotonic() < end:
            time.sleep(_PAUSE)
            continue
        if "busy" in done.stderr:
            raise _busy(point)
        why = done.stderr.strip() or f"fusermount3 ended with {done.returncode}"
        raise RefusedError(f"cannot unmount {point}: {why}")


def _busy(point: Path) -> RefusedError:
    """Say who has to end, or to go elsewhere, first."""
    found = users.users(point)
    if not found:
        return RefusedError(f"{point} is in use", hint="by processes that only root can see")
    shown = "; ".join(map(str, found[:_SHOWN])) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    return RefusedError(f"{point} is in use: {shown}", hint="end them, or have them go elsewhere, and try again")
