"""The judge of the crashes, without any: it must be able to find fault."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.ledger import Op, Record, read
from tests.crash.model import GRACE, Found, History, content, instant, replay

SECOND = 1_000_000_000
MODE = 0o644


def found(raw: bytes, inode: int = 7, links: int = 1) -> Found:
    return Found(raw, MODE, 1, inode, links)


def written(path: str, seed: int, size: int, at: int, *, sync: bool, inode: int = 7) -> Record:
    op: Op = {"do": "write", "path": path, "seed": seed, "size": size, "sync": sync}
    return Record(op, at, at + 1, {"durable": sync, "inode": inode})


def judge(history: History, rows: dict[str, Found], crash: int = 10 * SECOND) -> None:
    instant({"top": history}, {"top": rows}, crash)


def test_what_was_fsynced_must_be_there():
    history = replay([written("a", 1, 100, 9 * SECOND, sync=True)], {})
    judge(history, {"a": found(content(1, 100))})
    for wrong in ({}, {"a": found(content(1, 99))}, {"a": found(content(2, 100))}, {"a": found(content(1, 100), 8)}):
        with pytest.raises(AssertionError, match="top/a: expected"):
            judge(history, wrong)


def test_what_was_acknowledged_once_the_power_was_off_counts_for_nothing(tmp_path: Path):
    lines = [{"at": 1, "begin": {"do": "sync"}}, {"at": 2, "end": {}}, {"at": 3, "begin": {}}, {"at": 5, "end": {}}]
    (tmp_path / "ledger").write_text("\n".join(map(json.dumps, lines)))
    assert [record.ended for record in read(tmp_path / "ledger").records] == [2, 5]
    assert [record.ended for record in read(tmp_path / "ledger", until=5).records] == [2, None]


def test_what_was_not_fsynced_may_be_missing_for_5_seconds():
    history = replay([written("a", 1, 100, SECOND, sync=False)], {})
    judge(history, {}, crash=2 * SECOND)
    judge(history, {"a": found(b"")}, crash=2 * SECOND)
    with pytest.raises(AssertionError, match="found nothing"):
        judge(history, {}, crash=2 * SECOND + GRACE)


def test_a_later_step_is_not_there_without_an_earlier_one():
    records = [written(name, 1, 100, 9 * SECOND + at, sync=False, inode=at) for at, name in enumerate("ab", 7)]
    history = replay(records, {})
    judge(history, {"a": found(content(1, 100))})
    with pytest.raises(AssertionError, match="in none of the"):
        judge(history, {"b": found(content(1, 100), 8)})


def test_only_a_large_file_may_hold_newer_bytes_than_its_state():
    for size, admitted in ((100_000, True), (1_000, False)):
        records = [written("a", 1, size, 8 * SECOND, sync=True)]
        for at in (10, 500):
            op: Op = {"do": "overwrite", "path": "a", "offset": at, "seed": 2, "size": 10, "sync": False}
            records.append(Record(op, 9 * SECOND + at, 9 * SECOND + at + 1))
        whole = bytearray(content(1, size))
        whole[500:510] = content(2, 10)
        rows = {"a": found(bytes(whole))}
        if admitted:
            judge(replay(records, {}), rows)
        else:
            with pytest.raises(AssertionError, match="differing at"):
                judge(replay(records, {}), rows)


def test_directories_of_one_branch_must_be_there_as_of_one_instant():
    early = replay([written("a", 1, 10, 8 * SECOND, sync=False)], {})
    late = replay([written("a", 1, 10, 9 * SECOND, sync=False)], {})
    whole = {"a": found(content(1, 10))}
    instant({"early": early, "late": late}, {"early": whole, "late": {}}, 10 * SECOND)
    with pytest.raises(AssertionError, match="no common instant"):
        instant({"early": early, "late": late}, {"early": {}, "late": whole}, 10 * SECOND)


def test_names_of_one_file_stay_names_of_one_file():
    linked = Record({"do": "link", "path": "a", "to": "b"}, 3, 4)
    history = replay([written("a", 1, 10, 1, sync=False), linked], {})
    whole = found(content(1, 10), links=2)
    judge(history, {"a": whole, "b": whole})
    with pytest.raises(AssertionError, match="expected 2 links, found 1"):
        judge(history, {"a": replace(whole, links=1), "b": replace(whole, links=1)})
