"""The command `python -m benchmarks.memory`: the daemon's memory under much of everything; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import data
from benchmarks.branch import OpenBranch
from benchmarks.command import at_least, describe_machine, progress, run_command, wide_console, workspace
from benchmarks.filesystems import AnabranchMount
from benchmarks.rounds import at_work, limited
from benchmarks.scaling import MANY, Place, fill
from benchmarks.scenarios import expect

_PART_SECONDS = 5400  # then the daemon is taken for hung, and killed
_AIM = "under 300"
_EVERY = 0.05  # seconds between two looks
_PIECE = 64 * 1024
_STRIDE = 64 * data.MIB
_SMALL = 4096
_FILES_A_FOLDER = 1000

COPY, WALK, OPEN, LIST = "copy", "walk", "open", "list"


@dataclass(slots=True)
class Memory:
    """The daemon's, in MiB: mounted, at its peak, and after the work."""

    what: str
    mounted: float
    peak: float
    final: float


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a wrong answer or a broken daemon; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _run(options, messages))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="The daemon's memory.")
    parser.add_argument("--size", type=at_least(1), default=50, metavar="GIB", help="of content to copy")
    parser.add_argument(
        "--files", type=at_least(MANY), default=1_000_000, metavar="N", help="to walk over, and to list"
    )
    parser.add_argument("--open", type=at_least(1), default=10_000, metavar="N", help="files that are open at once")
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS), help="parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    work = Path(tempfile.gettempdir())
    parser.add_argument("--dir", type=Path, default=work, help="where to work")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, messages: Console) -> None:
    found: list[Memory] = []
    with workspace(options.dir) as folder:
        machine = describe_machine(folder)
        try:
            for part in options.only:
                with at_work(AnabranchMount(folder / "ours")) as mount, limited(mount, part, _PART_SECONDS):
                    found.append(_PARTS[part](mount, options, progress(messages)))
        finally:
            _print(wide_console(), found)
        if options.json:
            document = {"format": 1, "method": machine, "memory": [asdict(each) for each in found]}
            options.json.write_text(json.dumps(document, indent=2) + "\n")


def _measured(mount: AnabranchMount, what: str, work: Callable[[], None]) -> Memory:
    status = Path(f"/proc/{mount.daemon()}/status")
    before = peak = _own(status)
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(_EVERY):
            peak = max(peak, _own(status))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return Memory(what, before, max(peak, _own(status)), _own(status))


def _own(status: Path) -> float:
    """MiB of memory of the daemon itself: pages of files that are mapped are the kernel's, which takes them back."""
    values = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(values["RssAnon"].split()[0]) / 1024


def _copy(mount: AnabranchMount, options: argparse.Namespace, say: Callable[[str], None]) -> Memory:
    """A tenth of it is noise in sparse files, a hundredth is small files, the rest is written zeros and holes."""
    size = options.size << 30
    small = size // 100 // _SMALL

    def work() -> None:
        rng = random.Random(data.SEED)
        say(f"writing {options.size} GiB, {small:,} small files among it")
        for number in range(8):
            _write_sparse(mount.tree / f"sparse {number}", size // 8, rng, zeros=number < 4)
        for number in range(small):
            if number % _FILES_A_FOLDER == 0:
                (folder := mount.tree / f"small {number // _FILES_A_FOLDER}").mkdir()
            (folder / str(number)).write_bytes(rng.randbytes(_SMALL))
        say("committing")
        mount.commit()
        say("reading a version")
        read = sum(map(_read, (mount.last_version() / f"sparse {number}" for number in range(8))))
        expect("bytes of the version", read, size // 8 * 8)

    return _measured(mount, f"copy of {options.size} GiB, sparse and small", work)


def _write_sparse(path: Path, size: int, rng: random.Random, *, zeros: bool) -> None:
    """Noise at the start of each stretch; then zeros that are written, or a hole."""
    with open(path, "wb", buffering=0) as file:
        for start in range(0, size, _STRIDE):
            file.seek(start)
            file.write(rng.randbytes(_PIECE))
            if zeros:
                for _ in range(1, min(_STRIDE, size - start) // data.MIB):
                    file.write(bytes(data.MIB))
        file.truncate(size)


def _read(path: Path) -> int:
    count = 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(data.MIB):
            count += len(piece)
    return count


def _walk(mount: AnabranchMount, options: argparse.Namespace, say: Callable[[str], None]) -> Memory:
    _fill(mount, Place(options.files, MANY), say)
    say("looking at each")
    work = lambda: expect("the number of files seen", _seen(str(mount.tree)), options.files)  # noqa: E731
    return _measured(mount, f"walk of {options.files:,} files", work)


def _list(mount: AnabranchMount, options: argparse.Namespace, say: Callable[[str], None]) -> Memory:
    _fill(mount, Place(options.files, 1), say)
    say("listing them")
    work = lambda: expect("the number of names", len(os.listdir(mount.tree)), options.files)  # noqa: E731
    return _measured(mount, f"list of {options.files:,} names in a directory", work)


def _fill(mount: AnabranchMount, place: Place, say: Callable[[str], None]) -> None:
    """Without the mount, which takes long."""
    say(f"committing {place.files:,} files in {place.folders:,} folders")

    def make(repository: Path) -> None:
        branch = OpenBranch(repository)
        try:
            rng = random.Random(data.SEED)
            fill(branch, place, lambda: rng.randbytes(32))
        finally:
            branch.close()

    mount.fill(make)


def _seen(folder: str) -> int:
    """As `find -ls`; the number of files."""
    files, folders = 0, []
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                files += 1
    return files + sum(map(_seen, folders))


def _open(mount: AnabranchMount, options: argparse.Namespace, say: Callable[[str], None]) -> Memory:
    """Each has more than fits into the daemon's memory of it, and is written while it is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    say(f"holding {options.open:,} files open")

    def work() -> None:
        with ExitStack() as held:
            descriptors = list(_opened(mount.tree, options.open, held))
            mount.commit()
            for descriptor in descriptors:
                os.pwrite(descriptor, b"x", 0)
            mount.commit()

    try:
        return _measured(mount, f"{options.open:,} files of 100 KB open and written", work)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _opened(tree: Path, count: int, held: ExitStack) -> Iterator[int]:
    rng = random.Random(data.SEED)
    content = rng.randbytes(100_000)
    for number in range(count):
        descriptor = os.open(tree / str(number), os.O_RDWR | os.O_CREAT)
        held.callback(os.close, descriptor)
        os.write(descriptor, content)
        os.pwrite(descriptor, number.to_bytes(8, "big"), 0)
        yield descriptor


_PARTS: dict[str, Callable[[AnabranchMount, argparse.Namespace, Callable[[str], None]], Memory]] = {
    COPY: _copy, WALK: _walk, OPEN: _open, LIST: _list,
}  # fmt: skip


def _print(console: Console, found: list[Memory]) -> None:
    table = Table(title="Memory of the daemon itself (RssAnon), MiB", title_justify="left")
    table.add_column("work", no_wrap=True)
    for head in ("mounted", "peak", "after", "aim"):
        table.add_column(head, justify="right")
    for memory in found:
        figures = (f"{value:,.0f}" for value in (memory.mounted, memory.peak, memory.final))
        table.add_row(memory.what, *figures, _AIM)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
