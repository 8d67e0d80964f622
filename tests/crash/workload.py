"""The programs that work on the mount until it is gone, each in a process of its own.

`python -m tests.crash.workload KIND DIRECTORY LEDGER SEED JSON` runs one. What it does comes from the seed and from
what it finds in its directory. It ends at the first error, which its ledger keeps: the judge knows when the crash was.
"""

import errno
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from tests.crash.ledger import Op, Writer
from tests.crash.model import content, scan, state_of

PATHS_MAX = 40
BYTES_MAX = 12_000_000
"""A directory that is fuller only loses files: what is read after every crash must not grow."""


class Files:
    """All that can be done to files and directories, and commits; a step is one line of the ledger.

    Options: `branch` and `message` (without them, no commits), `ana` (the command), `sync` (whether ever).
    """

    def __init__(self, directory: Path, ledger: Writer, seed: str, options: dict[str, Any]) -> None:
        self._top = directory
        self._ledger = ledger
        self._random = random.Random(seed)
        self._options = options
        self._state = state_of(scan(directory))
        self._number = 0

    def run(self) -> None:
        """Step after step."""
        while True:
            for op in self._choose():
                self._do(op)

    def _do(self, op: Op) -> None:
        self._ledger.begin(op)
        said = getattr(self, f"_{op['do']}")(self._top / op.get("path", ""), op)
        self._ledger.end(**said)
        if op["do"] != "commit":
            self._state = self._state.after(op)[-1]

    # --- what to do

    def _choose(self) -> Iterator[Op]:
        draw = self._random
        files = self._state.files()
        if len(self._state.names) > PATHS_MAX or self._state.size() > BYTES_MAX:
            last = max(self._state.names)  # nothing is below it
            path = last if last not in files or draw.random() < 0.5 else draw.choice(files)
            yield {"do": "unlink" if path in files else "rmdir", "path": path}
            return
        if not files:
            yield self._written(self._new())
            return
        path = draw.choice(files)
        size = len(self._state.at(path).content or b"")
        choices: list[tuple[int, Callable[[], Iterator[Op]]]] = [
            (12, lambda: iter([self._written(self._new())])),
            (4, lambda: iter([self._written(path)])),
            (8, lambda: self._replaced(path)),
            (8, lambda: iter([{"do": "append", "path": path, **self._piece(20_000)}])),
            (10, lambda: iter([self._overwritten(self._largest(), 40_000)])),
            (4, lambda: iter([self._overwritten(path, 3_000)])),
            (
                4,
                lambda: iter([{"do": "truncate", "path": path, "size": draw.randrange(size + 9_000), **self._maybe()}]),
            ),
            (4, lambda: iter([{"do": "unlink", "path": path}])),
            (3, lambda: iter([{"do": "link", "path": path, "to": self._new()}])),
            (6, lambda: iter([{"do": "rename", "path": path, "to": draw.choice([self._new(), *files])}])),
            (3, lambda: self._made_deep()),
            (2, lambda: self._moved()),
            (3, lambda: iter([self._dressed(path)])),
            (4, lambda: self._synced(path)),
            (3, lambda: self._synced(draw.choice(self._state.directories()))),
            (2 if "branch" in self._options else 0, self._committed),
        ]
        yield from draw.choices([make for _, make in choices], [weight for weight, _ in choices])[0]()

    def _new(self) -> str:
        """A path that nothing has."""
        while True:
            self._number += 1
            path = os.path.join(self._random.choice(self._state.directories()), f"f{self._number}")
            if path not in self._state.names:
                return path

    def _maybe(self) -> Op:
        return {"sync": self._options["sync"] and self._random.random() < 0.5}

    def _piece(self, most: int) -> Op:
        # Few seeds: copies of what was stored before are part of the load.
        return {"size": self._random.randrange(1, most), "seed": self._random.randrange(20), **self._maybe()}

    def _written(self, path: str) -> Op:
        most = self._random.choices([500, 5_000, 60_000, 200_000, 4_000_000], [10, 10, 10, 4, 2])[0]
        return {"do": "write", "path": path, **self._piece(most)}

    def _largest(self) -> str:
        return max(self._state.files(), key=lambda path: len(self._state.at(path).content or b""))

    def _overwritten(self, path: str, most: int) -> Op:
        size = len(self._state.at(path).content or b"")
        if size < 2:
            return self._written(path)
        piece = self._piece(min(most, size))
        return {"do": "overwrite", "path": path, "offset": self._random.randrange(size - piece["size"] + 1), **piece}

    def _replaced(self, path: str) -> Iterator[Op]:
        """The way of editors: written beside, fsynced, renamed over, the directory fsynced."""
        beside = self._new()
        yield {**self._written(beside), "sync": self._options["sync"]}
        yield {"do": "rename", "path": beside, "to": path}
        yield from self._synced(os.path.dirname(path))

    def _made_deep(self) -> Iterator[Op]:
        path = self._new()
        yield {"do": "mkdir", "path": path}
        if self._random.random() < 0.5:
            path = os.path.join(path, "deep")
            yield {"do": "mkdir", "path": path}
            yield self._written(os.path.join(path, "file"))
        yield from self._synced(path)

    def _moved(self) -> Iterator[Op]:
        """A directory is renamed, or removed if it is empty."""
        directory = self._random.choice(self._state.directories())
        if directory == "":
            return
        if not any(path.startswith(directory + "/") for path in self._state.names):
            yield {"do": "rmdir", "path": directory}
            return
        new = self._new()
        if not new.startswith(directory + "/"):
            yield {"do": "rename", "path": directory, "to": new}

    def _dressed(self, path: str) -> Op:
        mode = self._random.choice([0o600, 0o644, 0o755])
        return {"do": "dress", "path": path, "mode": mode, "mtime_ns": self._random.randrange(10**18)}

    def _synced(self, path: str) -> Iterator[Op]:
        if self._maybe()["sync"]:
            yield {"do": "sync", "path": path}

    def _committed(self) -> Iterator[Op]:
        self._number += 1
        via = self._random.choice(["file", "file", "command"])
        yield {"do": "commit", "via": via, "message": f"{self._options['message']} {self._number}"}

    # --- how it is done; returns what is known since

    def _write(self, path: Path, op: Op) -> Op:
        return self._put(path, os.O_CREAT | os.O_TRUNC, None, op)

    def _append(self, path: Path, op: Op) -> Op:
        return self._put(path, os.O_APPEND, None, op)

    def _overwrite(self, path: Path, op: Op) -> Op:
        return self._put(path, 0, op["offset"], op)

    def _put(self, path: Path, flags: int, offset: int | None, op: Op) -> Op:
        raw = content(op["seed"], op["size"])
        with Descriptor(path, os.O_WRONLY | flags) as descriptor:
            written = os.write(descriptor, raw) if offset is None else os.pwrite(descriptor, raw, offset)
            assert written == len(raw)
            return self._finish(descriptor, op)

    def _truncate(self, path: Path, op: Op) -> Op:
        with Descriptor(path, os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, op["size"])
            return self._finish(descriptor, op)

    def _finish(self, descriptor: int, op: Op) -> Op:
        if op["sync"]:
            os.fsync(descriptor)
        return {"durable": op["sync"], "inode": os.fstat(descriptor).st_ino}

    def _sync(self, path: Path, op: Op) -> Op:
        with Descriptor(path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)
        return {"durable": True}

    def _rename(self, path: Path, op: Op) -> Op:
        os.rename(path, self._top / op["to"])
        return {}

    def _link(self, path: Path, op: Op) -> Op:
        os.link(path, self._top / op["to"])
        return {}

    def _unlink(self, path: Path, op: Op) -> Op:
        path.unlink()
        return {}

    def _rmdir(self, path: Path, op: Op) -> Op:
        path.rmdir()
        return {}

    def _mkdir(self, path: Path, op: Op) -> Op:
        path.mkdir(mode=0o755)
        return {"inode": path.stat().st_ino}

    def _dress(self, path: Path, op: Op) -> Op:
        path.chmod(op["mode"])
        os.utime(path, ns=(op["mtime_ns"], op["mtime_ns"]))
        return {}

    def _commit(self, path: Path, op: Op) -> Op:
        """Another program may just have committed what there was: then this one committed nothing."""
        branch = Path(self._options["branch"])
        if op["via"] == "file":
            try:
                (branch / ".ana/commit").write_text(op["message"])
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
                return {"durable": False}
            return {"durable": True}
        command = [self._options["ana"], "commit", "-m", op["message"]]
        ended = subprocess.run(command, cwd=branch, capture_output=True, text=True, check=False)
        if ended.returncode not in (0, 1):
            raise OSError(f"ana commit: {ended.stderr}")
        return {"durable": ended.returncode == 0}


class Descriptor:
    """An open file, closed at the end; the errors of close(2) count."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, flags, 0o644)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class Log:
    """One file that stays open: lines are appended, and fsynced now and then. Option: `sync`, whether ever."""

    def __init__(self, directory: Path, ledger: Writer, seed: str, options: dict[str, Any]) -> None:
        self._path = directory / "log"
        self._ledger = ledger
        self._random = random.Random(seed)
        self._options = options

    def run(self) -> None:
        """Line after line."""
        with Descriptor(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
            for number in count():
                op = {"do": "line", "seed": number % 50, "size": self._random.randrange(1, 3000)}
                self._ledger.begin(op)
                os.write(descriptor, content(op["seed"], op["size"]))
                if durable := self._options["sync"] and self._random.random() < 0.2:
                    os.fsync(descriptor)
                self._ledger.end(durable=durable)
                os.statvfs(self._path.parent)  # the kernel takes writes for a mount that is gone, and forgets them
                time.sleep(0.001)  # a log grows, but not without end


class Database:
    """SQLite, a line of the ledger for each transaction. Option: `journal`, its mode."""

    def __init__(self, directory: Path, ledger: Writer, seed: str, options: dict[str, Any]) -> None:
        self._path = directory / "database"
        self._ledger = ledger
        self._random = random.Random(seed)
        self._options = options

    def prepare(self) -> None:
        """Make the tables."""
        with closing(self._connect()) as connection:  # left open, a file of the mount would stay mapped
            connection.executescript(
                "create table rows (number integer primary key, payload blob) strict;"
                "create table totals (number integer) strict;"
                "insert into totals values (0);"
            )

    def run(self) -> None:
        """Transaction after transaction: a row is added, the total follows."""
        connection = self._connect()
        ((number,),) = connection.execute("select number from totals")
        while True:
            number += 1
            self._ledger.begin({"do": "transaction", "number": number})
            connection.execute("begin immediate")
            connection.execute("insert into rows values (?, ?)", (number, payload(number)))
            connection.execute("update totals set number = ?", (number,))
            if self._random.random() < 0.1:  # more pages than one
                connection.execute("update rows set payload = payload where number % 7 = 0")
            connection.execute("commit")
            self._ledger.end()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute(f"pragma journal_mode = {self._options['journal']}")
        # A transaction in DELETE mode ends with an unlink, which only EXTRA makes durable.
        connection.execute(f"pragma synchronous = {'full' if self._options['journal'] == 'wal' else 'extra'}")
        return connection


def payload(number: int) -> bytes:
    """What the row of a transaction holds."""
    return content(number % 97, 1 + number * 37 % 2500)


class Git:
    """A git repository, a line of the ledger for each commit."""

    def __init__(self, directory: Path, ledger: Writer, seed: str, options: dict[str, Any]) -> None:
        self._top = directory
        self._ledger = ledger
        self._random = random.Random(seed)

    def prepare(self) -> None:
        """Make the repository."""
        git(self._top, "init", "-q", "-b", "main")
        for name, value in GIT_OPTIONS.items():
            git(self._top, "config", name, value)

    def run(self) -> None:
        """Commit after commit."""
        for lock in self._top.glob(".git/**/*.lock"):
            lock.unlink()  # of a git that the last crash ended
        done = git(self._top, "log", "--all", "--format=%s").splitlines()
        for number in count(len(done)):
            for _ in range(self._random.randrange(1, 4)):
                path = self._top / f"file {self._random.randrange(30)}"
                path.write_bytes(content(number, self._random.randrange(1, 30_000)))
            (self._top / "number").write_text(str(number))
            self._ledger.begin({"do": "git", "message": f"commit {number}"})
            git(self._top, "add", "-A")
            git(self._top, "commit", "-q", "-m", f"commit {number}")
            # git fsyncs what it writes, but not the name that its last rename gave to the branch.
            with Descriptor(self._top / ".git/refs/heads", os.O_RDONLY) as descriptor:
                os.fsync(descriptor)
            self._ledger.end()


GIT_OPTIONS = {
    "user.name": "nobody",
    "user.email": "nobody@localhost",
    "core.fsync": "all",
    "core.fsyncMethod": "fsync",
    "gc.auto": "0",
}


def git(top: Path, *arguments: str) -> str:
    """What git says. Raises OSError."""
    ended = subprocess.run(["git", *arguments], cwd=top, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise OSError(f"git {arguments[0]} ended with {ended.returncode}: {ended.stdout} {ended.stderr}")
    return ended.stdout


KINDS: dict[str, type[Files | Log | Database | Git]] = {"files": Files, "log": Log, "database": Database, "git": Git}


def main() -> None:
    """Run one program, to the first error."""
    kind, directory, path, seed, options = sys.argv[1:]
    os.umask(0o022)
    ledger = Writer(Path(path))
    try:
        KINDS[kind](Path(directory), ledger, seed, json.loads(options)).run()
    except (OSError, sqlite3.Error) as error:
        ledger.failed(repr(error))


if __name__ == "__main__":
    main()
