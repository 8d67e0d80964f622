"""Control files: `.ana/` at the root of each branch and of the mount.

A table from name to what is read; what is written goes to whoever the mount appoints (operations.py, for `commit`).
Reading uses direct I/O and gives the text of the moment of open(2).
"""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anabranch
from anabranch import report
from anabranch.errors import AnabranchError
from anabranch.fuse.areas import CONTROL_BITS, NEVER, Area, Found, Item
from anabranch.repo import Branch, Repository
from anabranch.store.layout import FORMAT
from anabranch.store.records import hash_name
from anabranch.versions.objects import EntryKind
from anabranch.worktree.inodes import DIRECTORY_SIZE, Attributes, Inode, now_ns
from anabranch.worktree.tree import Changes, failure

CONTROL_NAME = b".ana"
COMMIT = b"commit"
LIVE = frozenset({b"status", b"status.json", b"diff", b"diff.json"})
"""Files about uncommitted changes: what programs have written must have come to us before they are read."""


@dataclass(slots=True)
class Outcome:
    """What the control files of a directory last came to."""

    result: str = ""
    error: str = ""


def failed(error: Exception) -> str:
    """The text of `.ana/error`."""
    hint = f"hint: {error.hint}\n" if isinstance(error, AnabranchError) and error.hint else ""
    return f"{error}\n{hint}"


class ControlArea(Area):
    """One `.ana` directory."""

    def __init__(self, owner: Inode, files: Mapping[bytes, Callable[[], str]], writable: frozenset[bytes]) -> None:
        self._files = files
        self._writable = writable
        self._directory = Inode(CONTROL_BITS | hash_name(CONTROL_NAME, owner) >> 2)
        self._names = {Inode(CONTROL_BITS | hash_name(b"/" + name, owner) >> 2): name for name in files}
        self._numbers = {name: ino for ino, name in self._names.items()}
        self._born = now_ns()

    def directory(self) -> Found:
        """The directory itself."""
        return self._found(self._directory, EntryKind.DIRECTORY, 0o755)

    def name(self, ino: Inode) -> bytes:
        """The name of a control file."""
        return self._names[ino]

    def text(self, ino: Inode) -> bytes:
        """What reading a control file gives now. Raises AnabranchError."""
        return self._files[self._names[ino]]().encode(errors="surrogateescape")

    def lookup(self, parent: Inode, name: bytes) -> Found:
        ino = self._numbers.get(name)
        if parent != self._directory:
            raise failure(errno.ENOTDIR)
        if ino is None:
            raise failure(errno.ENOENT)
        return self.getattr(ino)

    def getattr(self, ino: Inode) -> Found:
        if ino == self._directory:
            return self.directory()
        return self._found(ino, EntryKind.FILE, 0o644 if self._names[ino] in self._writable else 0o444)

    def list(self, ino: Inode) -> list[Item]:
        if ino != self._directory:
            raise failure(errno.ENOTDIR)
        return [self._item(name, number) for name, number in self._numbers.items()]

    def _item(self, name: bytes, ino: Inode) -> Item:
        return Item(name, lambda: self.getattr(ino))

    def open(self, ino: Inode, *, writing: bool, truncate: bool) -> None:
        if (writing or truncate) and self._names[ino] not in self._writable:
            raise failure(errno.EACCES)

    def setattr(self, ino: Inode, changes: Changes) -> Found:
        """Truncating is what shells do before they write; anything else is refused."""
        if changes.mode is not None or changes.uid is not None or changes.gid is not None:
            raise failure(errno.EPERM)
        return self.getattr(ino)

    def _found(self, ino: Inode, kind: EntryKind, mode: int) -> Found:
        size, links = (DIRECTORY_SIZE, 2) if kind == EntryKind.DIRECTORY else (0, 1)
        return Found(
            self,
            Attributes(ino, kind, mode, os.getuid(), os.getgid(), size, self._born, self._born, links),
            NEVER,
            NEVER,
        )


def of_branch(repository: Repository, branch: Branch, outcome: Outcome) -> ControlArea:
    """The control directory of a branch. `branch.name` is asked anew each time: a branch may be renamed."""

    def changes_text() -> str:
        return report.diff_text(repository.status(branch.name))

    def diff_json() -> str:
        base = repository.resolve(branch.name)
        return report.to_json(report.diff_json(str(base), branch.name, repository.status(branch.name)))

    def head() -> str:
        base = repository.resolve(branch.name)
        return f"{base} {base.id.hex()}\n"

    def status(render: Callable[..., object]) -> Callable[[], str]:
        def text() -> str:
            made = render(repository.resolve(branch.name), repository.status(branch.name))
            return made if isinstance(made, str) else report.to_json(made)

        return text

    files: dict[bytes, Callable[[], str]] = {
        COMMIT: lambda: outcome.result,
        b"error": lambda: outcome.error,
        b"head": head,
        b"status": status(report.status_text),
        b"status.json": status(report.status_json),
        b"log": lambda: report.log_text(repository.log(branch.name)),
        b"log.json": lambda: report.to_json(report.log_json(repository.log(branch.name))),
        b"diff": changes_text,
        b"diff.json": diff_json,
    }
    return ControlArea(branch.tree.root, files, frozenset({COMMIT}))


def of_root(repository: Repository, owner: Inode, outcome: Outcome) -> ControlArea:
    """The control directory of the mount."""

    def names(*, tags: bool) -> str:
        return "".join(f"{ref.name}\n" for ref in repository.refs.all(tags=tags))

    files: dict[bytes, Callable[[], str]] = {
        b"branches": lambda: names(tags=False),
        b"tags": lambda: names(tags=True),
        b"version": lambda: f"anabranch {anabranch.__version__} format {FORMAT}\n",
        b"error": lambda: outcome.error,
    }
    return ControlArea(owner, files, frozenset())
