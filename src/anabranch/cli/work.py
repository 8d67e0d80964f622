"""ana status, commit, diff: what is not committed yet."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anabranch import report
from anabranch.cli import completion, lines
from anabranch.cli.context import Where, actor, find, pairs
from anabranch.cli.options import branch_option, json_option, repository_option
from anabranch.cli.output import page, show, show_json, tint_changes, tint_versions
from anabranch.cli.progress import progress
from anabranch.commit import Note, check_note
from anabranch.errors import NotFoundError, UsageError
from anabranch.history import VersionName
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.diff import Change
from anabranch.versions.renames import renamed
from anabranch.versions.walks import is_below
from anabranch.worktree.restore import Restored

if TYPE_CHECKING:
    from anabranch.cli.tables import Rows


@click.command()
@repository_option
@branch_option
@json_option
@click.option("--ignored", "with_ignored", is_flag=True, help="Also list what .anaignore files keep out of commits.")
def status(repository: Path | None, branch: str | None, as_json: bool, with_ignored: bool) -> None:
    """Show what is not committed on a branch.

    \b
    A added, D deleted, R renamed, M modified, T other type, a attributes only, I ignored.
    Examples: ana status -b exp; ana status --ignored
    """
    where = find(repository, branch)
    with where.reading() as history:
        name = where.branch(history)
        base = history.resolve(name)
    with where.service() as service:
        changes = list(renamed(service.status(name)))
        ignored = service.ignored(name) if with_ignored else None
    if as_json:
        show_json(report.status_json(base, changes, ignored))
    else:
        head = tint_versions(report.status_head(base, changes))
        page(chain([head], map(tint_changes, report.status_rest(changes, ignored))))


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH...]", shell_complete=completion.files)
@click.option("-m", "--message", required=True, metavar="TEXT", help="What changed.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Something to keep with the version; repeatable.")
@click.option("--author", default="", metavar="NAME", help="Who made what is committed; default: who commits.")
@click.option("--allow-empty", is_flag=True, help="Commit though nothing has changed.")
@click.option("--any-clock", is_flag=True, help="Commit though the clock is a day behind the last version.")
@repository_option
@branch_option
@json_option
def commit(
    paths: tuple[str, ...],
    message: str,
    meta: tuple[str, ...],
    author: str,
    allow_empty: bool,
    any_clock: bool,
    repository: Path | None,
    branch: str | None,
    as_json: bool,
) -> None:
    """Make a version of everything on a branch, as it is at this instant. Of PATHs, if given, only of what is there.

    \b
    Examples: ana commit -m "flights of January"; ana commit -m "nightly" --meta run=412 --meta source=bts
              ana commit raw/2026 -m "only what came today"
    Exit code 1: there was nothing to commit.
    """
    note = check_note(Note(message, author, pairs(meta)))
    where = find(repository, branch)
    with where.reading() as history:
        name = where.branch_to_change(history)
    some = [where.to_change(path) for path in paths] or None
    with where.service() as service, progress("committing") as bar:
        done = service.commit(
            name, note, actor(), paths=some, any_clock=any_clock, allow_empty=allow_empty, progress=bar.show
        )
    if as_json:
        show_json(report.committed_json(done))
    else:
        show(tint_versions(report.committed_text(done)))


@click.command()
@click.argument(
    "words", nargs=-1, required=True, metavar="[REV] PATH...", shell_complete=completion.revisions_and_files
)
@repository_option
@branch_option
@json_option
def restore(words: tuple[str, ...], repository: Path | None, branch: str | None, as_json: bool) -> None:
    """Put back what the version REV holds at each PATH: everything there becomes as it was, what was not there goes.

    With one word, it is a PATH, and the version the last one. Programs that have a changed file open keep the old one.

    \b
    Examples: ana restore flights.csv; ana restore main@3 raw/2026; ana restore v1.0 .
    """
    where = find(repository, branch)
    with where.reading() as history:
        name = where.branch_to_change(history)
        if len(words) > 1:
            _check_first_word(history, where, name, words)
        source = history.resolve(words[0] if len(words) > 1 else name)
        paths = [where.to_change(word) for word in words[1:] or words]
        version = history.version(source.id)
        if len(words) == 1:
            _check_only_word(history, words[0], version.named(paths[0]) is not None)
        history.check_held(source, paths)
    with where.service() as service:
        done = service.restore(name, version, paths)
    _show_restored(name, source, done, as_json=as_json)


def _show_restored(branch: RefName, source: VersionName, done: Restored, *, as_json: bool) -> None:
    if as_json:
        show_json(report.restored_json(branch, source, done))
    else:
        show(tint_versions(report.restored_text(branch, source, done)))


def _check_first_word(history: Repository, where: Where, branch: RefName, words: tuple[str, ...]) -> None:
    """Of several words the first is a version; what was meant as a path could bring back that of another branch."""
    path = where.to_change(words[0])
    if history.version(history.resolve(branch).id).find(path) is not None:
        raise UsageError(
            f"{words[0]} is a path, and the first of several words is a version",
            hint=f"ana restore {branch}@head {shlex.join(words)}, or ana discard {shlex.join(words)}",
        )


def _check_only_word(history: Repository, word: str, is_path: bool) -> None:
    """A version alone says nothing of what is to be put back."""
    revision, _, path = word.partition(":")
    if not is_path and "@" in revision:
        with suppress(NotFoundError):
            history.resolve(revision)
            raise UsageError(
                f"{word} is a version, and what comes back is a path", hint=f"ana restore {revision} {path or '.'}"
            )


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH...]", shell_complete=completion.files)
@repository_option
@branch_option
@json_option
def discard(paths: tuple[str, ...], repository: Path | None, branch: str | None, as_json: bool) -> None:
    """Give up what is not committed at each PATH, new files too; without PATH: all of the branch.

    \b
    Examples: ana discard flights.csv; ana discard .; ana discard -b exp
    """
    where = find(repository, branch)
    with where.reading() as history:
        name = where.branch_to_change(history)
        source = history.resolve(name)
        version = history.version(source.id)
    inside = [where.to_change(path) for path in paths] or [b""]
    with where.service() as service:
        done = service.restore(name, version, inside, new_too=True)
    _show_restored(name, source, done, as_json=as_json)


class _WithPaths(click.Command):
    """What follows `--` are paths: without it nobody could tell them from revisions."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before = args[: args.index("--")] if "--" in args else args
        ctx.meta[_PATHS] = args[len(before) + 1 :]
        return super().parse_args(ctx, before)


_PATHS = "anabranch.paths"
_Shown = Callable[[Iterable[Change]], Iterable[str]]
"""How changes become text."""


@click.command(cls=_WithPaths)
@click.argument("old", required=False, metavar="[A", shell_complete=completion.revisions)
@click.argument("new", required=False, metavar="[B]] [-- PATH...]", shell_complete=completion.revisions)
@click.option("--stat", is_flag=True, help="Only how much differs.")
@click.option("--name-only", is_flag=True, help="Only the paths.")
@click.option("--rows", "by_rows", is_flag=True, help="Of CSV and Parquet tables: columns and rows.")
@click.option("--key", multiple=True, metavar="COLUMN", help="With --rows: what tells rows apart; repeatable.")
@click.option("--sample", type=click.IntRange(0), metavar="N", help="With --rows: N of each kind; default: 10.")
@repository_option
@branch_option
@json_option
@click.pass_context
def diff(
    context: click.Context,
    old: str | None,
    new: str | None,
    stat: bool,
    name_only: bool,
    by_rows: bool,
    key: tuple[str, ...],
    sample: int | None,
    repository: Path | None,
    branch: str | None,
    as_json: bool,
) -> None:
    """Show the paths that differ, with their sizes; at PATH and below it, if given.

    Without A: uncommitted changes. With A: from A to the working tree. With A and B: from A to B. Below a modified text
    file (UTF-8, 512 KiB at most) are its changed lines, 200 at most.

    With --rows, below a changed table (.csv, .tsv, .parquet, or a directory of parts as Spark writes it) are the rows
    that were added and removed; with --key COLUMN, also those that changed: rows with equal keys are compared.

    \b
    A added, D deleted, R renamed, M modified, T other type, a attributes only.
    Examples: ana diff; ana diff main@1; ana diff main@1 main@2 -- raw; ana diff --stat main exp
              ana diff --rows --key carrier -- raw/airlines.csv; ana diff --rows --key day --key flight main exp
    """
    if stat + name_only + as_json > 1:
        raise UsageError("--stat, --name-only and --json exclude each other")
    if by_rows and (stat or name_only):
        raise UsageError("--rows tells more than --stat and --name-only: choose one")
    if not by_rows and (key or sample is not None):
        raise UsageError("--key and --sample go with --rows")
    where = find(repository, branch)
    typed = context.meta[_PATHS]
    asked = _Asked(old, new, typed, [where.inside(path) for path in typed], as_json)
    if by_rows:
        from anabranch.cli.tables import rows_of  # takes time, and few ask for it

        with rows_of(where.path, key, sample) as rows:
            _diff(where, asked, rows=rows)
    else:
        _diff(where, asked, report.stat_text if stat else report.names_text if name_only else None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a diff is asked for: revisions, and paths as they were typed and from the top."""

    old: str | None
    new: str | None
    typed: list[str]
    paths: list[bytes]
    as_json: bool


def _diff(where: Where, asked: _Asked, shown: _Shown | None = None, rows: Rows | None = None) -> None:
    with where.reading() as history:
        name = where.branch(history) if asked.new is None else None
        first = _revision(history, asked.old or name or "")
        old_side = history.version(first.id)
        if asked.new is not None:
            _diff_versions(history, asked, first, _revision(history, asked.new), shown, rows)
            return
        known = {path for path in asked.paths if old_side.named(path) is not None}
    assert name is not None
    with where.service() as service:
        _check_there(asked, known.__contains__, partial(service.look, name))
        found = list(renamed(_at(service.diff(first.id, name), asked.paths)))
        read = rows and rows.in_branch(service, name, found)
        working = lines.in_branch(service, name, [] if shown or asked.as_json else found)
    with where.reading() as history:
        shown = shown or lines.between(lines.in_version(history, history.version(first.id)), working)
        if rows and read:
            sides = rows.in_version(history, first.id), read
            rows.show(str(first), name, found, sides, shown, as_json=asked.as_json)
        else:
            _show(str(first), name, found, shown, as_json=asked.as_json)


def _diff_versions(
    history: Repository, asked: _Asked, first: VersionName, second: VersionName, shown: _Shown | None,
    rows: Rows | None,
) -> None:  # fmt: skip
    old_side, new_side = history.version(first.id), history.version(second.id)
    _check_there(asked, old_side.named, new_side.named)
    changes = renamed(_at(history.diff(first.id, second.id), asked.paths))
    shown = shown or lines.between(lines.in_version(history, old_side), lines.in_version(history, new_side))
    if rows:
        sides = rows.in_version(history, first.id), rows.in_version(history, second.id)
        rows.show(str(first), str(second), changes, sides, shown, as_json=asked.as_json)
    else:
        _show(str(first), str(second), changes, shown, as_json=asked.as_json)


def _revision(history: Repository, word: str) -> VersionName:
    try:
        return history.resolve(word)
    except (NotFoundError, UsageError) as error:
        raise type(error)(error.message, hint=f"paths come last: ana diff [A [B]] -- {shlex.quote(word)}") from None


def _check_there(asked: _Asked, *sides: Callable[[bytes], object]) -> None:
    """A path that neither side has is a mistake. Raises NotFoundError."""
    for word, path in zip(asked.typed, asked.paths, strict=True):
        if path and not any(side(path) for side in sides):
            raise NotFoundError(f"neither side has {word}", hint="paths count from where you are, or from the top")


def _at(changes: Iterable[Change], paths: list[bytes]) -> Iterator[Change]:
    """The changes at some paths and below them; all without paths."""
    return (change for change in changes if not paths or any(is_below(change.path, path) for path in paths))


def _show(old: str, new: str, changes: Iterable[Change], shown: _Shown, *, as_json: bool) -> None:
    if as_json:
        show_json(report.diff_json(old, new, changes))
    else:
        page(map(tint_changes, shown(changes)))
