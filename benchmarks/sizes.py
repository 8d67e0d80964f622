"""The command `python -m benchmarks.sizes`: what a repository takes on disk; see README.md in this folder."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import data
from benchmarks.branch import OpenBranch
from benchmarks.command import at_least, describe_machine, progress, run_command, wide_console, workspace
from benchmarks.disk import PEERS, DiskUse, Peer, disk_use
from benchmarks.texts import texts

_FILES_A_FOLDER = 200
_FILES_A_SECOND = 3000  # about as many as a mount takes in between two of its savings
_INSERTED_ROWS = 10
_CSV = "flights.csv"


@dataclass(slots=True)
class Step:
    """What was stored, and what it then took; `limit` is the aim, in MiB."""

    name: str
    content: int
    use: DiskUse
    added: DiskUse
    limit: int | None = None
    peers: dict[str, int] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a command failed; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _run(options, messages))


def _run(options: argparse.Namespace, messages: Console) -> None:
    say = progress(messages)
    steps: list[Step] = []
    with workspace(options.dir) as folder:
        machine = describe_machine(folder)
        try:
            steps += _small(folder, options.files, say)
            steps += _small_at_once(folder, options.files, say)
            steps += _large(folder, options.size * data.MIB, say)
        finally:
            if steps:
                _print(wide_console(), steps)
        if options.json:
            document = {"format": 1, "method": machine, "steps": [asdict(step) for step in steps]}
            options.json.write_text(json.dumps(document, indent=2) + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description="What a repository takes on disk.")
    parser.add_argument("--files", type=at_least(1), default=20_000, metavar="N", help="number of small files")
    parser.add_argument("--size", type=at_least(1), default=1024, metavar="MIB", help="of the CSV")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    return parser.parse_args(arguments)


def _small(folder: Path, count: int, say: Callable[[str], None]) -> Iterator[Step]:
    """Many small files, then one of them changed."""
    say(f"making {count:,} small files")
    source = folder / "small"
    content = _write_small(source, count)
    peers = _Peers(folder, source)
    say("committing them, as a mount takes them in")
    branch = OpenBranch(folder / "ours", create=True)
    empty = _measure(branch)
    for number, _ in enumerate(_take_in(branch, source), 1):
        if number % _FILES_A_SECOND == 0:
            branch.settle()
    branch.settle()
    branch.commit()
    first = _measure(branch)
    yield Step(f"{count:,} small files", content, first, first - empty, _scaled(40, count, 20_000), peers.store())
    say("one file changed")
    name = sorted(source.rglob("*.*"))[count // 2]
    name.write_bytes(changed := _change(name.read_bytes()))
    branch.replace(branch.find(*(part.encode() for part in name.relative_to(source).parts)), changed)
    branch.commit()
    second = _measure(branch)
    yield Step("... one of them changed", len(changed), second, second - first, None, peers.store())
    branch.delete()


def _small_at_once(folder: Path, count: int, say: Callable[[str], None]) -> Iterator[Step]:
    """The same files, committed before anything was saved."""
    say("committing them at once")
    branch = OpenBranch(folder / "ours", create=True)
    empty = _measure(branch)
    content = sum(_take_in(branch, folder / "small"))
    branch.commit()
    use = _measure(branch)
    yield Step(f"{count:,} small files, at once", content, use, use - empty, _scaled(40, count, 20_000))
    branch.delete()


def _large(folder: Path, size: int, say: Callable[[str], None]) -> Iterator[Step]:
    """A CSV, then some rows inserted in its middle and the file written anew."""
    say(f"making a CSV of {size // data.MIB:,} MiB")
    source = folder / "large"
    source.mkdir()
    data.write_csv(source / _CSV, size)
    peers = _Peers(folder, source)
    branch = OpenBranch(folder / "ours", create=True)
    before = _measure(branch)
    branch.make_file(branch.tree.root, _CSV.encode())
    name, limit = f"CSV of {size // data.MIB:,} MiB", _scaled(380, size, 1 << 30)
    for step in range(2):
        say(f"committing {name}")
        branch.empty(ino := branch.find(_CSV.encode()))
        for offset, piece in _pieces(source / _CSV):
            branch.write(ino, offset, piece)
        branch.commit()
        use = _measure(branch)
        yield Step(name, (source / _CSV).stat().st_size, use, use - before, limit, peers.store())
        if step == 0:
            _insert_rows(source / _CSV)
            before, name, limit = use, f"... {_INSERTED_ROWS} rows inserted", None
    branch.delete()


class _Peers:
    """The other programs that are installed, each with the versions of one folder."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._source = source
        self._number = 0
        place = folder / f"{source.name}-peers"
        place.mkdir()
        self._peers: list[Peer] = [kind(place) for kind in PEERS if kind.is_installed()]
        for peer in self._peers:
            peer.start()

    def store(self) -> dict[str, int]:
        """Store the folder as it is now; the bytes of each repository."""
        self._number += 1
        return {peer.name: peer.store(self._source, self._number) for peer in self._peers}


def _write_small(source: Path, count: int) -> int:
    content = 0
    for number, (ending, text) in enumerate(texts(count, data.SEED)):
        parent = source / f"d{number // _FILES_A_FOLDER:04}"
        if number % _FILES_A_FOLDER == 0:
            parent.mkdir(parents=True)
        (parent / f"{number:06}.{ending}").write_bytes(text)
        content += len(text)
    return content


def _take_in(branch: OpenBranch, source: Path) -> Iterator[int]:
    """Write all files of a folder of folders; gives the size of each."""
    for folder in sorted(source.iterdir()):
        parent = branch.make_folder(folder.name.encode())
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            branch.write(branch.make_file(parent, path.name.encode()), 0, content)
            yield len(content)


def _change(text: bytes) -> bytes:
    middle = len(text) // 2
    return text[:middle] + b" changed " + text[middle:]


def _insert_rows(path: Path) -> None:
    rows = b"".join(
        b"0,2013-06-30 12:00,UA,%d,N%d00AB,EWR,ORD,%d,-3,117.0,181.50,on time,2013-06-30T12:00:00Z\n" % (n, n, n)
        for n in range(1, _INSERTED_ROWS + 1)
    )
    middle = path.stat().st_size // 2
    changed = path.with_suffix(".new")
    with open(path, "rb") as old, open(changed, "wb") as new:
        while piece := old.read(min(data.MIB, middle - old.tell())):
            new.write(piece)
        new.write(old.readline() + rows)
        while piece := old.read(data.MIB):
            new.write(piece)
    changed.replace(path)


def _pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(data.MIB):
            yield offset, piece
            offset += len(piece)


def _measure(branch: OpenBranch) -> DiskUse:
    with branch.closed():
        return disk_use(branch.path)


def _scaled(limit: int, amount: int, full: int) -> int | None:
    """An aim holds for the full amount only."""
    return limit if amount == full else None


def _print(console: Console, steps: list[Step]) -> None:
    table = Table(title="MiB on disk; less is better", title_justify="left")
    table.add_column("stored", no_wrap=True)
    peers = [kind.name for kind in PEERS if any(kind.name in step.peers for step in steps)]
    heads = ("content", "ours", "aim", "added", "apparent", "volumes", "index", "meta", "other", "free in them", *peers)
    for head in heads:
        table.add_column(head, justify="right")
    for step in steps:
        use = step.use
        kinds = (use.apparent, use.volumes, use.index, use.meta, use.other, use.free)
        table.add_row(
            step.name, _mib(step.content), _mib(use.total), str(step.limit or "-"), _mib(step.added.total),
            *map(_mib, kinds), *(_mib(step.peers.get(peer)) for peer in peers),
        )  # fmt: skip
    console.print(table)
    absent = [kind.name for kind in PEERS if not kind.is_installed()]
    notes = [
        "added: since the row before, an empty repository for a first row.",
        "free in them: pages of index and meta that hold nothing, and that later commits can fill.",
        "tar | zstd -1 archives every version whole, so only its first row compares.",
        *([f"Not installed, so not compared: {', '.join(absent)}."] if absent else []),
    ]
    for line in notes:
        console.print(line, highlight=False, soft_wrap=True)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / data.MIB:,.2f}"


if __name__ == "__main__":
    sys.exit(main())
