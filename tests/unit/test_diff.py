"""The differences of two versions, at a cost that follows the differences."""

import pytest

from anabranch.errors import NothingToCommitError
from anabranch.repo import Repository
from anabranch.versions.diff import diff
from anabranch.versions.objects import EntryKind
from anabranch.versions.trees import Trees, Version
from tests.unit.helpers import MAIN, Branch


def between(repository: Repository, old: str, new: str) -> list[tuple[str, str]]:
    ids = [repository.resolve(revision).id for revision in (old, new)]
    return [(change.change.value, change.path.decode()) for change in repository.diff(*ids)]


def test_a_diff_tells_added_deleted_modified_attributes_and_type_apart(main: Branch) -> None:
    for name in ("deleted", "modified", "mode", "time", "type", "same"):
        main.write(name, b"content")
    main.mkdir("folder")
    main.commit()
    main.unlink("deleted")
    main.write("modified", b"CONTENT")
    main.chmod("mode", 0o600)
    main.touch("time", 5)
    main.unlink("type")
    main.make("type", EntryKind.SYMLINK, target=b"same")
    main.make("added")
    main.chmod("folder", 0o700)
    expected = [
        ("added", "added"),
        ("deleted", "deleted"),
        ("attributes", "folder"),
        ("attributes", "mode"),
        ("modified", "modified"),
        ("attributes", "time"),
        ("type", "type"),
    ]
    assert main.changed() == expected
    main.commit()
    assert between(main.repository, "main@1", "main@2") == expected
    assert between(main.repository, "main@2", "main@2") == []


def test_a_directory_that_comes_or_goes_brings_all_that_is_below_it(main: Branch) -> None:
    main.write("a", b"x")
    main.commit()
    main.mkdir("d")
    main.mkdir("d/e")
    main.write("d/e/f", b"x")
    main.commit()
    assert between(main.repository, "main@1", "main@2") == [("added", "d"), ("added", "d/e"), ("added", "d/e/f")]
    assert between(main.repository, "main@2", "main@1") == [("deleted", "d"), ("deleted", "d/e"), ("deleted", "d/e/f")]


def test_a_file_that_becomes_a_directory_is_a_change_of_type_with_what_is_below(main: Branch) -> None:
    main.write("x", b"file")
    main.commit()
    main.unlink("x")
    main.mkdir("x")
    main.write("x/inner", b"inner")
    assert main.changed() == [("type", "x"), ("added", "x/inner")]
    main.commit()
    assert between(main.repository, "main@1", "main@2") == [("type", "x"), ("added", "x/inner")]
    assert between(main.repository, "main@2", "main@1") == [("type", "x"), ("deleted", "x/inner")]


def test_the_time_of_a_directory_alone_is_no_change(main: Branch) -> None:
    main.mkdir("d")
    main.write("d/file", b"x")
    main.commit()
    main.touch("d", 5)
    main.touch("", 6)
    assert main.changed() == []
    main.write("other", b"x")
    main.commit()
    assert between(main.repository, "main@1", "main@2") == [("added", "other")]


def test_the_attributes_of_the_root_are_a_change_but_not_against_the_empty_commit(main: Branch) -> None:
    main.write("file", b"x")
    main.commit()
    main.chmod("", 0o700)
    assert main.changed() == [("attributes", ".")]
    main.commit()
    assert between(main.repository, "main@1", "main@2") == [("attributes", ".")]
    assert between(main.repository, "main@0", "main@2") == [("added", "file")]


def test_a_change_to_a_hard_linked_file_shows_under_all_its_names_in_every_directory(main: Branch) -> None:
    main.mkdir("d")
    main.mkdir("d/deep")
    main.write("d/deep/a", b"content")
    main.link("d/deep/a", "b")
    main.mkdir("e")
    main.link("b", "e/c")
    main.commit()
    main.forget_all()
    main.write("b", b"CONTENT")
    expected = [("modified", "b"), ("modified", "d/deep/a"), ("modified", "e/c")]
    assert main.changed() == expected
    main.commit()
    assert between(main.repository, "main@1", "main@2") == expected


def test_making_a_hard_link_shows_the_new_name_alone(main: Branch) -> None:
    main.write("a", b"content")
    main.commit()
    main.link("a", "b")
    assert main.changed() == [("added", "b")]
    main.commit()
    assert between(main.repository, "main@1", "main@2") == [("added", "b")]
    main.unlink("a")
    assert main.changed() == [("deleted", "a")]


def test_a_diff_reads_only_what_differs(main: Branch) -> None:
    """P40, P43."""
    for folder in range(10):
        main.mkdir(f"{folder}")
        for n in range(400):
            main.make(f"{folder}/{n:06}")
    main.commit()
    main.write("3/000200", b"changed")
    main.commit()
    repository = main.repository
    commits = [repository.resolve(revision).commit for revision in ("main@1", "main@2")]
    trees = Trees(repository.objects)
    old, new = (Version(trees, commit.root, commit.links) for commit in commits)  # type: ignore[arg-type]
    assert [change.path for change in diff(old, new)] == [b"3/000200"]
    assert trees.nodes.reads < 15


def test_renaming_a_large_directory_is_found_without_reading_content(main: Branch) -> None:
    main.mkdir("d")
    main.write("d/file", bytes(100_000))
    main.commit()
    main.rename("d", "e")
    assert main.changed() == [("deleted", "d"), ("deleted", "d/file"), ("added", "e"), ("added", "e/file")]


def test_the_empty_commit_has_no_root_of_its_own_on_either_side(main: Branch) -> None:
    main.write("f", b"x")
    main.chmod("", 0o700)
    main.commit()
    assert between(main.repository, "main@0", "main@1") == [("added", "f")]
    assert between(main.repository, "main@1", "main@0") == [("deleted", "f")]


def test_a_root_of_the_time_zero_has_attributes_like_any_other(main: Branch) -> None:
    """What a commit would take, a status shows, and a clean branch has none of."""
    main.write("f", b"x")
    main.touch("", 0)
    main.commit()
    main.chmod("", 0o700)
    assert main.changed() == [("attributes", ".")]
    assert not main.repository.is_clean(main.name)


def test_files_that_become_one_or_cease_to_be_one_are_a_change_though_every_path_looks_the_same(main: Branch) -> None:
    """As `hardlink` and `jdupes` do. P13, P18."""
    for name in ("a", "b"):
        main.write(name, b"the same")
        main.touch(name, 5)
    main.commit()
    main.unlink("b")
    main.link("a", "b")
    assert not main.repository.is_clean(MAIN)
    assert main.commit() == 2
    main.forget_all()
    assert main.find("a") == main.find("b")
    assert main.repository.is_clean(MAIN)
    main.unlink("b")
    main.write("b", b"the same")
    main.touch("b", 5)
    assert not main.repository.is_clean(MAIN)
    assert main.commit() == 3
    main.link("a", "c")
    main.unlink("c")
    with pytest.raises(NothingToCommitError):
        main.commit()
