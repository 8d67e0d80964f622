"""ana log, show, ls, du, cat: reading versions, without a mount."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice, takewhile
from pathlib import Path

import click

from anabranch import report
from anabranch.cli import completion
from anabranch.cli import graph as drawing
from anabranch.cli.context import find, pairs, split_target
from anabranch.cli.options import branch_option, json_option, repository_option
from anabranch.cli.output import page, show_bytes, show_json, tint_changes, tint_versions
from anabranch.errors import UsageError
from anabranch.escape import show_name
from anabranch.history import VersionName
from anabranch.ids import RefName, parse_time
from anabranch.repo import Repository
from anabranch.versions.objects import EntryKind
from anabranch.versions.refs import DAY
from anabranch.versions.renames import renamed


@click.command()
@click.option("-n", "count", type=click.IntRange(min=1), metavar="N", help="Only the newest N versions.")
@click.option("--since", metavar="TIME", help="Only versions of that time or later; 2026-11-20, or with T10:00:00Z.")
@click.option("--until", metavar="TIME", help="Only versions of that time or earlier; a date is all of its day.")
@click.option(
    "--meta", multiple=True, metavar="KEY=VALUE", help="Only versions with this in their metadata; repeatable."
)
@click.option("--path", metavar="PATH", help="Only versions that changed this file, or something in this directory.")
@click.option("--graph", is_flag=True, help="All that led to the branch, drawn with lines to each version's parents.")
@repository_option
@branch_option
@json_option
def log(
    count: int | None,
    since: str | None,
    until: str | None,
    meta: tuple[str, ...],
    path: str | None,
    graph: bool,
    repository: Path | None,
    branch: str | None,
    as_json: bool,
) -> None:
    """List the versions of a branch, newest first.

    In a mount, PATH counts from the current directory; elsewhere from the top of the branch.

    With --graph, those of other branches that were merged too, and what was before the branch was made; each by its
    name in the log of the branch, else of another one. A line that leads on at the end leads to older versions.

    \b
    Examples: ana log -b main -n 5; ana log --path raw/flights.csv; ana log --since 2026-11-20 --meta run=412
    """
    if graph and (path is not None or meta):
        raise UsageError(
            "--graph takes neither --path nor --meta", hint="without --graph, the log shows the versions that match"
        )
    where = find(repository, branch)
    earliest = 0 if since is None else parse_time(since)
    latest = None if until is None else parse_time(until) + (0 if "T" in until else DAY - 1)
    wanted = pairs(meta).items()
    with where.reading() as history:
        name = where.past_branch(history)
        if graph:
            _show_graph(islice(drawing.between(history, name, earliest, latest), count), as_json=as_json)
            return
        found = history.log(name) if path is None else history.log_of(name, where.inside(path))
        found = takewhile(lambda version: version.time_ns >= earliest, found)
        matching = (
            version
            for version in found
            if (latest is None or version.time_ns <= latest) and wanted <= version.commit.metadata.items()
        )
        versions = islice(matching, count)
        if as_json:
            show_json(report.log_json(versions))
            return
        lines = (tint_versions(report.version_line(version)) + "\n" for version in versions)
        whole = not (count or path or since or until or meta)
        page(chain(lines, _former_name(history, name) if whole else ()))


def _show_graph(versions: Iterable[VersionName], *, as_json: bool) -> None:
    if as_json:
        show_json(report.log_json(versions))
    else:
        page(drawing.lines(versions))


def _former_name(history: Repository, name: RefName) -> Iterator[str]:
    first = history.refs.row(name, 0)
    if first is not None and first.detail:
        former = show_name(first.detail)
        yield f"before that it was called {former}: ana log -b {former}\n"


@click.command(name="show")
@click.argument("revision", required=False, metavar="[REV]", shell_complete=completion.revisions)
@repository_option
@branch_option
@json_option
def show_version(revision: str | None, repository: Path | None, branch: str | None, as_json: bool) -> None:
    """Show a version: who made it, when, why, and what it changed.

    Without REV: the version whose directory this is, else the last one of the branch. Changes are those from the
    version's first parent.

    \b
    A added, D deleted, R renamed, M modified, T other type, a attributes only.
    Examples: ana show; ana show main@3; ana show @3f9ac2e1
    """
    where = find(repository, branch)
    with where.reading() as history:
        version = history.resolve(revision or where.revision(history))
        changes = renamed(history.changes_of(version.commit))
        if as_json:
            show_json(report.shown_json(version, changes))
            return
        page(chain([tint_versions(report.shown_text(version))], map(tint_changes, report.diff_text(changes))))


@click.command()
@click.argument("target", metavar="REV[:PATH]", shell_complete=completion.revisions)
@repository_option
@json_option
def ls(target: str, repository: Path | None, as_json: bool) -> None:
    """List a directory, or a file, of a version.

    \b
    Examples: ana ls main@3; ana ls v1.0:raw/2026
    """
    revision, path = split_target(target)
    with find(repository, None).reading() as history:
        version = history.version(history.resolve(revision).id)
        entry = version.at(path)
        rows = version.children(entry) if entry.kind == EntryKind.DIRECTORY else iter([(path.rsplit(b"/")[-1], entry)])
        if as_json:
            show_json([report.entry_json(name, row, history.xattrs(row)) for name, row in rows])
            return
        page(report.entry_line(name, row) + "\n" for name, row in rows)


@click.command()
@click.argument("target", metavar="REV[:PATH]", shell_complete=completion.revisions)
@repository_option
@json_option
def du(target: str, repository: Path | None, as_json: bool) -> None:
    """Say how much is in a directory of a version: in each thing in it, and in all. Nothing is read but its tree.

    Sizes are those of the files, before compression. A file with several names counts for none of its directories.

    \b
    Examples: ana du main; ana du v1.0:raw
    """
    revision, path = split_target(target)
    with find(repository, None).reading() as history:
        version = history.version(history.resolve(revision).id)
        entry = version.at(path)
        directory = entry.kind == EntryKind.DIRECTORY
        rows = list(version.children(entry)) if directory else []
    if as_json:
        show_json(report.usage_json(path, entry, rows))
    else:
        page(report.usage_text(path, entry, rows))


@click.command()
@click.argument("target", metavar="REV:PATH", shell_complete=completion.revisions)
@repository_option
def cat(target: str, repository: Path | None) -> None:
    """Write a file of a version to standard output.

    \b
    Example: ana cat main@3:flights.csv | head
    """
    revision, path = split_target(target)
    if not path:
        raise UsageError(f"{target} names no file", hint="write REV:PATH, for example main@3:flights.csv")
    with find(repository, None).reading() as history:
        entry = history.version(history.resolve(revision).id).at(path)
        if entry.kind != EntryKind.FILE:
            raise UsageError(f"{target} is not a file", hint=f"ana ls {target}")
        for piece in history.read(entry):
            show_bytes(piece)
