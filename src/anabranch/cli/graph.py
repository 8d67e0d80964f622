"""ana log --graph: all that led to a branch, as text with columns."""

from collections.abc import Iterable, Iterator

from anabranch import report
from anabranch.cli.output import tint_versions
from anabranch.history import VersionName
from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.report_graph import drawn


def between(history: Repository, branch: RefName, earliest: int, latest: int | None) -> Iterator[VersionName]:
    """All that led to a branch, children before parents, of a time: those of a later child are not there."""
    for version in history.graph(branch, earliest or None):
        if version.time_ns >= earliest and (latest is None or version.time_ns <= latest):
            yield version


def lines(versions: Iterable[VersionName]) -> Iterator[str]:
    """One line a version, and those that lead to its parents."""
    rows = ((version.id, map(ObjectId, version.commit.parents), report.version_line(version)) for version in versions)
    return (tint_versions(row) + "\n" for row in drawn(rows))
