"""Repositories of old formats read back for ever, can be written on, and the same work still gives the same ids."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.repo import Repository
from anabranch.testing import consistency
from tests.fixtures import format1
from tests.unit.helpers import Branch, make_repository


@pytest.fixture
def old(place: Path) -> Iterator[Path]:
    """The repository of format 1, unpacked; what it holds at the end must be sound."""
    path = format1.unpack(place)
    yield path
    with Repository(path) as repository:
        consistency.check(repository)


EXPECTED = json.loads(format1.EXPECTED.read_bytes())


def test_a_repository_of_format_1_reads_as_it_did_when_it_was_made(old: Path) -> None:
    with Repository(old) as repository:
        assert json.loads(json.dumps(format1.read(repository))) == EXPECTED
        assert [ref.name for ref in repository.branch_names()] == ["kept", "main", "ünï"]


def test_a_commit_on_top_of_a_repository_of_format_1_leaves_what_was_there(old: Path) -> None:
    with Repository(old, writable=True) as repository:
        main = Branch(repository)
        main.write("renamed/linked", b"through one of its names")
        main.write("sparse", b"again", 5_000_000)
        main.unlink("many/00001")
        assert main.changed() == [
            ("deleted", "many/00001"), ("modified", "renamed/er/linked"), ("modified", "renamed/linked"),
            ("modified", "small"), ("modified", "sparse"),
        ]  # fmt: skip
        assert main.commit() == 5
        assert format1.read(repository) | EXPECTED == format1.read(repository)


def test_the_same_work_gives_the_same_ids_as_when_the_format_was_frozen(place: Path) -> None:
    """But for hard links, whose ids are random."""
    with make_repository(place / "new") as repository:
        format1.fill(repository)
        made = format1.read(repository)
    assert made.keys() == EXPECTED.keys()
    for revision, version in EXPECTED.items():
        assert made[revision]["digest"] == version["digest"], revision
    for revision in ("main@0", "main@1", "main@2", "kept@0"):
        assert made[revision]["root"] == EXPECTED[revision]["root"], revision
