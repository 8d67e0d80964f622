"""ana merge, revert, cherry-pick, reset: what others did comes to a branch, and what was done goes."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click

from anabranch import report_merging, report_tables
from anabranch.cli import completion
from anabranch.cli.context import Where, actor, find, pairs
from anabranch.cli.options import branch_option, json_option, repository_option
from anabranch.cli.output import complain, show, show_json, tint_versions
from anabranch.cli.progress import busy
from anabranch.commit import Note, check_note
from anabranch.daemon.undertaking import Make, Undertaking, keep_uncommitted
from anabranch.errors import MergeConflictError, UsageError
from anabranch.history import VersionName
from anabranch.ids import ref_name
from anabranch.merging.proposal import Proposal, Propose, conflicted
from anabranch.merging.resolution import STRATEGIES, Resolution, Rule
from anabranch.merging.rows import TableMerging, merging_tables
from anabranch.moves import Moved, reset_to
from anabranch.repo import Repository
from anabranch.versions.refs import Operation

_OPTIONS = (
    click.option(
        "--strategy", type=click.Choice(STRATEGIES), help="What becomes of all conflicts: what we have, or they."
    ),
    click.option(
        "--resolve", "rules", multiple=True, metavar="GLOB=ours|theirs|base|FILE",
        help="What becomes of conflicts at paths that match, as in gitignore; repeatable, the last match wins.",
    ),
    click.option(
        "--rows", is_flag=True, help="Merge tables that both changed row by row: CSV, Parquet, and what Spark writes."
    ),
    click.option("--key", multiple=True, metavar="COLUMN", help="With --rows: what tells rows apart; repeatable."),
    click.option("-n", "--dry-run", "dry", is_flag=True, help="Only say what would come of it."),
    click.option("-m", "--message", metavar="TEXT", help="What the version says of itself."),
    click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Something to keep with the version; repeatable."),
    repository_option,
    json_option,
)  # fmt: skip
"""Of all commands that propose something, and may meet conflicts."""


def _proposing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets them as one: `how`."""

    @wraps(command)
    def told(
        *, strategy: str | None, rules: tuple[str, ...], rows: bool, key: tuple[str, ...], dry: bool,
        message: str | None, meta: tuple[str, ...], as_json: bool, **others: Any,  # noqa: ANN401  (the command's own)
    ) -> None:  # fmt: skip
        parsed = [Rule.parse(rule) for rule in rules]
        command(how=_How(strategy, parsed, _key(key, rows=rows), _note(message, meta), dry, as_json), **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), told)


@click.command()
@click.argument("source", metavar="SRC", shell_complete=completion.revisions)
@click.option(
    "--into", "-b", "--branch", "branch", metavar="BRANCH", shell_complete=completion.branches,
    help="The branch that gets it; default: where you are.",
)  # fmt: skip
@click.option("--ff-only", is_flag=True, help="Only go to SRC itself, if the branch has nothing that SRC has not.")
@click.option("--squash", is_flag=True, help="Make a version that does not know of SRC.")
@_proposing
def merge(
    source: str,
    branch: str | None,
    ff_only: bool,
    squash: bool,
    how: "_How",
    repository: Path | None,
) -> None:
    """Bring into a branch what SRC has changed since both parted: one version with two parents.

    Paths that only one side changed come together. A path that both changed is a conflict: then nothing at all is
    changed, and the conflicts are listed. Uncommitted changes stay, if they are at other paths.

    \b
    Examples: ana merge exp; ana merge exp --into main --dry-run
              ana merge exp --resolve 'raw/*.csv=theirs' --resolve params.json=/tmp/params.json
              ana merge exp --rows --key flight --key day
    Exit code 3: there are conflicts, or uncommitted changes are in the way.
    """
    if ff_only and (squash or how.note != Note("")):
        raise UsageError("--ff-only makes no version of its own", hint="leave --squash, -m and --meta away")

    def make(propose: Propose, found: VersionName) -> Proposal:
        return propose.merge(found, ff_only=ff_only, squash=squash)

    how.run(find(repository, branch), source, make)


@click.command()
@click.argument("revision", metavar="VERSION", shell_complete=completion.revisions)
@branch_option
@_proposing
def revert(
    revision: str,
    how: "_How",
    repository: Path | None,
    branch: str | None,
) -> None:
    """Change back what VERSION changed, by a new version: what came after it stays.

    Of a merge, what it brought into the branch goes. Conflicts are as with `ana merge`.

    \b
    Examples: ana revert main@12; ana revert main@12 --dry-run
    Exit code 1: nothing of it is left. 3: there are conflicts, or uncommitted changes are in the way.
    """
    how.run(find(repository, branch), revision, Propose.revert)


@click.command(name="cherry-pick")
@click.argument("revision", metavar="REV", shell_complete=completion.revisions)
@branch_option
@_proposing
def cherry_pick(
    revision: str,
    how: "_How",
    repository: Path | None,
    branch: str | None,
) -> None:
    """Bring the one change that REV made into a branch, by a new version, with its message and author.

    Conflicts are as with `ana merge`.

    \b
    Examples: ana cherry-pick exp@3; ana cherry-pick @3f9ac2e1 -b main
    Exit code 1: the branch has it all. 3: there are conflicts, or uncommitted changes are in the way.
    """
    how.run(find(repository, branch), revision, Propose.cherry_pick)


@click.command()
@click.argument("branch", metavar="BRANCH", shell_complete=completion.branches)
@click.argument("revision", metavar="REV", shell_complete=completion.revisions)
@click.option("--force", is_flag=True, help="Also with uncommitted changes: they become a version first.")
@repository_option
@json_option
def reset(branch: str, revision: str, force: bool, repository: Path | None, as_json: bool) -> None:
    """Let BRANCH be what the version REV is. Nothing is lost: BRANCH@N still names each state that it had.

    \b
    Examples: ana reset main main@3; ana reset exp main --force
    Exit code 3: there are uncommitted changes.
    """
    where = find(repository, None)
    with where.reading() as history:
        name = history.refs.named(ref_name(branch), tag=False).name
        source = history.resolve(revision)
    with where.service() as service:
        if force:
            keep_uncommitted(service, name, source, actor())
        with where.reading() as history:
            ref = history.refs.get(name)
            changes = list(history.diff(ref.commit, source.id))
        wanted = reset_to(ref.number, source.id, str(source))
        moved = None if ref.commit == source.id else service.move(name, wanted, actor())
    if as_json:
        show_json(report_merging.reset_json(source, name, moved, changes))
    elif moved is None:
        show(f"{name} is at {source} already\n")
    else:
        show(tint_versions(report_merging.moved_text(Operation.RESET, source, moved, changes)))


def _key(key: tuple[str, ...], *, rows: bool) -> tuple[str, ...]:
    """The columns by which tables are merged; none if they are not to be. Raises UsageError."""
    if rows and not key:
        raise UsageError("--rows needs a key: what tells rows apart", hint="--rows --key COLUMN")
    if key and not rows:
        raise UsageError("--key says something of --rows", hint="add --rows")
    return key


def _note(message: str | None, meta: tuple[str, ...]) -> Note:
    """What is said; an empty message stands for none."""
    metadata = pairs(meta)
    return check_note(Note(message, "", metadata)) if message is not None else Note("", "", metadata)


@dataclass
class _How:
    """What these options say."""

    strategy: str | None
    rules: list[Rule]
    key: tuple[str, ...]
    note: Note
    dry: bool
    as_json: bool
    resolution: Resolution | None = None
    """What resolved the conflicts, when it is done."""
    tables: TableMerging | None = None
    """What merged the tables, when it is done."""

    def run(self, where: Where, revision: str, make: Make) -> None:
        """Propose, and unless it was only asked for, or there are conflicts, do it; say what came of it."""
        with where.reading() as history:
            branch = where.branch_to_change(history)
            source = history.resolve(revision)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
        with merging_tables(self.key) as tables, where.service() as service, busy("merging"):

            def resolving(core: Repository) -> Resolution:
                self.tables = tables and tables(core)
                self.resolution = Resolution(core, self.strategy, self.rules, self.tables)
                return self.resolution

            undertaking = Undertaking(where.path, branch, source, make, resolving, self.note)
            if self.dry:
                proposal, moved = undertaking.proposed(service), None
            else:
                proposal, moved = undertaking.done(service, actor())
        self._say(proposal, moved)

    def _say(self, proposal: Proposal, moved: Moved | None) -> None:
        told = [] if self.tables is None else self.tables.told
        if self.as_json:
            tables = None if self.tables is None else list(map(report_tables.merged_json, told))
            show_json(report_merging.proposal_json(proposal, moved, tables))
        else:
            for table in told:
                show("".join(report_tables.merged_text(table)))
            if moved is None:
                show(report_merging.proposed_text(proposal))
            else:
                done = report_merging.moved_text(proposal.operation, proposal.source, moved, proposal.changes)
                show(tint_versions(done))
        for rule in self.resolution.idle if self.resolution else ():
            complain(f"--resolve {rule.glob}={rule.choice} matches none of the conflicts")
        if proposal.merged.conflicts:
            error = conflicted(proposal, rows=bool(self.key))
            complain(error.message, error.hint)
            sys.exit(MergeConflictError.exit_code)
