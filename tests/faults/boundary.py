"""In the daemon: what it calls of the system, of LMDB and of its codecs is asked for at a switch first."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import lmdb
from trio import _threads

from anabranch.daemon import server
from anabranch.errors import DamagedError
from anabranch.fuse import pyfuse
from anabranch.store import chunks, handles, layout, records
from anabranch.worktree import content, journal, space
from tests.faults.roots import root_cannot_be_written
from tests.faults.switch import Kind, Switch


class _Names:
    """A module, but for some names."""

    def __init__(self, module: ModuleType, **others: object) -> None:
        self._module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Boundaries:
    """Raises what a switch says."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def strikes(self, boundary: str) -> bool:
        """Before a call that the system itself is to have fail."""
        return self._switch.hit(boundary) is not None

    def hit(self, boundary: str) -> None:
        """Before a call."""
        kind = self._switch.hit(boundary)
        if kind is not None:
            raise _failure(boundary, kind)

    def before(self, boundary: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, that may fail."""

        def called(*arguments: Any, **named: Any) -> Any:
            self.hit(boundary)
            return call(*arguments, **named)

        return called

    def names(self, module: ModuleType, place: str, calls: tuple[str, ...]) -> Any:
        """A module for one that uses it; these functions of it may fail."""
        return _Names(module, **{call: self.before(f"{place}.{call}", getattr(module, call)) for call in calls})


def _failure(boundary: str, kind: Kind) -> BaseException:
    place = boundary.partition(".")[0]
    if place in ("thread", "process"):
        return (
            BlockingIOError(errno.EAGAIN, "injected") if place == "process" else RuntimeError("can't start new thread")
        )
    if kind is Kind.UNFORESEEN:
        return MemoryError("injected")
    if place == "chunk":
        return DamagedError("chunk 0123: injected")
    if place in ("meta", "index", "volume"):
        return {
            Kind.BROKEN: lmdb.Error("injected: Input/output error"),
            Kind.FULL: lmdb.MapFullError("injected"),
            Kind.ROTTEN: lmdb.CorruptedError("injected"),
        }[kind]
    code = {Kind.BROKEN: errno.EIO, Kind.FULL: errno.ENOSPC, Kind.ROTTEN: errno.EIO}[kind]
    return OSError(code, os.strerror(code))


class _Cursor:
    def __init__(self, cursor: Any, place: str, boundaries: Boundaries) -> None:
        self._cursor, self._place, self._boundaries = cursor, place, boundaries

    def __enter__(self) -> "_Cursor":
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cursor, name)
        if name in ("key", "value", "close"):
            return found
        return self._boundaries.before(f"{self._place}.cursor", found)


class _Transaction:
    def __init__(self, transaction: Any, path: Path, place: str, boundaries: Boundaries, *, write: bool) -> None:
        self._transaction, self._path, self._place = transaction, path, place
        self._boundaries, self._write = boundaries, write

    def __enter__(self) -> "_Transaction":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self._write and kind is None:
                self._boundaries.hit(f"{self._place}.commit")
                struck = self._boundaries.strikes(f"{self._place}.root")
                with root_cannot_be_written(self._path) if struck else nullcontext():
                    self._transaction.commit()
        finally:
            self._transaction.abort()  # nothing, after a commit

    def cursor(self, **named: Any) -> _Cursor:
        return _Cursor(self._transaction.cursor(**named), self._place, self._boundaries)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._transaction, name)
        if name in ("get", "put", "delete"):
            return self._boundaries.before(f"{self._place}.{name}", found)
        return found


class _Environment:
    def __init__(self, environment: Any, place: str, boundaries: Boundaries) -> None:
        self._environment, self._place, self._boundaries = environment, place, boundaries

    def begin(self, *, write: bool = False, buffers: bool = False) -> _Transaction:
        self._boundaries.hit(f"{self._place}.begin")
        transaction = self._environment.begin(write=write, buffers=buffers)
        path = Path(self._environment.path())
        return _Transaction(transaction, path, self._place, self._boundaries, write=write)

    def copyfd(self, descriptor: int, *, compact: bool, txn: _Transaction) -> None:
        self._environment.copyfd(descriptor, compact=compact, txn=txn._transaction)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)


def install(control: str) -> None:
    """Have the calls of this process fail as the switch says."""
    boundaries = Boundaries(Switch(Path(control)))

    def open_environment(path: str, **named: Any) -> _Environment:
        name = Path(path).name
        place = {"meta.mdb": "meta", "index.mdb": "index"}.get(name, "volume")
        boundaries.hit(f"{place}.open")
        return _Environment(lmdb.open(path, **named), place, boundaries)

    unlink = os.unlink

    def unlink_there(path: Any, **named: Any) -> None:
        place = {"overlays": "overlay", "journal": "journal"}.get(Path(os.fsdecode(path)).parent.name)
        if place is not None:
            boundaries.hit(f"{place}.unlink")
        unlink(path, **named)

    class Client(threading.Thread):
        def start(self) -> None:
            if self.name == "client":
                boundaries.hit("thread.client")
            super().start()

    start = boundaries.before("process.start", subprocess.Popen)
    vars(os)["unlink"] = unlink_there  # pathlib looks it up there
    vars(content)["os"] = boundaries.names(os, "overlay", ("open", "pwrite", "pread", "fdatasync", "fsync"))
    vars(journal)["os"] = boundaries.names(os, "journal", ("open", "pwrite", "fdatasync", "ftruncate"))
    vars(journal)["sync_directory"] = boundaries.before("journal.fsync", layout.sync_directory)
    vars(space)["os"] = boundaries.names(os, "space", ("statvfs", "open", "posix_fallocate"))
    vars(handles)["lmdb"] = _Names(lmdb, open=open_environment)
    vars(chunks)["frame"] = boundaries.before("chunk.frame", records.frame)
    vars(chunks)["unframe"] = boundaries.before("chunk.unframe", records.unframe)
    vars(_threads)["start_thread_soon"] = boundaries.before("thread.worker", vars(_threads)["start_thread_soon"])
    vars(pyfuse)["subprocess"] = _Names(subprocess, Popen=start)
    vars(server)["threading"] = _Names(threading, Thread=Client)
