"""Control files: `.ana/` at the root of each branch and of the mount.

A table from name to what is read; what is written to `commit` goes to messages.py. A file that is only read is made
anew at each lookup, under an inode number of its own text: with the write-back cache the kernel never takes another
size for an inode that it knows, and many programs believe the size.
"""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import anabranch
from anabranch import report
from anabranch.errors import AnabranchError
from anabranch.fuse.areas import CONTROL_BITS, NEVER, Area, Found, Item
from anabranch.repo import Repository
from anabranch.store.layout import FORMAT
from anabranch.store.records import hash_name
from anabranch.versions.diff import Change
from anabranch.versions.objects import EntryKind
from anabranch.versions.renames import renamed
from anabranch.worktree.branch import Branch
from anabranch.worktree.inodes import DIRECTORY_SIZE, Attributes, Inode, now_ns
from anabranch.worktree.tree import AttributeChanges, failure

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
    if isinstance(error, OSError):
        return f"{error.strerror or error}\n"
    hint = f"hint: {error.hint}\n" if isinstance(error, AnabranchError) and error.hint else ""
    return f"{error}\n{hint}"


class ControlArea(Area):
    """One `.ana` directory."""

    def __init__(self, owner: Inode, files: Mapping[bytes, Callable[[], str]]) -> None:
        self._owner = owner
        self._files = files
        self._directory = self._number(CONTROL_NAME)
        self._commits = (self._number(COMMIT + b"/%d" % number) for number in count())
        """An inode for each lookup: writers of one inode would wait for each other in the kernel."""
        self._texts: dict[Inode, bytes | None] = {}
        """What reading gives, by inode; None for the commit file, whose text is made when it is opened."""
        self._fresh: dict[Inode, bytes | None] = {}
        self._born = now_ns()

    def _number(self, what: bytes) -> Inode:
        return Inode(CONTROL_BITS | hash_name(what, self._owner) >> 2)

    def remembered(self, ino: Inode) -> None:
        self._texts[ino] = self._fresh.pop(ino, None)
        self._fresh.clear()

    def forgotten(self, ino: Inode) -> None:
        self._texts.pop(ino, None)

    def directory(self) -> Found:
        """The directory itself."""
        return self._found(self._directory, EntryKind.DIRECTORY, 0o755, DIRECTORY_SIZE)

    def text(self, ino: Inode) -> bytes:
        """What reading a control file gives. Raises AnabranchError."""
        text = self._texts[ino]
        return self._made(COMMIT) if text is None else text

    def _made(self, name: bytes) -> bytes:
        return self._files[name]().encode(errors="surrogateescape")

    def lookup(self, parent: Inode, name: bytes) -> Found:
        if parent != self._directory:
            raise failure(errno.ENOTDIR)
        if name not in self._files:
            raise failure(errno.ENOENT)
        text = None if name == COMMIT else self._made(name)
        ino = next(self._commits) if text is None else self._number(name + b"/" + text)
        if ino not in self._texts:
            self._fresh[ino] = text
        return self._file(ino, text)

    def getattr(self, ino: Inode) -> Found:
        if ino == self._directory:
            return self.directory()
        return self._file(ino, self._texts[ino])

    def _file(self, ino: Inode, text: bytes | None) -> Found:
        mode, size = (0o644, 0) if text is None else (0o444, len(text))
        return self._found(ino, EntryKind.FILE, mode, size)

    def entries(self, ino: Inode) -> list[Item]:
        if ino != self._directory:
            raise failure(errno.ENOTDIR)
        return [(name, None) for name in self._files]

    def listed(self, ino: Inode, item: Item) -> Found | None:
        return self.lookup(ino, item[0])

    def open(self, ino: Inode, *, writing: bool, truncate: bool) -> None:
        if (writing or truncate) and self._texts[ino] is not None:
            raise failure(errno.EACCES)

    def setattr(self, ino: Inode, changes: AttributeChanges) -> Found:
        """Sizes and times, which programs and the kernel set beside writing, are taken and mean nothing."""
        if changes.mode is not None or changes.uid is not None or changes.gid is not None:
            raise failure(errno.EPERM)
        return self.getattr(ino)

    def create(
        self,
        parent: Inode,
        name: bytes,
        kind: EntryKind,
        mode: int,
        uid: int,
        gid: int,
        *,
        device: int = 0,
        target: bytes = b"",
    ) -> Found:
        raise failure(errno.EPERM)

    def unlink(self, parent: Inode, name: bytes) -> None:
        raise failure(errno.EPERM)

    def _found(self, ino: Inode, kind: EntryKind, mode: int, size: int) -> Found:
        links = 2 if kind == EntryKind.DIRECTORY else 1
        attributes = Attributes(ino, kind, mode, os.getuid(), os.getgid(), size, self._born, self._born, links)
        return Found(self, attributes, NEVER, NEVER)


def of_branch(repository: Repository, branch: Branch, outcome: Outcome) -> ControlArea:
    """The control directory of a branch. `branch.name` is asked anew each time: a branch may be renamed."""

    def changes() -> list[Change]:
        return list(renamed(repository.status(branch.name)))

    def changes_text() -> str:
        return "".join(report.diff_text(changes()))

    def diff_json() -> str:
        base = repository.resolve(branch.name)
        return report.to_json(report.diff_json(str(base), branch.name, changes()))

    def head() -> str:
        base = repository.resolve(branch.name)
        return f"{base} {base.id.hex()}\n"

    def status(render: Callable[..., object]) -> Callable[[], str]:
        def text() -> str:
            made = render(repository.resolve(branch.name), changes())
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
    return ControlArea(branch.tree.root, files)


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
    return ControlArea(owner, files)
