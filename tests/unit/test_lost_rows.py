"""Logs that lost rows: what the rows after them tell, and nothing that they do not. P81."""

from anabranch.fsck.logs import completed, ref_of
from anabranch.ids import ObjectId
from anabranch.moves import Move
from anabranch.repo import Repository
from anabranch.store.meta import LOGS
from anabranch.store.records import unseal
from anabranch.versions.objects import Commit, get_commit
from anabranch.versions.refs import LOG_ROW, Operation, log_name, log_number
from tests.unit.helpers import MAIN, WHO, Branch


def rows_of(repository: Repository, name: str) -> dict[int, bytes]:
    found = repository.meta.scan(LOGS, name.encode() + b"\0")
    return {log_number(key): unseal(sealed, "a row") for key, sealed in found if log_name(key) == name.encode()}


def without(repository: Repository, name: str, number: int) -> list[bytes]:
    """The commits of a log that is completed after it lost a row."""
    rows = rows_of(repository, name)
    ref = ref_of([rows[each] for each in sorted(rows)])

    def commit_at(identity: bytes) -> Commit:
        return get_commit(repository.objects, ObjectId(identity))

    kept = {each: raw for each, raw in rows.items() if each != number}
    log = [rows[each] for each in range(number)]
    return [LOG_ROW.decode(raw).commit for raw in completed(log, kept, ref, commit_at)]


def commits(repository: Repository, name: str) -> list[bytes]:
    rows = rows_of(repository, name)
    return [LOG_ROW.decode(rows[number]).commit for number in sorted(rows)]


def test_a_row_before_a_commit_or_the_end_of_a_name_is_told_by_that(main: Branch) -> None:
    for text in (b"1", b"2", b"3"):
        main.write("file", text)
        main.commit()
    repository = main.repository
    repository.create_branch("exp", repository.resolve("main@2").id, WHO)
    repository.delete_branch("exp", WHO)
    assert without(repository, "main", 2) == commits(repository, "main")
    assert without(repository, "exp", 0) == commits(repository, "exp")


def test_of_a_row_before_a_reset_nothing_is_guessed(main: Branch) -> None:
    for text in (b"1", b"2"):
        main.write("file", text)
        main.commit()
    repository = main.repository
    repository.move(MAIN, Move(2, repository.resolve("main@1").id, Operation.RESET), WHO)
    main.write("file", b"4")
    main.commit()
    assert without(repository, "main", 2) == commits(repository, "main")[:2]
