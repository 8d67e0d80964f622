"""The lines on which two texts differ: true, readable, and in bounded time. P43."""

import random
import re
import time
from collections.abc import Callable
from io import StringIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.versions.lines import SHOWN, TEXT_MAX, unified
from tests.unit.helpers import examples

NO_NEWLINE = "\\ No newline at end of file"
HEAD = re.compile(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@")


def numbers(*changed: int, count: int = 40) -> bytes:
    return b"".join(b"%d%s\n" % (number, b"!" * (number in changed)) for number in range(1, count + 1))


def patched(old: str, diff: list[str]) -> str:
    """What comes of a text by its diff; the diff must be true of it."""
    before, after = StringIO(old).readlines(), list[str]()
    at = 0
    for line, following in pairwise([*diff, ""]):
        text = line[1:] + "\n" * (following != NO_NEWLINE)
        if head := HEAD.fullmatch(line):
            start = int(head[1]) - (head[2] != "0")
            after += before[at:start]
            at = start
            assert len(after) == int(head[3]) - (head[4] != "0")
        elif line[0] in " -":
            assert before[at] == text
            at += 1
        if line[0] in " +":
            after.append(text)
    return "".join(after + before[at:])


def test_changed_lines_come_between_their_surroundings() -> None:
    assert list(unified(b"a,b\n1,2\n", b"a,b\n1,2\n3,4\n")) == ["@@ -1,2 +1,3 @@", " a,b", " 1,2", "+3,4"]
    assert list(unified(b"", b"x\n")) == ["@@ -0,0 +1,1 @@", "+x"]
    assert list(unified(b"x\n", b"")) == ["@@ -1,1 +0,0 @@", "-x"]


def test_what_lies_far_apart_has_heads_of_its_own() -> None:
    assert [line for line in unified(numbers(), numbers(10, 17, 30)) if line.startswith("@@")] == [
        "@@ -7,14 +7,14 @@", "@@ -27,7 +27,7 @@",
    ]  # fmt: skip


def test_a_missing_newline_at_the_end_is_told() -> None:
    assert list(unified(b"a\nb", b"a\nb\n")) == ["@@ -1,2 +1,2 @@", " a", "-b", NO_NEWLINE, "+b"]
    assert list(unified(b"a\nb", b"c\nb")) == ["@@ -1,2 +1,2 @@", "-a", "+c", " b", NO_NEWLINE]


def test_only_newlines_end_lines() -> None:
    assert list(unified("a\r\n\u2028\x0b\x85\n".encode(), b"")) == ["@@ -1,2 +0,0 @@", "-a\r", "-\u2028\x0b\x85"]


@pytest.mark.parametrize("data", [b"\xff", b"a\0b", b"x" * (TEXT_MAX + 1)], ids=["no UTF-8", "NUL", "large"])
def test_what_is_no_text_has_no_lines(data: bytes) -> None:
    assert list(unified(data, b"x\n")) == []
    assert list(unified(b"x\n", data)) == []


def test_of_many_changed_lines_only_how_many_more_there_are() -> None:
    told = list(unified(numbers(), numbers(count=40 + SHOWN + 1_234)))
    assert told[0] == f"@@ -38,3 +38,{3 + SHOWN + 1_234} @@"
    assert len(told) == 1 + 3 + SHOWN + 1
    assert told[-1] == "... 1,234 more lines"
    assert list(unified(b"", b"x\n" * (SHOWN + 1)))[-1] == "... 1 more line"


def test_what_moved_a_little_is_not_all_changed() -> None:
    old = [f"{number},{'x' * (number % 7)}\n" for number in range(1_000)]
    new = [*old[:300], "inserted\n", *old[300:600], *old[610:], "}\n", "}\n"]
    told = list(unified("".join(old).encode(), "".join(new).encode()))
    assert sum(line[0] in "+-" for line in told) == 1 + 10 + 2


texts = st.lists(st.sampled_from(["", "a", "b", "c", "d e", "\t", "\\ No"]), max_size=40).map("\n".join)


@examples(300)
@given(texts, texts)
def test_a_diff_turns_the_old_text_into_the_new_one(old: str, new: str) -> None:
    assert patched(old, list(unified(old.encode(), new.encode()))) == new


def short_lines() -> list[str]:
    """As many distinct lines as a text can have that is compared."""
    found, length = list[str](), 0
    while length < TEXT_MAX - 8:
        found.append(f"{len(found):x}\n")
        length += len(found[-1])
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda text: ["-" + line[1:] for line in text],
        lambda text: [line if number % 2 else "-" + line[1:] for number, line in enumerate(text)],
        lambda text: text[::-1],
        lambda text: random.Random(1).sample(text, len(text)),
        lambda text: [line[-2:] for line in text],
    ],
    ids=["all", "every second", "reversed", "shuffled", "few distinct"],
)
def test_the_worst_texts_take_little_time(change: Callable[[list[str]], list[str]]) -> None:
    """With difflib, every second changed line would take minutes."""
    text = short_lines()
    old, new = "".join(text).encode(), "".join(change(text)).encode()
    begun = time.process_time()
    assert len(list(unified(old, new))) > SHOWN
    assert time.process_time() - begun < 2
