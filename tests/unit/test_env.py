"""LMDB environments: many rows in short transactions, and files that are not what they should be."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from anabranch.errors import DamagedError
from anabranch.store import env as module
from anabranch.store.env import Batch, Environment

ROWS = [(b"%03d" % n, bytes(n)) for n in range(200)]


class Counting(Environment):
    """Knows what each of its transactions put."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ["table"])
        self.transactions: list[list[bytes]] = []

    @contextmanager
    def write(self) -> Iterator[Batch]:
        with super().write() as batch:
            put, keys = batch.put, []

            def noted(table: str, key: bytes, value: bytes) -> None:
                keys.append(key)
                put(table, key, value)

            batch.put = noted  # type: ignore[method-assign]
            yield batch
        self.transactions.append(keys)


@pytest.fixture
def counting(place: Path) -> Iterator[Counting]:
    made = Counting(place / "file.mdb")
    yield made
    made.close()


def standing() -> float:
    return 0.0


def test_many_rows_are_put_in_the_order_of_their_keys(counting: Counting) -> None:
    counting.put_all("table", ROWS[::-1], clock=standing)
    assert counting.transactions == [[key for key, _ in ROWS]]
    assert list(counting.scan("table")) == ROWS
    assert counting.count("table") == 200


def test_no_transaction_puts_more_bytes_than_a_batch_has(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1_000)
    counting.put_all("table", ROWS, clock=standing)
    sizes = [sum(3 + int(key) for key in keys) for keys in counting.transactions]
    assert max(sizes) <= 1_000
    assert all(size + following > 1_000 for size, following in pairwise(sizes))
    assert list(counting.scan("table")) == ROWS


def test_a_row_that_is_larger_than_a_batch_has_a_transaction_of_its_own(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 10)
    counting.put_all("table", [(b"a", bytes(5)), (b"b", bytes(50)), (b"c", bytes(2)), (b"d", b"")], clock=standing)
    assert counting.transactions == [[b"a"], [b"b"], [b"c", b"d"]]


def test_no_transaction_puts_for_longer_than_a_batch_lasts(counting: Counting) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1 / 64
        return now

    counting.put_all("table", ROWS, clock=clock)
    assert {len(keys) for keys in counting.transactions} == {4}
    assert list(counting.scan("table")) == ROWS


def test_no_rows_are_no_transaction(counting: Counting) -> None:
    counting.put_all("table", [])
    assert counting.transactions == []


def test_an_error_leaves_whole_transactions(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 300)
    with pytest.raises(TypeError):
        counting.put_all("table", [*ROWS[:100], (b"100", "no bytes")], clock=standing)  # type: ignore[list-item]
    there = list(counting.scan("table"))
    assert there == ROWS[: len(there)]


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_missing_or_empty_is_damage_to_a_reader(place: Path, content: bytes | None) -> None:
    path = place / "file.mdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"file\.mdb is (missing|empty)"):
        Environment(path, ["table"], writable=False)
    assert path.exists() == (content is not None)


@pytest.mark.parametrize("size", [1, 100, 4_095, 4_096, 8_191, 8_192, 12_288, 40_960])
def test_what_is_left_of_a_file_that_was_cut_off_is_damage_and_kills_nobody(place: Path, size: int) -> None:
    path = place / "file.mdb"
    with_rows = Environment(path, ["table"])
    with_rows.put_all("table", [(b"%05d" % n, bytes(100)) for n in range(5_000)])
    with_rows.close()
    with path.open("r+b") as file:
        file.truncate(size)
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"file\.mdb"):
            list(Environment(path, ["table"]).scan("table"))
