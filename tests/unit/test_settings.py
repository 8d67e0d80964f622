"""Settings in a repository that is open: their rows, and what cannot be read in one."""

import pytest

from anabranch.errors import DamagedError, UsageError
from anabranch.repo import Repository
from anabranch.settings import AUTHOR, COMPRESSION, DEFAULT_BRANCH, KEYS, Setting
from anabranch.store.meta import SETTINGS
from anabranch.store.records import seal
from tests.unit.helpers import MAIN, Branch


def put(repository: Repository, key: bytes, row: bytes | None) -> None:
    with repository.meta.write() as batch:
        batch.set(SETTINGS, key, row)


def test_what_is_set_is_a_text_under_its_key(repository: Repository) -> None:
    """docs/format.md, "Settings"."""
    values = {"author": "Ann", "default-branch": "main", "compression": "19", "memory": "64", "xattr": "on"}
    for key, value in values.items():
        repository.configure(key, value, "me")
        row = key.replace("-", " ").encode()
        assert repository.meta.get(SETTINGS, row) == seal(value.encode(), row)
    assert repository.configured("me") == [
        Setting("author", "Ann", False), Setting("default-branch", "main", False), Setting("compression", 19, False),
        Setting("memory", 64, False), Setting("xattr", "on", False),
    ]  # fmt: skip
    assert values.keys() == KEYS.keys()


def test_going_back_to_a_default_leaves_no_row(repository: Repository) -> None:
    repository.configure("author", "Ann", "me")
    assert repository.configure("author", None, "me") == Setting("author", "me", True)
    assert repository.meta.get(SETTINGS, b"author") is None


def test_a_row_that_cannot_be_read_is_damage(repository: Repository) -> None:
    for row in (b"rubbish", seal(b"fast"), seal(b"\xff")):
        put(repository, b"compression", row)
        with pytest.raises(DamagedError, match="compression"):
            repository.settings.get(COMPRESSION)
    put(repository, b"default branch", None)
    with pytest.raises(DamagedError, match="default-branch"):
        repository.settings.get(DEFAULT_BRANCH)


def test_what_was_refused_changes_nothing(repository: Repository) -> None:
    for key, value in (
        ("compression", "20"),
        ("author", ""),
        ("xattr", "yes"),
        ("default-branch", None),
        ("colour", "red"),
    ):
        with pytest.raises(UsageError):
            repository.configure(key, value, "me")
    assert (repository.settings.get(AUTHOR), repository.default_branch()) == ("", MAIN)


def test_new_content_is_compressed_as_the_setting_says_whoever_opens_the_repository(main: Branch) -> None:
    repository = main.repository
    repository.configure("compression", "7", "me")
    assert repository.chunks.level == 7
    repository.close()
    with Repository(repository.layout.path, writable=True) as again:
        assert again.chunks.level == 7
        again.configure("compression", None, "me")
        assert again.chunks.level == 1


def test_the_author_of_a_commit_is_that_of_the_setting_in_the_library_too(main: Branch) -> None:
    main.repository.configure("author", "Ann", "me")
    main.make("file")
    main.commit()
    assert main.repository.resolve("main").commit.author == "Ann"
