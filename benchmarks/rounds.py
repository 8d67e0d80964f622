"""The order of the work: round by round, scenario by scenario, filesystem by filesystem, in turning order.

At most one filesystem exists at a time, so that no idle daemon's background work falls into another's figures. Whatever
happens, signals included, the filesystem at work is unmounted and its daemon ended before the error goes on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError
from typing import TypeVar

from benchmarks.errors import BenchmarkError
from benchmarks.filesystems import Filesystem, read_ahead_setting
from benchmarks.results import Results
from benchmarks.scenarios import Case, Scenario

AnyFilesystem = TypeVar("AnyFilesystem", bound=Filesystem)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_CASE_SECONDS = 900  # then the daemon is taken for hung, and killed


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where."""

    scenarios: Sequence[Scenario]
    selected: Collection[str]  # names of cases
    filesystems: Sequence[type[Filesystem]]
    rounds: int
    folder: Path


def run_rounds(plan: Plan, results: Results, progress: Callable[[str], None]) -> None:
    """Do all the work; `results` holds what was measured before an error, too."""
    scenarios = [scenario for scenario in plan.scenarios if scenario.to_run(plan.selected)]
    for scenario in scenarios:
        progress(f"making the data: {scenario.name}")
        scenario.prepare(plan.folder)
    for number in range(plan.rounds):
        turn = number % len(plan.filesystems)
        for scenario in scenarios:
            for kind in (*plan.filesystems[turn:], *plan.filesystems[:turn]):
                progress(f"round {number + 1} of {plan.rounds}: {scenario.name} on {kind.name}")
                with at_work(kind(plan.folder / "work")) as filesystem:
                    _note_read_ahead(filesystem, results)
                    _run_scenario(scenario, plan.selected, filesystem, number, results)


@contextmanager
def shielded() -> Iterator[None]:
    """Nothing interrupts what cleans up, nor the commands that it starts."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def at_work(filesystem: AnyFilesystem) -> Iterator[AnyFilesystem]:
    """A filesystem from its start to its end; whatever happens, nothing of it is left."""
    try:
        filesystem.start()
        yield filesystem
        filesystem.stop()
    except BaseException:
        with shielded():
            filesystem.abandon()
        raise
    os.sync()  # what deleting it left to do is not the next one's


def _run_scenario(
    scenario: Scenario, selected: Collection[str], filesystem: Filesystem, number: int, results: Results
) -> None:
    for case in scenario.to_run(selected):
        if case.is_commit and not filesystem.commits:
            continue
        rate = _run_case(case, filesystem)
        if case.name in selected:
            results.add(case, filesystem, number, rate)


def _run_case(case: Case, filesystem: Filesystem) -> float:
    with limited(filesystem, case.name, _CASE_SECONDS):
        return case.run(filesystem)


@contextmanager
def limited(filesystem: Filesystem, what: str, seconds: float) -> Iterator[None]:
    """A request that a hung daemon never answers cannot be interrupted: only ending the daemon ends it."""
    late = threading.Timer(seconds, filesystem.kill)
    late.start()
    try:
        yield
    except (BenchmarkError, OSError, SubprocessError) as error:
        hint = "" if late.is_alive() else f" (its daemon was killed after {seconds} s)"
        raise BenchmarkError(f"{what} on {filesystem.name}: {error}{hint}") from error
    finally:
        late.cancel()


def _note_read_ahead(filesystem: Filesystem, results: Results) -> None:
    setting = read_ahead_setting(filesystem.tree)
    if setting.exists():
        results.read_ahead[filesystem.name] = int(setting.read_text())
