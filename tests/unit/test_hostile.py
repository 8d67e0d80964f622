"""Repositories that an enemy made, and every command on each: refused, or shown harmlessly. P95."""

import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from anabranch import repo
from anabranch.cli.main import main
from tests.hostile import Enemy
from tests.unit.helpers import scratch
from tests.unit.hostile_cases import CASES, WITHOUT

SECONDS = 60
"""Nothing takes longer but what never ends."""
MEMORY = 200 << 20
"""Bytes that a command may take on top; most of it is for threads and their pools."""

CORE = {
    "ls.json",
    "ls.a",
    "cat",
    "log.path",
    "show",
    "info",
    "doctor",
    "export",
    "tar",
    "status",
    "import",
    "commit",
    "log.graph",
    "blame",
}
"""The rest is for long runs."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "ls": ("ls", "main"),
    "ls.json": ("ls", "main", "--json"),
    "ls.a": ("ls", "main:a"),
    "ls.deep": ("ls", "main:" + "a/" * 200),
    "du": ("du", "main"),
    "cat": ("cat", "main:a"),
    "log": ("log",),
    "log.json": ("log", "--json"),
    "log.path": ("log", "--path", "a"),
    "log.graph": ("log", "--graph"),
    "blame": ("blame", "main:"),
    "blame.below": ("blame", "-r", "main:"),
    "show": ("show",),
    "diff": ("diff", "main@0", "main"),
    "diff.stat": ("diff", "--stat", "main@1", "main"),
    "info": ("info",),
    "branch": ("branch",),
    "tag": ("tag",),
    "config": ("config",),
    "doctor": ("doctor",),
    "export": ("export", "main", "DEST/folder"),
    "tar": ("export", "main", "DEST/all.tar"),
    "status": ("status",),
    "restore": ("restore", "main@0", "."),
    "import": ("import", "SOURCE", "here"),
    "commit.path": ("commit", "-m", "x", "here"),
    "commit": ("commit", "-m", "x"),
    "discard": ("discard",),
    "restore.back": ("restore", "main@1", "."),
    "commit.back": ("commit", "-m", "x"),
    "diff.working": ("diff",),
    "new": ("branch", "new"),
    "reindex": ("reindex",),
    "after": ("log",),
}
"""By name; those that change something come last, and in an order that has something to do for each."""
HARMLESS = {
    "a_file_of_4_eib_of_zeros", "a_hard_link_of_too_many_names",
    "a_journal_of_a_hole_of_a_terabyte", "a_journal_that_lies_about_its_length", "a_link_instead_of_overlays/7",
    "a_link_that_leads_outside", "a_log_that_goes_back_in_time", "a_name_control", "a_name_not_utf8",
    "a_working_file_of_nested_contents", "manifests_that_are_one_on_every_level",
    "names_of_files_that_are_numbers_elsewhere", "names_of_hard_links_that_are_not_there", "times_at_the_ends",
    "words_that_move_a_terminal",
}  # fmt: skip
"""What is not refused by any command, but shown as it is, or passed over."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80\xae")


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Inside, neither time nor memory is without end."""

    def ring(_: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{what} does not end: at {frame and frame.f_code}")

    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    before = signal.signal(signal.SIGALRM, ring)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A repository that was used a little; each case works on a copy."""
    with scratch() as directory:
        path = directory / "repo"
        repo.create(path, source="test")
        enemy = Enemy(path)
        enemy.chunk(b"a chunk")
        enemy.close()
        yield path


def outside_of(place: Path) -> dict[str, tuple[int, bytes]]:
    found = [path for path in sorted((place / "outside").rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mode, path.read_bytes()) for path in found}


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["ana", *words])
    try:
        with bounded(" ".join(words)):
            main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def prepare(place: Path, template: Path, name: str) -> Path:
    """A hostile repository, what a victim has beside it, and where commands may write."""
    path = shutil.copytree(template, place / "repo")
    for folder in ("outside/folder", "DEST", "SOURCE"):
        (place / folder).mkdir(parents=True)
    for beside in ("outside/file", "outside/folder/7", f"outside/folder/{0:020}", "SOURCE/x"):
        (place / beside).write_bytes(b"mine")
    enemy = Enemy(path)
    try:
        CASES[name](enemy)
    finally:
        enemy.close()
    return path


@pytest.mark.parametrize("commands", [CORE, pytest.param(set(COMMANDS), marks=pytest.mark.slow)], ids=["core", "all"])
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_repository_does_no_harm_p95(
    name: str, commands: set[str], template: Path, capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with scratch() as place:
        path = prepare(place, template, name)
        before, codes = outside_of(place), set()
        monkeypatch.chdir(place)
        for command, (verb, *words) in COMMANDS.items():
            if command not in commands - WITHOUT.get(name, set()):
                continue
            code = run([verb, "-R", str(path), *words], monkeypatch)
            codes.add(code)
            out, err = capfdbinary.readouterr()
            assert code in (0, 1, 3, 4) or verb in ("cat", "ls"), (command, code, err)
            assert code == 0 or verb == "doctor" or b"ana: " in err, (command, code, err)
            assert not _CONTROL.search(err), (command, err)
            assert command == "cat" or not _CONTROL.search(out), (command, out)
            assert outside_of(place) == before, command
        assert codes & {3, 4} or name in HARMLESS, codes
        assert {entry.name for entry in place.iterdir()} == {"repo", "outside", "DEST", "SOURCE"}
        subprocess.run(["rm", "-rf", place / "DEST"], check=True)  # shutil.rmtree goes no deeper than Python's stack
