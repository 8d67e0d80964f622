"""The examples of docs/library.md, and the one of the README, do what they say."""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch import Repository
from tests.harness import PATIENCE

DOCS = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.REPORT_NDIFF
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of each example of a page."""
    return BLOCK.findall((DOCS / page).read_text())


def play(code: str, names: dict[str, Any]) -> None:
    """Run an example; what it shows behind `>>>` is what comes."""
    if ">>>" not in code:
        exec(compile(code, "example", "exec"), names)
        return
    example = doctest.DocTestParser().get_doctest(code, names, "example", "docs/library.md", 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append, clear_globs=False)
    names.update(example.globs)
    assert not result.failed, "".join(said)


def run(command: str) -> str:
    """What a command line prints that starts Python."""
    words = command.split()
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]], capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout


def test_every_example_of_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    found = blocks("docs/library.md")
    for language, code in found:
        if language == "console":
            command, _, expected = code.removeprefix("$ ").partition("\n")
            assert run(command) == expected
        elif script := re.match(r"# (\w+\.py)\n", code):
            Path(script[1]).write_text(code)
        else:
            play(code, names)
    assert len(found) > 12


def test_the_example_of_the_readme_does_what_it_says(tmp_path: Path):
    path = tmp_path / "repo"
    with Repository.init(path) as repository:
        (repository.branch() / "flights.csv").write_text("year,month\n2013,1\n2013,NA\n")
        repository.branch().commit("Flights of 2013, as published")
        exp = repository.create_branch("exp")
        (example,) = [code for language, code in blocks("README.md") if language == "python" and "Repository" in code]
        play(example.replace("/data/repo", str(path)), {})
        assert (exp / "flights.csv").read_text() == "year,month\n2013,1\n"
        assert exp.head.metadata == {"rows": "1"}
