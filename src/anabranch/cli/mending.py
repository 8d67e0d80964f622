"""ana reindex: mending what can be made anew from the rest."""

from pathlib import Path

import click

from anabranch.cli.context import find
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import show, show_json
from anabranch.cli.progress import progress
from anabranch.daemon import lock as locks
from anabranch.daemon.client import PATIENCE
from anabranch.errors import DamagedError
from anabranch.report_store import reindexed_json, reindexed_text
from anabranch.store.layout import check
from anabranch.store.reindex import rebuild


@click.command()
@repository_option
@json_option
def reindex(repository: Path | None, as_json: bool) -> None:
    """Rebuild the index of the chunks (index.mdb) from the volumes.

    For when it is missing or damaged; the repository must not be mounted. All of every volume is read and checked.

    \b
    Example: ana reindex -R /data/repo
    Exit code 4: something in the volumes is damaged; it is named, and everything else is indexed.
    """
    layout = check(find(repository, None).path, writable=True)
    with locks.acquire(layout, patience=PATIENCE), progress("reading the volumes") as bar:
        rebuilt = rebuild(layout.path, bar.show)
    show_json(reindexed_json(rebuilt)) if as_json else show(reindexed_text(rebuilt))
    if rebuilt.damaged or rebuilt.lost:
        raise DamagedError(f"the volumes of {layout.path} are damaged; what is intact is indexed")
