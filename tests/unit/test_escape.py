"""Names and messages as people may see them."""

import json

import pytest

from anabranch.escape import show_json, show_name, show_path


def test_paths_never_disturb_a_terminal():
    assert show_path(b"a\nb\x1b\x7f\xff\\\xc3\xa4") == "a\\x0ab\\x1b\\x7f\\xff\\\\ä"
    assert show_path(b"\\x1b") != show_path(b"\x1b"), "no two paths look the same"


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x80", "\\u0080"), ("\x85", "\\u0085"), ("\x9b", "\\u009b"), ("\x9f", "\\u009f"), ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"), ("\u202a", "\\u202a"), ("\u202e", "\\u202e"), ("\u2066", "\\u2066"),
        ("\u2069", "\\u2069"),
    ],
)  # fmt: skip
def test_what_moves_a_cursor_or_turns_the_direction_is_escaped(character: str, shown: str):
    assert show_name(f"a{character}b") == f"a{shown}b"
    document = show_json(f'["a{character}b"]')
    assert document == f'["a{shown}b"]'
    assert json.loads(document) == [f"a{character}b"], "it says the same"


@pytest.mark.parametrize(
    "text", ["\xa0", "ünïcödé", "\u2027", "\u202f", "\u2065", "\u206a", "שלום", "名前", "🙂", "C:\\temp"]
)
def test_other_text_is_shown_as_it_is(text: str):
    assert show_name(text) == show_json(text) == text


def test_a_byte_that_is_not_utf_8_differs_from_the_control_character_of_its_number():
    assert show_path(b"\x85") == "\\x85"
    assert show_path("\x85".encode()) == "\\u0085"
