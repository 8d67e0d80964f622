"""What people and scripts read."""

import base64
import json

import pytest

from anabranch import escape, report
from anabranch.commit import Committed
from anabranch.errors import BY_NAME, AnabranchError
from anabranch.ids import ObjectId, RefName
from anabranch.versions.diff import Change, ChangeKind
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.refs import Ref
from tests.unit.helpers import MAIN, Branch

ID = ObjectId(bytes.fromhex("3f9ac2e1" + "00" * 28))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_234_567, "1.2 MB"), (5_000_000_000, "5.0 GB"),
        (10**15, "1000.0 TB"),
    ],
)  # fmt: skip
def test_sizes_are_short_and_decimal(count: int, text: str) -> None:
    assert report.size(count) == text


def test_times_are_utc_whole_for_people_and_exact_for_scripts() -> None:
    assert report.moment(1_795_168_800_123_456_789) == "2026-11-20 10:00:00 UTC"
    assert report.iso(1_795_168_800_000_000_001) == "2026-11-20T10:00:00.000000001Z"


def test_paths_are_whole_for_scripts() -> None:
    path = b"a\nb\x1b\xff\\\xc3\xa4"
    value = report.json_path(path)
    assert base64.b64decode(str(value["path_b64"])) == path
    assert report.json_path(b"plain") == {"path": "plain"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (Change(b"f", ChangeKind.ADDED, EntryKind.FILE, None, 1_500), "A  f  1.5 kB"),
        (Change(b"f", ChangeKind.DELETED, EntryKind.FILE, 5, None), "D  f  5 B"),
        (Change(b"f", ChangeKind.MODIFIED, EntryKind.FILE, 0, 5), "M  f  0 B -> 5 B"),
        (Change(b"f", ChangeKind.ATTRIBUTES, EntryKind.FILE, 5, 5), "a  f  5 B"),
        (Change(b"d", ChangeKind.ADDED, EntryKind.DIRECTORY, None, None), "A  d/"),
        (Change(b"d", ChangeKind.TYPE, EntryKind.DIRECTORY, 5, None), "T  d/  5 B"),
        (Change(b"l", ChangeKind.TYPE, EntryKind.SYMLINK, 5, 7), "T  l  5 B -> 7 B"),
        (Change(b"d/n\n", ChangeKind.RENAMED, EntryKind.FILE, 5, 5, b"o\xff"), "R  o\\xff -> d/n\\x0a  5 B"),
        (Change(b"n", ChangeKind.RENAMED, EntryKind.DIRECTORY, None, None, b"o"), "R  o/ -> n/"),
    ],
)
def test_a_change_is_one_line(change: Change, line: str) -> None:
    assert report.change_line(change) == line


def test_a_rename_has_both_paths_for_scripts() -> None:
    change = Change(b"new", ChangeKind.RENAMED, EntryKind.FILE, 5, 5, b"old\xff", content=b"never shown")
    assert report.change_json(change) == {
        "path": "new", "old_path": "old\\xff", "old_path_b64": base64.b64encode(b"old\xff").decode(),
        "change": "renamed", "kind": "file", "old_size": 5, "new_size": 5,
    }  # fmt: skip
    assert list(report.names_text([change])) == ["new\n"]
    assert list(report.stat_text([change])) == ["1 path differs: 1 renamed; 5 B -> 5 B in all\n"]


def test_the_lines_of_a_text_never_disturb_a_terminal_or_deceive_its_reader() -> None:
    assert escape.show_line("a\tb\\ä\u200d\U0001f600") == "a\tb\\ä\u200d\U0001f600"
    assert escape.show_line("\x1b[2J\r\x07\x7f\x9b") == "\\x1b[2J\\x0d\\x07\\x7f\\u009b"
    assert escape.show_line("\u202e\u2066\u2028") == "\\u202e\\u2066\\u2028"
    change = Change(b"f", ChangeKind.MODIFIED, EntryKind.FILE, 1, 1)
    assert list(report.diff_text([change], lambda _: ["-\x1b"])) == ["M  f  1 B -> 1 B\n", "    -\\x1b\n"]


def test_a_commit_answers_with_its_version_and_what_it_cost() -> None:
    """docs/semantics.md, "Control files"."""
    done = Committed(MAIN, 12, ID, 3, 1_200_000)
    assert report.committed_text(done) == "main@12 3f9ac2e1  3 files changed, 1.2 MB new\n"
    assert report.committed_text(Committed(MAIN, 1, ID, 1, 0)) == "main@1 3f9ac2e1  1 file changed, 0 B new\n"
    assert report.committed_json(done)["version"] == "main@12"


def test_the_list_of_names_has_a_star_at_the_current_one() -> None:
    refs = [Ref(RefName("exp"), False, 0, ID), Ref(MAIN, False, 3, ID), Ref(RefName("v1"), True, 0, ID)]
    assert report.refs_text(refs, MAIN) == "  exp@0  3f9ac2e1\n* main@3  3f9ac2e1\n  v1  3f9ac2e1\n"
    assert report.ref_json(refs[2]) == {"name": "v1", "number": None, "id": ID.hex()}


def test_status_and_log_of_a_real_branch_agree_as_text_and_as_json(main: Branch) -> None:
    repository = main.repository
    main.write("file", b"one")
    main.commit("first line\nsecond line")
    main.write("file", b"two!")
    main.mkdir("d")
    base, changes = repository.resolve("main"), repository.status(MAIN)
    assert report.status_text(base, changes) == (
        f"On branch main, version main@1 {base.id.hex()[:8]}\nUncommitted: 2 changes\nA  d/\nM  file  3 B -> 4 B\n"
    )
    value = json.loads(report.to_json(report.status_json(base, changes)))
    assert (value["clean"], [change["path"] for change in value["changes"]]) == (False, ["d", "file"])
    assert "equals its last commit" in report.status_text(base, [])
    log = list(repository.log(MAIN))
    lines = report.log_text(log).splitlines()
    assert lines[0].endswith("  ann  first line")
    assert lines[1].endswith("  -  (empty)")
    assert [entry["version"] for entry in report.log_json(log)] == ["main@1", "main@0"]


def test_a_listing_shows_kind_mode_size_time_and_name() -> None:
    folder = Entry(EntryKind.DIRECTORY, 0o755, size=1_500, content=bytes(32))
    assert report.entry_line(b"d", folder) == "d0755      1.5 kB  1970-01-01 00:00:00 UTC  d/"
    assert report.entry_json(b"d", folder, [b"user.a"])["xattrs"] == ["user.a"]


def test_every_error_crosses_the_socket_by_its_name_and_knows_how_to_end() -> None:
    for name, error in BY_NAME.items():
        made = error("message", hint="hint")
        assert (name, str(made), made.hint) == (type(made).__name__, "message", "hint")
        assert 1 <= made.exit_code <= 4
        assert made.errno > 0

    def below(error: type[AnabranchError]) -> set[type[AnabranchError]]:
        return {error}.union(*map(below, error.__subclasses__()))

    assert {error for error in below(AnabranchError) if error.__module__ == "anabranch.errors"} == set(BY_NAME.values())
