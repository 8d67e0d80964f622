"""Branches: the working tree that moves, and the versions that it has made."""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from anabranch.api import files
from anabranch.api.changes import Change, Conflict, told, told_conflicts
from anabranch.api.opened import actor, local
from anabranch.api.paths import Place, TreePath
from anabranch.api.putting import Putting, Step
from anabranch.api.transaction import Alone, Transaction, WriteBytes, WriteText
from anabranch.api.version import Version
from anabranch.commit import Note, check_note
from anabranch.daemon.undertaking import Make, Resolving, Undertaking, keep_uncommitted
from anabranch.errors import AnabranchError, UsageError
from anabranch.history import VersionName
from anabranch.ids import RefName
from anabranch.merging.proposal import Propose, conflicted
from anabranch.merging.resolution import STRATEGIES, Resolution, Rule
from anabranch.merging.rows import merging_tables
from anabranch.moves import reset_to
from anabranch.transfer import building
from anabranch.transfer.folder import take_folder
from anabranch.transfer.sieve import sieve_at
from anabranch.versions import manifests
from anabranch.versions.diff import NOT_STORED
from anabranch.versions.objects import Entry, EntryKind

if TYPE_CHECKING:
    from anabranch.api.repository import Repository


class BranchPath(TreePath):
    """A path in the working tree of a branch: it can be read and written."""

    def __init__(self, branch: "Branch", *segments: Place) -> None:
        super().__init__(*segments)
        self.branch = branch

    def _with(self, path: PurePosixPath) -> "BranchPath":
        return BranchPath(self.branch, path)

    @property
    def _tree(self) -> Hashable:
        return self.branch

    def _look(self, path: bytes) -> Entry | None:
        with self.branch._opened.service() as service:
            return service.look(self.branch._name, path)

    def _list(self, path: bytes) -> list[tuple[bytes, EntryKind]]:
        with self.branch._opened.service() as service:
            return service.listing(self.branch._name, path)

    def _reader(self, path: bytes, entry: Entry) -> files.Read:
        """What is stored never changes, so all of it is of one moment; the rest is as it is when it is read."""
        if entry.content != NOT_STORED:
            return self.branch._opened.reader(manifests.of(entry))

        def read(offset: int, length: int) -> bytes:
            with self.branch._opened.service() as service:
                return service.read(self.branch._name, path, offset, length)

        return read

    @overload
    def open(
        self, mode: Literal["r", "rt"] | WriteText = "r", *, encoding: str = ..., newline: str | None = ...
    ) -> TextIO: ...
    @overload
    def open(self, mode: Literal["rb"] | WriteBytes, *, encoding: str = ..., newline: str | None = ...) -> BinaryIO: ...
    @overload
    def open(self, mode: str, *, encoding: str = ..., newline: str | None = ...) -> IO[Any]: ...

    def open(self, mode: str = "r", *, encoding: str = "utf-8", newline: str | None = None) -> IO[Any]:
        """A file object. What is written is in the branch when it is closed, all at once; a `with` block that ends by
        an exception writes nothing. Raises NotFoundError, UsageError, ExistsError (mode `x`).
        """
        if set(mode) <= set("rbt"):
            return super().open(mode, encoding=encoding, newline=newline)
        return Alone(self.branch).open(self, mode, encoding=encoding, newline=newline)

    def write_bytes(self, data: bytes) -> None:
        """Make it a file of bytes. Directories above are made. Raises UsageError when it is a directory."""
        with self.branch.transaction() as transaction:
            transaction.write_bytes(self, data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Make it a file of text, as `write_bytes`."""
        self.write_bytes(text.encode(encoding))

    def mkdir(self) -> None:
        """Make it an empty directory, and those above it. Raises ExistsError when something is there."""
        with self.branch.transaction() as transaction:
            transaction.mkdir(self)

    def symlink_to(self, target: str) -> None:
        """Make it a symbolic link. Raises ExistsError when something is there."""
        with self.branch.transaction() as transaction:
            transaction.symlink(self, target)

    def remove(self) -> None:
        """Take it away, with all that is below it. Raises NotFoundError."""
        with self.branch.transaction() as transaction:
            transaction.remove(self)


class Branch:
    """A branch. Use `branch / "path"` for its working tree, as it is now."""

    def __init__(self, repository: "Repository", name: RefName) -> None:
        self._repository = repository
        self._opened = repository._opened
        self._name = name

    def __str__(self) -> str:
        """Its name."""
        return self._name

    def __repr__(self) -> str:
        """`Branch('main')`."""
        return f"Branch('{self._name}')"

    def __eq__(self, other: object) -> bool:
        """Whether it has the same name in the same repository."""
        return isinstance(other, Branch) and (self.name, self._repository.path) == (other.name, other._repository.path)

    def __hash__(self) -> int:
        """As equality."""
        return hash((self.name, self._repository.path))

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def head(self) -> Version:
        """Its last commit. Raises NotFoundError when the branch is gone."""
        return self._repository.version(self._name)

    def path(self, path: Place = "") -> BranchPath:
        """A path in its working tree; without one, the top."""
        return BranchPath(self, path)

    def __truediv__(self, path: "str | os.PathLike[str]") -> BranchPath:
        """A path in its working tree."""
        return BranchPath(self, path)

    def walk(self) -> Iterator[tuple[BranchPath, list[str], list[str]]]:
        """Each directory with the names in it; see `TreePath.walk`."""
        return self.path().walk()

    def log(self, path: Place = "") -> Iterator[Version]:
        """Its versions, newest first; of a path, those that changed it. Raises NotFoundError, as it is iterated, when
        no version has the path.
        """
        inside = self.path(path)._inside
        found = self._opened.each(lambda core: core.log_of(self._name, inside) if inside else core.log(self._name))
        return (Version(self._repository, version) for version in found)

    # --- what is not committed ---

    def status(self) -> list[Change]:
        """What is not committed, in order of paths."""
        with self._opened.service() as service:
            return list(told(service.status(self._name)))

    def diff(self, since: Version | str) -> list[Change]:
        """What differs between a version and the working tree, in order of paths. Raises NotFoundError."""
        version = self._repository._as_version(since)
        with self._opened.service() as service:
            return list(told(service.diff(version._found.id, self._name)))

    def transaction(self) -> Transaction:
        """Changes that are seen all at once when the `with` block ends, or not at all."""
        return Transaction(self)

    def commit(
        self,
        message: str,
        *paths: Place,
        author: str = "",
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
    ) -> Version:
        """Make a version of everything, or of some paths.

        Raises NothingToCommitError, unless `allow_empty`; UsageError for a message or metadata that cannot be kept;
        NotFoundError for a path; RefusedError while another commit is made. Then everything is uncommitted as before.
        """
        note = check_note(Note(message, author, _texts(metadata)))
        some = [self.path(path)._inside for path in paths] or None
        with self._opened.service() as service:
            done = service.commit(self._name, note, actor(), paths=some, allow_empty=allow_empty)
        return self._repository.version(f"{done.branch}@{done.number}")

    def restore(self, *paths: Place, source: Version | str | None = None) -> None:
        """Put back what a version holds at some paths; without `source`, the last commit.

        Raises NotFoundError for a path that the version does not hold: then nothing is done.
        """
        if not paths:
            raise UsageError("restore needs a path", hint='"." is everything')
        version = self.head if source is None else self._repository._as_version(source)
        self._restore(version, paths, new_too=False)

    def discard(self, *paths: Place) -> None:
        """Give up what is not committed at some paths, or everywhere; new files, too. Raises NotFoundError."""
        self._restore(self.head, paths or (".",), new_too=True)

    # --- what others did, and what was done ---

    def conflicts(self, source: Version | str) -> list[Conflict]:
        """The paths on which a merge would be refused; nothing happens. Raises NotFoundError."""
        found = self._repository._as_version(source)._found
        with self._opened.service() as service:
            proposal = self._undertaking(found, Propose.merge, Resolution, Note("")).proposed(service)
        return told_conflicts(proposal.merged.conflicts)

    def merge(
        self,
        source: Version | str,
        message: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        strategy: Literal["ours", "theirs"] | None = None,
        resolve: Mapping[str, str] | None = None,
        key: Sequence[str] = (),
        squash: bool = False,
        ff_only: bool = False,
    ) -> Version:
        """Bring in what a version, or branch, has changed since both parted; returns the branch's head then.

        `resolve` says by patterns as in gitignore what becomes of conflicts: `ours`, `theirs`, `base`, or the path of a
        file of this machine; the last match wins, then `strategy`. With `key`, the columns that tell rows apart, tables
        that both changed are merged row by row. Raises MergeConflictError when conflicts are left,
        RefusedError when uncommitted changes are in the way: then nothing has happened.
        """
        if ff_only and (squash or message or metadata):
            raise UsageError("ff_only makes no version of its own", hint="leave squash, message and metadata away")
        make = partial(Propose.merge, squash=squash, ff_only=ff_only)
        return self._undertake(source, make, strategy, resolve, key, message, metadata)

    def revert(
        self, version: Version | str, message: str = "", *,
        metadata: Mapping[str, str] | None = None, strategy: Literal["ours", "theirs"] | None = None,
        resolve: Mapping[str, str] | None = None, key: Sequence[str] = (),
    ) -> Version:  # fmt: skip
        """Change back what a version changed; as `merge`. Raises NothingToCommitError when nothing of it is left."""
        return self._undertake(version, Propose.revert, strategy, resolve, key, message, metadata)

    def cherry_pick(
        self, version: Version | str, message: str = "", *,
        metadata: Mapping[str, str] | None = None, strategy: Literal["ours", "theirs"] | None = None,
        resolve: Mapping[str, str] | None = None, key: Sequence[str] = (),
    ) -> Version:  # fmt: skip
        """Bring in the one change that a version made; as `merge`. Raises NothingToCommitError when it is here."""
        return self._undertake(version, Propose.cherry_pick, strategy, resolve, key, message, metadata)

    def reset(self, version: Version | str, *, force: bool = False) -> Version:
        """Let the branch be what a version is; what it was is still named by its number.

        Raises RefusedError while anything is uncommitted; with `force`, that becomes a version first.
        """
        source = self._repository._as_version(version)._found
        with self._opened.service() as service:
            if force:
                keep_uncommitted(service, self._name, source, actor())
            ref = self._repository.branch(self._name).head._found
            if ref.id != source.id:
                wanted = reset_to(ref.number or 0, source.id, str(source))
                service.move(self._name, wanted, actor())
        return self.head

    def _undertake(
        self, source: Version | str, make: Make, strategy: str | None, resolve: Mapping[str, str] | None,
        key: Sequence[str], message: str, metadata: Mapping[str, str] | None,
    ) -> Version:  # fmt: skip
        found, note = self._repository._as_version(source)._found, _note(message, metadata)
        key = (key,) if isinstance(key, str) else key
        with merging_tables(key) as tables, self._opened.service() as service:
            rules = [Rule.parse(f"{glob}={choice}") for glob, choice in (resolve or {}).items()]
            if strategy not in (None, *STRATEGIES):
                raise UsageError(f"{strategy} is no strategy", hint='"ours" or "theirs"')
            undertaking = self._undertaking(
                found, make, lambda core: Resolution(core, strategy, rules, tables and tables(core)), note
            )
            proposal, _ = undertaking.done(service, actor())
        if proposal.merged.conflicts:
            raise conflicted(proposal, rows=bool(key))
        return self.head

    def _undertaking(self, source: VersionName, make: Make, resolving: Resolving, note: Note) -> Undertaking:
        return Undertaking(self._opened.path, self._name, source, make, resolving, note)

    def import_files(self, source: "str | os.PathLike[str]", path: Place) -> list[tuple[str, str]]:
        """Make a path what a folder or file of this machine is; returns what could not be read, and why: it is left as
        it is in the branch. What `.anaignore` files match is left out. Raises NotFoundError, UsageError, and
        AnabranchError when nothing could be read.
        """
        place, inside = local(source), self.path(path)._inside
        if not inside and not place.is_dir():
            raise UsageError("the top of a branch is a directory", hint="import a file as a path")
        with self._opened.intake() as (service, core):
            sieve = sieve_at(core, self._name, inside, partial(service.read, self._name))
            done = take_folder(core, place, inside, building.own_directory(), sieve, lambda _: None)
            if done.failed and done.version.named(inside) is None:
                raise AnabranchError(f"{place} cannot be read: {done.failed[0][1]}")
            service.restore(self._name, done.version, [inside], kept=done.kept)
        return [(os.fsdecode(failed), why) for failed, why in done.failed]

    def _restore(self, version: Version, paths: Iterable[Place], *, new_too: bool) -> None:
        inside = [self.path(path)._inside for path in paths]
        with self._opened.service() as service:
            service.restore(self._name, version._files, inside, new_too=new_too)

    def _put(self, steps: Iterable[tuple[bytes, Step]]) -> None:
        """Do what a transaction has collected."""
        with self._opened.intake() as (service, core):
            Putting(service, core, self._name).run(steps)


def _texts(metadata: Mapping[str, str] | None) -> dict[str, str]:
    texts = dict(metadata or {})
    for key, value in texts.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"metadata are texts, and {key!r}: {value!r} is not", hint="str(value)")
    return texts


def _note(message: str, metadata: Mapping[str, str] | None) -> Note:
    """What is said of a version; an empty message stands for the usual one."""
    note = Note(message, "", _texts(metadata))
    return check_note(note) if message else note
