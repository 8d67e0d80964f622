"""ana blame: which version last changed what is in a directory."""

from contextlib import suppress
from pathlib import Path

import click

from anabranch import report_blame
from anabranch.cli import completion
from anabranch.cli.context import Where, find, split_target
from anabranch.cli.options import branch_option, json_option, repository_option
from anabranch.cli.output import page, show_json
from anabranch.errors import NotFoundError, UsageError
from anabranch.history import VersionName
from anabranch.repo import Repository
from anabranch.versions.diff import path_order


@click.command()
@click.argument("target", metavar="[REV:]PATH", shell_complete=completion.revisions_and_files)
@click.option("-r", "--recursive", is_flag=True, help="All files below PATH, in the place of its directories.")
@repository_option
@branch_option
@json_option
def blame(target: str, recursive: bool, repository: Path | None, branch: str | None, as_json: bool) -> None:
    """Tell which version last changed PATH, or what is in it: name, time, author, message.

    A directory in PATH has one line, of the newest version that changed anything below it. Uncommitted changes do not
    count. Without REV: the version whose directory this is, else the last one of the branch, and in a mount, PATH
    counts from the current directory; with REV, from the top.

    \b
    Examples: ana blame .; ana blame raw/flights.csv; ana blame -r main@3:raw
    """
    where = find(repository, branch)
    with where.reading() as history:
        version, path = _meant(history, where, target)
        found = list(history.blame(version, path, recursive=recursive))
    found.sort(key=lambda each: path_order((each.name, None, None)))
    if as_json:
        show_json(report_blame.blame_json(found))
    else:
        page(report_blame.blame_text(found))


def _meant(history: Repository, where: Where, target: str) -> tuple[VersionName, bytes]:
    """The version and the path of [REV:]PATH. A path may hold colons itself; with `./` in front it is always one."""
    last = history.resolve(where.revision(history))
    if ":" not in target:
        return last, where.inside(target)
    revision, path = split_target(target)
    try:
        return history.resolve(revision), path
    except UsageError:
        return last, where.inside(target)
    except NotFoundError:
        with suppress(UsageError):
            if history.version(last.id).find(inside := where.inside(target)) is not None:
                return last, inside
        raise
