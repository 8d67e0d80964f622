"""Branches: the working tree that moves, and the versions that it has made."""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from anabranch.api import files
from anabranch.api.changes import Change, told
from anabranch.api.opened import actor, local
from anabranch.api.paths import Place, TreePath
from anabranch.api.putting import Putting, Step
from anabranch.api.transaction import Alone, Transaction, WriteBytes, WriteText
from anabranch.api.version import Version
from anabranch.commit import Note, check_note
from anabranch.errors import AnabranchError, UsageError
from anabranch.ids import RefName
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
        texts = dict(metadata or {})
        for key, value in texts.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise UsageError(f"metadata are texts, and {key!r}: {value!r} is not", hint="str(value)")
        note = check_note(Note(message, author, texts))
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
