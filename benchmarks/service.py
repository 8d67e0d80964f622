"""The command `python -m benchmarks.service`: what a mount is like for those who work in it; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, describe_machine, progress, run_command, wide_console, workspace
from benchmarks.errors import UsageError
from benchmarks.filesystems import OURS, PLAIN, AnabranchMount, Filesystem, PlainDirectory
from benchmarks.rounds import at_work, limited
from benchmarks.scenarios import expect
from benchmarks.timing import Stopwatch

_SMALL = 1024
_APPENDED = 4096
_FILES_A_FOLDER = 200
_PART_SECONDS = 3600  # then the daemon is taken for hung, and killed

CREATING, WAITING, SYNCING = "creating", "waiting", "syncing"
NEW_FILE, APPEND = "a new file of 1 KiB", "4 KiB appended"


@dataclass(slots=True)
class Creating:
    """Files a second, round by round: beside a commit, and before and after it."""

    during: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    commit_seconds: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Waiting:
    """The longest write, in seconds: in the time of each commit, and in a time as long after it."""

    during: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Syncing:
    """Seconds of each write with its fsync, by filesystem."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {OURS: [], PLAIN: []})


@dataclass(slots=True)
class Found:
    """All figures; a part that was not asked for has none."""

    creating: Creating = field(default_factory=Creating)
    waiting: Waiting = field(default_factory=Waiting)
    syncing: dict[str, Syncing] = field(default_factory=lambda: {NEW_FILE: Syncing(), APPEND: Syncing()})


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a wrong answer or a broken daemon; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _run(options, messages))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description="Work in a mount, and waiting.")
    parser.add_argument("--rounds", type=at_least(1), default=3, metavar="R", help="of creating files")
    parser.add_argument("--changes", type=at_least(1), default=100_000, metavar="N", help="in the commit beside it")
    parser.add_argument("--creates", type=at_least(1), default=5000, metavar="N", help="files created when idle")
    parser.add_argument("--commits", type=at_least(1), default=200, metavar="N", help="beside a writer")
    parser.add_argument("--syncs", type=at_least(1), default=300, metavar="N", help="of each kind")
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS), help="parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    work = Path(tempfile.gettempdir())
    parser.add_argument("--dir", type=Path, default=work, help="where to work: on the disk to test")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, messages: Console) -> None:
    found = Found()
    with workspace(options.dir) as folder:
        machine = describe_machine(folder)
        if machine["disk"] == "tmpfs":
            raise UsageError(f"{options.dir} is in memory, where a sync waits for no disk; name another with --dir")
        try:
            for part in options.only:
                with at_work(AnabranchMount(folder / "ours")) as mount, limited(mount, part, _PART_SECONDS):
                    _PARTS[part](mount, options, found, progress(messages))
        finally:
            _print(wide_console(), found, str(machine["disk"]))
        if options.json:
            counts = ("rounds", "changes", "creates", "commits", "syncs")
            method = machine | {name: getattr(options, name) for name in counts}
            document = {"format": 1, "method": method} | asdict(found)
            options.json.write_text(json.dumps(document, indent=2) + "\n")


# --- creating files beside a commit ---


def _creating(mount: AnabranchMount, options: argparse.Namespace, found: Found, say: Callable[[str], None]) -> None:
    say(f"making {options.changes:,} files")
    paths = _paths(mount.tree, options.changes)
    for folder in dict.fromkeys(map(os.path.dirname, paths)):
        os.mkdir(folder)
    _change(paths, 0)
    mount.commit()
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}: changing them, and creating files beside their commit")
        _change(paths, number)
        _sync(mount.tree)
        idle = [_create_idle(mount.tree / f"before{number}", options.creates)]
        during, seconds = _create_during(mount, mount.tree / f"during{number}")
        idle.append(_create_idle(mount.tree / f"after{number}", options.creates))
        version = mount.last_version()
        seen = [Path(version, os.path.relpath(path, mount.tree)).read_bytes() for path in (paths[0], paths[-1])]
        expect("the first and the last file of the version", seen, [_content(number, at) for at in (0, len(paths) - 1)])
        found.creating.during.append(during)
        found.creating.idle.append(statistics.mean(idle))
        found.creating.commit_seconds.append(seconds)


def _paths(tree: Path, count: int) -> list[str]:
    return [f"{tree}/d{number // _FILES_A_FOLDER:05}/{number:07}" for number in range(count)]


def _content(number: int, at: int) -> bytes:
    """Different for each file and round, and not to be compressed: 1 KiB."""
    return random.Random(number << 32 | at).randbytes(_SMALL)


def _change(paths: list[str], number: int) -> None:
    for at, path in enumerate(paths):
        _write(path, _content(number, at))


def _write(path: str, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(file, content)
    os.close(file)


def _create_idle(folder: Path, count: int) -> float:
    folder.mkdir()
    with Stopwatch() as watch:
        for number in range(count):
            _write(f"{folder}/{number:07}", number.to_bytes(8, "little") * (_SMALL // 8))
    expect("the number of files created", len(os.listdir(folder)), count)
    return count / watch.seconds


def _create_during(mount: AnabranchMount, folder: Path) -> tuple[float, float]:
    """The rate, and how long the commit took."""
    folder.mkdir()
    count = 0
    with ThreadPoolExecutor(max_workers=1) as pool:
        with Stopwatch() as watch:
            committed = pool.submit(mount.commit)
            while not committed.done():
                _write(f"{folder}/{count:07}", count.to_bytes(8, "little") * (_SMALL // 8))
                count += 1
        committed.result()
    expect("the number of files created", len(os.listdir(folder)), count)
    return count / watch.seconds, watch.seconds


# --- a writer beside commits ---


def _waiting(mount: AnabranchMount, options: argparse.Namespace, found: Found, say: Callable[[str], None]) -> None:
    say(f"{options.commits} commits beside a writer")
    writer = _Writer()
    with (mount.tree / "written").open("wb", buffering=0) as file, ThreadPoolExecutor(max_workers=1) as pool:
        os.pwrite(file.fileno(), bytes(8), 0)
        commits = pool.submit(_commit_and_rest, mount, options.commits, writer)
        try:
            while not commits.done():
                _write_once(file.fileno(), writer)
        finally:
            writer.has_ended = True
        commits.result()
    expect("what was written last", (mount.tree / "written").read_bytes(), writer.count.to_bytes(8, "little"))
    found.waiting.during, found.waiting.quiet = writer.longest[1::2], writer.longest[2::2]


@dataclass(slots=True)
class _Writer:
    count: int = 0
    has_ended: bool = False
    longest: list[float] = field(default_factory=lambda: [0.0])  # in seconds, by time: the last one runs


def _write_once(descriptor: int, writer: _Writer) -> None:
    content, at = (writer.count + 1).to_bytes(8, "little"), len(writer.longest) - 1
    begun = time.perf_counter()
    os.pwrite(descriptor, content, 0)
    writer.longest[at] = max(writer.longest[at], time.perf_counter() - begun)
    writer.count += 1


def _commit_and_rest(mount: AnabranchMount, count: int, writer: _Writer) -> None:
    """Each commit begins a new time, and then a rest: as long, and until there is something to commit."""
    for _ in range(count):
        if writer.has_ended:
            return
        begun = time.perf_counter()
        writer.longest.append(0.0)
        mount.commit()
        taken = time.perf_counter() - begun
        written = writer.count
        writer.longest.append(0.0)
        time.sleep(taken)
        while writer.count < written + 2 and not writer.has_ended:  # the first may have begun before the commit
            time.sleep(0.001)


# --- fsync ---


def _syncing(mount: AnabranchMount, options: argparse.Namespace, found: Found, say: Callable[[str], None]) -> None:
    say(f"{options.syncs} syncs of each kind, in turn with those of the disk's filesystem")
    with at_work(PlainDirectory(mount.folder.with_name("plain"))) as plain:
        order: list[Filesystem] = [mount, plain]
        for filesystem in order:
            (filesystem.tree / "log").touch()
        os.sync()
        for number in range(options.syncs):
            order.reverse()
            for filesystem in order:
                with _timed(found.syncing[NEW_FILE].seconds[filesystem.name]):
                    _write_and_sync(filesystem.tree / f"{number:07}", os.O_CREAT | os.O_EXCL, _SMALL)
            for filesystem in order:
                with _timed(found.syncing[APPEND].seconds[filesystem.name]):
                    _write_and_sync(filesystem.tree / "log", os.O_APPEND, _APPENDED)
        sizes = [(filesystem.tree / "log").stat().st_size for filesystem in order]
        expect("the sizes of the logs", sizes, [options.syncs * _APPENDED] * 2)


def _write_and_sync(path: Path, flags: int, size: int) -> None:
    file = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(file, bytes(size))
    os.fsync(file)
    os.close(file)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - begun)


_PARTS: dict[str, Callable[[AnabranchMount, argparse.Namespace, Found, Callable[[str], None]], None]] = {
    CREATING: _creating, WAITING: _waiting, SYNCING: _syncing,
}  # fmt: skip


# --- what is printed ---


def _print(console: Console, found: Found, disk: str) -> None:
    table = Table(title="Working in a mount", title_justify="left")
    for head in ("case", "unit"):
        table.add_column(head, no_wrap=True)
    for head in ("ours", "peer", "ratio", "aim"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in (*_creating_rows(found.creating), *_waiting_rows(found.waiting), *_syncing_rows(found.syncing, disk)):
        table.add_row(*row)
    if table.row_count:
        console.print(table)


def _creating_rows(creating: Creating) -> Iterator[tuple[str, ...]]:
    if creating.during:
        ratios = [during / idle for during, idle in zip(creating.during, creating.idle, strict=True)]
        ours, idle = (f"{statistics.median(rates):,.0f}" for rates in (creating.during, creating.idle))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield "creating during a commit; peer: when idle", "files/s", ours, idle, spread, "0.5 or more"
        yield "the commit meanwhile", "s", f"{statistics.median(creating.commit_seconds):,.1f}", "-", "-", "-"


def _waiting_rows(waiting: Waiting) -> Iterator[tuple[str, ...]]:
    if waiting.during:
        for name, of in (("median", statistics.median), ("most", max)):
            ours, quiet = 1000 * of(waiting.during), 1000 * of(waiting.quiet)
            case = f"longest write in a commit, {name}; peer: in a rest"
            yield case, "ms", f"{ours:,.2f}", f"{quiet:,.2f}", f"{ours / quiet:,.2f}", "-"


def _syncing_rows(syncing: dict[str, Syncing], disk: str) -> Iterator[tuple[str, ...]]:
    for kind, measured in syncing.items():
        if measured.seconds[OURS]:
            ours, plain = (1000 * statistics.median(measured.seconds[name]) for name in (OURS, PLAIN))
            yield (
                f"fsync of {kind}, median; peer: {disk}",
                "ms",
                f"{ours:,.2f}",
                f"{plain:,.2f}",
                (f"{ours / plain:,.2f}"),
                "-",
            )


if __name__ == "__main__":
    sys.exit(main())
