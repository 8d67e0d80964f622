"""Repository: where a program begins."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from anabranch import repo
from anabranch.api.branch import Branch
from anabranch.api.changes import Change, told
from anabranch.api.opened import Opened, actor, local, translated
from anabranch.api.paths import Place
from anabranch.api.version import Version
from anabranch.errors import UsageError
from anabranch.ids import ref_name
from anabranch.settings import key_of
from anabranch.worktree import ignore


class Repository:
    """A repository, open for reading; changes go through its owner. Close it, or use it as a context manager.

    Any thread may use it. It does not survive a fork: start processes by spawn, and open it in them.
    """

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self.path = Path(os.path.realpath(local(path)))
        self._opened = Opened(self.path)

    @classmethod
    def open(cls, path: "str | os.PathLike[str]") -> "Repository":
        """Open a repository. Raises NotFoundError, UsageError, DeniedError, FormatError, DamagedError."""
        return cls(path)

    @classmethod
    def init(
        cls, path: "str | os.PathLike[str]", *, branch: str = repo.FIRST_BRANCH, ignore_file: bool = True
    ) -> "Repository":
        """Make a repository in a folder, and open it; with `ignore_file`, a first `.anaignore` is in its branch, not
        committed. Raises ExistsError, UsageError, DeniedError.
        """
        place = local(path)
        with translated():
            repo.create(place, branch=branch, source="library", ignore=ignore.FIRST if ignore_file else "")
        return cls(place)

    def close(self) -> None:
        """Let go of the files. What was got from it says so when it is used afterwards, by RefusedError."""
        self._opened.close()

    def __enter__(self) -> "Repository":
        """Itself; closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """`Repository('/data/repo')`."""
        return f"Repository({str(self.path)!r})"

    # --- versions ---

    def version(self, revision: str) -> Version:
        """What a revision names: `main`, `main@3`, `main@2026-11-20`, a tag, `@3f9ac2e1`.

        Raises NotFoundError, UsageError for what is no revision, AmbiguousError.
        """
        with self._opened.using() as core:
            return Version(self, core.resolve(revision))

    def diff(self, old: Version | str, new: Version | str, path: Place = "") -> Iterator[Change]:
        """What differs between two versions, at a path and below it, in order of paths. Raises NotFoundError."""
        first, second = self._as_version(old), self._as_version(new)
        inside = second.path(path)._inside
        return self._opened.each(lambda core: told(core.diff(first._found.id, second._found.id, inside)))

    # --- branches and tags ---

    def branch(self, name: str | None = None) -> Branch:
        """A branch that exists; without a name, the default one. Raises NotFoundError, UsageError."""
        with self._opened.using() as core:
            known = core.default_branch() if name is None else ref_name(name)
            return Branch(self, core.refs.named(known, tag=False).name)

    def branches(self) -> list[Branch]:
        """All branches, by name."""
        with self._opened.using() as core:
            return [Branch(self, ref.name) for ref in core.refs.all(tags=False)]

    def create_branch(self, name: str, start: Version | str | None = None) -> Branch:
        """Make a branch at a version; without one, at the last commit of the default branch. Nothing is copied.

        Raises ExistsError, UsageError, NotFoundError.
        """
        version = self.branch().head if start is None else self._as_version(start)
        with self._opened.service() as service:
            return Branch(self, service.create_branch(ref_name(name), version._found.id, actor()).name)

    def rename_branch(self, old: str, new: str) -> Branch:
        """Give a branch, with what is not committed, another name. Raises NotFoundError, ExistsError, UsageError."""
        with self._opened.service() as service:
            service.rename_branch(ref_name(old), ref_name(new), actor())
        return self.branch(new)

    def delete_branch(self, name: str) -> None:
        """Delete a branch without uncommitted changes. Its versions stay; `restore_branch` brings it back.

        Raises NotFoundError, and RefusedError for the default branch and what is not committed.
        """
        with self._opened.service() as service:
            service.delete_branch(ref_name(name), actor())

    def restore_branch(self, name: str) -> Branch:
        """Bring a deleted branch back, where it stood. Raises NotFoundError, ExistsError."""
        with self._opened.service() as service:
            return Branch(self, service.bring_back(ref_name(name), actor()).name)

    def tags(self) -> dict[str, Version]:
        """All tags, by name."""
        with self._opened.using() as core:
            return {ref.name: Version(self, core.resolve(ref.name)) for ref in core.refs.all(tags=True)}

    def create_tag(self, name: str, version: Version | str) -> Version:
        """Name a version for good. Raises ExistsError, UsageError, NotFoundError."""
        target = self._as_version(version)._found.id
        with self._opened.service() as service:
            tag = service.create_tag(ref_name(name), target, actor())
        return self.version(tag.name)

    def delete_tag(self, name: str) -> None:
        """Delete a tag. What it named stays. Raises NotFoundError."""
        with self._opened.service() as service:
            service.delete_tag(ref_name(name), actor())

    # --- settings ---

    @property
    def settings(self) -> Mapping[str, str | int]:
        """The settings as they hold now, by key: those of `ana config`."""
        with self._opened.using() as core:
            return {setting.key: setting.value for setting in core.configured(actor())}

    def set(self, key: str, value: str | int | None) -> None:
        """Change a setting, or with None go back to its default. Raises UsageError, NotFoundError for a branch."""
        text = None if value is None else str(value)
        if text is not None:
            key_of(key).read(text)
        with self._opened.service() as service:
            service.configure(key_of(key).name, text, actor())

    # --- for the rest of the library ---

    def _as_version(self, version: Version | str) -> Version:
        if isinstance(version, str):
            return self.version(version)
        if version._opened.path != self.path:
            raise UsageError(f"{version} is a version of another repository, {version._opened.path}")
        return version
