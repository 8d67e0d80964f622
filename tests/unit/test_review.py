"""What a review found, and what was mended there."""

import pytest

from anabranch.errors import DamagedError, UsageError
from anabranch.repo import MESSAGE_MAX
from anabranch.store.codec import encode
from anabranch.store.records import MAX_RAW, Kind, frame, object_id
from anabranch.versions.objects import ENTRY
from tests.unit.helpers import Branch


def test_a_record_that_no_reader_would_take_is_not_made() -> None:
    raw = bytes(MAX_RAW + 1)
    with pytest.raises(ValueError, match="more than a record may hold"):
        frame(Kind.COMMIT, object_id(Kind.COMMIT, raw), raw)


def test_a_message_that_is_too_long_is_refused_and_the_branch_can_be_read_as_before(main: Branch) -> None:
    main.write("file", b"content")
    with pytest.raises(UsageError, match="message"):
        main.commit("x" * (MAX_RAW + 1))
    assert main.changed() == [("added", "file")]
    assert main.commit("x" * MESSAGE_MAX) == 1
    assert len(main.repository.resolve("main").commit.message) == MESSAGE_MAX


def test_a_message_that_is_no_text_is_refused(main: Branch) -> None:
    main.write("file", b"content")
    with pytest.raises(UsageError, match="UTF-8"):
        main.commit("a\udcff")


def test_values_that_are_nested_too_deeply_are_damage() -> None:
    fields = encode((1, 0o644, 0, 0, 0, 0, 0, b"", None))[1:]
    with pytest.raises(DamagedError):
        ENTRY.decode(b"\x9a" + fields + b"\x91" * 200_000 + b"\xc0")
