"""The command `python -m benchmarks.intake`: what an import costs; see README.md in this folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from anabranch.daemon.lock import owner
from benchmarks import data
from benchmarks.command import at_least, describe_machine, progress, run_command, wide_console, workspace
from benchmarks.errors import BenchmarkError
from benchmarks.texts import texts

_FOLDERS = 20
_ANA = Path(sys.executable).with_name("ana")
_TICKS = os.sysconf("SC_CLK_TCK")
_AIMS = {"texts": 2.5, "csv": 6.0}
"""Seconds of CPU for an import of the full numbers, on the machine of the README."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Cost:
    """Seconds that one program took for one source: `cpu` is user and system, of all its processes."""

    source: str
    program: str
    cpu: float
    wall: float
    aim: float | None = None


class Program(ABC):
    """Something that takes a folder in."""

    name: str

    def __init__(self, place: Path) -> None:
        self._place = place

    def start(self, source: Path) -> None:
        """Make what is to be there before."""
        self._place.mkdir()

    def end(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._place)

    @abstractmethod
    def take(self, source: Path) -> None:
        """Take it in, until it is on the disk."""

    def aside(self) -> float:
        """The CPU seconds so far of a process that is not a child of ours."""
        return 0.0


class Copy(Program):
    """`cp -r`, and what it wrote is synced."""

    name = "cp -r + sync"

    def take(self, source: Path) -> None:
        _run(["cp", "-r", str(source), str(self._place / "copy")])
        _run(["sync", "-f", str(self._place)])


class Import(Program):
    """`ana import`, without a mount."""

    name = "ana import"

    def start(self, source: Path) -> None:
        _run([str(_ANA), "init", str(self._place)])

    def take(self, source: Path) -> None:
        _run([str(_ANA), "import", "-R", str(self._place), str(source), "data"])


class MountedImport(Import):
    """`ana import` beside a mount: the daemon has a part in it."""

    name = "ana import, mounted"

    def start(self, source: Path) -> None:
        super().start(source)
        self._root.mkdir()
        _run([str(_ANA), "mount", str(self._place), str(self._root)])
        holder = owner(self._place / "lock")
        if holder is None:
            raise BenchmarkError(f"nobody owns {self._place}, which is mounted")
        self._pid = holder.pid

    def end(self) -> None:
        _run([str(_ANA), "umount", str(self._root)])
        self._root.rmdir()
        super().end()

    def aside(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def _root(self) -> Path:
        return self._place.with_name(f"{self._place.name}-mount")


class Dvc(Program):
    """`dvc add`, from a virtual environment of its own."""

    name = "dvc add"
    command: Path

    def start(self, source: Path) -> None:
        """What it adds has to lie in its folder: links are there before, and it copies what they lead to."""
        super().start(source)
        self._dvc("init", "--no-scm")
        self._dvc("config", "core.analytics", "false")
        shutil.copytree(source, self._place / "data", copy_function=os.link)

    def take(self, source: Path) -> None:
        self._dvc("add", "--quiet", "data")
        _run(["sync", "-f", str(self._place)])

    def _dvc(self, *arguments: str) -> None:
        _run([str(self.command), *arguments], cwd=self._place)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured; 1: a command failed; 2: wrong use; 128 + N: ended by signal N."""
    options = _parse(arguments)
    return run_command(lambda messages: _measure(options, messages))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description="What an import costs.")
    parser.add_argument("--files", type=at_least(1), default=20_000, metavar="N", help="number of small files")
    parser.add_argument("--size", type=at_least(1), default=1024, metavar="MIB", help="of the CSV")
    parser.add_argument("--rounds", type=at_least(1), default=3, metavar="N", help="the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where to work")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, messages: Console) -> None:
    say = progress(messages)
    costs: list[Cost] = []
    with workspace(options.dir) as folder:
        machine = describe_machine(folder)
        programs: list[type[Program]] = [Copy, Import, MountedImport]
        say("installing DVC")
        if (command := _install_dvc(folder)) is not None:
            Dvc.command = command
            programs.append(Dvc)
        full = options.files == 20_000 and options.size == 1024
        for name, make in (("texts", _make_texts), ("csv", _make_csv)):
            say(f"making the {name}")
            source = folder / name
            make(source, options)
            for number in range(options.rounds):
                for program in programs:  # in turns: what slows the machine down slows all of them
                    say(f"{name}, round {number + 1}: {program.name}")
                    cost = _cost(program(folder / "place"), source)
                    costs.append(Cost(name, program.name, *cost, _AIMS[name] if full else None))
            shutil.rmtree(source)
    medians = list(_medians(costs))
    _print(wide_console(), medians, options, with_dvc=Dvc in programs)
    if options.json:
        document = {"format": 1, "method": machine, "rounds": [asdict(cost) for cost in costs]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


def _make_texts(source: Path, options: argparse.Namespace) -> None:
    for number in range(_FOLDERS):
        (source / f"d{number:02}").mkdir(parents=True)
    for number, (ending, text) in enumerate(texts(options.files, data.SEED)):
        (source / f"d{number % _FOLDERS:02}/{number:06}.{ending}").write_bytes(text)


def _make_csv(source: Path, options: argparse.Namespace) -> None:
    source.mkdir()
    data.write_csv(source / "flights.csv", options.size * data.MIB)


def _install_dvc(folder: Path) -> Path | None:
    """Its command; None where it cannot be installed."""
    place = folder / "dvc"
    try:
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(place / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "dvc"])
    except (BenchmarkError, OSError):
        return None
    return place / "bin/dvc"


def _cost(program: Program, source: Path) -> tuple[float, float]:
    """CPU and wall seconds of taking a source in, which is in the kernel's cache."""
    _run(["sync"])
    with _at_work(program, source):
        before, start = _children() + program.aside(), time.perf_counter()
        program.take(source)
        return _children() + program.aside() - before, time.perf_counter() - start


@contextmanager
def _at_work(program: Program, source: Path) -> Iterator[None]:
    program.start(source)
    try:
        yield
    finally:
        program.end()


def _children() -> float:
    """CPU seconds of all processes that we waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _run(command: list[str], cwd: Path | None = None) -> None:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.strip()}")


def _medians(costs: list[Cost]) -> Iterator[Cost]:
    for source, program, aim in dict.fromkeys((cost.source, cost.program, cost.aim) for cost in costs):
        rounds = [cost for cost in costs if (cost.source, cost.program) == (source, program)]
        cpu, wall = median(it.cpu for it in rounds), median(it.wall for it in rounds)
        yield Cost(source, program, cpu, wall, aim)


def _print(console: Console, medians: list[Cost], options: argparse.Namespace, *, with_dvc: bool) -> None:
    table = Table(title="Seconds to take data in; less is better. Medians", title_justify="left")
    for head in ("source", "program"):
        table.add_column(head, no_wrap=True)
    for head in ("CPU", "to cp", "aim", "wall", "to cp"):
        table.add_column(head, justify="right")
    copies = {cost.source: cost for cost in medians if cost.program == Copy.name}
    titles = {"texts": f"{options.files:,} small files", "csv": f"CSV of {options.size:,} MiB"}
    for cost in medians:
        copy = copies[cost.source]
        aim = f"{cost.aim:.1f}" if cost.aim and cost.program.startswith(Import.name) else "-"
        table.add_row(
            titles[cost.source], cost.program, f"{cost.cpu:.2f}", f"{cost.cpu / copy.cpu:.1f}", aim,
            f"{cost.wall:.2f}", f"{cost.wall / copy.wall:.1f}",
        )  # fmt: skip
    console.print(table)
    notes = ["CPU: user and system of the program and its children, and of the daemon where there is one."]
    if not with_dvc:
        notes.append("DVC could not be installed, so it is not compared.")
    for line in notes:
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
