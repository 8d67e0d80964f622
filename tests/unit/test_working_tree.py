"""The rules of a working tree that programs notice, one by one. The machine has the combinations."""

import errno
import os
from collections.abc import Callable

import pytest

from anabranch.versions.contents import NotLoaded
from anabranch.versions.objects import EntryKind
from anabranch.worktree.content import MEMORY_MAX
from anabranch.worktree.inodes import Inode
from anabranch.worktree.tree import RENAME_EXCHANGE, RENAME_NOREPLACE, AttributeChanges
from tests.unit.helpers import MAIN, UID, WHO, Branch, random_bytes

LARGE = random_bytes(1, 300_000)


@pytest.fixture
def filled(main: Branch) -> Branch:
    main.mkdir("d")
    main.write("d/inner", b"inner")
    main.mkdir("empty")
    main.write("file", b"content")
    return main


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda b: b.make("file"), errno.EEXIST),
        (lambda b: b.mkdir("d"), errno.EEXIST),
        (lambda b: b.find("absent"), errno.ENOENT),
        (lambda b: b.find("file/deeper"), errno.ENOTDIR),
        (lambda b: b.make("x" * 256), errno.ENAMETOOLONG),
        (lambda b: b.find("x" * 256), errno.ENAMETOOLONG),
        (lambda b: b.unlink("d"), errno.EISDIR),
        (lambda b: b.rmdir("file"), errno.ENOTDIR),
        (lambda b: b.rmdir("d"), errno.ENOTEMPTY),
        (lambda b: b.link("d", "e"), errno.EPERM),
        (lambda b: b.link("file", "d"), errno.EEXIST),
        (lambda b: b.rename("absent", "x"), errno.ENOENT),
        (lambda b: b.rename("empty", "d"), errno.ENOTEMPTY),
        (lambda b: b.rename("file", "empty"), errno.EISDIR),
        (lambda b: b.rename("empty", "file"), errno.ENOTDIR),
        (lambda b: b.rename("file", "d/inner", RENAME_NOREPLACE), errno.EEXIST),
        (lambda b: b.rename("file", "absent", RENAME_EXCHANGE), errno.ENOENT),
        (lambda b: b.write("d", b"x"), errno.EISDIR),
        (lambda b: b.truncate("d", 5), errno.EISDIR),
        (lambda b: b.tree.readlink(b.find("file")), errno.EINVAL),
        (lambda b: list(b.tree.entries(b.find("file"))), errno.ENOTDIR),
        (lambda b: b.tree.getattr(1 << 40), errno.ESTALE),
    ],
)
def test_what_ext4_refuses_is_refused_with_the_same_error_and_changes_nothing(
    filled: Branch, call: Callable[[Branch], object], code: int
) -> None:
    for _ in range(2):  # over uncommitted names, and over committed ones
        before = filled.changed()
        with pytest.raises(OSError) as caught:
            call(filled)
        assert caught.value.errno == code
        assert filled.changed() == before
        if before:
            filled.commit()
            filled.forget_all()


def test_names_are_any_bytes_up_to_255(main: Branch) -> None:
    """P28."""
    names = sorted([b"\xff" * 255, b" ", b"\n", b"-rf", "ä".encode(), b".ana2"])
    for name in names:
        main.tree.create(main.tree.root, name, EntryKind.FILE, 0o644, 0, 0)
    assert [name for name, _ in main.tree.entries(main.tree.root)] == names
    main.commit()
    assert [name for name, _ in main.tree.entries(main.tree.root)] == names


def test_exchanging_two_names_swaps_what_they_are(filled: Branch) -> None:
    """P22."""
    filled.commit()
    filled.rename("file", "d", RENAME_EXCHANGE)
    assert filled.read("d") == b"content"
    assert filled.names("file") == ["inner"]
    filled.commit()
    assert filled.at("main@2", "file/inner") == b"inner"


def test_exchanging_a_directory_with_a_file_elsewhere_moves_the_link_counts(filled: Branch) -> None:
    before = [filled.tree.getattr(filled.find(path)).links for path in ("", "d")]
    filled.rename("empty", "d/inner", RENAME_EXCHANGE)
    after = [filled.tree.getattr(filled.find(path)).links for path in ("", "d")]
    assert (before, after) == ([4, 2], [3, 3])


def test_renaming_over_another_name_of_the_same_file_does_nothing(filled: Branch) -> None:
    filled.link("file", "again")
    filled.rename("file", "again")
    assert filled.find("file") == filled.find("again")


def test_a_renamed_clean_directory_is_one_row_whatever_is_below(main: Branch) -> None:
    main.mkdir("big")
    for n in range(500):
        main.make(f"big/{n}")
    main.commit()
    main.forget_all()
    main.rename("big", "moved")
    assert len(main.tree.table.dirty) == 2
    assert len(main.names("moved")) == 500


def test_an_open_file_lives_on_after_its_last_name_is_gone(main: Branch) -> None:
    """P23."""
    main.write("file", LARGE)
    main.commit()
    ino = main.find("file")
    main.tree.table.known.add(ino)
    main.unlink("file")
    main.loaded(lambda: main.tree.write(ino, 0, b"more"))
    main.commit()
    assert main.loaded(lambda: main.tree.read(ino, 0, 10)) == b"more" + LARGE[4:10]
    assert main.tree.getattr(ino).links == 0
    main.tree.table.forget(ino)
    with pytest.raises(OSError) as caught:
        main.tree.getattr(ino)
    assert caught.value.errno == errno.ESTALE


def test_a_file_that_was_renamed_over_lives_on_while_it_is_open(filled: Branch) -> None:
    ino = filled.find("d/inner")
    filled.tree.table.known.add(ino)
    filled.rename("file", "d/inner")
    assert filled.tree.read(ino, 0, 10) == b"inner"
    assert filled.read("d/inner") == b"content"


def test_nothing_can_be_made_in_a_removed_directory_that_somebody_holds(filled: Branch) -> None:
    ino = filled.find("empty")
    filled.tree.table.known.add(ino)
    filled.rmdir("empty")
    with pytest.raises(FileNotFoundError):
        filled.tree.create(ino, b"x", EntryKind.FILE, 0o644, 0, 0)
    assert list(filled.tree.entries(ino)) == []


def test_a_file_without_names_gets_no_new_one(filled: Branch) -> None:
    ino = filled.find("file")
    filled.tree.table.known.add(ino)
    filled.unlink("file")
    with pytest.raises(FileNotFoundError):
        filled.tree.link(ino, filled.tree.root, b"again")


def test_hard_links_share_everything_and_count_their_names(main: Branch) -> None:
    """P24."""
    main.write("a", b"content")
    main.commit()
    main.mkdir("d")
    main.link("a", "d/b")
    main.chmod("d/b", 0o600)
    main.write("a", b"CON")
    main.commit()
    main.forget_all()
    assert main.read("d/b") == b"CONtent"
    attributes = main.tree.getattr(main.find("a"))
    assert (attributes.links, attributes.mode) == (2, 0o600)
    main.write("d/b", b"x", 100)  # the names are clean, the file is not
    assert main.changed() == [("modified", "a"), ("modified", "d/b")]
    main.unlink("a")
    main.commit()
    assert main.tree.getattr(main.find("d/b")).links == 1
    assert main.read("d/b") == b"CONtent" + bytes(93) + b"x"


def test_not_loaded_is_raised_before_any_effect(main: Branch) -> None:
    main.write("file", random_bytes(2, 20_000))
    main.commit()
    main.forget_all()
    ino = main.find("file")
    main.repository.contents.chunks.cache = type(main.repository.contents.chunks.cache)()
    before = main.tree.getattr(ino)
    for call in (
        lambda: main.tree.read(ino, 0, 10),
        lambda: main.tree.write(ino, 5, b"x"),
        lambda: main.tree.setattr(ino, AttributeChanges(size=7, mode=0o600)),
    ):
        with pytest.raises(NotLoaded):
            call()
        assert main.tree.getattr(ino) is before
        assert main.changed() == []


def test_making_a_file_of_an_unread_large_one_empty_needs_nothing_loaded(main: Branch) -> None:
    main.write("file", LARGE)
    main.commit()
    main.repository.contents.chunks.cache = type(main.repository.contents.chunks.cache)()
    main.tree.setattr(main.find("file"), AttributeChanges(size=0))
    assert main.tree.getattr(main.find("file")).size == 0


def test_small_files_stay_in_memory_and_larger_ones_get_an_overlay_file(main: Branch) -> None:
    main.write("file", bytes(MEMORY_MAX))
    assert main.repository.overlays.numbers() == []
    main.write("file", b"x", MEMORY_MAX)
    assert len(main.repository.overlays.numbers()) == 1
    assert main.read("file") == bytes(MEMORY_MAX) + b"x"


def test_opening_with_truncation_takes_set_user_id_away_and_set_group_id_where_the_group_may_execute(
    main: Branch,
) -> None:
    for mode, left in ((0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o1755, 0o1755)):
        for user, kept in ((UID, left), (0, mode)):
            main.write("file", b"y")
            main.chmod("file", mode)
            main.tree.empty(main.find("file"), user)
            node = main.tree.getattr(main.find("file"))
            assert (node.mode, node.size) == (kept, 0)


def test_in_a_set_group_id_directory_files_get_its_group_and_directories_the_bit_too(main: Branch) -> None:
    main.tree.create(main.tree.root, b"d", EntryKind.DIRECTORY, 0o2775, UID, 77)
    main.mkdir("d/sub")
    main.make("d/file")
    made = [main.tree.getattr(main.find(path)) for path in ("d/sub", "d/file")]
    assert [(node.gid, node.mode) for node in made] == [(77, 0o2755), (77, 0o644)]


def test_writing_moves_the_times_and_chmod_only_the_change_time(main: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    main.write("file", b"x")
    monkeypatch.setattr("anabranch.worktree.tree.now_ns", lambda: 10**18)
    main.chmod("file", 0o600)
    node = main.tree.getattr(main.find("file"))
    assert node.ctime_ns == 10**18 != node.mtime_ns
    main.write("file", b"y")
    assert main.tree.getattr(main.find("file")).mtime_ns == 10**18


def test_a_truncation_to_the_size_that_a_file_has_leaves_its_times_as_the_kernel_does(
    main: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    main.write("file", b"x")
    before = main.tree.getattr(main.find("file"))
    times = before.mtime_ns, before.ctime_ns
    monkeypatch.setattr("anabranch.worktree.tree.now_ns", lambda: 10**18)
    for size, expected in ((1, times), (0, (10**18, 10**18))):
        node = main.tree.setattr(main.find("file"), AttributeChanges(size=size))
        assert (node.mtime_ns, node.ctime_ns) == expected


def test_the_kernels_late_times_make_no_clean_file_dirty(main: Branch) -> None:
    main.write("file", b"x")
    main.commit()
    main.tree.setattr(main.find("file"), AttributeChanges(mtime_ns=5, late=True))
    assert main.changed() == []


def written_back(main: Branch) -> Inode:
    """A file that a program has written to and then truncated, while the kernel was writing it back."""
    main.write("file", b"old")
    ino = main.find("file")
    main.tree.setattr(ino, AttributeChanges(size=2, mtime_ns=25, ctime_ns=2 * 10**18))
    return ino


def test_times_that_the_kernel_sends_after_newer_ones_are_stale(main: Branch) -> None:
    ino = written_back(main)
    main.tree.setattr(ino, AttributeChanges(mtime_ns=24, ctime_ns=2 * 10**18 - 1, late=True))
    node = main.tree.getattr(ino)
    assert (node.mtime_ns, node.ctime_ns) == (25, 2 * 10**18)


def test_bytes_that_come_late_change_no_time_once_the_file_is_closed(main: Branch) -> None:
    ino = written_back(main)
    main.tree.write(ino, 0, b"ol", by_kernel=True)
    main.tree.table.stamp(main.tree.table.dirty)
    assert main.tree.getattr(ino).mtime_ns > 25, "what is saved meanwhile has the time at which they came"
    main.tree.flushed(ino)
    assert main.tree.getattr(ino).mtime_ns == 25


def test_the_time_that_a_commit_holds_stays_when_the_file_is_closed(main: Branch) -> None:
    ino = written_back(main)
    main.tree.table.known.add(ino)
    main.tree.write(ino, 0, b"ol", by_kernel=True)
    main.commit()
    committed = main.tree.getattr(ino).mtime_ns
    main.chmod("file", 0o600)
    main.tree.flushed(ino)
    assert main.tree.getattr(ino).mtime_ns == committed > 25


def test_a_clean_tree_that_the_kernel_forgot_takes_no_memory(main: Branch) -> None:
    main.mkdir("d")
    main.mkdir("d/e")
    for n in range(100):
        main.write(f"d/e/{n}", b"x")
    main.commit()
    main.forget_all()
    assert main.tree.table.nodes.keys() == {main.tree.root}
    main.find("d/e/5")
    assert len(main.tree.table.nodes) == 4


def test_the_names_of_a_large_directory_are_listed_in_order_with_uncommitted_ones_among_them(main: Branch) -> None:
    """P27, but for the time, which is measured through the mount."""
    for n in range(20_000):
        main.tree.create(main.tree.root, b"%06d" % (n * 7919 % 20_000), EntryKind.FILE, 0o644, 0, 0)
    main.repository.commit(MAIN, "all", WHO)
    main.unlink("000500")
    main.make("000500x")
    assert main.names() == sorted({f"{n:06}" for n in range(20_000)} - {"000500"} | {"000500x"})


def test_the_owner_of_the_repository_owns_the_root_of_an_empty_branch(main: Branch) -> None:
    root = main.tree.getattr(main.tree.root)
    assert (root.uid, root.gid, root.mode) == (os.getuid(), os.getgid(), 0o755)
