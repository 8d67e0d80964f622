"""What the commands of this folder have in common: signals, errors, a folder to work in, what is printed."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError
from types import FrameType
from typing import NoReturn

from rich.console import Console

from benchmarks.errors import BenchmarkError, UsageError
from benchmarks.report import filesystem_type
from benchmarks.rounds import SIGNALS, shielded


def run_command(run: Callable[[Console], None]) -> int:
    """0: all measured; 1: a wrong answer or a broken daemon; 2: wrong use; 128 + N: ended by signal N."""
    for number in SIGNALS:
        signal.signal(number, _end_by_signal)
    messages = Console(stderr=True)
    try:
        run(messages)
    except (BenchmarkError, OSError, SubprocessError) as error:
        messages.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code if isinstance(error, BenchmarkError) else 1
    return 0


def progress(messages: Console) -> Callable[[str], None]:
    """Says on standard error how far the work is."""
    return lambda line: messages.print(line, style="dim", highlight=False, soft_wrap=True)


def at_least(least: int) -> Callable[[str], int]:
    """A type of arguments."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """A new folder, gone afterwards."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="anabranch-benchmark-", dir=parent))
    except OSError as error:
        raise UsageError(f"no folder to work in: {error}") from error
    try:
        yield folder
    finally:
        with shielded():
            shutil.rmtree(folder, ignore_errors=True)


def wide_console() -> Console:
    """A table that goes into a file or a pipe is not to be cut at 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def describe_machine(folder: Path) -> dict[str, str | float]:
    """What one must know of a machine to read its figures; `folder` is where the work was done."""
    return {
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30), 1),
        "python": platform.python_version(),
        "disk": filesystem_type(folder),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _end_by_signal(number: int, _frame: FrameType | None) -> NoReturn:
    for further in SIGNALS:  # the first one starts the cleaning up, which the next ones must not break off
        signal.signal(further, signal.SIG_IGN)
    raise SystemExit(128 + number)
