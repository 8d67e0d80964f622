"""ana fsck: looking for damage, and mending it."""

from pathlib import Path

import click

from anabranch.cli.context import find
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import show, show_json
from anabranch.cli.progress import progress
from anabranch.daemon import lock as locks
from anabranch.daemon.client import PATIENCE
from anabranch.errors import DamagedError, UsageError
from anabranch.fsck.check import check
from anabranch.fsck.repair import repair
from anabranch.report_store import checked_json, checked_text, mended_text
from anabranch.store import layout as layouts


@click.command()
@repository_option
@click.option("--deep", is_flag=True, help="Decompress and hash everything anew, too.")
@click.option("--repair", "mend", is_flag=True, help="Mend what can be mended, and list what cannot.")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), metavar="BACKUP", help="With --repair: take copies from here."
)
@json_option
def fsck(repository: Path | None, deep: bool, mend: bool, source: Path | None, as_json: bool) -> None:
    """Look for damage, and name the files and versions that it hits.

    Reads everything that is stored and compares its checksums; beside a mount, too. Nothing is changed without
    --repair, for which the repository must not be mounted. What a repair replaces of meta.mdb and the journal is
    kept in REPO/damaged; from volumes nothing is taken away.

    \b
    Example: ana fsck -R /data/repo
    Example: ana fsck -R /data/repo --repair --from /backup/repo
    Exit code 4: something is damaged, or with --repair: still is, or was given up.
    """
    if source is not None and not mend:
        raise UsageError("--from says where to take copies from", hint="that is for --repair")
    layout = layouts.check(find(repository, None).path, writable=mend)
    if source is not None and layouts.identity(source) != layouts.identity(layout.path):
        raise UsageError(f"{source} is no copy of {layout.path}", hint="a backup of it is: ana backup")
    mended = None
    with progress("reading the volumes") as bar:
        if mend:
            with locks.acquire(layout, patience=PATIENCE):
                report, mended = repair(layout, source, bar.show, deep=deep)
        else:
            report = check(layout, bar.show, deep=deep, owned=locks.is_held(layout))
    if as_json:
        show_json(checked_json(report, mended))
    else:
        show(("" if mended is None else mended_text(mended)) + checked_text(report))
    if report.findings:
        raise DamagedError(f"{layout.path} is damaged", hint=None if mend else f"ana fsck --repair -R {layout.path}")
    if mended is not None and mended.lost:
        raise DamagedError(f"{layout.path} is whole again, without what was given up")
