"""Fixtures of the unit tests. Every repository is checked when its test ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.repo import Repository
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.testing import consistency
from tests.unit.helpers import Branch, make_repository, scratch


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, in memory if possible."""
    with scratch() as directory:
        yield directory


@pytest.fixture
def meta(place: Path) -> Iterator[Environment]:
    """An empty meta environment."""
    environment = Environment(place / "meta.mdb", TABLES)
    yield environment
    environment.close()


@pytest.fixture
def objects(meta: Environment) -> ObjectStore:
    """An empty object store."""
    return ObjectStore(meta)


@pytest.fixture
def repository(place: Path) -> Iterator[Repository]:
    """A new repository, open for writing; what it holds at the end must be sound."""
    opened = make_repository(place / "repository")
    yield opened
    opened.close()
    with Repository(place / "repository") as reopened:
        consistency.check(reopened)


@pytest.fixture
def main(repository: Repository) -> Branch:
    """The branch that every repository starts with."""
    return Branch(repository)
