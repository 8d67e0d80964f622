"""The command `python -m benchmarks.run`; see README.md in this folder."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import data
from benchmarks.bulk import BulkScenario
from benchmarks.command import at_least, progress, run_command, wide_console, workspace
from benchmarks.errors import UsageError
from benchmarks.filesystems import FILESYSTEMS, OURS, ana_command
from benchmarks.report import describe_method, print_report, write_json
from benchmarks.results import Results
from benchmarks.rounds import Plan, run_rounds
from benchmarks.scenarios import Scenario
from benchmarks.small import SmallScenario
from benchmarks.timing import can_drop_caches


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a wrong answer or a broken daemon; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _run(options, messages))


def _run(options: argparse.Namespace, messages: Console) -> None:
    scenarios = _scenarios(options)
    selected = _select(scenarios, options.only)
    _check_requirements(scenarios, selected, options.on)
    results = Results.of(case for scenario in scenarios for case in scenario.cases if case.name in selected)
    with workspace(options.dir) as folder:
        method = describe_method(folder, options.rounds, options.size, options.size // 2, options.files)
        plan = Plan(scenarios, selected, [FILESYSTEMS[name] for name in options.on], options.rounds, folder)
        try:
            run_rounds(plan, results, progress(messages))
        finally:
            if any(case.rates for case in results.cases.values()):
                print_report(wide_console(), results, method)
        if options.json:
            write_json(options.json, results, method)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Compare Anabranch with ext4.")
    parser.add_argument("--size", type=at_least(2), default=768, metavar="MIB", help="of the CSV; noise is half of it")
    parser.add_argument("--files", type=at_least(1), default=4000, metavar="N", help="number of small files")
    parser.add_argument("--rounds", type=at_least(1), default=3, metavar="R")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="cases whose names start so")
    parser.add_argument("--on", nargs="+", choices=list(FILESYSTEMS), default=list(FILESYSTEMS), help="filesystems")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    work = Path(tempfile.gettempdir())
    parser.add_argument("--dir", type=Path, default=work, help="where to work: on the disk to test")
    return parser.parse_args(arguments)


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    return [
        BulkScenario("csv", options.size * data.MIB, data.write_csv),
        BulkScenario("noise", options.size // 2 * data.MIB, data.write_noise),
        SmallScenario(options.files),
    ]


def _select(scenarios: Sequence[Scenario], prefixes: Sequence[str]) -> list[str]:
    names = [case.name for scenario in scenarios for case in scenario.cases]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(f"no case starts with {prefix!r}; there are: {', '.join(names)}")
    return [name for name in names if name.startswith(tuple(prefixes))]


def _check_requirements(scenarios: Sequence[Scenario], selected: Sequence[str], filesystems: Sequence[str]) -> None:
    cold = [case.name for scenario in scenarios for case in scenario.to_run(selected) if case.is_cold]
    if cold and not can_drop_caches():
        raise UsageError(f"only root can drop the kernel's caches, which these cases need: {', '.join(cold)}")
    if OURS in filesystems:
        ana_command()


if __name__ == "__main__":
    sys.exit(main())
