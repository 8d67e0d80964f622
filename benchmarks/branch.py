"""A branch of a repository without a mount: the same calls as the mount makes, in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch import repo
from anabranch.commit import Committed
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.contents import NotLoaded
from anabranch.versions.objects import EntryKind
from anabranch.versions.refs import Who
from anabranch.worktree import settle
from anabranch.worktree.inodes import Inode
from anabranch.worktree.tree import AttributeChanges, WorkingTree

MAIN = RefName("main")
WHO = Who("benchmark", "benchmark")


class OpenBranch:
    """Branch `main` of a repository that this process has open for writing."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            repo.create(path, source=WHO.source)
        self.path = path
        self.repository = Repository(path, writable=True)

    @property
    def tree(self) -> WorkingTree:
        return self.repository.branch(MAIN).tree

    def find(self, *names: bytes) -> Inode:
        ino = self.tree.root
        for name in names:
            ino = self.tree.lookup(ino, name).ino
        return ino

    def make_folder(self, name: bytes) -> Inode:
        return self.tree.create(self.tree.root, name, EntryKind.DIRECTORY, 0o755, 1000, 1000).ino

    def make_file(self, parent: Inode, name: bytes) -> Inode:
        return self.tree.create(parent, name, EntryKind.FILE, 0o644, 1000, 1000).ino

    def write(self, ino: Inode, offset: int, data: bytes) -> None:
        while True:
            try:
                self.tree.write(ino, offset, data)
                return
            except NotLoaded as missing:
                self.repository.contents.load(missing.chunks)

    def replace(self, ino: Inode, data: bytes) -> None:
        """New content in the place of the old, as `open` with O_TRUNC and `write` do it."""
        self.empty(ino)
        self.write(ino, 0, data)

    def empty(self, ino: Inode) -> None:
        self.tree.setattr(ino, AttributeChanges(size=0))

    def settle(self) -> None:
        """What a daemon does every second: small files that are closed become chunks, the rest is saved."""
        repository, tree = self.repository, self.tree
        chosen = settle.choose(tree.table, ())
        if chosen:
            stored = settle.store(repository.objects, repository.chunks, tree.sources, chosen)
            settle.settle(tree.table, chosen, stored)
        repository.save()

    def commit(self) -> Committed:
        return self.repository.commit(MAIN, "a benchmark", WHO)

    def forget(self) -> None:
        """As a kernel that knows no inode any more: what is clean leaves the memory."""
        for ino in list(self.tree.table.nodes):
            self.tree.table.forget(ino)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside, nobody has the repository open; afterwards every cache is cold. All must be committed."""
        self.repository.close()
        yield
        self.repository = Repository(self.path, writable=True)

    def close(self) -> None:
        self.repository.close()

    def delete(self) -> None:
        self.close()
        shutil.rmtree(self.path)
