"""What stands in the way of a move, and what does not. P99. The machine has the combinations."""

import pytest

from anabranch.errors import RefusedError, UsageError
from anabranch.moves import Move
from anabranch.repo import Repository
from anabranch.versions.refs import Operation
from tests.unit.helpers import MAIN, WHO, Branch


def reset(main: Branch, revision: str) -> None:
    repository = main.repository
    number = repository.refs.get(MAIN).number
    repository.move(MAIN, Move(number, repository.resolve(revision).id, Operation.RESET), WHO)


@pytest.fixture
def grown(main: Branch) -> Branch:
    """At main@2, with a directory less than main@3 has, and one that both have."""
    main.write(".anaignore", b"*.crc\n")
    main.mkdir("d")
    main.write("d/a", b"a")
    main.commit()
    main.write("d/b", b"b")
    main.commit()
    main.mkdir("t")
    main.mkdir("t/p")
    main.write("t/p/part", b"rows")
    main.commit()
    return main


def test_what_is_ignored_stays_where_a_directory_goes(grown: Branch) -> None:
    grown.write("t/p/.part.crc", b"of Spark's")
    assert not grown.changed()
    reset(grown, "main@2")
    assert grown.read("t/p/.part.crc") == b"of Spark's"
    assert grown.names("t/p") == [".part.crc"]
    reset(grown, "main@3")
    assert grown.names("t/p") == [".part.crc", "part"]


def test_what_is_ignored_where_something_is_to_be_is_named(grown: Branch) -> None:
    reset(grown, "main@2")
    grown.write(".anaignore", b"*.crc\nt\n")
    grown.commit()
    grown.write("t", b"ignored")
    with pytest.raises(RefusedError, match=r"in the way: t$"):
        reset(grown, "main@3")
    assert grown.read("t") == b"ignored"


def test_a_directory_that_was_taken_away_or_replaced_is_in_the_way_of_what_comes_into_it(grown: Branch) -> None:
    reset(grown, "main@1")
    grown.rename("d", "e")
    with pytest.raises(RefusedError, match=r"in the way: d$"):
        reset(grown, "main@2")
    grown.write("d", b"a file")
    with pytest.raises(RefusedError, match=r"in the way: d$"):
        reset(grown, "main@2")
    assert grown.read("e/a") == b"a"


def test_a_move_to_the_same_files_is_still_there_after_the_next_opening(grown: Branch) -> None:
    repository = grown.repository
    repository.commit(MAIN, "nothing new", WHO, allow_empty=True)
    reset(grown, "main@3")
    repository.save()
    repository.close()
    with Repository(repository.layout.path, writable=True) as again:
        assert again.branch(MAIN).tree.table.base_commit == again.resolve("main@3").id


def test_only_a_commit_that_comes_after_can_be_merged(grown: Branch) -> None:
    target = grown.repository.resolve("main@1").id
    for operation in (Operation.MERGE, Operation.DELETE):
        with pytest.raises(UsageError):
            grown.repository.move(MAIN, Move(3, target, operation), WHO)
    assert grown.repository.refs.get(MAIN).number == 3
