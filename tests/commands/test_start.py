"""The start of `ana`: a table says which commands there are, and only the one that is called is imported."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import anabranch
from anabranch.api.repository import Repository
from anabranch.cli.commands import COMMANDS, Later
from anabranch.cli.main import ana
from tests.harness import done, run_ana

SLOW = ("lmdb", "msgspec", "blake3", "trio", "pyfuse3")
HELP = """
import sys
from anabranch.cli.main import main
sys.argv[1:] = {words}
try:
    main()
finally:
    print([name for name in {names} if name in sys.modules])
"""


def imported(words: list[str], names: tuple[str, ...]) -> str:
    """Which of some modules a call imports: the last line that it prints."""
    code = HELP.format(words=words, names=names)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    return ended.stdout.splitlines()[-1]


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["lgo"]])
def test_help_imports_nothing_that_takes_time(words: list[str]):
    assert imported(words, SLOW) == "[]"


def test_the_package_imports_nothing_until_it_is_asked_for():
    code = f"import sys, anabranch; print([name for name in {SLOW} if name in sys.modules], anabranch.__version__)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"[] {anabranch.__version__}\n"
    assert anabranch.Repository is Repository
    assert issubclass(anabranch.AnabranchError, Exception)
    with pytest.raises(AttributeError, match="nothing"):
        anabranch.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_command_imports_its_own_module_only():
    modules = tuple(f"anabranch.cli.{module}" for module in sorted({module for module, _ in COMMANDS.values()}))
    assert imported(["log", "--help"], modules) == "['anabranch.cli.history']"


def test_the_table_has_every_command_there_is_and_its_own_first_sentence():
    package = Path(anabranch.__file__).parent / "cli"
    found = {}
    for path in package.glob("*.py"):
        for value in vars(import_module(f"anabranch.cli.{path.stem}")).values():
            if isinstance(value, click.Command) and value is not ana:
                found[value.name] = (path.stem, value.get_short_help_str(1_000))
    assert found == COMMANDS
    assert sorted(COMMANDS) == list(COMMANDS), "as they are listed"


def test_every_command_is_listed_and_is_what_it_says():
    said = CliRunner().invoke(ana, ["--help"], terminal_width=200).output
    width = max(map(len, COMMANDS)) + 2
    for name, (_, line) in COMMANDS.items():
        assert f"  {name:<{width}}{line}\n" in said
        command = ana.commands[name]
        assert isinstance(command, Later)
        assert command.load().name == name


def test_an_unknown_command_is_wrong_use_with_a_hint_when_it_is_close(tmp_path: Path):
    ended = run_ana("comit", cwd=tmp_path)
    assert ended.returncode == 2
    assert "No such command 'comit'. Did you mean 'commit'?" in ended.stderr
    ended = run_ana("xyzzy", cwd=tmp_path)
    assert ended.returncode == 2
    assert "mean" not in ended.stderr
    assert "Usage: ana log" in done(run_ana("log", "-h", cwd=tmp_path))
