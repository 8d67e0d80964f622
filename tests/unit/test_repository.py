"""The facade: names, versions, branches, and who may open what."""

from pathlib import Path

import pytest

from anabranch.errors import DamagedError, ExistsError, NotFoundError, RefusedError, UsageError
from anabranch.ids import RefName
from anabranch.repo import Repository, user_name
from tests.unit.helpers import MAIN, WHO, Branch, make_repository, random_bytes

EXP = RefName("exp")


def make_exp(main: Branch) -> Branch:
    main.repository.create_branch(EXP, main.repository.refs.get(MAIN).commit, WHO)
    return Branch(main.repository, EXP)


def test_the_empty_commit_is_the_same_in_every_repository(repository: Repository) -> None:
    """P4."""
    assert repository.resolve("main@0").id.hex() == EMPTY_COMMIT


EMPTY_COMMIT = "94c6f39f6e046ac475fdc20f327798d3448d85a0ba1de9bad26bd940f4a2c58e"


def test_a_new_branch_has_the_files_of_the_version_it_was_made_from(main: Branch) -> None:
    main.write("file", b"one")
    main.commit()
    main.write("file", b"two")
    exp = make_exp(main)
    assert exp.read("file") == b"one"
    assert exp.changed() == []
    assert main.repository.resolve("exp@0").id == main.repository.resolve("main@1").id


def test_making_a_branch_writes_no_objects_whatever_its_size(main: Branch) -> None:
    """P7."""
    for n in range(50):
        main.write(str(n), random_bytes(n, 1_000))
    main.commit()
    main.repository.trees.nodes.writes = 0
    exp = make_exp(main)
    assert exp.read("7") == random_bytes(7, 1_000)
    assert main.repository.trees.nodes.writes == 0


def test_branches_do_not_see_each_others_changes(main: Branch) -> None:
    main.write("file", b"shared")
    main.commit()
    exp = make_exp(main)
    exp.write("file", b"EXP")
    main.unlink("file")
    exp.commit()
    main.make("other")
    assert (main.names(), exp.names(), exp.read("file")) == (["other"], ["file"], b"EXPred")


def test_renaming_a_branch_takes_its_uncommitted_changes_along(main: Branch) -> None:
    """P7."""
    exp = make_exp(main)
    exp.write("large", random_bytes(1, 100_000))
    main.repository.rename_branch("exp", "new", WHO)
    new = Branch(main.repository, RefName("new"))
    assert new.read("large") == random_bytes(1, 100_000)
    with pytest.raises(NotFoundError):
        main.repository.branch(EXP)
    assert main.repository.resolve("exp@0").id == main.repository.resolve("new@0").id
    assert new.commit() == 1


def test_renaming_over_another_name_is_refused_and_changes_nothing(main: Branch) -> None:
    exp = make_exp(main)
    exp.write("file", b"x")
    main.repository.create_tag("v1", main.repository.refs.get(MAIN).commit, WHO)
    for taken in ("main", "v1"):
        with pytest.raises(ExistsError):
            main.repository.rename_branch("exp", taken, WHO)
    assert exp.read("file") == b"x"
    assert main.repository.refs.get(EXP).number == 0


def test_the_default_branch_stays_the_default_under_another_name_and_cannot_be_deleted(main: Branch) -> None:
    main.repository.rename_branch("main", "trunk", WHO)
    assert main.repository.default_branch() == "trunk"
    with pytest.raises(RefusedError):
        main.repository.delete_branch("trunk", WHO)


def test_only_a_clean_branch_is_deleted_and_its_versions_stay(main: Branch) -> None:
    exp = make_exp(main)
    exp.write("file", b"x")
    with pytest.raises(RefusedError):
        main.repository.delete_branch("exp", WHO)
    exp.commit()
    main.repository.delete_branch("exp", WHO)
    assert exp.at("exp@1", "file") == b"x"
    again = make_exp(main)
    assert again.names() == []
    assert main.repository.refs.get(EXP).number == 3


def test_a_tag_is_no_branch(main: Branch) -> None:
    main.repository.create_tag("v1", main.repository.refs.get(MAIN).commit, WHO)
    for call in (
        lambda: main.repository.branch(RefName("v1")),
        lambda: main.repository.delete_branch("v1", WHO),
        lambda: main.repository.rename_branch("v1", "v2", WHO),
    ):
        with pytest.raises(UsageError):
            call()
    assert [ref.name for ref in main.repository.branch_names()] == [MAIN]


@pytest.mark.parametrize("name", ["", "a/b", "a@b", ".a", "-a", "a:b", "x" * 201])
def test_a_bad_name_is_refused(main: Branch, name: str) -> None:
    """P3."""
    start = main.repository.refs.get(MAIN).commit
    for call in (main.repository.create_branch, main.repository.create_tag):
        with pytest.raises(UsageError):
            call(name, start, WHO)


def test_versions_are_resolved_by_number_head_tag_and_prefix(main: Branch) -> None:
    main.write("file", b"x")
    main.commit("first")
    identity = main.repository.refs.get(MAIN).commit
    main.repository.create_tag("v1", identity, WHO)
    found = {
        text: main.repository.resolve(text) for text in ("main", "main@head", "main@1", "v1", f"@{identity.hex()}")
    }
    assert {version.id for version in found.values()} == {identity}
    assert [str(version) for version in found.values()] == [
        "main@1", "main@1", "main@1", "v1", f"@{identity.hex()[:8]}",
    ]  # fmt: skip


def test_the_log_lists_commits_and_births_newest_first(main: Branch) -> None:
    for n in range(3):
        main.write("file", b"%d" % n)
        main.commit(f"message {n}")
    versions = list(main.repository.log(MAIN))
    assert [str(version) for version in versions] == ["main@3", "main@2", "main@1", "main@0"]
    assert [version.commit.message for version in versions] == ["message 2", "message 1", "message 0", ""]
    with pytest.raises(NotFoundError):
        list(main.repository.log(EXP))


@pytest.fixture
def closed(place: Path) -> Path:
    """A repository with one commit, that nobody has open."""
    path = place / "closed"
    with make_repository(path) as made:
        Branch(made).write("file", b"x")
        Branch(made).commit()
    return path


def test_a_reader_sees_versions_and_cannot_write(closed: Path) -> None:
    with Repository(closed) as reader:
        version = reader.version(reader.resolve("main").id)
        assert b"".join(reader.read(version.at(b"file"))) == b"x"
        with pytest.raises(PermissionError), reader.meta.write() as batch:
            batch.put("refs", b"x", b"y")


@pytest.mark.parametrize("name", ["meta.mdb", "index.mdb"])
def test_a_file_that_is_no_lmdb_environment_is_damage(closed: Path, name: str) -> None:
    (closed / name).write_bytes(random_bytes(1, 10_000))
    with pytest.raises(DamagedError):
        Repository(closed, writable=True)


def test_comparing_a_working_tree_with_any_version_shows_what_lies_between(main: Branch) -> None:
    main.write("a", b"one")
    main.link("a", "linked")
    main.commit()
    main.write("b", b"two")
    main.write("a", b"ONE")
    main.commit()
    main.unlink("b")
    main.write("c", b"three")
    first, second = (main.repository.resolve(f"main@{n}").id for n in (1, 2))
    changes = [(c.change.value, c.path) for c in main.repository.diff_working(first, MAIN)]
    assert changes == [("modified", b"a"), ("added", b"c"), ("modified", b"linked")]
    changes = [(c.change.value, c.path) for c in main.repository.diff_working(second, MAIN)]
    assert changes == [("deleted", b"b"), ("added", b"c")]


def test_a_working_tree_is_read_by_path_wherever_its_contents_are(place: Path) -> None:
    contents = {
        "small": b"x", "memory": random_bytes(1, 5_000), "overlay": random_bytes(2, 200_000), "linked": b"first",
    }  # fmt: skip
    with make_repository(place / "repository") as repository:
        main = Branch(repository)
        main.mkdir("d")
        for name, data in contents.items():
            main.write(f"d/{name}", data)
        main.link("d/linked", "second")
        main.commit()
    with Repository(place / "repository", writable=True) as repository:
        main = Branch(repository)

        def read(path: str, offset: int = 0, length: int = 1 << 20) -> bytes:
            return repository.read_working(MAIN, path.encode(), offset, length)

        def all_of_it() -> dict[str, bytes]:
            return {name: read(f"d/{name}") for name in contents}

        assert all_of_it() == contents, "committed"
        assert repository.branch(MAIN).tree.table.nodes.keys() == {main.tree.root}, "looking makes no nodes"
        main.write("second", b"FIRST")
        for name in ("small", "memory", "overlay"):
            main.write(f"d/{name}", b"new", 1)
            contents[name] = contents[name][:1] + b"new" + contents[name][4:]
        assert all_of_it() == contents | {"linked": b"FIRST"}, "not committed"
        assert read("d/overlay", 199_000, 5_000) == contents["overlay"][199_000:]
        assert read("d/overlay", 300_000, 5_000) == b""
        with pytest.raises(NotFoundError, match="main has no d/none"):
            read("d/none")
        with pytest.raises(UsageError, match="d is not a file"):
            read("d")


def test_a_user_without_a_name_is_called_by_number() -> None:
    assert user_name(0) == "root"
    assert user_name(3_999_999_999) == "3999999999"


def test_a_branch_that_is_renamed_to_its_own_name_keeps_its_uncommitted_changes(place: Path) -> None:
    with make_repository(place / "repository") as repository:
        Branch(repository).write("uncommitted", b"x")
        repository.save()
        repository.rename_branch("main", "main", WHO)
    with Repository(place / "repository", writable=True) as repository:
        assert Branch(repository).names() == ["uncommitted"]
        assert repository.resolve("main").number == 0
