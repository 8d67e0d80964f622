"""What a commit is: one instant, everything in it, nothing else."""

import os

import pytest

from anabranch.commit import MESSAGE_MAX, Note
from anabranch.errors import ConflictError, NothingToCommitError, RefusedError, UsageError
from anabranch.ids import RefName
from anabranch.versions.objects import EntryKind, Tag, get_commit
from anabranch.worktree.tree import AttributeChanges
from tests.unit.helpers import GID, MAIN, UID, WHO, Branch, random_bytes

LARGE = random_bytes(1, 300_000)


def test_the_first_version_is_the_empty_commit_and_the_first_commit_is_number_one(main: Branch) -> None:
    """P4."""
    main.write("file", b"content")
    assert main.commit() == 1
    empty = main.repository.version(main.repository.resolve("main@0").id)
    assert list(empty.trees.entries(empty.root.tree)) == []


def test_a_commit_holds_names_content_and_attributes_of_every_kind_of_file(main: Branch) -> None:
    """P13."""
    main.mkdir("empty")
    main.write("file", LARGE)
    main.chmod("file", 0o4711)
    main.touch("file", 1_234_567_890_123_456_789)
    main.make("link", EntryKind.SYMLINK, 0o777, target=b"any\xffwhere")
    for name, kind in (("fifo", EntryKind.FIFO), ("socket", EntryKind.SOCKET)):
        main.make(name, kind)
    main.tree.create(main.tree.root, b"tty", EntryKind.CHARACTER, 0o620, UID, GID, device=os.makedev(5, 1))
    main.tree.setattr(main.find("fifo"), AttributeChanges(uid=7, gid=8))
    main.link("file", "again")
    main.commit()
    version = main.repository.version(main.repository.resolve("main@1").id)
    file, again = version.at(b"file"), version.at(b"again")
    assert file == again
    assert (file.kind, file.mode, file.mtime_ns, file.size) == (1, 0o4711, 1_234_567_890_123_456_789, len(LARGE))
    assert (file.uid, file.gid) == (UID, GID)
    assert b"".join(main.repository.read(file)) == LARGE
    assert version.at(b"empty").kind == EntryKind.DIRECTORY
    assert (version.at(b"link").content, version.at(b"link").mode) == (b"any\xffwhere", 0o777)
    assert [version.at(name).kind for name in (b"fifo", b"socket", b"tty")] == [5, 6, 7]
    assert (version.at(b"fifo").uid, version.at(b"fifo").gid) == (7, 8)
    assert version.at(b"tty").tag(Tag.DEVICE) == os.makedev(5, 1)


def test_a_commit_names_its_parent_author_time_and_message(main: Branch) -> None:
    main.write("file", b"one")
    main.commit("  the message\n\nand more \n")
    main.write("file", b"two")
    main.commit("second")
    first, second = (main.repository.resolve(f"main@{n}") for n in (1, 2))
    assert second.commit.parents == (first.id,)
    assert [version.commit.generation for version in (first, second)] == [1, 2]
    assert (first.commit.message, first.commit.author) == ("the message\n\nand more", WHO.actor)
    assert first.commit.time_ns < second.commit.time_ns


def test_a_commit_keeps_an_author_and_metadata_in_the_order_of_their_keys(main: Branch) -> None:
    main.write("file", b"one")
    main.repository.commit(MAIN, Note("nightly", "bts", {"run": "412", "a key": "x=y"}), WHO)
    commit = main.repository.resolve("main").commit
    assert (commit.author, list(commit.metadata.items())) == ("bts", [("a key", "x=y"), ("run", "412")])


@pytest.mark.parametrize(
    "metadata", [{"": "x"}, {"a=b": "x"}, {"a\n": "x"}, {"a": "x" * (MESSAGE_MAX + 1)}, {"a": "\udcff"}]
)
def test_metadata_that_cannot_be_kept_are_refused(main: Branch, metadata: dict[str, str]) -> None:
    main.write("file", b"one")
    with pytest.raises(UsageError):
        main.repository.commit(MAIN, Note("nightly", "", metadata), WHO)
    assert main.changed() == [("added", "file")]


def test_a_commit_without_changes_is_made_where_that_is_asked_for(main: Branch) -> None:
    done = main.repository.commit(MAIN, "nothing", WHO, allow_empty=True)
    assert (done.number, done.files) == (1, 0)
    main.commit_nothing()


def test_what_a_version_holds_never_changes(main: Branch) -> None:
    """P19."""
    for n in range(5):
        main.write("file", b"%d" % n, n * 20_000)
        main.commit()
    main.truncate("file", 0)
    main.commit()
    for n in range(5):
        content = bytearray(n * 20_000 + 1)
        for k in range(n + 1):
            content[k * 20_000] = ord("0") + k
        assert main.at(f"main@{n + 1}", "file") == content


@pytest.mark.parametrize("message", ["", " \n\t "])
def test_an_empty_message_is_refused_and_nothing_is_committed(main: Branch, message: str) -> None:
    """P11."""
    main.write("file", b"content")
    with pytest.raises(UsageError):
        main.commit(message)
    assert main.repository.refs.get(MAIN).number == 0
    assert main.changed() == [("added", "file")]


def test_a_commit_without_changes_is_refused(main: Branch) -> None:
    """P18."""
    with pytest.raises(NothingToCommitError):
        main.commit()
    main.write("file", b"content")
    main.commit()
    with pytest.raises(NothingToCommitError):
        main.commit()
    main.write("other", b"content")
    main.unlink("other")  # moves the time of the directory, which alone is no change
    with pytest.raises(NothingToCommitError):
        main.commit()
    assert main.repository.refs.get(MAIN).number == 1


def test_a_change_taken_back_is_no_change(main: Branch) -> None:
    main.write("file", LARGE)
    main.commit()
    main.chmod("file", 0o600)
    assert main.changed() == [("attributes", "file")]
    main.chmod("file", 0o644)
    main.rename("file", "moved")
    main.rename("moved", "file")
    assert main.changed() == []
    with pytest.raises(NothingToCommitError):
        main.commit()


def test_what_is_written_after_the_freeze_is_not_in_the_commit_but_in_the_next(main: Branch) -> None:
    """P15, P16."""
    repository = main.repository
    main.write("large", LARGE)
    main.write("small", b"small")
    main.mkdir("d")
    frozen = repository.commits.freeze(MAIN)
    main.write("large", b"later", 200_000)
    main.write("small", b"LATER")
    main.rename("d", "e")
    main.write("e/new", b"new")
    built = repository.commits.conclude(repository.commits.build(frozen), Note("a message"), WHO)
    cut = repository.commits.cut(MAIN, built)
    assert repository.commits.write(MAIN, 0, built, cut, WHO) == 1
    repository.commits.advance(MAIN, built, cut)
    assert (main.at("main@1", "large"), main.at("main@1", "small")) == (LARGE, b"small")
    assert main.changed() == [
        ("deleted", "d"),
        ("added", "e"),
        ("added", "e/new"),
        ("modified", "large"),
        ("modified", "small"),
    ]
    main.commit()
    assert main.at("main@2", "large") == LARGE[:200_000] + b"later" + LARGE[200_005:]
    assert main.at("main@2", "e/new") == b"new"


def test_while_a_commit_is_made_its_changes_are_still_uncommitted(main: Branch) -> None:
    main.write("a", b"content")
    main.link("a", "b")
    main.commit()
    main.write("a", b"CONTENT")
    main.repository.commits.freeze(MAIN)
    assert not main.repository.is_clean(MAIN)
    assert main.changed() == [("modified", "a"), ("modified", "b")]


def test_a_branch_with_a_commit_under_way_cannot_be_deleted(main: Branch) -> None:
    exp = RefName("exp")
    main.repository.create_branch(exp, main.repository.refs.get(MAIN).commit, WHO)
    Branch(main.repository, exp).write("file", b"content")
    main.repository.commits.freeze(exp)
    with pytest.raises(RefusedError):
        main.repository.delete_branch(exp, WHO)


def test_two_commits_of_a_branch_cannot_be_made_at_once(main: Branch) -> None:
    main.write("file", b"content")
    main.repository.commits.freeze(MAIN)
    with pytest.raises(RefusedError):
        main.repository.commits.freeze(MAIN)
    main.repository.commits.thaw(MAIN)
    assert main.commit() == 1


def test_a_commit_over_a_branch_that_was_moved_meanwhile_is_refused_and_loses_nothing(main: Branch) -> None:
    repository = main.repository
    main.write("file", b"content")
    built = repository.commits.conclude(
        repository.commits.build(repository.commits.freeze(MAIN)), Note("a message"), WHO
    )
    cut = repository.commits.cut(MAIN, built)
    with repository.meta.write() as batch:
        repository.refs.advance(batch, MAIN, 0, repository.refs.get(MAIN).commit, WHO)
    with pytest.raises(ConflictError):
        repository.commits.write(MAIN, 0, built, cut, WHO)
    repository.keeper.keep(cut)
    repository.commits.thaw(MAIN)
    assert main.changed() == [("added", "file")]


def test_a_commit_counts_the_files_that_changed_and_the_bytes_that_are_new(main: Branch) -> None:
    main.mkdir("d")
    main.write("d/one", LARGE)
    main.write("d/same", LARGE)
    done = main.repository.commit(MAIN, "first", WHO)
    assert done.files == 2
    assert len(LARGE) < done.added < len(LARGE) * 1.01
    main.rename("d", "e")
    done = main.repository.commit(MAIN, "moved", WHO)
    assert (done.files, done.added) == (4, 0)


def test_a_commit_in_a_large_tree_writes_few_objects(main: Branch) -> None:
    main.mkdir("many")
    for n in range(3_000):
        main.make(f"many/file-{n:06}")
    main.commit()
    main.repository.trees.nodes.writes = 0
    main.write("many/file-001500", b"changed")
    main.commit()
    assert main.repository.trees.nodes.writes < 15


def test_inode_numbers_stay_the_same_across_commits_though_the_kernel_forgot_them(main: Branch) -> None:
    """P26."""
    main.mkdir("d")
    main.write("d/file", LARGE)
    main.write("other", b"x")
    main.link("other", "d/linked")
    numbers = [main.find(path) for path in ("d", "d/file", "other", "d/linked")]
    main.commit()
    main.rename("d", "e")
    main.commit()
    main.forget_all()
    assert [main.find(path) for path in ("e", "e/file", "other", "e/linked")] == numbers


def test_change_times_stay_the_same_across_commits_though_the_kernel_forgot_them(main: Branch) -> None:
    main.write("file", b"x")
    main.touch("file", 5)
    main.write("one", b"x")
    main.commit()
    before = main.tree.getattr(main.find("file")).ctime_ns
    main.forget_all()
    assert main.tree.getattr(main.find("file")).ctime_ns == before > 5


def test_the_change_time_of_a_hard_linked_file_does_not_go_back_after_a_commit(
    main: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    main.write("a", b"one")
    main.link("a", "b")
    main.commit()
    later = main.tree.getattr(main.find("a")).ctime_ns + 10**9
    monkeypatch.setattr("anabranch.worktree.tree.now_ns", lambda: later)
    main.write("a", b"two")
    main.commit()
    main.forget_all()
    assert main.tree.getattr(main.find("a")).ctime_ns == later


def test_equal_branches_have_equal_trees_whatever_was_done_to_get_there(main: Branch) -> None:
    repository = main.repository
    exp = RefName("exp")
    repository.create_branch(exp, repository.refs.get(MAIN).commit, WHO)
    other = Branch(repository, exp)
    for branch, names in ((main, ["a", "b"]), (other, ["b", "a"])):
        for name in names:
            branch.write(name, LARGE)
    other.write("c", b"gone")
    other.commit()
    other.unlink("c")
    for branch in (main, other):
        for name in ("a", "b"):
            branch.touch(name, 7)
        branch.tree.setattr(branch.tree.root, AttributeChanges(mtime_ns=7))
        branch.commit()
    roots = [get_commit(repository.objects, repository.refs.get(name).commit).root for name in (MAIN, exp)]
    assert roots[0] == roots[1]


def test_a_message_that_is_too_long_is_refused_and_the_branch_can_be_read_as_before(main: Branch) -> None:
    main.write("file", b"content")
    with pytest.raises(UsageError, match="message"):
        main.repository.commit(MAIN, "x" * (MESSAGE_MAX + 1), WHO)
    assert main.changed() == [("added", "file")]
    assert main.commit("x" * MESSAGE_MAX) == 1
    assert len(main.repository.resolve("main").commit.message) == MESSAGE_MAX


def test_a_message_that_is_no_text_is_refused(main: Branch) -> None:
    main.write("file", b"content")
    with pytest.raises(UsageError, match="UTF-8"):
        main.commit("a\udcff")


def test_a_commit_that_is_made_is_told_whatever_becomes_of_the_cleaning_up(
    main: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    main.write("file", LARGE)
    removed: list[int] = []

    def fail(number: int) -> bool:
        removed.append(number)
        raise MemoryError

    with monkeypatch.context() as failing:
        failing.setattr(main.repository.overlays, "remove", fail)
        assert main.commit() == 1
    assert removed
    assert not main.changed()
    main.write("file", b"x")
    main.commit()
    assert not set(main.repository.overlays.numbers()) & set(removed)
