"""Asking the owner of a repository, or becoming it.

`connect` gives the same `Service` either way: commands need not know whether a daemon serves the repository.
"""

import os
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import NoneType
from typing import TypeVar

import msgspec

from anabranch.candidate import Progress, unwatched
from anabranch.commit import Committed, Note
from anabranch.daemon import lock as locks
from anabranch.daemon import mounts
from anabranch.daemon.interrupts import Interrupts
from anabranch.daemon.lock import Owner
from anabranch.daemon.protocol import (
    BringBack,
    Commit,
    CreateBranch,
    CreateTag,
    DeleteBranch,
    DeleteTag,
    Diff,
    Ignored,
    Listing,
    Look,
    MoveBranch,
    Pin,
    Ping,
    Pinned,
    Put,
    Read,
    RenameBranch,
    Request,
    Restore,
    SetConfig,
    Status,
    Working,
    decode_reply,
    encode_request,
    is_decisive,
    receive,
    send,
    short_address,
)
from anabranch.errors import AnabranchError, DaemonError, DeniedError, RefusedError
from anabranch.ids import ObjectId, RefName
from anabranch.moves import Move, Moved
from anabranch.repo import Repository
from anabranch.settings import Setting
from anabranch.store.layout import OTHERS, Layout, check
from anabranch.store.meta import Rows
from anabranch.versions.diff import Change
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.refs import Ref, Who
from anabranch.versions.renames import short
from anabranch.versions.trees import Version
from anabranch.worktree.checkpoint import Recovered
from anabranch.worktree.restore import Restored

T = TypeVar("T")

_LOOK = 0.1
"""Seconds between two looks at Ctrl-C."""
PATIENCE = 5.0
"""Seconds that a command waits for another command to end."""

_turns: dict[Path, threading.RLock] = {}
"""The threads of a process take turns at owning a repository, for as long as each takes."""
os.register_at_fork(after_in_child=_turns.clear)


class Service(ABC):
    """What needs the owner of a repository."""

    died: Owner | None = None
    """Who had the repository mounted before, and died."""
    recovered: Recovered | None = None
    """What that left in the journal, if this process has read it."""

    @abstractmethod
    def pinned(self) -> AbstractContextManager[Callable[[], None]]:
        """Inside, the meta environment and the overlay files hold what is not committed as it was at one instant: the
        first until what is yielded is called, the second but for what worktree/pins.py puts aside.

        Raises RefusedError, also at the end, when that could not be kept up.
        """

    @abstractmethod
    def _ask(self, request: Request, kind: type[T], progress: Progress | None = None) -> T:
        """Have a request carried out."""

    def commit(
        self, branch: RefName, note: Note, actor: str, *,
        paths: list[bytes] | None = None, any_clock: bool = False, allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Committed:  # fmt: skip
        """Commit a branch, or only some paths of it. Ctrl-C leaves it uncommitted, or comes too late."""
        return self._ask(Commit(branch, note, actor, paths, any_clock, allow_empty), Committed, progress)

    def status(self, branch: RefName) -> list[Change]:
        """The uncommitted changes of a branch."""
        return self._ask(Status(branch), list[Change])

    def ignored(self, branch: RefName) -> list[bytes]:
        """The paths of a branch that stay out of commits."""
        return self._ask(Ignored(branch), list[bytes])

    def diff(self, old: ObjectId, branch: RefName) -> list[Change]:
        """The changes from a commit to the working tree of a branch."""
        return self._ask(Diff(old, branch), list[Change])

    def look(self, branch: RefName, path: bytes) -> Entry | None:
        """What is at a path of a branch; of content that is not stored yet only its size."""
        return msgspec.convert(self._ask(Look(branch, path), object), Entry | None)

    def listing(self, branch: RefName, path: bytes) -> list[tuple[bytes, EntryKind]]:
        """The names in a directory of a branch, in order, and what each is. Raises NotFoundError, UsageError."""
        return self._ask(Listing(branch, path), list[tuple[bytes, EntryKind]])

    def read(self, branch: RefName, path: bytes, offset: int, length: int) -> bytes:
        """A range of a file as it is in the working tree of a branch; see Repository.read_working."""
        return self._ask(Read(branch, path, offset, length), bytes)

    def create_branch(self, name: str, start: ObjectId, actor: str) -> Ref:
        """Make a branch at a commit."""
        return self._ask(CreateBranch(name, start, actor), Ref)

    def create_tag(self, name: str, target: ObjectId, actor: str) -> Ref:
        """Name a commit for good."""
        return self._ask(CreateTag(name, target, actor), Ref)

    def rename_branch(self, old: RefName, new: str, actor: str) -> None:
        """Give a branch, with its uncommitted changes, another name."""
        self._ask(RenameBranch(old, new, actor), NoneType)

    def delete_branch(self, name: RefName, actor: str) -> None:
        """Delete a branch without uncommitted changes."""
        self._ask(DeleteBranch(name, actor), NoneType)

    def delete_tag(self, name: RefName, actor: str) -> None:
        """Delete a tag."""
        self._ask(DeleteTag(name, actor), NoneType)

    def bring_back(self, name: str, actor: str) -> Ref:
        """Make a deleted branch again, where it stood."""
        return self._ask(BringBack(name, actor), Ref)

    def restore(
        self, branch: RefName, source: Version, paths: list[bytes], *, new_too: bool = False, kept: Sequence[bytes] = ()
    ) -> Restored:
        """Put into a branch what a version holds at some paths; see Repository.restore."""
        return self._ask(Restore(branch, source.root, source.links, paths, new_too, list(kept)), Restored)

    def put_chunks(self, records: list[bytes]) -> None:
        """Make chunks durable; see ChunkStore.take."""
        self._ask(Put(chunks=records), NoneType)

    def put_objects(self, rows: Rows) -> None:
        """Make objects durable; see ObjectStore.take."""
        self._ask(Put(objects=list(rows)), NoneType)

    def move(self, branch: RefName, move: Move, actor: str) -> Moved:
        """Let a branch go to a commit that is stored; see Moves. Raises RefusedError, ConflictError."""
        return self._ask(MoveBranch(branch, move, actor), Moved)

    def configure(self, key: str, value: str | None, actor: str) -> Setting:
        """Change a setting, or with None go back to its default."""
        return self._ask(SetConfig(key, value, actor), Setting)


class _Remote(Service):
    """The daemon's, over its socket."""

    def __init__(self, layout: Layout, seconds: float | None = None) -> None:
        self._layout = layout
        self._seconds = seconds
        """How long to wait for the daemon; None: as long as it takes."""

    def ping(self) -> None:
        """Have the daemon answer."""
        self._ask(Ping(), NoneType)

    @contextmanager
    def pinned(self) -> Iterator[Callable[[], None]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            with self._talking():
                self._send(connection, Pin())
                decode_reply(receive(connection))

            def go_on() -> None:
                with self._talking():
                    connection.sendall(b"\1")

            yield go_on
            with self._talking():
                connection.shutdown(socket.SHUT_WR)
                decode_reply(receive(connection))

    def _ask(self, request: Request, kind: type[T], progress: Progress | None = None) -> T:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, self._talking():
            self._send(connection, request)
            answer = _answer(connection, progress or unwatched, decisive=is_decisive(request))
        return msgspec.msgpack.decode(answer, type=kind)

    def _send(self, connection: socket.socket, request: Request) -> None:
        connection.settimeout(self._seconds)
        with short_address(self._layout.socket) as address:
            connection.connect(address)
        send(connection, encode_request(request))

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise DeniedError(f"the daemon of {self._layout.path} belongs to another user", hint=OTHERS) from error
        except OSError as error:
            raise DaemonError(
                f"the daemon of {self._layout.path} does not answer: {error.strerror or error}",
                hint=f"its log is {self._layout.log}",
            ) from error


def _answer(connection: socket.socket, progress: Progress, *, decisive: bool) -> msgspec.Raw:
    """The answer. Who is interrupted in something decisive tells the daemon, and hears whether it was too late."""
    said = False
    with Interrupts(decisive) as interrupts:
        while True:
            _wait(connection, interrupts, until_pressed=not said)
            if interrupts.pressed and not said:
                said = True
                connection.shutdown(socket.SHUT_WR)
                continue
            try:
                answer = decode_reply(receive(connection))
            except AnabranchError:
                interrupts.check()
                raise
            if isinstance(answer, Working):
                progress(answer.done, answer.total)
            elif not isinstance(answer, Pinned):
                return answer


def _wait(connection: socket.socket, interrupts: Interrupts, *, until_pressed: bool) -> None:
    """Wait until there is something to read, or Ctrl-C is pressed. Raises TimeoutError."""
    timeout = connection.gettimeout()
    end = None if timeout is None else time.monotonic() + timeout
    readable = select.poll()
    readable.register(connection, select.POLLIN)
    while not readable.poll(_LOOK * 1000) and not (until_pressed and interrupts.pressed):
        if end is not None and time.monotonic() > end:
            raise TimeoutError("timed out")


class _Local(Service):
    """This process's own."""

    def __init__(self, repository: Repository, died: Owner | None) -> None:
        self._repository = repository
        self.died = died
        self.recovered = repository.recovered

    def commit(
        self, branch: RefName, note: Note, actor: str, *,
        paths: list[bytes] | None = None, any_clock: bool = False, allow_empty: bool = False,
        progress: Progress | None = None,
    ) -> Committed:  # fmt: skip
        """Refused beside a dead mount."""
        self._check_no_dead_mount("commit")
        return super().commit(
            branch, note, actor, paths=paths, any_clock=any_clock, allow_empty=allow_empty, progress=progress
        )

    def move(self, branch: RefName, move: Move, actor: str) -> Moved:
        """Refused beside a dead mount."""
        self._check_no_dead_mount("go on")
        return super().move(branch, move, actor)

    def _check_no_dead_mount(self, then: str) -> None:
        """Who has just written there means that, not what is left of it."""
        path = self._repository.layout.path
        for known in mounts.of(path):
            if known.is_dead():
                raise RefusedError(
                    f"the daemon of the mount at {known.directory} died; what it had not saved yet is gone",
                    hint=f"ana mount {path} {known.directory} brings the rest back: look at it, then {then}",
                )

    @contextmanager
    def pinned(self) -> Iterator[Callable[[], None]]:
        self._repository.settle_down()
        yield lambda: None

    def _ask(self, request: Request, kind: type[T], progress: Progress | None = None) -> T:
        with Interrupts(is_decisive(request)) as interrupts:  # what is made is told, and a commit is not cut in two

            def going_on(done: int, total: int) -> None:
                interrupts.check()
                (progress or unwatched)(done, total)

            done = perform(self._repository, request, going_on)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(done), type=kind)


def ping(path: Path, seconds: float) -> None:
    """See that the daemon of a repository answers within so many seconds. Raises DaemonError, DeniedError."""
    _Remote(Layout(path), seconds).ping()


def perform(repository: Repository, request: Request, progress: Progress | None = None) -> object:
    """Carry a request out, in the thread of the working trees."""
    match request:
        case Commit():
            name, who = RefName(request.branch), Who(request.actor, "command")
            return repository.commit(
                name, request.note, who,
                paths=request.paths, any_clock=request.any_clock, allow_empty=request.allow_empty, progress=progress,
            )  # fmt: skip
        case Status():
            return [short(change) for change in repository.status(RefName(request.branch))]
        case Ignored():
            return repository.ignored(RefName(request.branch))
        case Diff():
            return [short(it) for it in repository.diff_working(ObjectId(request.old), RefName(request.branch))]
        case Look():
            return repository.look(RefName(request.branch), request.path)
        case Listing():
            return repository.listing(RefName(request.branch), request.path)
        case Read():
            return repository.read_working(RefName(request.branch), request.path, request.offset, request.length)
        case CreateBranch():
            return repository.create_branch(request.name, ObjectId(request.start), Who(request.actor, "command"))
        case CreateTag():
            return repository.create_tag(request.name, ObjectId(request.target), Who(request.actor, "command"))
        case RenameBranch():
            repository.rename_branch(request.old, request.new, Who(request.actor, "command"))
        case DeleteBranch():
            repository.delete_branch(request.name, Who(request.actor, "command"))
        case DeleteTag():
            repository.delete_tag(request.name, Who(request.actor, "command"))
        case BringBack():
            return repository.bring_back(request.name, Who(request.actor, "command"))
        case Put():
            repository.put(request.chunks, request.objects)
        case Restore():
            source = repository.given(request.root, ObjectId(request.links))
            return repository.restore(
                RefName(request.branch), source, request.paths, new_too=request.new_too, kept=request.kept
            )
        case MoveBranch():
            return repository.move(RefName(request.branch), request.move, Who(request.actor, "command"))
        case SetConfig():
            return repository.configure(request.key, request.value, request.actor)
    return None


@contextmanager
def connect(path: Path) -> Iterator[Service]:
    """The service of a repository: the daemon's if there is one, else this process becomes the owner for a while.

    Raises what opening a repository raises, RefusedError when another command owns it.
    """
    layout = check(path, writable=True)
    turn = _turns.setdefault(layout.path, threading.RLock())
    with turn:
        is_served = locks.is_held(layout) and layout.socket.exists()
    if is_served:
        yield _Remote(layout)
        return
    with turn, locks.acquire(layout, patience=PATIENCE) as lock:
        layout.socket.unlink(missing_ok=True)  # of a daemon that was killed: others would take us for it
        with Repository(path, writable=True) as repository:
            yield _Local(repository, lock.died)
            repository.settle_down()
