"""The command `python -m benchmarks.rows`: two large CSVs compared and merged row by row; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import data
from benchmarks.command import at_least, describe_machine, progress, run_command, wide_console, workspace
from benchmarks.errors import BenchmarkError
from benchmarks.scenarios import expect

_CHANGED, _ADDED, _REMOVED = 10, 5, 5
_COUNTS = [_ADDED, _REMOVED, _CHANGED]
_ROWS_APART = 5000  # rows between two that are touched: in 1 MiB already there are more than twenty
_AIM = "under 768"


@dataclass(slots=True)
class Work:
    """What one process took: seconds, and the most memory that it had, MiB."""

    what: str
    seconds: float
    peak: float


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a wrong answer; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _run(options, messages))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description="Tables, row by row.")
    parser.add_argument("--size", type=at_least(8), default=1024, metavar="MIB", help="of each of the two CSVs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, messages: Console) -> None:
    say = progress(messages)
    machine = describe_machine(options.dir)
    with workspace(options.dir) as folder:
        old, new, out = (folder / f"{name}.csv" for name in ("old", "new", "out"))
        say(f"making two CSVs of {options.size} MiB")
        data.write_csv(new, options.size * data.MIB)
        _make_both(new, old)
        found = []
        for what, work in _WORK.items():
            say(what)
            found.append(_measured(what, work, old, new, out))
    _print(wide_console(), found)
    if options.json is not None:
        figures = {"format": 1, "machine": machine, "size_mib": options.size, "work": [asdict(work) for work in found]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _make_both(new: Path, old: Path) -> None:
    """Of one file two that differ in some rows; the last row, which is cut, goes."""
    whole = new.with_suffix(".whole")
    new.rename(whole)
    with whole.open("rb") as source, old.open("wb") as before, new.open("wb") as after:
        for number, line in enumerate(source):
            touched, rest = divmod(number, _ROWS_APART)
            if not line.endswith(b"\n"):
                continue
            if rest or not 0 < touched <= _CHANGED + _ADDED + _REMOVED:
                before.write(line)
                after.write(line)
            elif touched <= _CHANGED:
                before.write(line)
                after.write(line.replace(b",N", b",M", 1))
            else:
                (after if touched <= _CHANGED + _ADDED else before).write(line)
    whole.unlink()


def compare(old: Path, new: Path, key: Sequence[str]) -> None:
    """As `ana diff --rows` does."""
    from anabranch.tables import rows

    found = rows.compare(old, new, key)
    print(json.dumps([found.added.count, found.removed.count, found.changed]))


def merge(old: Path, new: Path, out: Path) -> None:
    """What `new` did, into `old`."""
    from anabranch.tables import merge

    done = merge.merge(old, old, new, ["row"], out)
    print(json.dumps([done.added, done.removed, done.changed]))


def plain(old: Path, new: Path) -> None:
    """DuckDB as people would ask it, with all the memory that it likes; it guesses types, and looks at no key."""
    import duckdb

    duck = duckdb.connect()
    duck.execute("set enable_progress_bar = false")  # it would get into what is printed
    columns = [name for name, *_ in duck.execute(f"describe from read_csv('{old}')").fetchall()]
    differs = " or ".join(f'old."{name}" is distinct from new."{name}"' for name in columns)
    counts = duck.execute(
        "select count(*) filter (where old.row is null), count(*) filter (where new.row is null),"
        " count(*) filter (where old.row is not null and new.row is not null)"
        f" from read_csv('{old}') as old full join read_csv('{new}') as new on old.row = new.row where {differs}"
    ).fetchall()
    print(json.dumps(list(counts[0])))


_WORK: dict[str, Callable[[Path, Path, Path], tuple[str, ...]]] = {
    "compare by key": lambda old, new, _: ("compare", repr(str(old)), repr(str(new)), "['row']"),
    "compare without a key": lambda old, new, _: ("compare", repr(str(old)), repr(str(new)), "[]"),
    "merge": lambda old, new, out: ("merge", repr(str(old)), repr(str(new)), repr(str(out))),
    "plain DuckDB, by key": lambda old, new, _: ("plain", repr(str(old)), repr(str(new))),
}
"""Each in a process of its own: the function to call, and its arguments as Python says them."""


def _measured(what: str, call: Callable[[Path, Path, Path], tuple[str, ...]], old: Path, new: Path, out: Path) -> Work:
    function, *arguments = call(old, new, out)
    paths = ", ".join(f"Path({word})" if word.startswith("'") else word for word in arguments)
    script = f"from pathlib import Path; from benchmarks import rows; rows.{function}({paths})"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise BenchmarkError(f"{what} ended with {process.returncode}")
    wanted = [_ADDED + _CHANGED, _REMOVED + _CHANGED, 0] if "without" in what else _COUNTS
    expect(f"rows added, removed, changed ({what})", json.loads(said), wanted)
    return Work(what, seconds, usage.ru_maxrss / 1024)


def _print(console: Console, found: list[Work]) -> None:
    table = Table(title="Rows", title_justify="left")
    table.add_column("work", no_wrap=True)
    for head in ("seconds", "peak MiB", "aim"):
        table.add_column(head, justify="right")
    for work in found:
        aim = "" if work.what.startswith("plain") else _AIM
        table.add_row(work.what, f"{work.seconds:,.1f}", f"{work.peak:,.0f}", aim)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
