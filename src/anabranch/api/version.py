"""Versions: what a branch was at one commit, for ever."""

import os
from collections.abc import Hashable, Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from anabranch.api.changes import Change, told
from anabranch.api.files import Read
from anabranch.api.opened import local
from anabranch.api.paths import Place, TreePath
from anabranch.api.times import utc
from anabranch.errors import DamagedError
from anabranch.history import VersionName
from anabranch.ids import ObjectId
from anabranch.transfer import export, export_tar
from anabranch.versions import manifests
from anabranch.versions.objects import Entry, EntryKind

if TYPE_CHECKING:
    from anabranch.api.repository import Repository


class VersionPath(TreePath):
    """A path in a version: it can be read, and never changes."""

    def __init__(self, version: "Version", *segments: Place) -> None:
        super().__init__(*segments)
        self.version = version

    def _with(self, path: PurePosixPath) -> "VersionPath":
        return VersionPath(self.version, path)

    @property
    def _tree(self) -> Hashable:
        return self.version

    def _look(self, path: bytes) -> Entry | None:
        with self.version._opened.using():
            return self.version._files.find(path)

    def _list(self, path: bytes) -> list[tuple[bytes, EntryKind]]:
        with self.version._opened.using():
            found = self.version._files.children(self.version._files.at(path))
            return [(name, entry.kind) for name, entry in found]

    def _reader(self, path: bytes, entry: Entry) -> Read:
        return self.version._opened.reader(manifests.of(entry))


class Version:
    """A version, as `main@3`, a tag, or a commit. Use `version / "path"`."""

    def __init__(self, repository: "Repository", found: VersionName) -> None:
        self._repository = repository
        self._opened = repository._opened
        self._found = found
        with self._opened.using() as core:
            self._files = core.given(found.commit.root, ObjectId(found.commit.links))

    def __str__(self) -> str:
        """`main@12`, a tag's name, or `@3f9ac2e1`."""
        return str(self._found)

    def __repr__(self) -> str:
        """`Version('main@12')`."""
        return f"Version('{self}')"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same commit."""
        return isinstance(other, Version) and self.id == other.id

    def __hash__(self) -> int:
        """As equality."""
        return hash(self.id)

    @property
    def branch(self) -> str | None:
        """The branch or tag by which it was found."""
        return self._found.name

    @property
    def number(self) -> int | None:
        """Its number in the branch; None of tags and commits."""
        return self._found.number

    @property
    def id(self) -> str:
        """The id of the commit: 64 hexadecimal digits."""
        return self._found.id.hex()

    @property
    def parents(self) -> list[str]:
        """The ids of the commits that it was made from."""
        return [parent.hex() for parent in self._found.commit.parents]

    @property
    def author(self) -> str:
        """Who made it."""
        return self._found.commit.author

    @property
    def message(self) -> str:
        """What changed, in the author's words."""
        return self._found.commit.message

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was kept with it."""
        return dict(self._found.commit.metadata)

    @property
    def time_ns(self) -> int:
        """When it was made, in nanoseconds since 1970."""
        return self._found.time_ns

    @property
    def time(self) -> datetime:
        """When it was made, UTC, to the microsecond."""
        return utc(self.time_ns)

    def path(self, path: Place = "") -> VersionPath:
        """A path in it; without one, the top."""
        return VersionPath(self, path)

    def __truediv__(self, path: "str | os.PathLike[str]") -> VersionPath:
        """A path in it."""
        return VersionPath(self, path)

    def walk(self) -> Iterator[tuple[VersionPath, list[str], list[str]]]:
        """Each directory with the names in it; see `TreePath.walk`."""
        return self.path().walk()

    def changes(self) -> Iterator[Change]:
        """What it changed against its first parent."""
        return self._opened.each(lambda core: told(core.changes_of(self._found.commit)))

    def blame(self, path: Place = "") -> dict[str, "Version"]:
        """Of each name in a directory, in order, the version that last changed it, or anything below it; of a file,
        that alone. Raises NotFoundError, UsageError.
        """
        inside = VersionPath(self, path)._inside
        found = sorted(self._opened.each(lambda core: core.blame(self._found, inside)), key=lambda each: each.name)
        return {os.fsdecode(each.name): Version(self._repository, each.version) for each in found}

    def export(self, place: "str | os.PathLike[str]", path: Place = "") -> int:
        """Write what is at a path into the new directory, or as the new file, `place`; returns the number of files.

        A place that ends with `.tar` becomes a tar file. Raises NotFoundError, ExistsError, and DamagedError when
        something could not be written as it is, after all else was.
        """
        goal, inside = local(place), VersionPath(self, path)._inside
        with self._opened.using() as core:
            top = self._files.at(inside)
            is_tar = goal.suffix == ".tar" and top.kind is EntryKind.DIRECTORY
            write = export_tar.to_file if is_tar else export.to_directory
            done = write(core, self._files, top, goal, lambda _: None)
        for failed, why in done.failed:
            raise DamagedError(f"{failed.decode(errors='replace')}: {why}", hint=f"{len(done.failed)} paths in all")
        return done.files
