"""ana branch, tag: names for versions."""

from pathlib import Path

import click

from anabranch import report
from anabranch.cli import completion
from anabranch.cli.context import Where, actor, find
from anabranch.cli.options import branch_option, json_option, repository_option
from anabranch.cli.output import show, show_json, tint_versions
from anabranch.errors import UsageError
from anabranch.ids import ObjectId
from anabranch.versions.refs import Ref


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME [FROM]]", shell_complete=completion.revisions)
@click.option("-d", "--delete", is_flag=True, help="Delete the branches NAME...; their versions stay.")
@click.option("-m", "--move", is_flag=True, help="Rename: [OLD] NEW, by default the branch you are on.")
@click.option("--restore", is_flag=True, help="Bring the deleted branches NAME... back.")
@repository_option
@branch_option
@json_option
def branch(
    names: tuple[str, ...],
    delete: bool,
    move: bool,
    restore: bool,
    repository: Path | None,
    branch: str | None,
    as_json: bool,
) -> None:
    """List the branches, or make the branch NAME at the version FROM.

    FROM is any revision; default: the last commit of the branch you are on. Nothing is copied. A branch with
    uncommitted changes or open files is not deleted.

    \b
    Examples: ana branch; ana branch exp; ana branch fix main@3; ana branch -m exp kept; ana branch -d kept
    """
    where = find(repository, branch)
    if delete + move + restore > 1:
        raise UsageError("-d, -m and --restore exclude each other")
    if delete:
        _delete(where, names, tags=False, as_json=as_json)
    elif restore:
        _bring_back(where, names, as_json=as_json)
    elif move:
        _rename(where, names, as_json=as_json)
    elif names:
        source = _version(where, names, "NAME [FROM]")
        with where.service() as service:
            _show(service.create_branch(names[0], source, actor()), as_json=as_json)
    else:
        with where.reading() as history:
            current, refs = where.branch(history), history.refs.all(tags=False)
        if as_json:
            show_json(report.branches_json(refs, current))
        else:
            show(tint_versions(report.refs_text(refs, current)))


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME [REV]]", shell_complete=completion.revisions)
@click.option("-d", "--delete", is_flag=True, help="Delete the tags NAME...; what they named stays.")
@repository_option
@branch_option
@json_option
def tag(names: tuple[str, ...], delete: bool, repository: Path | None, branch: str | None, as_json: bool) -> None:
    """List the tags, or name the version REV for good.

    \b
    Examples: ana tag; ana tag v1.0; ana tag v1.0 main@3; ana tag -d v1.0
    """
    where = find(repository, branch)
    if delete:
        _delete(where, names, tags=True, as_json=as_json)
    elif names:
        target = _version(where, names, "NAME [REV]")
        with where.service() as service:
            _show(service.create_tag(names[0], target, actor()), as_json=as_json)
    else:
        with where.reading() as history:
            refs = history.refs.all(tags=True)
        if as_json:
            show_json(report.tags_json(refs))
        else:
            show(tint_versions(report.refs_text(refs)))


def _version(where: Where, names: tuple[str, ...], what: str) -> ObjectId:
    """The version that a new name is for."""
    _check_number(names, 1, 2, what)
    with where.reading() as history:
        return history.resolve(names[1] if len(names) > 1 else where.branch(history)).id


def _delete(where: Where, names: tuple[str, ...], *, tags: bool, as_json: bool) -> None:
    """All are looked up before the first is deleted."""
    _check_number(names, 1, len(names), "NAME...")
    with where.reading() as history:
        refs = [history.refs.named(name, tag=tags) for name in names]
    with where.service() as service:
        for ref in refs:
            service.delete_tag(ref.name, actor()) if tags else service.delete_branch(ref.name, actor())
            if not as_json:
                show(tint_versions(report.deleted_line(ref)))
    if as_json:
        show_json([report.deleted_json(ref) for ref in refs])


def _bring_back(where: Where, names: tuple[str, ...], *, as_json: bool) -> None:
    _check_number(names, 1, len(names), "NAME...")
    with where.service() as service:
        refs = [service.bring_back(name, actor()) for name in names]
    if as_json:
        show_json([report.ref_json(ref) for ref in refs])
    else:
        show(tint_versions("".join(report.ref_line(ref) + "\n" for ref in refs)))


def _rename(where: Where, names: tuple[str, ...], *, as_json: bool) -> None:
    _check_number(names, 1, 2, "[OLD] NEW")
    with where.reading() as history:
        old = history.refs.named(names[0], tag=False).name if len(names) > 1 else where.branch_to_change(history)
    with where.service() as service:
        service.rename_branch(old, names[-1], actor())
    with where.reading() as history:
        _show(history.refs.named(names[-1], tag=False), as_json=as_json)


def _show(ref: Ref, *, as_json: bool) -> None:
    if as_json:
        show_json(report.ref_json(ref))
    else:
        show(tint_versions(report.ref_line(ref)) + "\n")


def _check_number(names: tuple[str, ...], least: int, most: int, what: str) -> None:
    if not least <= len(names) <= most:
        raise UsageError(f"{what} is expected here", hint="'ana branch -h' and 'ana tag -h' have examples")
