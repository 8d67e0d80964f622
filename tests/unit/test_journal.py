"""The journal: what was appended is read back, in order; what a crash cut short is dropped; all else is damage."""

import os
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.worktree import journal
from anabranch.worktree.cuts import Row
from anabranch.worktree.journal import Journal, Journaled
from tests.unit.helpers import examples, scratch

rows = st.lists(st.tuples(st.sampled_from(["nodes", "names"]), st.binary(max_size=20), st.none() | st.binary()))
MARK = len(journal.encode_mark(journal.encode_record(0, [])))
histories = st.lists(rows, min_size=1, max_size=6)


def written(place: Path, history: list[list[Row]], *, first: int = 0, turns: frozenset[int] = frozenset()) -> Journal:
    """A journal of these records; before those numbers, another file is begun."""
    made = Journal(place, first)
    for record in history:
        if made.next in turns:
            made.turn()
        made.append(record)
    made.close()
    return made


def files(place: Path) -> list[Path]:
    return sorted(place.iterdir())


@examples(50)
@given(history=histories, first=st.integers(0, 3), turns=st.frozensets(st.integers(0, 6)))
def test_records_are_read_back_in_order_from_any_number_on(
    history: list[list[Row]], first: int, turns: frozenset[int]
) -> None:
    with scratch() as place:
        written(place, history, turns=turns)
        assert journal.read(place, first) == Journaled(history[first:], 0)


@examples(50)
@given(history=histories, data=st.data())
def test_a_journal_that_a_crash_cut_anywhere_holds_the_whole_records_before(
    history: list[list[Row]], data: st.DataObject
) -> None:
    with scratch() as place:
        written(place, history)
        path = files(place)[0]
        size = data.draw(st.integers(0, path.stat().st_size))
        os.truncate(path, size)
        found = journal.read(place, 0)
        lengths = [len(journal.encode_record(number, record)) + MARK for number, record in enumerate(history)]
        ends = list(accumulate(lengths))
        whole = sum(1 for end in ends if end - MARK <= size)
        assert found.records == history[:whole]
        read = sum(lengths[:whole])
        assert found.dropped == (size - read if size >= read else size - (read - MARK))


@examples(100)
@given(history=histories, data=st.data())
def test_a_flipped_bit_is_damage_but_in_the_last_mark(history: list[list[Row]], data: st.DataObject) -> None:
    with scratch() as place:
        written(place, history)
        path = files(place)[0]
        raw = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(raw) - 1))
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        if bit // 8 < len(raw) - MARK:
            with pytest.raises(DamagedError):
                journal.read(place, 0)
        else:
            assert journal.read(place, 0) == Journaled(history, MARK)


@examples(100)
@given(history=histories, data=st.data())
def test_a_flipped_bit_without_a_mark_is_at_the_very_end_a_record_less(
    history: list[list[Row]], data: st.DataObject
) -> None:
    """Then nobody can tell it from a record that a crash cut short."""
    with scratch() as place:
        written(place, history)
        path = files(place)[0]
        raw = bytearray(path.read_bytes())[:-MARK]
        last = len(raw) - len(journal.encode_record(len(history) - 1, history[-1]))
        bit = data.draw(st.integers(8 * last, 8 * len(raw) - 1))
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        assert journal.read(place, 0) == Journaled(history[:-1], len(raw) - last)


def test_a_missing_file_in_between_is_damage(place: Path) -> None:
    written(place, [[], [], []], turns=frozenset({1, 2}))
    files(place)[1].unlink()
    with pytest.raises(DamagedError, match="lacks records 1 to 1"):
        journal.read(place, 0)


def test_after_an_append_that_failed_the_same_record_is_appended_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one: list[Row] = [("nodes", b"one", b"1")]
    two: list[Row] = [("nodes", b"two", b"2")]
    made = written(place, [one])
    made.append(two)

    def fail(descriptor: int) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            made.append([("nodes", b"perhaps on disk", b"")])
    made.append(one)
    made.close()
    assert journal.read(place, 0) == Journaled([one, two, one], 0)


def test_records_that_are_kept_elsewhere_are_forgotten_by_whole_files(place: Path) -> None:
    made = written(place, [[], []])
    until = made.turn()
    made.append([("names", b"key", None)])
    made.forget(until)
    made.close()
    assert [path.name for path in files(place)] == [f"{2:020}"]
    assert journal.read(place, until).records == [[("names", b"key", None)]]


def test_a_record_that_a_crash_cut_short_may_hold_the_file_of_another_journal(place: Path) -> None:
    """Somebody copied a repository into the mount: what lies in a record is not looked at for records."""
    records = [journal.encode_record(number, []) for number in range(9)]
    inside = b"".join(record + journal.encode_mark(record) for record in records)
    written(place, [[], [("nodes", b"key", inside + bytes(1_000))]])
    (file,) = files(place)
    os.truncate(file, file.stat().st_size - MARK - 500)
    assert journal.read(place, 0).records == [[]]


def test_a_journal_is_written_anew_without_a_moment_in_which_records_are_lost(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history: list[list[Row]] = [[("nodes", b"key", b"%d" % number)] for number in range(8)]
    written(place, history, turns=frozenset({5}))

    def unlink(path: Path, **_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(OSError, match="killed"):
            journal.rewrite(place, 0, history[:3])
    with pytest.raises(DamagedError):
        journal.read(place, 0)
    journal.rewrite(place, 0, history[:3])
    assert journal.read(place, 0) == Journaled(history[:3], 0)
