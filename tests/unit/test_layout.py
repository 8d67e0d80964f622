"""The folder of a repository: made once, refused when it is not ours to touch."""

import json
import os
from pathlib import Path

import pytest

from anabranch.errors import DamagedError, ExistsError, FormatError, NotFoundError, UsageError
from anabranch.repo import Repository, create
from anabranch.store import layout
from anabranch.store.chunker import CHUNKER_ID


@pytest.fixture
def made(place: Path) -> Path:
    create(place / "repository", source="test")
    return place / "repository"


def edit(path: Path, **fields: object) -> None:
    record = json.loads((path / layout.RECORD).read_text())
    (path / layout.RECORD).write_text(json.dumps(record | fields))


def test_a_new_repository_has_a_record_and_is_its_owners_alone(made: Path) -> None:
    record = json.loads((made / "anabranch.json").read_text())
    assert (record["format"], record["chunker"], len(record["id"])) == (1, CHUNKER_ID, 32)
    assert os.stat(made).st_mode & 0o777 == 0o700
    assert layout.check(made, writable=True).path == made


def test_every_repository_has_an_id_of_its_own(place: Path) -> None:
    ids = set()
    for name in ("a", "b"):
        create(place / name, source="test")
        ids.add(json.loads((place / name / layout.RECORD).read_text())["id"])
    assert len(ids) == 2


def test_a_repository_is_not_made_twice_nor_over_other_files(made: Path, place: Path) -> None:
    with pytest.raises(ExistsError):
        create(made, source="test")
    (place / "full").mkdir()
    (place / "full" / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        create(place / "full", source="test")
    with pytest.raises(UsageError, match="not a folder"):
        create(place / "full" / "file", source="test")
    assert os.listdir(place / "full") == ["file"]


def test_what_is_no_repository_is_not_opened(place: Path) -> None:
    with pytest.raises(NotFoundError):
        Repository(place / "absent")
    with pytest.raises(UsageError):
        Repository(place)
    assert os.listdir(place) == []


def test_a_repository_that_was_not_finished_is_none(made: Path) -> None:
    """The record is written last."""
    (made / layout.RECORD).unlink()
    with pytest.raises(UsageError):
        Repository(made)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 2}, {"format": "1"}, {"format": None}, {"incompatible": ["packs"]}, {"chunker": "fixed"},
    ],
)  # fmt: skip
def test_an_unknown_format_or_feature_is_refused(made: Path, fields: dict[str, object]) -> None:
    """P38."""
    edit(made, **fields)
    for writable in (False, True):
        with pytest.raises(FormatError):
            Repository(made, writable=writable)


def test_an_unknown_read_only_feature_allows_reading_alone(made: Path) -> None:
    """P38."""
    edit(made, read_only=["locks"])
    Repository(made).close()
    with pytest.raises(FormatError, match="locks"):
        Repository(made, writable=True)


def test_an_unknown_ignorable_feature_and_an_unknown_field_change_nothing(made: Path) -> None:
    edit(made, ignorable=["notes"], comment="for people")
    Repository(made, writable=True).close()


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", "\xff"])
def test_a_record_that_cannot_be_read_is_refused(made: Path, text: str) -> None:
    (made / layout.RECORD).write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedError):
        Repository(made)
