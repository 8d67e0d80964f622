"""What most tests here need: a place in memory, a repository in it, bytes that are the same every time."""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

from anabranch import repo
from anabranch.errors import NothingToCommitError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.contents import NotLoaded
from anabranch.versions.objects import EntryKind
from anabranch.versions.refs import Who
from anabranch.worktree.inodes import Inode
from anabranch.worktree.restore import Stale
from anabranch.worktree.tree import AttributeChanges, WorkingTree

MAIN = RefName("main")
WHO = Who("ann", "test")
UID, GID = 1000, 1001

T = TypeVar("T")

SEARCH = int(os.environ.get("ANABRANCH_SEARCH", "0"))
"""0: the same examples every time. A number: that many times as many, and other ones each time."""


def examples(count: int, *, steps: int = 50) -> settings:
    """How far Hypothesis goes: by default as far as a test run that people wait for allows."""
    return settings(
        max_examples=count * (SEARCH or 1),
        stateful_step_count=steps,
        deadline=None,
        derandomize=not SEARCH,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone afterwards; in memory where the machine has such a place, since LMDB syncs a lot."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


def make_repository(path: Path) -> Repository:
    """A new repository, open for writing."""
    repo.create(path, source="test")
    return Repository(path, writable=True)


def random_bytes(seed: int, size: int) -> bytes:
    """Incompressible bytes, the same for a seed every time."""
    return random.Random(seed).randbytes(size)


class CoarseClock:
    """Like the kernel's clock for files, several changes fall into one tick; unlike it, always the same ones."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self) -> int:
        self._asked += 1
        return 1_700_000_000_000_000_000 + self._asked // 3 * 4_000_000


class Branch:
    """A branch by paths: what a shell would do with it, without a kernel in between."""

    def __init__(self, repository: Repository, name: RefName = MAIN) -> None:
        self.repository = repository
        self.name = name

    @property
    def tree(self) -> WorkingTree:
        return self.repository.branch(self.name).tree

    def loaded(self, call: Callable[[], T]) -> T:
        """Do as the mount does: load what is missing and try again."""
        while True:
            try:
                return call()
            except NotLoaded as missing:
                self.repository.contents.load(missing.chunks)

    def find(self, path: str) -> Inode:
        ino = self.tree.root
        for name in filter(None, path.split("/")):
            ino = self.tree.lookup(ino, os.fsencode(name)).ino
        return ino

    def parent(self, path: str) -> tuple[Inode, bytes]:
        folder, _, name = path.rpartition("/")
        return self.find(folder), os.fsencode(name)

    def make(self, path: str, kind: EntryKind = EntryKind.FILE, mode: int = 0o644, *, target: bytes = b"") -> Inode:
        return self.tree.create(*self.parent(path), kind, mode, UID, GID, target=target).ino

    def mkdir(self, path: str) -> Inode:
        return self.make(path, EntryKind.DIRECTORY, 0o755)

    def write(self, path: str, data: bytes, offset: int = 0) -> None:
        """Write into a file, making it if need be."""
        try:
            ino = self.find(path)
        except FileNotFoundError:
            ino = self.make(path)
        self.loaded(lambda: self.tree.write(ino, offset, data))

    def truncate(self, path: str, size: int) -> None:
        ino = self.find(path)
        self.loaded(lambda: self.tree.setattr(ino, AttributeChanges(size=size)))

    def chmod(self, path: str, mode: int) -> None:
        self.tree.setattr(self.find(path), AttributeChanges(mode=mode))

    def touch(self, path: str, mtime_ns: int) -> None:
        self.tree.setattr(self.find(path), AttributeChanges(mtime_ns=mtime_ns))

    def link(self, path: str, new: str) -> None:
        self.tree.link(self.find(path), *self.parent(new))

    def unlink(self, path: str) -> None:
        self.tree.unlink(*self.parent(path))

    def rmdir(self, path: str) -> None:
        self.tree.rmdir(*self.parent(path))

    def rename(self, path: str, new: str, flags: int = 0) -> None:
        self.tree.rename(*self.parent(path), *self.parent(new), flags)

    def read(self, path: str) -> bytes:
        ino = self.find(path)
        return self.loaded(lambda: self.tree.read(ino, 0, self.tree.getattr(ino).size))

    def names(self, path: str = "") -> list[str]:
        return [name.decode() for name, _ in self.tree.entries(self.find(path))]

    def commit(self, message: str = "a message") -> int:
        return self.repository.commit(self.name, message, WHO).number

    def restore(self, *paths: str, revision: str | None = None, new_too: bool = False) -> Stale:
        """Put back what a version holds, by default the last one."""
        source = self.repository.resolve(revision or self.name).id
        encoded = [os.fsencode(path) for path in paths]
        stale = Stale()
        self.repository.restore(self.name, self.repository.version(source), encoded, new_too=new_too, stale=stale)
        return stale

    def commit_nothing(self) -> None:
        """There must be nothing to commit."""
        with pytest.raises(NothingToCommitError):
            self.commit()

    def changed(self) -> list[tuple[str, str]]:
        """The uncommitted changes: kind and path."""
        return [(change.change.value, change.path.decode()) for change in self.repository.status(self.name)]

    def forget_all(self) -> None:
        """The kernel knows nothing any more: only what must stay in memory stays."""
        for ino in list(self.tree.table.nodes):
            self.tree.table.forget(ino)

    def at(self, revision: str, path: str) -> bytes:
        """The content of a file in a version."""
        version = self.repository.version(self.repository.resolve(revision).id)
        return b"".join(self.repository.read(version.at(os.fsencode(path))))
