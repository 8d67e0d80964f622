"""Directories of `part-` files, as Spark writes tables: rewritten on both sides, they are a conflict. P98."""

from collections.abc import Iterator

import pytest

from anabranch.ids import RefName
from anabranch.merging.proposal import Proposal, Propose
from anabranch.moves import Move
from anabranch.versions.merge import Chosen, Resolve, unresolved
from anabranch.versions.refs import Operation
from anabranch.versions.threeway import ConflictKind
from tests.unit.helpers import MAIN, WHO, Branch, make_repository, scratch

OLD = "t/part-00000-old.parquet"


@pytest.fixture
def sides() -> Iterator[tuple[Branch, Branch]]:
    """Two branches of one table."""
    with scratch() as folder, make_repository(folder / "repo") as repository:
        main = Branch(repository)
        main.mkdir("t")
        main.write(OLD, b"old")
        main.write("t/_SUCCESS", b"")
        main.commit()
        repository.create_branch("exp", repository.resolve("main").id, WHO)
        yield main, Branch(repository, RefName("exp"))


def rewrite(branch: Branch, name: str) -> None:
    branch.unlink(OLD)
    append(branch, name)


def append(branch: Branch, name: str) -> None:
    branch.write(f"t/part-00000-{name}.parquet", name.encode())
    branch.commit()


def proposed(main: Branch, resolve: Resolve = unresolved) -> Proposal:
    repository = main.repository
    return Propose(repository, MAIN, resolve).merge(repository.resolve("exp"))


def conflicts(proposal: Proposal) -> list[tuple[bytes, ConflictKind]]:
    return [(conflict.path, conflict.kind) for conflict in proposal.merged.conflicts]


def parts(proposal: Proposal) -> list[bytes]:
    version = proposal.merged.version
    return [name for name, _ in version.children(version.at(b"t")) if name.startswith(b"part-")]


@pytest.mark.parametrize("ours", [rewrite, append])
def test_a_table_that_one_side_rewrote_and_the_other_changed_is_one_conflict(sides, ours) -> None:
    main, exp = sides
    ours(main, "a")
    rewrite(exp, "b")
    assert conflicts(proposed(main)) == [(b"t", ConflictKind.MODIFIED)]
    assert parts(proposed(main, lambda conflict: Chosen(conflict.theirs))) == [b"part-00000-b.parquet"]


def test_rows_that_both_sides_appended_come_together(sides) -> None:
    main, exp = sides
    append(main, "a")
    append(exp, "b")
    assert parts(proposed(main)) == [b"part-00000-a.parquet", b"part-00000-b.parquet", b"part-00000-old.parquet"]


def test_a_table_that_one_side_alone_rewrote_is_taken(sides) -> None:
    main, exp = sides
    rewrite(exp, "b")
    main.write("other", b"")
    main.commit()
    assert parts(proposed(main)) == [b"part-00000-b.parquet"]


def test_a_table_that_both_sides_wrote_to_a_new_place_is_a_conflict(sides) -> None:
    for branch, name in zip(sides, ("a", "b"), strict=True):
        branch.mkdir("u")
        branch.write(f"u/part-00000-{name}.parquet", b"the same rows")
        branch.commit()
    assert conflicts(proposed(sides[0])) == [(b"u", ConflictKind.ADDED)]


@pytest.mark.parametrize("first", [0, 1])
def test_a_table_that_one_side_took_away_and_the_other_wrote_is_a_conflict(sides, first: int) -> None:
    gone, written = sides[first], sides[1 - first]
    gone.unlink(OLD)
    gone.unlink("t/_SUCCESS")
    gone.rmdir("t")
    gone.write("t", b"elsewhere")
    gone.unlink("t")
    gone.commit()
    rewrite(written, "b")
    assert conflicts(proposed(sides[0])) == [(b"t", ConflictKind.DELETED)]


def test_files_of_other_names_are_a_table_when_both_sides_replaced_some(sides) -> None:
    main, exp = sides
    for branch in sides:
        branch.mkdir("u")
        branch.write("u/old-0.parquet", b"old")
        branch.commit()
    exp.repository.move(exp.name, Move(1, main.repository.resolve("main").id, Operation.RESET), WHO)
    for branch, name in ((main, "a"), (exp, "b")):
        branch.unlink("u/old-0.parquet")
        branch.write(f"u/{name}-0.parquet", name.encode())
        branch.commit()
    assert conflicts(proposed(main)) == [(b"u", ConflictKind.MODIFIED)]
