"""The documentation says what is: pages of commands, links."""

import re
from pathlib import Path

from anabranch.cli.commands import COMMANDS
from tests.commands.pages import help_of, pages
from tests.harness import done, run_ana, together

ROOT = Path(__file__).parents[2]
COMMAND_PAGES = ROOT / "docs/commands"
LINK = re.compile(r"\[[^\]]*\]\(([^)#:]+)(?:#([^)]*))?\)")


def test_the_page_of_each_command_is_what_its_help_says():
    made = pages()
    assert {path.name for path in COMMAND_PAGES.iterdir()} == made.keys(), "run scripts/docs"
    for name, text in made.items():
        assert (COMMAND_PAGES / name).read_text() == text, f"docs/commands/{name} is not as --help: run scripts/docs"


def test_pages_are_made_of_what_the_command_prints(tmp_path: Path):
    calls = [lambda name=name: run_ana(name, "--help", cwd=tmp_path, env={"COLUMNS": "80"}) for name in COMMANDS]
    for name, completed in zip(COMMANDS, together(calls), strict=True):
        assert done(completed) == help_of(name) + "\n"


def test_links_between_documents_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target, heading in LINK.findall(page.read_text()):
            file = page.parent / target
            assert file.exists(), f"{page.name} links to {target}"
            if heading:
                assert heading in anchors(file.read_text()), f"{page.name} links to {target}#{heading}"


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
