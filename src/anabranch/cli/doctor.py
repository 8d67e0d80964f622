"""ana doctor: what this machine, or a repository, lacks, and what to type."""

import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from anabranch.cli import checks
from anabranch.cli.checks import Finding, State
from anabranch.cli.context import find
from anabranch.cli.options import json_option, repository_option
from anabranch.cli.output import show, show_json, tint_states
from anabranch.daemon import lock as locks
from anabranch.daemon import mounts
from anabranch.daemon.client import ping
from anabranch.errors import AnabranchError, FormatError, RefusedError, UsageError
from anabranch.escape import show_name
from anabranch.repo import Repository
from anabranch.store.layout import FORMAT, Layout, check

_PATIENCE = 5.0
"""Seconds within which a daemon is to answer."""


@click.command()
@repository_option
@json_option
def doctor(repository: Path | None, as_json: bool) -> None:
    """Look for what this machine lacks, and what is wrong with the repository, and say what to type.

    Works anywhere; in a repository, in a mounted one, or with -R it looks at that, too. Nothing is changed.

    \b
    Example: ana doctor -R /data/repo
    Exit code 3: a check failed. Warnings are none.
    """
    findings = [*_machine(), *_repository(repository)]
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        show(tint_states("".join(map(_text, findings))))
    if any(finding.state is State.FAIL for finding in findings):
        sys.exit(RefusedError.exit_code)


def _text(finding: Finding) -> str:
    hint = f"      hint: {show_name(finding.hint)}\n" if finding.hint else ""
    return f"{finding.state:<4}  {finding.name + ':':<13}{show_name(finding.found)}\n{hint}"


def _machine() -> Iterator[Finding]:
    yield checks.fuse_device(Path("/dev/fuse"))
    yield checks.fusermount(shutil.which("fusermount3"))
    yield checks.allow_other(Path("/etc/fuse.conf"), root=os.geteuid() == 0)
    yield checks.kernel(platform.release())
    yield checks.open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _repository(chosen: Path | None) -> Iterator[Finding]:
    """Of the repository where one is, or that is named; nothing where there is none."""
    try:
        path = find(chosen, None).path
    except UsageError:
        return
    try:
        layout = check(path, writable=False)
    except AnabranchError as error:
        yield checks.failed("format" if isinstance(error, FormatError) else "repository", error)
        return
    yield Finding("format", State.OK, str(FORMAT))
    yield checks.folder(path)
    yield from _disk(path)
    yield from _content(path)
    try:
        yield from _owner(layout)
    except OSError as error:
        yield checks.failed("owner", error)


def _disk(path: Path) -> Iterator[Finding]:
    below = mounts.below(path, mounts.filesystems())
    yield checks.filesystem(below.kind)
    yield checks.space(shutil.disk_usage(path).free)
    yield checks.read_ahead(checks.read_ahead_file(Path("/sys"), below.device))


def _content(path: Path) -> Iterator[Finding]:
    try:
        with Repository(path) as history:
            rows = [history.refs.row(ref.name, ref.number) for ref in history.refs.all(tags=False)]
    except (AnabranchError, OSError) as error:
        yield checks.failed("repository", error)
        return
    yield Finding("repository", State.OK, f"{path} can be opened")
    yield checks.clock(max((row.time_ns for row in rows if row is not None), default=0), time.time_ns())


def _owner(layout: Layout) -> Iterator[Finding]:
    """Who has the repository, whether he answers, and mounts that nobody serves.

    A mount whose daemon does not answer is not touched: whoever does so waits for it.
    """
    held, owner = locks.is_held(layout), locks.owner(layout.lock)
    yield checks.owner(layout.path, owner, held=held, dying=held and locks.is_dying(layout))
    if held and owner is not None and owner.mount_point is not None:
        try:
            ping(layout.path, _PATIENCE)
        except AnabranchError as error:
            yield checks.failed("daemon", error)
            return
        yield Finding("daemon", State.OK, "answers")
    yield checks.dead_mounts(layout.path, [known.directory for known in mounts.of(layout.path) if known.is_dead()])
