"""ana info: a repository in figures."""

from pathlib import Path

import click

from anabranch.cli.context import find
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import show, show_json
from anabranch.daemon import lock as locks
from anabranch.report_store import info_json, info_text
from anabranch.statistics import statistics


@click.command()
@repository_option
@json_option
def info(repository: Path | None, as_json: bool) -> None:
    """Tell how much a repository holds, and how much of that had to be stored.

    Compression is what chunks were to what they are on the disk; with many chunks it is measured on some of them, and
    said to be about so. Deduplication is what all versions hold, each for itself, to the distinct chunks before
    compression; files of up to 512 bytes need none.

    \b
    Example: ana info -R /data/repo
    """
    with find(repository, None).reading() as history:
        found = statistics(history)
        mounted = locks.mount_point(history.layout)
    if as_json:
        show_json(info_json(found, mounted))
    else:
        show(info_text(found, mounted))
