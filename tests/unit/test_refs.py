"""Names and their logs against a list of rows: a number never changes its meaning."""

import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from anabranch.errors import AmbiguousError, ConflictError, DamagedError, ExistsError, NotFoundError, RefusedError
from anabranch.ids import AtTime, Head, Numbered, ObjectId, Prefix, RefName
from anabranch.store.env import Environment
from anabranch.store.meta import LOGS, REFS, TABLES, ObjectStore
from anabranch.store.records import Kind, object_id, seal
from anabranch.versions.refs import DAY, LOG_ROW, Operation, Refs, Who
from tests.unit.helpers import WHO, examples, scratch

MAIN, EXP, TAG = RefName("main"), RefName("exp"), RefName("v1.0")


class Clock:
    """A clock that stands still, and may be set back."""

    def __init__(self, now: int = 1_000) -> None:
        self.now = now

    def time_ns(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refs(meta: Environment, objects: ObjectStore, clock: Clock) -> Refs:
    return Refs(meta, objects, clock.time_ns)


def commit(n: int) -> ObjectId:
    return object_id(Kind.COMMIT, b"%d" % n)


@dataclass
class Driver:
    """The writing calls, each in a transaction of its own."""

    meta: Environment
    refs: Refs

    def create(self, name: RefName, identity: ObjectId, *, tag: bool = False) -> int:
        with self.meta.write() as batch:
            return self.refs.create(batch, name, identity, WHO, tag=tag)

    def advance(self, name: RefName, expected: int, identity: ObjectId) -> int:
        with self.meta.write() as batch:
            return self.refs.advance(batch, name, expected, identity, WHO)

    def delete(self, name: RefName) -> None:
        with self.meta.write() as batch:
            self.refs.end(batch, name, Operation.DELETE, WHO)

    def rename(self, old: RefName, new: RefName) -> None:
        identity = self.refs.get(old).commit
        with self.meta.write() as batch:
            self.refs.end(batch, old, Operation.RENAME, WHO, detail=new)
            self.refs.create(batch, new, identity, WHO, tag=False, detail=old)


@pytest.fixture
def driver(meta: Environment, refs: Refs) -> Driver:
    return Driver(meta, refs)


# --- the machine ---

NAMES = [RefName(text) for text in ("main", "main2", "mai", "exp", "ä")]
names = st.sampled_from(NAMES)


@dataclass
class Name:
    """What a name went through: one operation, commit and time a row."""

    rows: list[tuple[Operation, ObjectId, int]] = field(default_factory=list)
    alive: bool = False
    tag: bool = False


class RefsMachine(RuleBasedStateMachine):
    """Creates, commits, deletes, renames, creates again, with a clock that sometimes goes backward; and reopens."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self.place = self._scratch.__enter__() / "meta.mdb"
        self.model = {name: Name() for name in NAMES}
        self.clock = Clock()
        self.count = 0
        self._open()

    def _open(self) -> None:
        self.meta = Environment(self.place, TABLES)
        self.refs = Refs(self.meta, ObjectStore(self.meta), self.clock.time_ns)
        self.driver = Driver(self.meta, self.refs)

    @rule()
    def reopen(self) -> None:
        self.meta.close()
        self._open()

    def teardown(self) -> None:
        self.meta.close()
        self._scratch.__exit__(None, None, None)

    def _fresh(self) -> ObjectId:
        self.count += 1
        return commit(self.count)

    def _row(self, name: RefName, operation: Operation, identity: ObjectId) -> int:
        rows = self.model[name].rows
        rows.append((operation, identity, max(self.clock.now, rows[-1][2] + 1 if rows else 0)))
        self.model[name].alive = operation not in (Operation.DELETE, Operation.RENAME)
        return len(rows) - 1

    @rule(step=st.sampled_from([0, 1, 1_000, -500]))
    def tick(self, step: int) -> None:
        self.clock.now = max(1, self.clock.now + step)

    @rule(name=names, tag=st.booleans())
    def create(self, name: RefName, tag: bool) -> None:
        identity = self._fresh()
        if self.model[name].alive:
            with pytest.raises(ExistsError):
                self.driver.create(name, identity, tag=tag)
        else:
            number = self.driver.create(name, identity, tag=tag)
            assert number == self._row(name, Operation.TAG if tag else Operation.BIRTH, identity)
            self.model[name].tag = tag

    @rule(name=names, stale=st.booleans())
    def advance(self, name: RefName, stale: bool) -> None:
        identity, known = self._fresh(), self.model[name]
        expected = len(known.rows) - 1 - stale
        if not known.alive or known.tag or stale:
            with pytest.raises(ConflictError):
                self.driver.advance(name, expected, identity)
        else:
            assert self.driver.advance(name, expected, identity) == self._row(name, Operation.COMMIT, identity)

    @rule(name=names)
    def delete(self, name: RefName) -> None:
        if self.model[name].alive:
            self.driver.delete(name)
            self._row(name, Operation.DELETE, self.model[name].rows[-1][1])
        else:
            with pytest.raises(NotFoundError):
                self.driver.delete(name)

    @rule(name=names, new=names)
    def rename(self, name: RefName, new: RefName) -> None:
        known = self.model[name]
        if name == new or not known.alive or known.tag:
            return
        if self.model[new].alive:
            with pytest.raises(ExistsError):
                self.driver.rename(name, new)
            return
        self.driver.rename(name, new)
        identity = known.rows[-1][1]
        self._row(name, Operation.RENAME, identity)
        self._row(new, Operation.BIRTH, identity)
        self.model[new].tag = False

    @invariant()
    def every_number_names_what_it_always_named(self) -> None:
        for name, known in self.model.items():
            found = self.refs.find(name)
            assert (found is not None) == known.alive
            if found is not None:
                last = known.rows[-1][1]
                assert (found.number, found.commit, found.is_tag) == (len(known.rows) - 1, last, known.tag)
                assert self.refs.resolve(Head(name))[2] == last
            for number, (operation, identity, _) in enumerate(known.rows):
                if operation in (Operation.DELETE, Operation.RENAME):
                    with pytest.raises(NotFoundError):
                        self.refs.resolve(Numbered(name, number))
                else:
                    assert self.refs.resolve(Numbered(name, number)) == (name, number, identity)
            for beyond in (len(known.rows), 1 << 62, 1 << 64):
                with pytest.raises(NotFoundError):
                    self.refs.resolve(Numbered(name, beyond))

    @invariant()
    def every_time_names_the_last_row_at_or_before_it(self) -> None:
        for name, known in self.model.items():
            for moment in {row[2] + step for row in known.rows for step in (-1, 0, 1)}:
                rows = [number for number, row in enumerate(known.rows) if row[2] <= moment]
                over = rows and known.rows[rows[-1]][0] in (Operation.DELETE, Operation.RENAME)
                if not rows or over or moment >= self.clock.now:
                    with pytest.raises(NotFoundError):
                        self.refs.resolve(AtTime(name, moment))
                else:
                    assert self.refs.resolve(AtTime(name, moment)) == (name, rows[-1], known.rows[rows[-1]][1])

    @invariant()
    def every_log_is_a_chain_of_rows_in_strict_order_of_time(self) -> None:
        for name, known in self.model.items():
            rows = list(self.refs.log(name))
            assert [number for number, _ in rows] == list(range(len(known.rows)))[::-1]
            assert [(row.operation, row.commit, row.time_ns) for _, row in rows[::-1]] == known.rows
            for (_, row), (_, before) in pairwise(rows):
                assert row.previous == object_id(Kind.ROW, msgspec.msgpack.encode(before))
                assert row.time_ns > before.time_ns

    @invariant()
    def the_lists_hold_what_exists(self) -> None:
        for tags in (False, True):
            expected = sorted(
                (n for n, known in self.model.items() if known.alive and known.tag == tags), key=str.encode
            )
            assert [ref.name for ref in self.refs.all(tags=tags)] == expected


def test_a_number_never_changes_its_meaning_whatever_happens_to_the_name() -> None:
    """P4, P5, P6."""
    run_state_machine_as_test(RefsMachine, settings=examples(60, steps=30))


# --- one by one ---


def test_a_name_that_is_made_again_goes_on_counting(driver: Driver) -> None:
    assert driver.create(EXP, commit(1)) == 0
    assert driver.advance(EXP, 0, commit(2)) == 1
    driver.delete(EXP)
    assert driver.create(EXP, commit(3)) == 3
    assert driver.refs.resolve(Numbered(EXP, 1))[2] == commit(2)
    with pytest.raises(NotFoundError, match="given up"):
        driver.refs.resolve(Numbered(EXP, 2))


def test_the_versions_of_a_deleted_name_can_still_be_named_but_its_head_cannot(driver: Driver) -> None:
    driver.create(EXP, commit(1))
    driver.delete(EXP)
    assert driver.refs.resolve(Numbered(EXP, 0))[2] == commit(1)
    with pytest.raises(NotFoundError):
        driver.refs.resolve(Head(EXP))


def test_a_renamed_branch_notes_its_other_name_on_both_sides(driver: Driver) -> None:
    driver.create(EXP, commit(1))
    driver.rename(EXP, MAIN)
    old, new = driver.refs.row(EXP, 1), driver.refs.row(MAIN, 0)
    assert old is not None
    assert new is not None
    assert (old.operation, old.detail, new.operation, new.detail) == (Operation.RENAME, MAIN, Operation.BIRTH, EXP)


def test_a_row_says_who_did_it_and_by_which_door(driver: Driver) -> None:
    driver.create(EXP, commit(1))
    row = driver.refs.row(EXP, 0)
    assert row is not None
    assert Who(row.actor, row.source) == WHO


def test_a_tag_never_moves(driver: Driver) -> None:
    driver.create(TAG, commit(1), tag=True)
    with pytest.raises(ConflictError):
        driver.advance(TAG, 0, commit(2))
    assert driver.refs.resolve(Head(TAG)) == (TAG, None, commit(1))


def test_rows_of_the_same_nanosecond_get_strictly_increasing_times(driver: Driver, clock: Clock) -> None:
    driver.create(EXP, commit(1))
    driver.advance(EXP, 0, commit(2))
    clock.now -= 900
    driver.advance(EXP, 1, commit(3))
    rows = [row for _, row in driver.refs.log(EXP)][::-1]
    assert [row.time_ns for row in rows] == [1_000, 1_001, 1_002]
    assert [row.clock_ns for row in rows] == [1_000, 1_000, 100]


def test_a_time_that_is_not_yet_past_names_nothing(driver: Driver, clock: Clock) -> None:
    """P6: else the same name would mean another version a moment later."""
    driver.create(EXP, commit(1))
    for time_ns in (clock.now, clock.now + 1):
        with pytest.raises(NotFoundError, match="not yet past"):
            driver.refs.resolve(AtTime(EXP, time_ns))
    clock.now += 1
    assert driver.refs.resolve(AtTime(EXP, clock.now - 1))[2] == commit(1)


def test_a_time_before_the_first_row_names_nothing(driver: Driver, clock: Clock) -> None:
    driver.create(EXP, commit(1))
    with pytest.raises(NotFoundError, match="did not exist yet"):
        driver.refs.resolve(AtTime(EXP, clock.now - 1))


@pytest.mark.parametrize("revision", [Head(EXP), Numbered(EXP, 0), AtTime(EXP, 5), Prefix("abcd")])
def test_what_never_existed_is_not_found(refs: Refs, revision: Head | Numbered | AtTime | Prefix) -> None:
    with pytest.raises(NotFoundError):
        refs.resolve(revision)


def test_the_log_of_a_name_is_not_mixed_with_that_of_a_longer_one(driver: Driver) -> None:
    driver.create(RefName("mai"), commit(1))
    driver.create(RefName("main"), commit(2))
    driver.create(RefName("main2"), commit(3))
    assert [row.commit for _, row in driver.refs.log(RefName("mai"))] == [commit(1)]
    assert [row.commit for _, row in driver.refs.log(RefName("main"))] == [commit(2)]


def test_a_transaction_that_fails_leaves_no_row(driver: Driver) -> None:
    with pytest.raises(OSError, match="no space"):
        create_and_fail(driver)
    assert driver.refs.find(EXP) is None
    assert list(driver.refs.log(EXP)) == []


def create_and_fail(driver: Driver) -> None:
    with driver.meta.write() as batch:
        driver.refs.create(batch, EXP, commit(1), WHO, tag=False)
        raise OSError("no space")


def flip(driver: Driver, table: str) -> None:
    (key, value), *_ = driver.meta.scan(table)
    with driver.meta.write() as batch:
        batch.put(table, key, value[:-1] + bytes([value[-1] ^ 1]))


def test_a_damaged_ref_or_row_is_an_error_never_another_commit(driver: Driver) -> None:
    """P35."""
    driver.create(EXP, commit(1))
    flip(driver, LOGS)
    with pytest.raises(DamagedError):
        driver.refs.resolve(Numbered(EXP, 0))
    flip(driver, REFS)
    with pytest.raises(DamagedError):
        driver.refs.resolve(Head(EXP))


def test_a_row_that_is_missing_from_the_middle_of_a_log_is_damage(driver: Driver, clock: Clock) -> None:
    driver.create(EXP, commit(1))
    driver.advance(EXP, 0, commit(2))
    driver.advance(EXP, 1, commit(3))
    with driver.meta.write() as batch:
        batch.delete(LOGS, EXP.encode() + b"\0" + (1).to_bytes(8, "big"))
    with pytest.raises(DamagedError):
        list(driver.refs.log(EXP))
    clock.now += 100
    with pytest.raises(DamagedError):
        driver.refs.resolve(AtTime(EXP, clock.now - 1))


def test_a_prefix_names_the_one_commit_that_starts_so(refs: Refs, objects: ObjectStore) -> None:
    ids = [objects.put(Kind.COMMIT, b"commit %d" % n) for n in range(300)]
    tree = objects.put(Kind.TREE, b"tree")
    objects.flush()
    for identity in ids[:20]:
        assert refs.resolve(Prefix(identity.hex())) == (None, None, identity)
        assert refs.resolve(Prefix(identity.hex()[:9]))[2] == identity
    with pytest.raises(NotFoundError):
        refs.resolve(Prefix(tree.hex()))
    first = sorted(ids)[0].hex()[0]
    with pytest.raises(AmbiguousError) as caught:
        refs.resolve(Prefix(first))
    assert caught.value.hint is not None


def test_a_row_of_an_operation_of_a_later_version_moves_the_name(driver: Driver) -> None:
    driver.create(EXP, commit(1))
    row = driver.refs.row(EXP, 0)
    assert row is not None
    later = LOG_ROW.encode(row).replace(b"birth", b"merge").replace(b"\x98", b"\x99", 1) + b"\xc3"  # a field more
    with driver.meta.write() as batch:
        batch.put(LOGS, EXP.encode() + b"\0" + bytes(8), seal(later))
    assert driver.refs.resolve(Numbered(EXP, 0))[2] == commit(1)
    driver.advance(EXP, 0, commit(2))
    after = driver.refs.row(EXP, 1)
    assert after is not None
    assert after.previous == object_id(Kind.ROW, later), "the chain covers the bytes, known or not"


def test_a_commit_is_refused_while_the_clock_is_more_than_a_day_behind_the_last_row(
    driver: Driver, clock: Clock
) -> None:
    clock.now = 10 * DAY
    driver.create(EXP, commit(1))
    clock.now -= DAY
    driver.refs.check_clock(EXP)
    clock.now -= 1
    with pytest.raises(RefusedError, match="more than a day behind") as caught:
        driver.refs.check_clock(EXP)
    assert caught.value.hint is not None
    assert driver.advance(EXP, 0, commit(2)) == 1, "who insists may"
    row = driver.refs.row(EXP, 1)
    assert row is not None
    assert (row.time_ns, row.clock_ns) == (10 * DAY + 1, 9 * DAY - 1)


def test_a_branch_that_is_gone_is_not_found_whatever_the_clock_says(driver: Driver) -> None:
    with pytest.raises(NotFoundError):
        driver.refs.check_clock(EXP)
    driver.create(EXP, commit(1))
    driver.delete(EXP)
    with pytest.raises(NotFoundError):
        driver.refs.check_clock(EXP)


def test_a_name_that_is_given_up_and_made_again_in_one_transaction_has_both_rows(driver: Driver) -> None:
    driver.create(EXP, commit(1))
    driver.rename(EXP, EXP)
    rows = [(number, row.operation) for number, row in driver.refs.log(EXP)]
    assert rows == [(2, "birth"), (1, "rename"), (0, "birth")]


def test_of_several_threads_that_move_a_branch_from_the_same_row_one_wins(driver: Driver) -> None:
    driver.create(EXP, commit(0))
    won: list[int] = []
    lost: list[int] = []
    together = threading.Barrier(4)

    def race(n: int) -> None:
        for number in range(25):
            together.wait()
            try:
                driver.advance(EXP, number, commit(100 * n + number))
                won.append(n)
            except ConflictError:
                lost.append(n)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (25, 75)
    assert driver.refs.get(EXP).number == 25


RACER = """
import sys
from pathlib import Path
from anabranch.errors import ConflictError
from anabranch.ids import ObjectId, RefName
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.versions.refs import Refs, Who

meta = Environment(Path(sys.argv[1]), TABLES)
refs, name, won = Refs(meta, ObjectStore(meta)), RefName("exp"), 0
while (number := refs.get(name).number) < 60:
    try:
        with meta.write() as batch:
            refs.advance(batch, name, number, ObjectId(bytes(31) + sys.argv[2].encode()), Who(sys.argv[2], "test"))
        won += 1
    except ConflictError:
        pass
print(won)
"""


def test_processes_that_race_for_a_branch_make_one_row_a_number_and_lose_none(driver: Driver, place: Path) -> None:
    driver.create(EXP, commit(0))
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, place / "meta.mdb", actor], stdout=subprocess.PIPE, text=True)
        for actor in "ab"
    ]
    won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    actors = Counter(row.actor for _, row in driver.refs.log(EXP))
    assert [actors["a"], actors["b"]] == won
    assert sum(won) == driver.refs.get(EXP).number >= 60


def test_the_clock_of_the_machine_is_the_one_that_counts(meta: Environment, objects: ObjectStore) -> None:
    driver = Driver(meta, Refs(meta, objects))
    before = time.time_ns()
    driver.create(EXP, commit(1))
    row = driver.refs.row(EXP, 0)
    assert row is not None
    assert before <= row.time_ns == row.clock_ns <= time.time_ns()
