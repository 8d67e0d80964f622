"""A fixed run of work on a mount, by programs that may be told of errors, and what must be there afterwards.

Whatever was told to be done is done: a name that was made is there, bytes that were fsynced or whose file was closed
are those that were written, a version that was made holds them. What failed has happened or has not.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anabranch import AnabranchError, Repository
from tests.harness import Mount, errno_of

LARGE = 300_000
SMALL = 3_000


def content(name: object, size: int) -> bytes:
    """Bytes that no compressor makes smaller."""
    return random.Random(str(name)).randbytes(size)


def usable(mount: Mount, name: str) -> None:
    """Everything goes on: whoever makes a file, and is told at most once of what went wrong before, has it."""
    assert "main" in os.listdir(mount.root)
    file = mount.main / f"usable-{name}"
    file.write_bytes(content(name, 100_000))
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert 0 in (errno_of(os.fsync, descriptor), errno_of(os.fsync, descriptor))
    finally:
        os.close(descriptor)
    assert file.read_bytes() == content(name, 100_000)
    file.unlink()


@dataclass
class Work:
    """One run, in a directory of its own."""

    mount: Mount
    name: str
    sure: dict[str, bytes | None] = field(default_factory=dict)
    """Paths and what they hold; None: they are not there."""
    either: dict[str, set[bytes | None]] = field(default_factory=dict)
    """Paths of which one of these is true."""
    versions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """What versions hold of the directory, as far as that is sure."""
    refused: list[str] = field(default_factory=list)
    """Messages of commits that failed."""
    errors: list[Exception] = field(default_factory=list)
    """What programs were told."""

    @property
    def place(self) -> Path:
        """Where it is done."""
        return self.mount.main / self.name

    def prepare(self) -> None:
        """Before any fault: files that are committed, and files that are fsynced."""
        (self.place / "directory").mkdir(parents=True)
        for name, size in (("old-small", SMALL), ("old-large", LARGE), ("cut", LARGE), ("unlinked", SMALL)):
            self._write(name, content(name + self.name, size))
        self._commit_by_file("before")
        for name, size in (("kept-small", SMALL), ("kept-large", LARGE)):
            self._write(name, content(name + self.name, size))
        assert not self.errors

    def run(self) -> None:
        """The work."""
        self._write("small", content("small", SMALL))
        self._write("large", content("large", LARGE))
        self._write("grown", content("grown", SMALL))
        self._write("grown", content("grown", LARGE))
        self._write("closed", content("closed", LARGE), sync=False)
        self._overwrite("old-large", 100_000, content("over", 10_000))
        self._truncate("cut", 70_000)
        self._write("fresh", content("fresh", SMALL))
        self._rename("fresh", "old-small")
        self._name("linked", lambda: os.link(self.place / "kept-large", self.place / "linked"), self.sure["kept-large"])
        self._name("unlinked", (self.place / "unlinked").unlink, None)
        self._try((self.place / "directory" / "below").mkdir)
        self._try(lambda: os.symlink("small", self.place / "symbolic"))
        self._try(lambda: list(os.scandir(self.place)))
        self._sync(self.place)
        self._commit_by_file("by file")
        self._write("small", content("small again", SMALL))
        self._branch()
        self._restore("small")
        self._write("last", content("last", LARGE))
        self._commit_by_library("by library")
        for path in sorted(self.sure):
            self._try((self.place / path).read_bytes if self.sure[path] is not None else lambda: b"")

    def check(self) -> None:
        """All that is sure is true. Nothing may fail now."""
        self._check_below(self.place, self.sure)
        for path, allowed in self.either.items():
            found = (self.place / path).read_bytes() if (self.place / path).exists() else None
            assert found in allowed, f"{path} is neither as it was nor as it was to be"
        for version, paths in self.versions.items():
            self._check_below(self.mount.root / version / self.name, paths)
        messages = self.mount.messages()
        for message in self.refused:
            assert message not in messages, f"the commit {message!r} failed, and was made"

    @staticmethod
    def _check_below(place: Path, paths: "dict[str, bytes] | dict[str, bytes | None]") -> None:
        for path, expected in paths.items():
            found = (place / path).read_bytes() if expected is not None or (place / path).exists() else None
            assert found == expected, f"{place / path} is not what it was told to be"

    def _try(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except (OSError, AnabranchError) as error:
            self.errors.append(error)
            return False
        return True

    def _unsure(self, path: str, *allowed: bytes | None) -> None:
        """What is at a path is unknown, or one of these."""
        self.sure.pop(path, None)
        self.either.pop(path, None)
        if allowed:
            self.either[path] = set(allowed)

    def _put(self, path: str, expected: bytes | None) -> None:
        self._unsure(path)
        self.sure[path] = expected

    def _write(self, path: str, data: bytes, *, sync: bool = True) -> None:
        def write() -> None:
            with (self.place / path).open("wb", buffering=0) as file:
                file.write(data)
                if sync:
                    os.fsync(file.fileno())

        if self._try(write):
            self._put(path, data)
        else:
            self._unsure(path)

    def _overwrite(self, path: str, offset: int, data: bytes) -> None:
        def write() -> None:
            with (self.place / path).open("r+b", buffering=0) as file:
                file.seek(offset)
                file.write(data)
                os.fsync(file.fileno())

        before = self.sure[path]
        assert before is not None
        if self._try(write):
            self._put(path, before[:offset] + data + before[offset + len(data) :])
        else:
            self._unsure(path)

    def _truncate(self, path: str, size: int) -> None:
        before = self.sure[path]
        assert before is not None
        if self._try(lambda: os.truncate(self.place / path, size)):
            self._put(path, before[:size])
        else:
            self._unsure(path, before, before[:size])

    def _rename(self, source: str, target: str) -> None:
        moved, before = self.sure.get(source), self.sure[target]
        if moved is None:
            return
        if self._try(lambda: (self.place / source).rename(self.place / target)):
            self._put(target, moved)
            self._put(source, None)
        else:
            self._unsure(target, before, moved)
            self._unsure(source, moved, None)

    def _name(self, path: str, change: Callable[[], object], after: bytes | None) -> None:
        before = self.sure.get(path)
        if self._try(change):
            self._put(path, after)
        else:
            self._unsure(path, before, after)

    def _sync(self, path: Path) -> None:
        def sync() -> None:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        self._try(sync)

    def _commit(self, message: str, commit: Callable[[str], str]) -> None:
        message = f"{self.name} {message}"
        held = {path: data for path, data in self.sure.items() if data is not None}
        made: list[str] = []
        if self._try(lambda: made.append(commit(message))):
            self.versions[made[0]] = held
        else:
            self.refused.append(message)

    def _commit_by_file(self, message: str) -> None:
        def commit(message: str) -> str:
            with (self.mount.main / ".ana/commit").open("wb", buffering=0) as control:
                control.write(message.encode())
            return self._version_of(message)

        self._commit(message, commit)

    def _version_of(self, message: str) -> str:
        """Where the version of a commit that was made is to be found. Nothing that may fail is asked."""
        with Repository(self.mount.path) as repository:
            return next(str(version) for version in repository.branch("main").log() if version.message == message)

    def _commit_by_library(self, message: str) -> None:
        def commit(message: str) -> str:
            with Repository(self.mount.path) as repository:
                return str(repository.branch("main").commit(message))

        self._commit(message, commit)

    def _branch(self) -> None:
        branch = self.mount.root / self.name
        if self._try(branch.mkdir):
            self._try(lambda: (branch / "in a branch").write_bytes(content("branch", SMALL)))
            self._try(lambda: (branch / ".ana/discard").write_text("."))
            self._try(branch.rmdir)

    def _restore(self, path: str) -> None:
        """Put back what the last commit holds; it was `content("small")` or nothing."""
        self._unsure(path)
        self._try(lambda: (self.mount.main / ".ana/restore").write_text(f"{self.name}/{path}"))
