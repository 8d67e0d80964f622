"""ana branch, tag: names for versions."""

from pathlib import Path

import click

from anabranch import report
from anabranch.cli.context import actor, branch_option, find, json_option, repository_option, show, show_json


@click.command()
@click.argument("name", required=False, metavar="[NAME")
@click.argument("start", required=False, metavar="[FROM]]")
@repository_option
@branch_option
@json_option
def branch(name: str | None, start: str | None, repository: Path | None, branch: str | None, as_json: bool) -> None:
    """List the branches, or make the branch NAME at the version FROM.

    FROM is any revision; default: the last commit of the branch you are on. Nothing is copied.

    \b
    Examples: ana branch; ana branch exp; ana branch fix main@3
    """
    where = find(repository, branch)
    with where.reading() as history:
        current = where.branch(history)
        if name is None:
            refs = history.refs.all(tags=False)
            if as_json:
                show_json([{**report.ref_json(ref), "current": ref.name == current} for ref in refs])
            else:
                show(report.refs_text(refs, current))
            return
        source = history.resolve(start or current).id
    with where.service() as service:
        made = service.create_branch(name, source, actor())
    show_json(report.ref_json(made)) if as_json else show(report.ref_line(made) + "\n")


@click.command()
@click.argument("name", required=False, metavar="[NAME")
@click.argument("revision", required=False, metavar="[REV]]")
@repository_option
@branch_option
@json_option
def tag(name: str | None, revision: str | None, repository: Path | None, branch: str | None, as_json: bool) -> None:
    """List the tags, or name the version REV for good.

    \b
    Examples: ana tag; ana tag v1.0; ana tag v1.0 main@3
    """
    where = find(repository, branch)
    with where.reading() as history:
        if name is None:
            refs = history.refs.all(tags=True)
            if as_json:
                show_json([report.ref_json(ref) for ref in refs])
            else:
                show(report.refs_text(refs))
            return
        target = history.resolve(revision or where.branch(history)).id
    with where.service() as service:
        made = service.create_tag(name, target, actor())
    show_json(report.ref_json(made)) if as_json else show(report.ref_line(made) + "\n")
