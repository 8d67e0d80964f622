"""A repository that is open for reading: whoever uses its files says so, and closing waits for him.

Nothing of the caller runs while the files are in use: iterators use them for one step at a time. So any thread may
close, and nobody ever reads a file that is not open any more.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from anabranch import repo
from anabranch.api.files import Read
from anabranch.daemon.client import Service, connect
from anabranch.errors import AnabranchError, DeniedError, RefusedError, UsageError
from anabranch.versions.manifests import Stored

log = logging.getLogger("anabranch")

T = TypeVar("T")


class Opened:
    """The files of a repository, and the way to its owner. Any thread may use it; no process that was forked since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._idle = threading.Condition()
        self._users = 0
        self._closed = False
        with translated():
            self._core = repo.Repository(path)

    def close(self) -> None:
        """Let go of the files, once nobody uses them. They are the parent's in a process that was forked."""
        if self._process != os.getpid():
            return
        with self._idle:
            if self._closed:
                return
            self._closed = True
            self._idle.wait_for(lambda: not self._users)
        self._core.close()

    @contextmanager
    def using(self) -> Iterator[repo.Repository]:
        """The open repository, which stays open inside. Raises RefusedError when it is closed."""
        self._check_process()
        with self._idle:
            if self._closed:
                raise self._is_closed()
            self._users += 1
        try:
            with translated():
                yield self._core
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def each(self, start: Callable[[repo.Repository], Iterable[T]]) -> Iterator[T]:
        """What an iterator of the repository yields; between two steps it is not in use."""
        with self.using() as core:
            rest = iter(start(core))
        while True:
            with self.using():
                step = list(islice(rest, 1))
            if not step:
                return
            yield from step

    def reader(self, stored: Stored) -> Read:
        """What reads a stored content."""

        def read(offset: int, length: int) -> bytes:
            with self.using() as core:
                return core.contents.read_all(stored, offset, length)

        return read

    @contextmanager
    def service(self) -> Iterator[Service]:
        """Whoever owns the repository: a daemon, or for a moment this process."""
        self._check_process()
        if self._closed:
            raise self._is_closed()
        with translated(), connect(self.path) as service:
            if service.died is not None:
                log.warning("process %d died; it had %s mounted", service.died.pid, self.path)
            yield service

    @contextmanager
    def intake(self) -> Iterator[tuple[Service, repo.Repository]]:
        """The owner, and a way to put contents and trees through it."""
        with self.service() as service, repo.Repository(self.path, sink=service) as core:
            yield service, core

    def _is_closed(self) -> RefusedError:
        return RefusedError(f"the repository {self.path} is closed", hint="open it again")

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise RefusedError(
                f"{self.path} was opened before this process was forked",
                hint="open it in the new process only, or spawn that",
            )


@contextmanager
def translated() -> Iterator[None]:
    """Programs meet no errors but those of errors.py."""
    try:
        yield
    except OSError as error:
        place = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
        kind = DeniedError if isinstance(error, PermissionError) else AnabranchError
        raise kind(f"{error.strerror or error}{place}") from error


def local(path: "str | os.PathLike[str]") -> Path:
    """A path of this machine, absolute. Raises UsageError."""
    text = os.fspath(path)
    if not isinstance(text, str) or "\0" in text:
        raise UsageError(f"{text!r} is no path of this machine")
    return Path(os.path.abspath(text))


def actor() -> str:
    """Who runs this process: what changes is noted under his name."""
    return repo.user_name(os.geteuid())
