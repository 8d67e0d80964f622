"""Names and revisions: what is accepted, and what it means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import UsageError
from anabranch.ids import AtTime, Head, Numbered, Prefix, RefName, Revision, parse_revision, ref_name, short
from tests.unit.helpers import examples

MAIN = RefName("main")
NOON = 1_795_168_800_000_000_000
"""2026-11-20T10:00:00Z."""


@pytest.mark.parametrize("name", ["main", "a", "feature-1", "v1.0", "ä", "a b", "x" * 200, "ä" * 100, "head", "12"])
def test_a_good_name_is_taken_as_it_is(name: str) -> None:
    """P3."""
    assert ref_name(name) == name
    assert parse_revision(name) == Head(RefName(name))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".ana", "-f", "a/b", "a@b", "a:b", "a\0", "a\nb", "\x7f", "x" * 201, "ä" * 101, "\udcff"],
)
def test_a_bad_name_is_refused_with_the_rule(name: str) -> None:
    """P3."""
    with pytest.raises(UsageError) as caught:
        ref_name(name)
    assert "1 to 200 bytes" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "revision"),
    [
        ("main", Head(MAIN)),
        ("main@head", Head(MAIN)),
        ("main@0", Numbered(MAIN, 0)),
        ("main@12", Numbered(MAIN, 12)),
        ("main@012", Numbered(MAIN, 12)),
        ("main@2026-11-20T10:00:00Z", AtTime(MAIN, NOON)),
        ("main@2026-11-20T100000Z", AtTime(MAIN, NOON)),
        ("main@2026-11-20T100000.5Z", AtTime(MAIN, NOON + 500_000_000)),
        ("main@2026-11-20T10:00:00.000000001Z", AtTime(MAIN, NOON + 1)),
        ("main@2026-11-20", AtTime(MAIN, NOON - 36_000_000_000_000)),
        ("main@1969-12-31T23:59:59Z", AtTime(MAIN, -1_000_000_000)),
        ("@3f9a", Prefix("3f9a")),
        ("@3F9AC2E1", Prefix("3f9ac2e1")),
        ("@" + "0" * 64, Prefix("0" * 64)),
    ],
)
def test_a_revision_is_a_name_a_number_a_time_or_the_start_of_an_id(text: str, revision: Revision) -> None:
    """P6."""
    assert parse_revision(text) == revision


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "main@", "main@x", "main@-1", "main@1.5", "main@12 ", "main@²", "main@HEAD", "main@1@2", ".main@1",
        "main@2026-13-01", "main@2026-02-30", "main@0000-01-01", "main@2026-11-20T10:00:00", "main@2026-11-20T250000Z",
        "main@2026-11-20T100060Z", "main@2026-11-20T100000.Z", "main@2026-11-20T100000.1234567890Z", "main@2026-11",
        "@3f9", "@3f9g", "@" + "0" * 65, "@3f9ac2e1@1", "main@" + "9" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_revision(text)


@given(st.text(alphabet="abcmain@head0123456789-T:Z.²٣\n", max_size=40))
@examples(500)
def test_every_text_is_a_revision_or_refused(text: str) -> None:
    try:
        revision = parse_revision(text)
    except UsageError:
        return
    assert not isinstance(revision, Numbered) or revision.number >= 0


def test_people_read_the_first_eight_digits_of_an_id() -> None:
    assert short(bytes.fromhex("3f9ac2e1" + "00" * 28)) == "3f9ac2e1"
