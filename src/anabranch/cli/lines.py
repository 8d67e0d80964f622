"""The two sides of a modified text, read for the lines that `ana diff` shows below its path."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from anabranch import report
from anabranch.daemon.client import Service
from anabranch.errors import NotFoundError, UsageError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.diff import Change
from anabranch.versions.lines import TEXT_MAX, may_tell, unified
from anabranch.versions.trees import Version

UNCOMMITTED_MAX = 64 * 1024 * 1024
"""Bytes of uncommitted files that are compared by lines: they are in memory together."""

Side = Callable[[bytes], bytes | None]
"""Gives the content of a path, or None where it is not told."""


def between(old: Side, new: Side) -> Callable[[Iterable[Change]], Iterator[str]]:
    """What makes a text of changes, with the changed lines."""

    def lines(change: Change) -> Iterator[str]:
        if may_tell(change) and (after := new(change.path)) is not None and (before := old(change.path)) is not None:
            yield from unified(before, after)

    return partial(report.diff_text, lines=lines)


def in_version(history: Repository, version: Version) -> Side:
    """The side of a version."""
    return lambda path: b"".join(history.read(version.at(path)))


def in_branch(service: Service, branch: RefName, changes: Iterable[Change]) -> Side:
    """The side of a working tree. All is read now: whoever pages through it must not hold up the owner."""
    contents: dict[bytes, bytes] = {}
    left = UNCOMMITTED_MAX
    for change in changes:
        if may_tell(change) and (change.new_size or 0) <= left:
            with suppress(NotFoundError, UsageError):  # gone meanwhile
                contents[change.path] = service.read(branch, change.path, 0, TEXT_MAX + 1)
                left -= len(contents[change.path])
    return contents.get
