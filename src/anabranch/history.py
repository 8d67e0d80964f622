"""History: an open repository as far as every process may read it: versions, names, settings.

Thin: it opens, closes, and puts the rooms' own calls in order. repo.py adds what belongs to the owner. Any thread.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from anabranch.errors import DamagedError, DeniedError, NotFoundError
from anabranch.ids import ObjectId, RefName, parse_revision
from anabranch.settings import COMPRESSION, DEFAULT_BRANCH, KEYS, Setting, Settings
from anabranch.store import layout as layouts
from anabranch.store.arrival import settle
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore, Rows
from anabranch.versions import manifests, xattrs
from anabranch.versions.blame import blame
from anabranch.versions.contents import Contents
from anabranch.versions.diff import Change, diff
from anabranch.versions.graph import ancestors
from anabranch.versions.naming import Naming
from anabranch.versions.objects import Commit, Entry, EntryKind, get_commit
from anabranch.versions.refs import Ref, Refs
from anabranch.versions.trees import EMPTY_TREE, Trees, Version
from anabranch.versions.xattrs import Values


@dataclass(frozen=True, slots=True)
class VersionName:
    """A version as it was asked for and found: its name and number where it has them, its time, and the commit.

    The time (ns) is that of the log row, so that it leads back to this version; without a row it is the commit's.
    """

    name: RefName | None
    number: int | None
    id: ObjectId
    time_ns: int
    commit: Commit

    def __str__(self) -> str:
        """`main@12`, a tag's name, or `@3f9ac2e1`."""
        if self.name is None:
            return f"@{self.id.hex()[:8]}"
        return self.name if self.number is None else f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Blame:
    """A name in a directory, what it is, and the version that last changed it."""

    name: bytes
    kind: EntryKind
    version: VersionName


class Sink(Protocol):
    """Whoever makes chunks and objects durable for a process that does not own the repository."""

    def put_chunks(self, records: list[bytes]) -> None:
        """Keep chunks: see ChunkStore.take."""

    def put_objects(self, rows: Rows) -> None:
        """Keep objects: see ObjectStore.take."""


class History:
    """What an open repository holds for ever. Contents and trees can be put by its owner, and through a sink."""

    def __init__(self, path: Path, *, writable: bool = False, sink: Sink | None = None) -> None:
        self.layout = layouts.check(path, writable=writable)
        self.writable = writable
        with contextlib.ExitStack() as opened:  # what was opened is closed if the rest cannot be
            try:
                if writable:
                    settle(self.layout)
                self.meta = Environment(self.layout.meta, TABLES, writable=writable, create=False)
                opened.callback(self.meta.close)
                self.chunks = ChunkStore(path, writable=writable, sink=None if sink is None else sink.put_chunks)
                opened.callback(self.chunks.close)
            except PermissionError as error:  # readers write, too: into LMDB's lock files
                raise DeniedError(f"{path} cannot be opened: permission denied", hint=layouts.OTHERS) from error
            except OSError as error:
                raise DamagedError(f"{path} cannot be opened: {error.strerror or error}") from error
            self.objects = ObjectStore(self.meta, None if sink is None else sink.put_objects)
            self.refs = Refs(self.meta, self.objects)
            self.settings = Settings(self.meta)
            self.trees = Trees(self.objects)
            self.contents = Contents(self.objects, self.chunks)
            if writable or sink is not None:
                self.chunks.level = self.settings.get(COMPRESSION)
            opened.pop_all()

    def close(self) -> None:
        """Close the files."""
        self.chunks.close()
        self.meta.close()

    def __enter__(self) -> Self:
        """Itself; closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- settings and names ---

    def default_branch(self) -> RefName:
        """The branch that is meant where none is named, and that new branches start from."""
        return self.settings.get(DEFAULT_BRANCH)

    def configured(self, actor: str) -> list[Setting]:
        """All settings, as they hold for somebody."""
        return [self.settings.shown(key, actor) for key in KEYS.values()]

    def branch_names(self) -> list[Ref]:
        """All branches, by name."""
        return self.refs.all(tags=False)

    # --- versions ---

    def resolve(self, revision: str) -> VersionName:
        """The version that a revision names. Raises UsageError, NotFoundError, RefusedError."""
        name, number, identity = self.refs.resolve(parse_revision(revision))
        commit = get_commit(self.objects, identity)
        row = None if name is None or number is None else self.refs.row(name, number)
        return VersionName(name, number, identity, commit.time_ns if row is None else row.time_ns, commit)

    def version(self, identity: ObjectId) -> Version:
        """The files of a commit."""
        return self._version(get_commit(self.objects, identity))

    def given(self, root: Entry, links: ObjectId) -> Version:
        """The files of a root and a link tree, committed or not."""
        return Version(self.trees, root, links)

    def diff(self, old: ObjectId, new: ObjectId, path: bytes = b"") -> Iterator[Change]:
        """The changes from one commit to another, at a path and below it."""
        return diff(self.version(old), self.version(new), path)

    def changes_of(self, commit: Commit, path: bytes = b"") -> Iterator[Change]:
        """What a commit changed at a path and below it: the differences from its first parent, or from nothing."""
        old = self.version(ObjectId(commit.parents[0])) if commit.parents else self.nothing()
        return diff(old, self._version(commit), path)

    def _version(self, commit: Commit) -> Version:
        return Version(self.trees, commit.root, ObjectId(commit.links))

    def nothing(self) -> Version:
        """A version without anything."""
        return Version(self.trees, Entry(EntryKind.DIRECTORY, content=EMPTY_TREE), EMPTY_TREE)

    def log_of(self, branch: RefName, path: bytes) -> Iterator[VersionName]:
        """The versions of a branch in which something at a path, or below it, is not as in their first parent.

        Raises NotFoundError when no version of the branch has the path.
        """
        found = False
        for version in self.log(branch):
            if any(self.changes_of(version.commit, path)):
                found = True
                yield version
        if not found and not any(self._version(version.commit).find(path) for version in self.log(branch)):
            raise NotFoundError(f"no version of {branch} has {path.decode(errors='replace')}", hint=f"ana ls {branch}")

    def log(self, branch: RefName) -> Iterator[VersionName]:
        """The versions of a branch, newest first: each row of its log but those that gave the name up.

        Also of a branch that was deleted or renamed. Raises NotFoundError for a name that never was.
        """
        if self.refs.row(branch, 0) is None:
            self.refs.get(branch)
        for number, row in self.refs.log(branch):
            if not row.ends:
                identity = ObjectId(row.commit)
                yield VersionName(branch, number, identity, row.time_ns, get_commit(self.objects, identity))

    def graph(self, branch: RefName, since_ns: int | None = None) -> Iterator[VersionName]:
        """All that led to the last version of a branch, merged ones too, children before parents.

        What led to one made long before `since_ns` is left out. Raises NotFoundError as `log`.
        """
        names = Naming(self.refs, branch)
        for identity, commit in ancestors(next(self.log(branch)).id, self._commit_at, since_ns):
            yield _named(names, identity, commit)

    def blame(self, version: VersionName, path: bytes, *, recursive: bool = False) -> Iterator[Blame]:
        """Each name in a directory of a version, or a file, and the version that last changed it, in any order.

        With `recursive`, all files below a directory. Raises NotFoundError, and UsageError on a path through a file.
        """
        names = Naming(self.refs, version.name, first=True)  # a reset makes no change newer than it was
        known: dict[ObjectId, VersionName] = {}
        for found in blame(self.trees, self._commit_at, version.id, path, recursive=recursive):
            if found.id not in known:
                known[found.id] = _named(names, found.id, found.commit)
            yield Blame(found.name, found.kind, known[found.id])

    def _commit_at(self, identity: ObjectId) -> Commit:
        return get_commit(self.objects, identity)

    def xattrs(self, entry: Entry) -> Values:
        """The extended attributes of an entry, in order of their names. Raises DamagedError."""
        return self.contents.xattrs(xattrs.of(entry))

    def read(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file's entry, piece by piece."""
        return self.contents.stream(manifests.of(entry))

    def read_data(self, entry: Entry) -> Iterator[tuple[int, bytes]]:
        """The content of a file's entry but for its large holes, piece by piece, each with its offset."""
        return self.contents.data(manifests.of(entry))

    def check_held(self, version: VersionName, paths: Iterable[bytes]) -> None:
        """Raises NotFoundError for the first path that a version does not hold."""
        files = self.version(version.id)
        for path in paths:
            if files.find(path) is None:
                raise NotFoundError(
                    f"{version} has no {path.decode(errors='replace')}", hint=f"'ana ls {version}' lists what it has"
                )


def _named(names: Naming, identity: ObjectId, commit: Commit) -> VersionName:
    named = names.of(identity, commit)
    if named is None:
        return VersionName(None, None, identity, commit.time_ns, commit)
    return VersionName(named.name, named.number, identity, named.time_ns, commit)
