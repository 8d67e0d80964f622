"""What a run prints and writes: the table, the notes on the method, the JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.filesystems import NULL, OURS, PLAIN
from benchmarks.results import CaseResults, Results, Spread

_RATIOS = ((NULL, PLAIN), (OURS, PLAIN), (OURS, NULL))
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Method:
    """What one must know of a run to read its figures."""

    kernel: str
    cores: int
    memory_gib: float
    python: str
    pyfuse3: str
    disk: str  # type of the filesystem that everything lies on
    load_before: float
    rounds: int
    csv_mib: int
    noise_mib: int
    small_files: int


def describe_method(folder: Path, rounds: int, csv_mib: int, noise_mib: int, small_files: int) -> Method:
    """The method of a run that is about to start."""
    return Method(
        kernel=platform.release(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30), 1),
        python=platform.python_version(),
        pyfuse3=metadata.version("pyfuse3"),
        disk=filesystem_type(folder),
        load_before=round(os.getloadavg()[0], 2),
        rounds=rounds,
        csv_mib=csv_mib,
        noise_mib=noise_mib,
        small_files=small_files,
    )


def print_report(console: Console, results: Results, method: Method) -> None:
    """The table, and the notes under it."""
    table = Table(title="Rates; more is better. Median (least to greatest) of the rounds", title_justify="left")
    table.add_column("case", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for head in (PLAIN, OURS, *(f"{over} / {under}" for over, under in _RATIOS)):
        table.add_column(head, justify="right", no_wrap=True)
    for case in results.cases.values():
        if not case.rates:
            continue
        rates = [_show(case.rate(name), 0) for name in (PLAIN, OURS)]
        ratios = [_show(case.ratio(over, under), 2) for over, under in _RATIOS]
        table.add_row(case.name, case.unit, *rates, *ratios)
    console.print(table)
    for line in _notes(results, method):
        console.print(line, highlight=False, soft_wrap=True)


def write_json(path: Path, results: Results, method: Method) -> None:
    """All rates by round, with the medians and ratios of the table."""
    document = {
        "format": 1,
        "method": asdict(method) | {"read_ahead_kib": results.read_ahead},
        "cases": {case.name: _case_json(case) for case in results.cases.values()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _case_json(case: CaseResults) -> dict[str, Any]:
    ratios = {f"{over}/{under}": case.ratio(over, under) for over, under in _RATIOS}
    return {
        "unit": case.unit,
        "rates": {name: [rates[number] for number in sorted(rates)] for name, rates in case.rates.items()},
        "median": {name: spread.median for name in case.rates if (spread := case.rate(name))},
        "ratio": {name: asdict(spread) for name, spread in ratios.items() if spread},
    }


def _notes(results: Results, method: Method) -> list[str]:
    read_ahead = ", ".join(f"{name} {kib} KiB" for name, kib in results.read_ahead.items()) or "unknown"
    notes = [
        f"Linux {method.kernel}, {method.cores} cores, {method.memory_gib} GiB, Python {method.python}, "
        f"pyfuse3 {method.pyfuse3}; load {method.load_before} before the run.",
        f"Rounds: {method.rounds}; CSV {method.csv_mib} MiB, noise {method.noise_mib} MiB, "
        f"{method.small_files} small files.",
        f"Ratios are of rates of the same round. Read-ahead of the device: {read_ahead}.",
    ]
    if method.disk != PLAIN:
        notes.append(f"The disk is {method.disk}, not {PLAIN}: read the column {PLAIN!r} as {method.disk!r}.")
    return notes


def _show(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return _NOTHING
    return f"{spread.median:,.{digits}f} ({spread.least:,.{digits}f} to {spread.greatest:,.{digits}f})"


def filesystem_type(folder: Path) -> str:
    """From the mount table: the longest mount point above the folder."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, found, *_ = line.split()
        if folder.resolve().is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, kind = mount_point, found
    return kind
