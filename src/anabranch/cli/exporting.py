"""ana export: a version as an ordinary directory, or a tar stream."""

import signal
import sys
from pathlib import Path

import click

from anabranch import report
from anabranch.cli import completion
from anabranch.cli.context import find, split_target
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import EnoughError, complain, show, show_json
from anabranch.cli.progress import progress
from anabranch.errors import DamagedError, UsageError
from anabranch.escape import show_path
from anabranch.repo import Repository
from anabranch.transfer import export, export_tar
from anabranch.transfer.tar import ENDINGS
from anabranch.versions.objects import Entry
from anabranch.versions.trees import Version


@click.command(name="export")
@click.argument("target", metavar="REV[:PATH]", shell_complete=completion.revisions)
@click.argument("place", metavar="DEST")
@repository_option
@json_option
def export_version(target: str, place: str, repository: Path | None, as_json: bool) -> None:
    """Write what a version holds into the new directory DEST; or as a tar file, when DEST ends with .tar or is -.

    Links, times and permissions are kept, as root owners too. What was written is read back and compared. No mount is
    needed.

    \b
    Examples: ana export main@3 /tmp/flights; ana export v1.0:raw - | ssh host tar -x
    """
    if as_json and place == "-":
        raise UsageError("--json would get into the tar stream", hint="export to a file")
    if place == "-" and sys.stdout.isatty():
        raise UsageError("a tar stream is nothing for a terminal", hint="send it on: | tar -t, or > FILE")
    if place.endswith(ENDINGS) and not place.endswith(".tar"):
        raise UsageError(f"{place}: only plain tar files are written", hint=f"ana export {target} - | gzip > {place}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left behind
    revision, path = split_target(target)
    with find(repository, None).reading() as history:
        version = history.version(history.resolve(revision).id)
        top = version.at(path)
        with progress(f"exporting {target}", top.size) as bar:
            done = _write(history, version, top, place, bar.advance)
    for failed, why in done.failed:
        complain(f"{show_path(failed)}: {why}")
    if as_json:
        show_json(report.exported_json(place, done))
    elif place != "-":
        show(report.exported_text(place, done))
    if done.failed:
        sys.exit(DamagedError.exit_code)


def _write(history: Repository, version: Version, top: Entry, place: str, tell: export.Progress) -> export.Exported:
    if place == "-":
        try:
            return export_tar.to_stream(history, version, top, sys.stdout.buffer, tell)
        except BrokenPipeError:
            raise EnoughError from None
    write = export_tar.to_file if place.endswith(".tar") else export.to_directory
    return write(history, version, top, Path(place), tell)
