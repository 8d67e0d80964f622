"""Renames among changes: what pairs with what, and that nothing is lost or told twice. P43."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.versions import renames
from anabranch.versions.diff import Change, ChangeKind, path_order
from anabranch.versions.objects import EntryKind
from anabranch.versions.renames import renamed, short
from tests.unit.helpers import MAIN, Branch, examples, random_bytes


def deleted(path: str, content: bytes = b"", kind: EntryKind = EntryKind.FILE) -> Change:
    size = None if kind is EntryKind.DIRECTORY else 7
    return Change(path.encode(), ChangeKind.DELETED, kind, size, None, content=content)


def added(path: str, content: bytes = b"", kind: EntryKind = EntryKind.FILE) -> Change:
    size = None if kind is EntryKind.DIRECTORY else 7
    return Change(path.encode(), ChangeKind.ADDED, kind, None, size, content=content)


def in_order(changes: list[Change]) -> list[Change]:
    return sorted(changes, key=lambda change: path_order((change.path, None, None)))


def told(*changes: Change) -> list[str]:
    """The changes after renames are found: `+new`, `-old`, `old>new`."""

    def mark(change: Change) -> str:
        if change.old_path is not None:
            return change.old_path.decode() + ">"
        return "-" if change.change == ChangeKind.DELETED else "+"

    return [mark(change) + change.path.decode() for change in renamed(in_order(list(changes)))]


def test_what_is_gone_and_new_with_one_content_is_one_change_at_the_new_path() -> None:
    assert told(deleted("z", b"1"), added("a", b"1"), added("m", b"2")) == ["z>a", "+m"]


def test_a_rename_has_the_sizes_of_both_sides_and_the_kind() -> None:
    (change,) = renamed([added("a", b"1", EntryKind.SYMLINK), deleted("b", b"1", EntryKind.SYMLINK)])
    assert change == Change(b"a", ChangeKind.RENAMED, EntryKind.SYMLINK, 7, 7, b"b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (deleted("a"), added("b")),
        (deleted("a", b"1"), added("b", b"2")),
        (deleted("a", b"1"), replace(added("b", b"1"), new_size=8)),
        (deleted("a", b"1"), added("b", b"1", EntryKind.SYMLINK)),
        (deleted("a", b"1"), deleted("b", b"1")),
        (added("a", b"1"), added("b", b"1")),
    ],
    ids=["nothing to recognize", "other content", "other size", "other kind", "both gone", "both new"],
)  # fmt: skip
def test_what_may_differ_is_no_rename(one: Change, other: Change) -> None:
    assert list(renamed([one, other])) == [one, other]


def test_of_several_with_one_content_the_same_base_name_comes_first() -> None:
    assert told(deleted("d/a", b"1"), added("d/b", b"1"), added("far/off/a", b"1")) == ["+d/b", "d/a>far/off/a"]


def test_of_several_with_one_name_the_nearest_directory_comes_first() -> None:
    assert told(
        deleted("x/y/z/f", b"1"), added("a/f", b"1"), added("x/f", b"1"), added("x/y/f", b"1"), added("x/y/q/r/f", b"1")
    ) == ["+a/f", "+x/f", "x/y/z/f>x/y/f", "+x/y/q/r/f"]


def test_of_several_as_near_those_that_lie_alike_come_first_and_then_the_order_of_paths() -> None:
    gone = [deleted(f"old/{part}/f", b"1") for part in "xyz"]
    alike = [added(f"new/{part}/f", b"1") for part in "yz"]
    assert told(*gone, *alike) == ["old/y/f>new/y/f", "old/z/f>new/z/f", "-old/x/f"]
    assert told(*gone, added("b", b"1"), added("a", b"1")) == ["old/x/f>a", "old/y/f>b", "-old/z/f"]


def folder(change: str, path: str) -> Change:
    return (deleted if change == "-" else added)(path, kind=EntryKind.DIRECTORY)


def test_a_directory_goes_with_the_files_that_kept_their_paths_in_it() -> None:
    assert told(
        folder("-", "old"), folder("-", "old/in"), deleted("old/in/f", b"1"), deleted("old/e"),
        folder("+", "x"), folder("+", "x/new"), folder("+", "x/new/in"), added("x/new/in/f", b"1"), added("x/new/e"),
    ) == ["-old/e", "+x", "old>x/new", "+x/new/e", "old/in>x/new/in", "old/in/f>x/new/in/f"]  # fmt: skip


def test_a_directory_of_which_files_went_several_ways_goes_with_the_most() -> None:
    assert told(
        folder("-", "d"), *(deleted(f"d/{n}", b"%d" % n) for n in range(5)),
        folder("+", "few"), *(added(f"few/{n}", b"%d" % n) for n in range(2)),
        folder("+", "most"), *(added(f"most/{n}", b"%d" % n) for n in range(2, 5)),
    ) == ["+few", "d/0>few/0", "d/1>few/1", "d>most", "d/2>most/2", "d/3>most/3", "d/4>most/4"]  # fmt: skip


def test_files_that_also_changed_their_names_say_nothing_of_their_directories() -> None:
    assert told(folder("-", "d"), deleted("d/a", b"1"), folder("+", "e"), added("e/b", b"1")) == ["-d", "+e", "d/a>e/b"]


def test_of_more_changes_than_the_limit_none_is_told_and_none_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renames, "LIMIT", 3)
    changes = [added("a", b"1"), *(added(f"b{n}") for n in range(5)), deleted("c", b"1")]
    coming = iter(changes)
    assert next(renamed(coming)) == changes[0]
    assert len(list(coming)) == 3
    assert list(renamed(changes)) == changes


def test_a_long_content_travels_as_a_digest_that_tells_as_much() -> None:
    one, same, other = (short(added("a", content)) for content in (b"x" * 500, b"x" * 500, b"y" * 500))
    assert len(one.content) == 32
    assert one.content == same.content != other.content
    assert short(added("a", b"short")).content == b"short"


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
kinds = st.sampled_from([EntryKind.FILE, EntryKind.FILE, EntryKind.SYMLINK, EntryKind.DIRECTORY])


@st.composite
def changed(draw: st.DrawFn) -> list[Change]:
    made = []
    for path in draw(st.lists(paths, unique=True, max_size=30)):
        kind, make = draw(kinds), draw(st.sampled_from([added, deleted]))
        content = b"" if kind is EntryKind.DIRECTORY else draw(st.sampled_from([b"", b"1", b"1", b"2"]))
        made.append(make(path, content, kind))
    return in_order(made)


def apart(change: Change) -> list[Change]:
    if change.old_path is None:
        return [change]
    return [
        replace(change, path=change.old_path, change=ChangeKind.DELETED, new_size=None, old_path=None),
        replace(change, change=ChangeKind.ADDED, old_size=None, old_path=None),
    ]


@examples(300)
@given(changed())
def test_renames_taken_apart_are_the_changes_again_in_order_and_no_pair_is_left(changes: list[Change]) -> None:
    found = list(renamed(changes))
    assert found == in_order(found)
    parts = [part for change in found for part in apart(change)]
    assert Counter((part, part.content) for part in parts) == Counter((change, change.content) for change in changes)
    left = [change for change in found if change.old_path is None and change.content]
    gone, come = (
        {(change.kind, change.content) for change in left if change.change == kind}
        for kind in (ChangeKind.DELETED, ChangeKind.ADDED)
    )
    assert gone.isdisjoint(come)


# --- what recognizes contents ---


def test_files_of_every_size_are_recognized_committed_or_not(main: Branch) -> None:
    sizes = {"small": 5, "inline": 512, "chunk": 40_000, "manifest": 900_000}
    for name, size in sizes.items():
        main.write(name, random_bytes(size, size))
    main.make("link", EntryKind.SYMLINK, target=b"small")
    main.make("empty")
    main.commit()
    for name in (*sizes, "link", "empty"):
        main.rename(name, f"new {name}")
    main.chmod("new small", 0o600)
    expected = sorted([*((f"new {name}", name) for name in (*sizes, "link")), ("new empty", ""), ("empty", "")])

    def seen(changes: list[Change]) -> list[tuple[str, str]]:
        return sorted((change.path.decode(), (change.old_path or b"").decode()) for change in renamed(changes))

    assert seen(main.repository.status(MAIN)) == expected
    main.commit()
    first, second = (main.repository.resolve(f"main@{number}").id for number in (1, 2))
    assert seen(list(main.repository.diff(first, second))) == expected


def test_content_that_is_not_stored_yet_is_no_rename(main: Branch) -> None:
    main.write("a", bytes(1_000))
    main.commit()
    main.unlink("a")
    main.write("b", bytes(1_000))
    main.write("c", bytes(1_000))
    assert [change.change for change in renamed(main.repository.status(MAIN))] == ["deleted", "added", "added"]
