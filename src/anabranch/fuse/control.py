"""Control files: `.ana/` at the root of each branch and of the mount.

A table from name to what is read; what is written goes to messages.py and restores.py. A file that is only read is
made anew at each lookup, under an inode number of its own text: with the write-back cache the kernel never takes
another size for an inode that it knows, and many programs believe the size.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import NamedTuple

import anabranch
from anabranch import report, report_merging
from anabranch.fuse import stats
from anabranch.fuse.areas import CONTROL_BITS, NEVER, Area, Found, Item
from anabranch.fuse.outcomes import Outcome
from anabranch.fuse.stats import DaemonStats
from anabranch.history import VersionName
from anabranch.ids import CONTROL_NAME
from anabranch.repo import Repository, user_name
from anabranch.report import Json
from anabranch.settings import Setting
from anabranch.store.layout import FORMAT
from anabranch.store.records import hash_place
from anabranch.versions.diff import Change
from anabranch.versions.objects import EntryKind
from anabranch.versions.renames import renamed
from anabranch.worktree.branch import Branch
from anabranch.worktree.inodes import DIRECTORY_SIZE, Attributes, Inode, now_ns
from anabranch.worktree.tree import AttributeChanges, failure

COMMIT, RESTORE, DISCARD = b"commit", b"restore", b"discard"
UNDERTAKINGS = MERGE, REVERT, CHERRY_PICK, RESET = b"merge", b"revert", b"cherry-pick", b"reset"
"""The files that are written, too: operations.py has what becomes of it."""


class File(NamedTuple):
    """A control file: what reading it gives, as text or as JSON."""

    read: Callable[[], object]
    live: bool = False
    """Whether that is about uncommitted changes: what programs have written must have come to us before."""
    writable: bool = False
    """Then its text is made when it is opened."""
    tells_paths: bool = False
    """Of anywhere in the branch: reading it is for those who may write there."""
    takes_away: bool = False
    """Whether writing it may take away what is others': with a sticky directory, that is for its owner."""
    owners: bool = False
    """Whether nobody else may write it."""

    def mode(self, above: int) -> int:
        """Its permissions, by those of the directory that `.ana` is in."""
        written = above & 0o222
        readers = above & 0o444 & (written << 1 if self.tells_paths else 0o444)
        writers = written & (0o200 if self.owners or (self.takes_away and above & stat.S_ISVTX) else 0o222)
        return readers | (writers if self.writable else 0)


class _Known(NamedTuple):
    """What is behind an inode; the text is None of a file that is written, too."""

    name: bytes
    text: bytes | None


class ControlArea(Area):
    """One `.ana` directory."""

    def __init__(
        self, above: Callable[[], Attributes], files: Mapping[bytes, File], where: Callable[[], str] = lambda: ""
    ) -> None:
        """`above` are the attributes of the directory that it is in: as those let people in, so do these; `where` is
        the name of the branch.
        """
        self._above = above
        self._where = where
        self._owner = above().ino
        self._files = files
        self._directory = self._number(CONTROL_NAME)
        self._written = (self._number(b"/%d" % number) for number in count())
        """One for each lookup of a file that is written: writers of one would wait for each other in the kernel."""
        self._known: dict[Inode, _Known] = {}
        self._fresh: dict[Inode, _Known] = {}
        self._born = now_ns()

    def _number(self, what: bytes) -> Inode:
        return Inode(CONTROL_BITS | hash_place(self._owner, what) >> 2)

    def remembered(self, ino: Inode) -> None:
        if (fresh := self._fresh.pop(ino, None)) is not None:
            self._known[ino] = fresh
        self._fresh.clear()

    def forgotten(self, ino: Inode) -> None:
        self._known.pop(ino, None)

    def path(self, ino: Inode) -> bytes | None:
        parts = (self._where().encode(), CONTROL_NAME, *([self._known[ino].name] if ino in self._known else []))
        return b"/".join(filter(None, parts))

    def directory(self) -> Found:
        """The directory itself."""
        return self._found(self._directory, EntryKind.DIRECTORY, self._above().mode & 0o555, DIRECTORY_SIZE)

    def is_live(self, name: bytes) -> bool:
        """Whether a file tells of uncommitted changes."""
        return name in self._files and self._files[name].live

    def name(self, ino: Inode) -> bytes:
        """The name of a control file."""
        return self._known[ino].name

    def text(self, ino: Inode) -> bytes:
        """What reading a control file gives. Raises AnabranchError."""
        name, text = self._known[ino]
        return self._made(name) if text is None else text

    def _made(self, name: bytes) -> bytes:
        value = self._files[name].read()
        return (value if isinstance(value, str) else report.to_json(value)).encode(errors="surrogateescape")

    def lookup(self, parent: Inode, name: bytes) -> Found:
        if parent != self._directory:
            raise failure(errno.ENOTDIR)
        if name not in self._files:
            raise failure(errno.ENOENT)
        text = None if self._files[name].writable else self._made(name)
        ino = next(self._written) if text is None else self._number(name + b"/" + text)
        if ino not in self._known:
            self._fresh[ino] = _Known(name, text)
        return self._file(ino, name, text)

    def getattr(self, ino: Inode) -> Found:
        if ino == self._directory:
            return self.directory()
        return self._file(ino, *self._known[ino])

    def _file(self, ino: Inode, name: bytes, text: bytes | None) -> Found:
        mode, size = self._files[name].mode(self._above().mode), 0 if text is None else len(text)
        return self._found(ino, EntryKind.FILE, mode, size)

    def entries(self, ino: Inode) -> Iterable[Item]:
        if ino != self._directory:
            raise failure(errno.ENOTDIR)
        return [(name, None) for name in self._files]

    def above(self, ino: Inode) -> Inode:
        return self._owner

    def listed(self, ino: Inode, item: Item) -> Found | None:
        return self.lookup(ino, item[0])

    def open(self, ino: Inode, *, writing: bool, truncate: bool, uid: int) -> None:
        if (writing or truncate) and self._known[ino].text is not None:
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
        links, above = 2 if kind == EntryKind.DIRECTORY else 1, self._above()
        attributes = Attributes(ino, kind, mode, above.uid, above.gid, size, self._born, self._born, links)
        return Found(self, attributes, NEVER, NEVER)


def of_branch(repository: Repository, branch: Branch, outcome: Outcome) -> ControlArea:
    """The control directory of a branch. `branch.name` is asked anew each time: a branch may be renamed."""

    def head() -> VersionName:
        return repository.resolve(branch.name)

    def changes() -> list[Change]:
        return list(renamed(repository.status(branch.name)))

    def log() -> Iterator[VersionName]:
        return repository.log(branch.name)

    def numbers() -> Json:
        return stats.of_branch(repository, branch.name)

    def head_line() -> str:
        version = head()
        return f"{version} {version.id.hex()}\n"

    def diff_json() -> Json:
        return report.diff_json(str(head()), branch.name, changes())

    def committed() -> str:
        return report.committed_text(outcome.committed) if outcome.committed else ""

    def said(name: bytes) -> File:
        return File(lambda: outcome.said.get(name, ""), writable=True, tells_paths=True, owners=True)

    files = {
        COMMIT: File(committed, writable=True),
        b"commit.json": File(lambda: outcome.committed and report.committed_json(outcome.committed)),
        RESTORE: File(lambda: outcome.said.get(RESTORE, ""), writable=True, tells_paths=True, takes_away=True),
        DISCARD: File(lambda: outcome.said.get(DISCARD, ""), writable=True, tells_paths=True, takes_away=True),
        **{name: said(name) for name in UNDERTAKINGS},
        b"conflicts": File(lambda: "".join(map(report_merging.conflict_text, outcome.conflicts)), tells_paths=True),
        b"conflicts.json": File(lambda: list(map(report_merging.conflict_json, outcome.conflicts)), tells_paths=True),
        b"error": File(outcome.error_text, tells_paths=True),
        b"error.json": File(outcome.error_json, tells_paths=True),
        b"head": File(head_line),
        b"head.json": File(lambda: report.version_json(head())),
        b"status": File(lambda: report.status_text(head(), changes()), live=True, tells_paths=True),
        b"status.json": File(lambda: report.status_json(head(), changes()), live=True, tells_paths=True),
        b"log": File(lambda: report.log_text(log())),
        b"log.json": File(lambda: report.log_json(log())),
        b"diff": File(lambda: "".join(report.diff_text(changes())), live=True, tells_paths=True),
        b"diff.json": File(diff_json, live=True, tells_paths=True),
        b"stats": File(lambda: stats.to_text(numbers()), live=True),
        b"stats.json": File(numbers, live=True),
    }
    return ControlArea(lambda: branch.tree.getattr(branch.tree.root), files, lambda: branch.name)


def of_root(repository: Repository, root: Attributes, outcome: Outcome, daemon: DaemonStats) -> ControlArea:
    """The control directory of the mount."""

    def names(*, tags: bool) -> str:
        return "".join(f"{ref.name}\n" for ref in repository.refs.all(tags=tags))

    def branches() -> list[Json]:
        return report.branches_json(repository.branch_names(), repository.default_branch())

    def settings() -> list[Setting]:
        return repository.configured(user_name(os.getuid()))

    files = {
        b"branches": File(lambda: names(tags=False)),
        b"branches.json": File(branches),
        b"tags": File(lambda: names(tags=True)),
        b"tags.json": File(lambda: report.tags_json(repository.refs.all(tags=True))),
        b"version": File(lambda: f"anabranch {anabranch.__version__} format {FORMAT}\n"),
        b"version.json": File(lambda: {"anabranch": anabranch.__version__, "format": FORMAT}),
        b"config": File(lambda: report.settings_text(settings())),
        b"config.json": File(lambda: report.settings_json(settings())),
        b"stats": File(lambda: stats.to_text(daemon.now())),
        b"stats.json": File(daemon.now),
        b"error": File(outcome.error_text),
        b"error.json": File(outcome.error_json),
    }
    return ControlArea(lambda: root, files)
