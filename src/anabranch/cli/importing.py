"""ana import: folders, files and tar streams become a path of a branch."""

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from anabranch import report
from anabranch.cli import completion
from anabranch.cli.context import actor, find, pairs
from anabranch.cli.options import branch_option, json_option, repository_option
from anabranch.cli.output import complain, show, show_json
from anabranch.cli.progress import progress
from anabranch.commit import Committed, Note, check_note
from anabranch.daemon.client import Service
from anabranch.errors import DeniedError, NotFoundError, NothingToCommitError, RefusedError, UsageError
from anabranch.escape import show_name, show_path
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.transfer import building
from anabranch.transfer.folder import measure, take_folder
from anabranch.transfer.intake import Imported
from anabranch.transfer.sieve import Sieve, sieve_at
from anabranch.transfer.tar import ENDINGS, take_tar
from anabranch.versions.objects import Entry, EntryKind

_SOME_FAILED = 1
"""The exit code of an import that had to leave something out."""


@click.command(name="import")
@click.argument("source", metavar="SRC")
@click.argument("place", metavar="DEST", shell_complete=completion.files)
@click.option("--commit", "message", metavar="TEXT", help="Commit what was imported, and nothing else.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="With --commit: to keep with the version; repeatable.")
@click.option("--author", default="", metavar="NAME", help="With --commit: who made what is committed.")
@repository_option
@branch_option
@json_option
def import_files(
    source: str,
    place: str,
    message: str | None,
    meta: tuple[str, ...],
    author: str,
    repository: Path | None,
    branch: str | None,
    as_json: bool,
) -> None:
    """Make the content of SRC the path DEST of a branch. Afterwards DEST is as SRC; what SRC does not have is gone.

    SRC is a folder, a file, a tar file (unless DEST ends as it does), or - for a tar stream. Links, times, owners
    and permissions are kept. What .anaignore files match is left out. Nothing is seen before all is there; no mount is
    needed.

    \b
    Examples: ana import /data/2026 raw/2026 --commit "all of 2026"
              ssh host tar -c data | ana import - raw -b exp
    Exit code 1: something could not be read; it is named, and the rest is there.
    """
    where = find(repository, branch)
    if message is None and (meta or author):
        raise UsageError("--meta and --author say something of a commit", hint="add --commit TEXT")
    note = None if message is None else check_note(Note(message, author, pairs(meta)))
    with where.reading() as history:
        name = where.branch_to_change(history)
    inside = where.to_change(place)
    dress = building.own_directory()
    with where.service() as service:
        _check_place(service, name, inside)
        _check_fits(service, name, Path(source), place, inside)
        with Repository(where.path, sink=service) as intake:
            sieve = sieve_at(intake, name, inside, partial(service.read, name))
            done = _take(intake, source, inside, dress, sieve)
        restored = service.restore(name, done.version, [inside], kept=done.kept)
        committed = None if note is None else _commit(service, name, note, inside, done.added)
    for path, why in done.failed:
        complain(f"{show_path(os.fsencode(Path(source, os.fsdecode(path))))}: {why}")
    if as_json:
        show_json(report.imported_json(name, inside, done, restored, committed))
    else:
        show(report.imported_text(name, inside, done, restored))
        if note is not None:
            show(report.committed_text(committed) if committed else "Nothing to commit: the last commit has it all.\n")
    if done.failed:
        sys.exit(_SOME_FAILED)


def _check_place(service: Service, branch: RefName, inside: bytes) -> None:
    """Before a long import, and not after it. Raises UsageError, RefusedError."""
    try:
        if inside:
            building.check_path(inside)
    except UsageError as error:
        raise UsageError(f"{show_path(inside)} {error.message}") from None
    parts = inside.split(b"/")
    for above in (b"/".join(parts[:length]) for length in range(1, len(parts))):
        found = service.look(branch, above)
        if found is None:
            return
        if found.kind is not EntryKind.DIRECTORY:
            raise RefusedError(f"{show_path(above)} is no directory: nothing can be in it", hint="choose another DEST")


def _check_fits(service: Service, branch: RefName, source: Path, place: str, inside: bytes) -> None:
    """A file does not take the place of a directory, as with cp; a folder is meant to. Raises UsageError."""
    packed = str(source) == "-" or str(source).endswith(ENDINGS)
    if packed or not inside or not os.path.isfile(source):  # noqa: PTH113  (Path's may raise)
        return
    there = service.look(branch, inside)
    if place.endswith("/") or (there is not None and there.kind is EntryKind.DIRECTORY):
        raise UsageError(
            f"{place} is a directory, and {source} a file", hint=f"ana import {source} {Path(place, source.name)}"
        )


def _take(repository: Repository, source: str, inside: bytes, dress: Entry, sieve: Sieve) -> Imported:
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError("a tar stream is expected on standard input", hint="tar -c DIR | ana import - DEST")
        return _take_stream(repository, sys.stdin.buffer, inside, dress, sieve, None)
    path = Path(source).resolve() if source.endswith("/") else Path(source)  # as cp: a link with a slash is its folder
    is_tar = source.endswith(ENDINGS) and not inside.endswith(tuple(map(os.fsencode, ENDINGS)))
    if is_tar and path.is_file():
        try:
            stream = path.open("rb")
        except OSError as error:
            raise DeniedError(f"{source} cannot be read: {error.strerror}") from error
        with stream:
            return _take_stream(repository, stream, inside, dress, sieve, path.stat().st_size)
    with progress(f"importing {show_name(source)}") as bar:
        bar.measure(measure(path))
        return take_folder(repository, path, inside, dress, sieve, bar.advance)


def _take_stream(
    repository: Repository, stream: BinaryIO, inside: bytes, dress: Entry, sieve: Sieve, size: int | None
) -> Imported:
    with progress("importing", size) as bar:
        return take_tar(repository, stream, inside, dress, sieve, bar.advance)


def _commit(service: Service, branch: RefName, note: Note, inside: bytes, added: int) -> Committed | None:
    try:
        done = service.commit(branch, note, actor(), paths=[inside])
        return replace(done, added=done.added + added)
    except (NothingToCommitError, NotFoundError):  # a second run of the same import is no failure
        return None
