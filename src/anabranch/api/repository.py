"""Repository: where a program begins."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch import repo
from anabranch.api.branch import Branch
from anabranch.api.changes import Change, told
from anabranch.api.version import Version
from anabranch.daemon.client import Service, connect
from anabranch.errors import AnabranchError
from anabranch.ids import ref_name
from anabranch.repo import user_name
from anabranch.worktree import ignore

log = logging.getLogger("anabranch")


class Repository:
    """A repository, open for reading; changes go through its owner. Close it, or use it as a context manager.

    Any thread may use it. It does not survive a fork: a process that is forked opens its own.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(os.path.abspath(path)).resolve()
        with self._translated():
            self._core = repo.Repository(self.path)

    @classmethod
    def open(cls, path: Path | str) -> "Repository":
        """Open a repository. Raises UsageError when there is none."""
        return cls(path)

    @classmethod
    def init(cls, path: Path | str, *, branch: str = repo.FIRST_BRANCH, ignore_file: bool = True) -> "Repository":
        """Make a repository in a folder, and open it. Raises ExistsError, UsageError, DeniedError."""
        place = Path(os.path.abspath(path))
        with cls._translated():
            repo.create(place, branch=branch, source="library", ignore=ignore.FIRST if ignore_file else "")
        return cls(place)

    def close(self) -> None:
        """Let go of the files."""
        self._core.close()

    def __enter__(self) -> "Repository":
        """Itself; closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """`Repository('/data/repo')`."""
        return f"Repository('{self.path}')"

    # --- versions ---

    def version(self, revision: str) -> Version:
        """What a revision names: `main`, `main@3`, `main@2026-11-20`, a tag, `@3f9ac2e1`. Raises NotFoundError."""
        return Version(self, self._core.resolve(revision))

    def diff(self, old: Version | str, new: Version | str, path: str = "") -> Iterator[Change]:
        """What differs between two versions, at a path and below it, in order of paths."""
        first, second = self._as_version(old), self._as_version(new)
        return told(self._core.diff(first._found.id, second._found.id, os.fsencode(path.strip("/"))))

    # --- branches and tags ---

    def branch(self, name: str | None = None) -> Branch:
        """A branch that exists; without a name, the default one. Raises NotFoundError."""
        known = self._core.default_branch() if name is None else ref_name(name)
        return Branch(self, self._core.refs.named(known, tag=False).name)

    def branches(self) -> list[Branch]:
        """All branches, by name."""
        return [Branch(self, ref.name) for ref in self._core.branch_names()]

    def create_branch(self, name: str, start: Version | str | None = None) -> Branch:
        """Make a branch at a version; without one, at the last commit of the default branch. Nothing is copied."""
        version = self._as_version(self._core.default_branch() if start is None else start)
        with self._service() as service:
            return Branch(self, service.create_branch(name, version._found.id, _actor()).name)

    def rename_branch(self, old: str, new: str) -> Branch:
        """Give a branch, with what is not committed, another name."""
        with self._service() as service:
            service.rename_branch(ref_name(old), new, _actor())
        return self.branch(new)

    def delete_branch(self, name: str) -> None:
        """Delete a branch without uncommitted changes. Its versions stay; `restore_branch` brings it back."""
        with self._service() as service:
            service.delete_branch(ref_name(name), _actor())

    def restore_branch(self, name: str) -> Branch:
        """Bring a deleted branch back, where it stood."""
        with self._service() as service:
            return Branch(self, service.bring_back(name, _actor()).name)

    def tags(self) -> dict[str, Version]:
        """All tags, by name."""
        return {ref.name: self.version(ref.name) for ref in self._core.refs.all(tags=True)}

    def create_tag(self, name: str, version: Version | str) -> Version:
        """Name a version for good."""
        with self._service() as service:
            tag = service.create_tag(name, self._as_version(version)._found.id, _actor())
        return self.version(tag.name)

    def delete_tag(self, name: str) -> None:
        """Delete a tag. What it named stays."""
        with self._service() as service:
            service.delete_tag(ref_name(name), _actor())

    # --- for the rest of the library ---

    def _as_version(self, version: Version | str) -> Version:
        return self.version(version) if isinstance(version, str) else version

    @contextmanager
    def _service(self) -> Iterator[Service]:
        with self._translated(), connect(self.path) as service:
            if service.died is not None:
                log.warning("process %d died; it had %s mounted", service.died.pid, self.path)
            yield service

    @contextmanager
    def _intake(self, service: Service) -> Iterator[repo.Repository]:
        """A way to put contents and trees, through the owner."""
        with repo.Repository(self.path, sink=service) as core:
            yield core

    @staticmethod
    @contextmanager
    def _translated() -> Iterator[None]:
        """Programs meet no errors but those of errors.py."""
        try:
            yield
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            raise AnabranchError(f"{error.strerror or error}{place}") from error


def _actor() -> str:
    return user_name(os.geteuid())
