"""Branches: the working tree that moves, and the versions that it has made."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from anabranch.api.changes import Change, told
from anabranch.api.files import Read
from anabranch.api.paths import TreePath
from anabranch.api.transaction import Make, Transaction
from anabranch.api.version import Version
from anabranch.commit import Note, check_note
from anabranch.errors import UsageError
from anabranch.ids import RefName
from anabranch.repo import user_name
from anabranch.transfer import building
from anabranch.transfer.folder import take_folder
from anabranch.versions.objects import Entry
from anabranch.worktree.inodes import now_ns

if TYPE_CHECKING:
    from anabranch.api.repository import Repository

_PIECE = 1024 * 1024
"""Bytes that the owner is asked for at once."""


class BranchPath(TreePath):
    """A path in the working tree of a branch: it can be read and written."""

    def __init__(self, branch: "Branch", *segments: str | PurePosixPath | TreePath) -> None:
        super().__init__(*segments)
        self.branch = branch

    def _with(self, path: PurePosixPath) -> "BranchPath":
        return BranchPath(self.branch, path)

    def _where(self) -> str:
        return self.branch.name

    def _look(self, path: bytes) -> Entry | None:
        return self.branch._look(path)

    def _list(self, path: bytes) -> list[tuple[bytes, Entry]]:
        with self.branch._repository._service() as service:
            return service.listing(self.branch._name, path)

    def _reader(self, path: bytes, entry: Entry) -> Read:
        def read(offset: int, length: int) -> bytes:
            with self.branch._repository._service() as service:
                return service.read(self.branch._name, path, offset, min(length, _PIECE))

        return read

    def open(self, mode: str = "r", *, encoding: str = "utf-8", newline: str | None = None) -> IO[str] | IO[bytes]:
        """A file object. What is written is in the branch when it is closed, all at once."""
        if set(mode) <= set("rbt"):
            return super().open(mode, encoding=encoding, newline=newline)
        return _Alone(self.branch).open(self, mode, encoding=encoding, newline=newline)

    def write_bytes(self, data: bytes) -> None:
        """Make it a file of bytes. Directories above are made."""
        with self.branch.transaction() as transaction:
            transaction.write_bytes(self, data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Make it a file of text."""
        self.write_bytes(text.encode(encoding))

    def mkdir(self) -> None:
        """Make it an empty directory. Raises UsageError when something is there."""
        if self.exists() or self.is_symlink():
            raise UsageError(f"{self} exists already")
        with self.branch.transaction() as transaction:
            transaction.mkdir(self)

    def remove(self) -> None:
        """Take it away, with all that is below it. Raises NotFoundError."""
        with self.branch.transaction() as transaction:
            transaction.remove(self)


class _Alone(Transaction):
    """A transaction of one file, which ends when that is closed."""

    def _take(self, inside: bytes, file: IO[bytes]) -> None:
        with self:
            super()._take(inside, file)


class Branch:
    """A branch. Use `branch / "path"` for its working tree, as it is now."""

    def __init__(self, repository: "Repository", name: RefName) -> None:
        self._repository = repository
        self._name = name

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

    def path(self, path: str = "") -> BranchPath:
        """A path in its working tree; without one, the top."""
        return BranchPath(self, path)

    def __truediv__(self, path: str) -> BranchPath:
        """A path in its working tree."""
        return BranchPath(self, path)

    def walk(self) -> Iterator[tuple[BranchPath, list[str], list[str]]]:
        """Each directory with the names in it; see `TreePath.walk`."""
        return self.path().walk()

    def log(self, path: str = "") -> Iterator[Version]:
        """Its versions, newest first; of a path, those that changed it."""
        core = self._repository._core
        found = core.log_of(self._name, os.fsencode(path)) if path else core.log(self._name)
        return (Version(self._repository, version) for version in found)

    # --- what is not committed ---

    def status(self) -> list[Change]:
        """What is not committed."""
        with self._repository._service() as service:
            return list(told(service.status(self._name)))

    def diff(self, since: Version | str) -> list[Change]:
        """What differs between a version and the working tree."""
        version = self._repository._as_version(since)
        with self._repository._service() as service:
            return list(told(service.diff(version._found.id, self._name)))

    def transaction(self) -> Transaction:
        """Changes that are seen all at once when the `with` block ends, or not at all."""
        return Transaction(self)

    def commit(
        self,
        message: str,
        *paths: str | TreePath,
        author: str = "",
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
    ) -> Version:
        """Make a version of everything, or of some paths. Raises NothingToCommitError, UsageError, RefusedError."""
        note = check_note(Note(message, author, dict(metadata or {})))
        some = [self.path(str(path))._bytes() for path in paths] or None
        with self._repository._service() as service:
            done = service.commit(self._name, note, _actor(), paths=some, allow_empty=allow_empty)
        return self._repository.version(f"{done.branch}@{done.number}")

    def restore(self, *paths: str | TreePath, source: Version | str | None = None) -> None:
        """Put back what a version holds at some paths; without `source`, the last commit. Raises NotFoundError."""
        if not paths:
            raise UsageError("restore needs a path", hint='"." is everything')
        version = self.head if source is None else self._repository._as_version(source)
        self._restore(version, paths, new_too=False)

    def discard(self, *paths: str | TreePath) -> None:
        """Give up what is not committed at some paths, or everywhere; new files, too."""
        self._restore(self.head, paths or (".",), new_too=True)

    def import_files(self, source: Path | str, path: str | TreePath) -> list[tuple[str, str]]:
        """Make a path what a folder or file of this machine is; returns what could not be read, and why."""
        inside = self.path(str(path))._bytes()
        with self._repository._service() as service, self._repository._intake(service) as core:
            done = take_folder(core, Path(source), inside, _dress(), lambda _: None)
            kept = [b"/".join(filter(None, (inside, failed))) for failed, _ in done.failed]
            service.restore(self._name, done.version, [inside], kept=kept)
        return [(os.fsdecode(failed), why) for failed, why in done.failed]

    def _restore(self, version: Version, paths: tuple[str | TreePath, ...], *, new_too: bool) -> None:
        inside = [self.path(str(path))._bytes() for path in paths]
        with self._repository._service() as service:
            service.restore(self._name, version._files, inside, new_too=new_too)

    def _look(self, path: bytes) -> Entry | None:
        with self._repository._service() as service:
            return service.look(self._name, path)

    def _put(self, made: Mapping[bytes, Make | None]) -> None:
        """Do what a transaction has collected."""
        with self._repository._service() as service, self._repository._intake(service) as core:
            built = building.Building(core.trees, _dress())
            for path, make in made.items():
                if make is not None:
                    built.add(path, make(core))
            version = built.finish()
            core.chunks.flush()
            core.objects.flush()
            service.restore(self._name, version, list(made), new_too=True)


def _dress() -> Entry:
    """How directories look that are made on the way."""
    return building.directory(0o755, os.geteuid(), os.getegid(), now_ns())


def _actor() -> str:
    return user_name(os.geteuid())
