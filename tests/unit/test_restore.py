"""Putting back what a version holds: P48, P49. The machine has the combinations."""

import errno
import os
from pathlib import Path

import pytest

from anabranch.commit import Note
from anabranch.errors import NotFoundError, RefusedError
from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.versions.objects import EntryKind
from anabranch.worktree.inodes import Inode
from anabranch.worktree.space import MARGIN, ROW
from tests.unit.helpers import MAIN, WHO, Branch, make_repository, random_bytes

LARGE = random_bytes(1, 100_000)
OLD_TIME = 1_000_000_000_000_000_000
FIVE = ["1", "2", "3", "4", "5"]


@pytest.fixture
def filled(main: Branch) -> Branch:
    """A committed branch with a bit of everything."""
    main.mkdir("d")
    main.mkdir("d/e")
    main.write("d/small", b"small")
    main.write("d/e/large", LARGE)
    main.write("d/e/other", b"other")
    main.write("linked", b"linked")
    main.link("linked", "d/e/again")
    main.make("link", EntryKind.SYMLINK, target=b"d/small")
    main.touch("d", OLD_TIME)
    main.commit()
    return main


def known(branch: Branch, path: str) -> Inode:
    """As if a program had the file open."""
    ino = branch.find(path)
    branch.tree.table.known.add(ino)
    return ino


def read(branch: Branch, ino: Inode) -> bytes:
    return branch.loaded(lambda: branch.tree.read(ino, 0, branch.tree.getattr(ino).size))


def take_away(branch: Branch) -> None:
    """Remove d with all that is in it."""
    for path in ("d/small", "d/e/large", "d/e/other", "d/e/again"):
        branch.unlink(path)
    branch.rmdir("d/e")
    branch.rmdir("d")


def test_a_changed_file_is_as_it_was_and_a_new_one_p49(filled: Branch) -> None:
    old = known(filled, "d/small")
    filled.write("d/small", b"changed")
    stale = filled.restore("d/small")
    new = filled.find("d/small")
    assert filled.read("d/small") == b"small"
    assert new != old
    assert read(filled, old) == b"changed"
    assert filled.tree.getattr(old).links == 0
    assert not filled.changed()
    assert (filled.find("d"), b"small") in stale.names
    assert {old, filled.find("d")} <= stale.inodes


def test_who_has_the_old_file_open_goes_on_writing_it_alone_p49(filled: Branch) -> None:
    filled.write("d/e/large", b"x", offset=5)
    old = known(filled, "d/e/large")
    filled.restore("d")
    filled.loaded(lambda: filled.tree.write(old, 0, b"written after"))
    assert read(filled, old)[:13] == b"written after"
    assert filled.read("d/e/large") == LARGE
    filled.tree.table.forget(old)
    filled.repository.save()
    assert not filled.repository.overlays.numbers()


def test_what_equals_the_version_is_not_touched(filled: Branch) -> None:
    before = {path: filled.find(path) for path in ("d", "d/small", "d/e/large", "linked", "link")}
    filled.write("new", b"new")
    stale = filled.restore("d", "linked", "link")
    assert {path: filled.find(path) for path in before} == before
    assert not stale.names
    assert not stale.inodes
    assert filled.changed() == [("added", "new")]


def test_what_the_version_does_not_hold_is_gone_p48(filled: Branch) -> None:
    filled.mkdir("d/new")
    filled.write("d/new/file", LARGE)
    inside = known(filled, "d/new")
    filled.restore("d")
    assert filled.names("d") == ["e", "small"]
    assert not list(filled.tree.entries(inside))
    with pytest.raises(FileNotFoundError):
        filled.tree.create(inside, b"x", EntryKind.FILE, 0o644, 0, 0)
    assert not filled.changed()


def test_a_deleted_directory_comes_back_with_all_below_it_and_its_time_p48(filled: Branch) -> None:
    take_away(filled)
    filled.restore("d")
    assert filled.read("d/small") == b"small"
    assert filled.read("d/e/large") == LARGE
    assert filled.tree.getattr(filled.find("d")).mtime_ns == OLD_TIME
    assert filled.tree.getattr(filled.find("d")).links == 3


def test_a_directory_that_took_the_place_of_a_file_goes_and_the_other_way_round(filled: Branch) -> None:
    filled.unlink("d/small")
    filled.mkdir("d/small")
    filled.write("d/small/inner", b"inner")
    filled.unlink("link")
    filled.mkdir("link")
    filled.restore("")
    assert filled.read("d/small") == b"small"
    assert filled.tree.readlink(filled.find("link")) == b"d/small"
    assert not filled.changed()
    filled.commit_nothing()


def test_names_that_were_one_file_are_one_again_p48(filled: Branch) -> None:
    filled.write("linked", b"changed")
    filled.unlink("d/e/again")
    filled.restore("")
    assert filled.find("linked") == filled.find("d/e/again")
    assert filled.read("d/e/again") == b"linked"
    assert filled.tree.getattr(filled.find("linked")).links == 2
    assert filled.repository.is_clean(MAIN)
    filled.commit_nothing()


def test_one_name_restored_alone_leaves_the_other_as_it_is(filled: Branch) -> None:
    filled.write("linked", b"changed")
    filled.restore("linked")
    assert filled.read("linked") == b"linked"
    assert filled.read("d/e/again") == b"changed"
    assert filled.tree.getattr(filled.find("d/e/again")).links == 1
    filled.restore("linked", "d/e/again")
    assert filled.find("linked") == filled.find("d/e/again")
    filled.commit_nothing()


def test_a_directory_full_of_hard_links_comes_back_from_a_version_whose_links_are_gone(filled: Branch) -> None:
    filled.unlink("linked")
    filled.write("d/e/again", b"another file")
    filled.unlink("d/e/again")
    filled.commit()
    filled.restore("", revision="main@1")
    assert filled.find("linked") == filled.find("d/e/again")
    assert filled.read("linked") == b"linked"
    filled.commit()
    filled.forget_all()
    assert filled.read("d/e/again") == b"linked"


def test_a_path_whose_directories_are_gone_gets_them_back_and_nothing_else_in_them(filled: Branch) -> None:
    take_away(filled)
    filled.restore("d/e/other")
    assert filled.names("d") == ["e"]
    assert filled.names("d/e") == ["other"]


def test_two_paths_whose_directory_is_gone_both_come_back(filled: Branch) -> None:
    filled.rename("d", "moved")
    filled.restore("d/e/other", "d/e/large", "d/small")
    assert filled.names("d") == ["e", "small"]
    assert filled.names("d/e") == ["large", "other"]


def test_new_files_go_where_that_is_asked_for_and_only_there(filled: Branch) -> None:
    for path in ("new", "d/new", "other"):
        filled.write(path, b"new")
    filled.restore("new", "d", new_too=True)
    assert filled.changed() == [("added", "other")]
    with pytest.raises(NotFoundError):
        filled.restore("nowhere", new_too=True)


def test_a_path_that_the_version_does_not_hold_is_an_error_and_nothing_is_done(filled: Branch) -> None:
    filled.write("d/small", b"changed")
    filled.write("new", b"new")
    for path, error in (("new", NotFoundError), ("d/absent", NotFoundError)):
        with pytest.raises(error):
            filled.restore("d", path)
    assert filled.read("d/small") == b"changed"


def test_a_file_in_the_way_of_a_path_is_not_taken_away(filled: Branch) -> None:
    filled.rename("d", "moved")
    filled.write("d", b"a file now")
    with pytest.raises(RefusedError, match="d is a directory in the version"):
        filled.restore("d/small")
    assert filled.read("d") == b"a file now"


def test_a_name_that_is_one_of_a_file_again_changes_what_the_other_shows_p50(filled: Branch) -> None:
    filled.unlink("linked")
    stale = filled.restore("linked")
    assert filled.tree.getattr(filled.find("d/e/again")).links == 2
    assert filled.find("d/e/again") in stale.inodes


def test_paths_may_be_deeper_than_pythons_stack(place: Path) -> None:
    with make_repository(place / "deep") as repository:
        branch = Branch(repository)
        parent = branch.tree.root
        for _ in range(1_500):
            parent = branch.tree.create(parent, b"a", EntryKind.DIRECTORY, 0o755, 0, 0).ino
        branch.tree.table.known.add(parent)
        branch.tree.create(parent, b"file", EntryKind.FILE, 0o644, 0, 0)
        branch.commit()
        branch.tree.unlink(parent, b"file")
        branch.restore("")
        assert branch.tree.lookup(parent, b"file").size == 0
        branch.restore("", revision="main@0")
        assert branch.names() == []


def test_room_that_others_take_in_the_middle_does_not_leave_half_of_it_done(
    filled: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FIVE:
        filled.write(name, b"one")
    filled.commit()
    for name in FIVE:
        filled.write(name, b"two")
    left = iter([MARGIN + 5 * ROW, *[0] * 100])
    monkeypatch.setattr(filled.repository.space, "pending", 0)
    monkeypatch.setattr(filled.repository.space, "free", lambda: next(left))
    filled.restore("")
    assert [filled.read(name) for name in FIVE] == [b"one"] * 5


def test_what_was_looked_at_is_let_go_again(filled: Branch) -> None:
    filled.forget_all()
    before = set(filled.tree.table.nodes)
    filled.restore("d/e", "d/small")
    assert set(filled.tree.table.nodes) == before


def test_a_restore_that_does_not_fit_on_the_disk_does_nothing(filled: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.write("d/small", b"changed")
    monkeypatch.setattr(filled.repository.space, "free", lambda: 0)
    with pytest.raises(OSError) as caught:
        filled.restore("")
    assert caught.value.errno == errno.ENOSPC
    assert filled.read("d/small") == b"changed"


def test_a_file_comes_back_though_its_last_name_is_in_what_is_in_its_way(place: Path) -> None:
    branch = Branch(make_repository(place / "another"))
    branch.write("f", b"one")
    branch.link("f", "g")
    branch.commit()
    branch.unlink("g")
    branch.mkdir("d")
    branch.link("f", "d/x")
    branch.unlink("f")
    branch.rename("d", "f")
    branch.restore("")
    assert branch.changed() == []
    assert branch.read("f") == branch.read("g") == b"one"
    branch.repository.close()


def test_what_was_restored_beside_a_commit_is_uncommitted(filled: Branch) -> None:
    filled.write("d/small", b"changed")
    repository = filled.repository
    frozen = repository.commits.freeze(MAIN)
    filled.restore("d/small", revision="main@1")
    candidate = repository.commits.build(frozen)
    built = repository.commits.conclude(candidate, Note("beside"), WHO)
    cut = repository.commits.cut(MAIN, built)
    repository.commits.write(MAIN, repository.refs.get(MAIN).number, built, cut, WHO)
    repository.commits.advance(MAIN, built, cut)
    assert filled.changed() == [("modified", "d/small")]
    assert filled.read("d/small") == b"small"


def test_a_crash_beside_a_commit_does_not_bring_back_the_file_whose_link_id_a_restore_gave_to_another(
    place: Path,
) -> None:
    """Until the commit is made, what is frozen and what is live are both read back."""
    path = place / "another"
    repository = make_repository(path)
    branch = Branch(repository)
    branch.write("a", b"one")
    branch.link("a", "b")
    branch.commit()
    branch.write("b", b"changed")
    repository.commits.freeze(MAIN)
    branch.restore("")
    repository.save()
    repository.close()
    with Repository(path, writable=True) as again:
        branch = Branch(again)
        assert branch.find("a") == branch.find("b")
        assert again.is_clean(MAIN)
        branch.commit_nothing()
        branch.write("a", b"two")
        branch.commit()
        branch.forget_all()
        assert branch.read("b") == b"two"
        branch.commit_nothing()
    with Repository(path) as reader:
        consistency.check(reader)


def test_a_restore_survives_a_crash_once_it_is_saved(place: Path) -> None:
    path = place / "another"
    repository = make_repository(path)
    branch = Branch(repository)
    branch.mkdir("d")
    branch.write("d/a", b"one")
    branch.link("d/a", "b")
    branch.commit()
    branch.write("b", b"two")
    branch.write("d/c", LARGE)
    branch.repository.save()
    branch.restore("")
    branch.repository.save()
    repository.close()
    with Repository(path, writable=True) as again:
        branch = Branch(again)
        assert branch.names() == ["b", "d"]
        assert branch.names("d") == ["a"]
        assert branch.read("d/a") == b"one"
        assert branch.find("d/a") == branch.find("b")
        assert again.is_clean(MAIN)
        assert not os.listdir(path / "overlays")
    with Repository(path) as reader:
        consistency.check(reader)
