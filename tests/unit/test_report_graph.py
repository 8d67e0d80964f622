"""History as a drawing: whoever follows the lines finds the parents."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from anabranch.report_graph import drawn
from tests.unit.helpers import examples

History = list[tuple[int, list[int]]]
"""Commits, children before parents."""


@st.composite
def histories(draw: st.DrawFn, parents: int = 2) -> History:
    """Commits that are numbered as they come; several may have no child, and several no parent."""
    size = draw(st.integers(1, 14))
    above = [
        draw(st.lists(st.integers(number + 1, min(size - 1, number + 6)), max_size=parents, unique=True))
        if number + 1 < size
        else []
        for number in range(size)
    ]
    return list(enumerate(above))


def text(history: History) -> list[str]:
    return list(drawn((key, parents, f"<{key}>") for key, parents in history))


def followed(lines: list[str]) -> tuple[list[int], dict[int, set[int]]]:
    """The commits as they are drawn, and what the lines from each lead down to.

    `above` says which commits' lines come to a place at the foot of a row: `|` stands in a place, `/` and `\\` between
    two, and `_` runs along the foot beneath the lines that it crosses.
    """
    above: dict[int, set[int]] = {}
    commits: list[int] = []
    found: dict[int, set[int]] = defaultdict(set)
    for line in lines:
        row, _, name = line.partition("<")
        below: dict[int, set[int]] = defaultdict(set)
        used, last = set(), set(commits[-1:])
        for at, character in enumerate(row):
            start = {"|": at, "*": at, "/": at + 1, "\\": at - 1}.get(character)
            if start is None:
                assert character == " " or (character == "_" and row[at + 2] in "_/"), line
                continue
            used.add(start)
            end = {"/": at - 1, "\\": at + 1}.get(character, at)
            while character == "/" and row[end - 1 : end] == "_":
                end -= 2
            if character == "*":
                commits.append(int(name.rstrip(">")))
                for child in above.get(start, ()):
                    found[child].add(commits[-1])
                below[end] = {commits[-1]}
            else:
                assert start in above, f"{line}: a line comes from nowhere"
                below[end] |= above[start]
        ended = {at for at, children in above.items() if children == last}  # if it has no parents
        assert used >= above.keys() - ended, f"{line}: a line breaks off"
        above = below
    return commits, found


@examples(600)
@given(histories())
def test_the_lines_from_a_commit_lead_to_just_its_parents(history: History) -> None:
    commits, found = followed(text(history))
    assert commits == [key for key, _ in history]
    assert {key: found.get(key, set()) for key, _ in history} == {key: set(parents) for key, parents in history}


@examples(200)
@given(histories(parents=5))
def test_a_commit_of_many_parents_has_a_line_to_each(history: History) -> None:
    _, found = followed(text(history))
    assert {key: found.get(key, set()) for key, _ in history} == {key: set(parents) for key, parents in history}


@examples(200)
@given(histories(), st.integers(1, 14))
def test_a_drawing_that_is_cut_off_is_the_beginning_of_the_whole(history: History, count: int) -> None:
    part = text(history[:count])
    assert text(history)[: len(part)] == part


@examples(200)
@given(histories())
def test_there_are_no_more_columns_than_lines_to_different_commits(history: History) -> None:
    awaited: set[int] = set()
    heads = [line for line in text(history) if "<" in line]
    for (key, parents), line in zip(history, heads, strict=True):
        assert len(line.partition(" <")[0]) == 2 * len(awaited | {key}) - 1
        awaited = (awaited - {key}) | set(parents)


def test_history_in_one_line_is_one_column() -> None:
    assert text([(2, [1]), (1, [0]), (0, [])]) == ["* <2>", "* <1>", "* <0>"]


def test_a_merge_has_two_lines_that_meet_where_the_branch_was_made() -> None:
    assert text([(4, [2, 3]), (3, [1]), (2, [1]), (1, [])]) == ["* <4>", "|\\", "| * <3>", "* | <2>", "|/", "* <1>"]


def test_a_line_crosses_others_beneath_them() -> None:
    history = [(9, [5, 7]), (8, [5]), (7, [5]), (5, [])]
    assert text(history) == ["* <9>", "|\\", "| | * <8>", "|_|/", "| * <7>", "|/", "* <5>"]


def test_a_parent_in_the_next_column_is_reached_at_once() -> None:
    right = [(9, [6, 7]), (6, [5, 7]), (7, [5]), (5, [])]
    assert text(right) == ["* <9>", "|\\", "* | <6>", "|\\|", "| * <7>", "|/", "* <5>"]
    left = [(9, [6, 7]), (7, [5, 6]), (6, [5]), (5, [])]
    assert text(left) == ["* <9>", "|\\", "| * <7>", "|/|", "* | <6>", "|/", "* <5>"]


def test_behind_a_commit_without_parents_the_lines_come_nearer() -> None:
    assert text([(9, [6, 7, 8]), (7, []), (6, []), (8, [])])[3:] == ["| * | <7>", "|  /", "* | <6>", " /", "* <8>"]


def test_what_comes_beneath_a_commit_without_parents_is_apart_from_it() -> None:
    assert text([(1, []), (0, [])]) == ["* <1>", "", "* <0>"]
