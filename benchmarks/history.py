"""The command `python -m benchmarks.history`: does history stay fast with many files? See README.md in this folder."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, describe_machine, progress, run_command, wide_console, workspace
from benchmarks.errors import BenchmarkError, UsageError
from benchmarks.scaling import CASES, COMMIT, MANY, PEERS, Measure, Place, ScalingRepository

_WANTED_GROWTH = 1.5
_WANTED_MS = 10


@dataclass(slots=True)
class Figures:
    """All that was measured in one repository.

    The repositories take turns, round by round: what the machine does meanwhile meets all of them.
    """

    place: Place
    repository: ScalingRepository
    measures: dict[str, Measure] = field(default_factory=lambda: {case: Measure() for case in CASES})


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a wrong answer; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _run(options, messages))


def _run(options: argparse.Namespace, messages: Console) -> None:
    places = [Place(files, folders) for folders in (1, MANY) for files in sorted(set(options.files))]
    say = progress(messages)
    found: list[Figures] = []
    with workspace(options.dir) as folder:
        machine = describe_machine(folder)
        if machine["disk"] == "tmpfs":
            raise UsageError(f"{options.dir} is in memory, where a commit waits for no disk; name another with --dir")
        try:
            for place in places:
                found.append(_filled(folder, place, say))
            os.sync()  # what filling left to the disk is not the rounds' to wait for
            for figures in found:
                figures.repository.round(Figures(figures.place, figures.repository).measures)  # warms up
            for number in range(options.rounds):
                say(f"round {number + 1}")
                for figures in found:
                    figures.repository.round(figures.measures)
        finally:
            if found and found[0].measures[COMMIT].seconds:
                _print(wide_console(), found)
        if options.json:
            repositories = [
                {"place": asdict(figures.place)}
                | {"measures": {case: asdict(measure) for case, measure in figures.measures.items()}}
                for figures in found
            ]
            document = {"format": 1, "method": machine | {"rounds": options.rounds}, "repositories": repositories}
            options.json.write_text(json.dumps(document, indent=2) + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description="History of many files.")
    parser.add_argument("--files", type=_numbers, default=[1000, 10_000, 100_000, 1_000_000], metavar="N,N,...")
    parser.add_argument("--rounds", type=at_least(1), default=15, metavar="R")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    work = Path(tempfile.gettempdir())
    parser.add_argument("--dir", type=Path, default=work, help="where to work: on the disk to test")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [at_least(MANY)(number) for number in text.split(",")]


def _filled(folder: Path, place: Place, say: Callable[[str], None]) -> Figures:
    say(f"filling {_describe(place)}")
    try:
        repository = ScalingRepository(folder / f"{place.files}-{place.folders}", place)
    except OSError as error:
        raise BenchmarkError(f"{_describe(place)}: {error}") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    say(f"  {repository.fill_seconds:.1f} s, {repository.commits} commits; at most {peak} MiB of memory until now")
    return Figures(place, repository)


def _print(console: Console, found: list[Figures]) -> None:
    for case in CASES:
        table = Table(title=f"{case}; median (least to greatest) of the rounds", title_justify="left")
        heads = ["files", "folders", "ms", *_count_heads(case), *(_RATIO_HEADS if case == COMMIT else ())]
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for figures in found:
            table.add_row(f"{figures.place.files:,}", f"{figures.place.folders:,}", *_cells(figures, case))
        console.print(table)
    _print_growth(console, found)


_RATIO_HEADS = tuple(f"x {peer}" for peer in PEERS)


def _count_heads(case: str) -> tuple[str, ...]:
    return () if case in PEERS else ("nodes read", "nodes written")


def _cells(figures: Figures, case: str) -> list[str]:
    measure = figures.measures[case]
    cells = [_show([1000 * second for second in measure.seconds], 2)]
    if _count_heads(case):
        cells += [_show(measure.read, 0), _show(measure.written, 0)]
    if case == COMMIT:
        cells += [_show(_ratios(measure, figures.measures[peer]), 2) for peer in PEERS]
    return cells


def _print_growth(console: Console, found: list[Figures]) -> None:
    table = Table(title=f"{COMMIT}: growth from the fewest to the most files", title_justify="left")
    for head in ("folders", "files", "ms", *_RATIO_HEADS, "nodes read", "nodes written"):
        table.add_column(head, justify="right", no_wrap=True)
    for folders in dict.fromkeys(figures.place.folders for figures in found):
        row = [figures for figures in found if figures.place.folders == folders]
        first, last = row[0], row[-1]
        pairs = zip(_medians(first), _medians(last), strict=True)
        growth = [f"{small:,.2f} to {large:,.2f}: x {large / max(small, 1e-9):.2f}" for small, large in pairs]
        table.add_row(f"{folders:,}", f"{first.place.files:,} to {last.place.files:,}", *growth)
    console.print(table)
    console.print(
        f"Wanted: a growth of the time under {_WANTED_GROWTH}, and {_WANTED_MS} ms. The ratios are to what the disk "
        "did for others in the same round.",
        highlight=False,
        soft_wrap=True,
    )


def _medians(figures: Figures) -> list[float]:
    measure = figures.measures[COMMIT]
    ratios = [_ratios(measure, figures.measures[peer]) for peer in PEERS]
    values: list[Sequence[float]] = [[1000 * second for second in measure.seconds], *ratios]
    return [statistics.median(value) for value in (*values, measure.read, measure.written)]


def _ratios(measure: Measure, peer: Measure) -> list[float]:
    return [one / other for one, other in zip(measure.seconds, peer.seconds, strict=True)]


def _show(values: Sequence[float], digits: int) -> str:
    median = f"{statistics.median(values):,.{digits}f}"
    return f"{median} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _describe(place: Place) -> str:
    return f"{place.files:,} files in {place.folders:,} folder{'s' if place.folders > 1 else ''}"


if __name__ == "__main__":
    sys.exit(main())
