"""Which repository and which branch a command means: what its options say, else where it is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anabranch import report
from anabranch.cli.output import say
from anabranch.daemon import mounts
from anabranch.errors import UsageError
from anabranch.ids import RefName, path_inside, ref_name
from anabranch.repo import Repository, user_name
from anabranch.store.layout import RECORD

if TYPE_CHECKING:
    from anabranch.daemon.client import Service
    from anabranch.daemon.lock import Owner
    from anabranch.worktree.checkpoint import Recovered


@dataclass(frozen=True, slots=True)
class Where:
    """A repository, and the directory of its mount that the command was called in, if any."""

    path: Path
    chosen: str | None
    mount: Path | None = None
    parts: tuple[str, ...] = ()
    """Where in the mount: the branch or version, then the path in it."""

    @property
    def here(self) -> str | None:
        """The branch or version whose directory the command was called in."""
        return self.parts[0] if self.parts else None

    def inside(self, path: str) -> bytes:
        """A path as it was typed, from the top of its branch: in the branch's directory it counts from there.

        Raises UsageError when it leads out of the branch.
        """
        top = Path("/") if self.mount is None else self.mount / (self.here or "-")
        here = Path("/") if self.mount is None else self.mount.joinpath(*self.parts or ("-",))
        if self.chosen is not None:
            here = top
        full = Path(os.path.normpath(here / path))
        if self.mount is not None and not full.is_relative_to(top) and not Path(path).is_absolute():
            raise UsageError(f"{path} leads out of the branch")
        inside = full.relative_to(top) if full.is_relative_to(top) else full.relative_to("/")
        return b"" if inside == Path() else os.fsencode(inside)

    def to_change(self, path: str) -> bytes:
        """A path as it was typed, from the top of its branch, of something that will be changed: nothing is guessed.

        Raises UsageError.
        """
        if self.mount is not None and self.here in (None, ".ana") and self.chosen is None:
            raise UsageError(f"{self.mount} is no branch", hint="go into one, or name it: -b BRANCH")
        top = (self.mount or Path("/")) / (self.chosen or self.here or "-")
        start = top if self.mount is None or self.chosen is not None else self.mount.joinpath(*self.parts)
        return path_inside(top, start, path)

    def revision(self, repository: Repository) -> str:
        """What the current directory shows, if it is that of a version or a tag; else the branch that is meant."""
        name = self.here
        return name if self.chosen is None and name and name != ".ana" else self.branch(repository)

    def branch(self, repository: Repository) -> RefName:
        """The branch that is meant: -b, else the current directory's, else the default one."""
        if self.chosen is not None:
            return repository.refs.get(ref_name(self.chosen)).name
        name = (self.here or "").partition("@")[0]
        if name and name != ".ana":  # below `@3f9ac2e1` or `.ana` there is no branch
            return repository.refs.get(ref_name(name)).name
        return repository.default_branch()

    def past_branch(self, repository: Repository) -> RefName:
        """As `branch`, but what -b names may have been deleted or renamed since."""
        return self.branch(repository) if self.chosen is None else ref_name(self.chosen)

    def branch_to_change(self, repository: Repository) -> RefName:
        """As `branch`, but a version's directory does not mean its branch: nobody changes what is read-only."""
        if self.chosen is None and self.here is not None and "@" in self.here:
            raise UsageError(
                f"{self.here} is a version, which is read-only", hint="say which branch is meant: -b BRANCH"
            )
        return self.branch(repository)

    @contextmanager
    def reading(self) -> Iterator[Repository]:
        """The repository, for reading only."""
        with Repository(self.path) as repository:
            yield repository

    @contextmanager
    def service(self) -> Iterator[Service]:
        """Whoever owns the repository."""
        from anabranch.daemon.client import connect  # only here: to read takes none of it

        with connect(self.path) as service:
            say_who_died(self.path, service.died)
            if service.recovered is not None:
                say_what_was_brought_back(service.recovered)
            yield service


def find(repository: Path | None, branch: str | None) -> Where:
    """Where a command works; -R and -b may stand before it, too. Raises UsageError outside of any repository."""
    before = click.get_current_context().find_root().params
    repository, branch = repository or before.get("repository"), branch or before.get("branch")
    current = Path.cwd()
    mount = mounts.around(current)
    if repository is not None:
        path = Path(os.path.abspath(repository))
        if (meant := mounts.around(path)) is not None and not (path / RECORD).exists():
            return _where(meant.repository, branch, meant, path)  # the mount is as good a name
        inside = mount if mount is not None and mount.repository == path.resolve() else None
        return _where(path.resolve(), branch, inside, current)
    if mount is not None:
        return _where(mount.repository, branch, mount, current)
    for directory in (current, *current.parents):
        if (directory / RECORD).exists():
            return Where(directory, branch)
    raise UsageError(
        f"{current} is neither in a repository nor in a mounted one", hint="say which one with -R REPO, or go there"
    )


def _where(path: Path, branch: str | None, mount: mounts.Mount | None, current: Path) -> Where:
    if mount is None:
        return Where(path, branch)
    return Where(path, branch, mount.directory, current.relative_to(mount.directory).parts)


def say_who_died(path: Path, last: Owner | None) -> None:
    """Tell of a daemon that ended without saying so."""
    if last is not None:
        say(f"process {last.pid} died; it had {path} mounted at {last.mount_point}")


def say_what_was_brought_back(found: Recovered) -> None:
    """Tell of what was in the journal."""
    if found.records:
        when = report.moment(found.saved_ns)
        say(f"uncommitted changes were brought back as they were saved at {when}")
    if found.dropped:
        say(f"a record that was being written was dropped ({found.dropped} bytes)")


def actor() -> str:
    """Who types."""
    return user_name(os.getuid())


def pairs(words: tuple[str, ...]) -> dict[str, str]:
    """The KEY=VALUE of an option that is repeatable. Raises UsageError."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{word} is no KEY=VALUE", hint="for example --meta run=412")
        if key in found:
            raise UsageError(f"{key} is given twice", hint="a key has one value")
        found[key] = value
    return found


def split_target(target: str) -> tuple[str, bytes]:
    """The revision and the path of REV:PATH. A time may hold colons itself: `main@2026-11-20T10:00:00Z:path`."""
    at = target.find("Z:") + 1 if "@" in target.partition(":")[0] and "T" in target.partition(":")[0] else 0
    if at == 0 and target.count(":") and target.endswith("Z") and "T" in target.partition(":")[0]:
        return target, b""
    colon = target.find(":", at)
    if colon < 0:
        return target, b""
    return target[:colon], target[colon + 1 :].encode(errors="surrogateescape").strip(b"/")
