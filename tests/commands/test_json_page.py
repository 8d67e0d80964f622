"""docs/json.md: its tables name the fields that its examples have. tests/test_documents.py has these be real."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from anabranch.cli.commands import COMMANDS, Later
from tests.consoles import blocks

PAGE = (Path(__file__).parents[2] / "docs/json.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]}
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(#([^)]*)\)")
PARTS = {
    "ana log": ["A version"], "ana show": ["A version", "ana show"], "ana tag": ["A name"], "ana config": ["A setting"],
    "ana branch": ["A name", "ana branch"],
}  # fmt: skip
"""Where the fields of a command are, if not in its own section alone."""
TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "number": (int, float),
    "boolean": bool,
    "list of text": list,
    "any": object,
}


def fields(*sections: str) -> dict[str, str]:
    """Of some sections' tables, each field's type."""
    return {name: kind for section in sections for name, kind in ROW.findall(SECTIONS[section])}


def check(value: Any, known: dict[str, str], where: str) -> None:
    """An object has the fields of the table, each of its type, and no others."""
    needed = {name for name, kind in known.items() if "may be missing" not in kind}
    assert needed <= value.keys() <= known.keys(), f"{where}: {sorted(value)}"
    for name, found in value.items():
        kind = known[name].removesuffix(", may be missing")
        link = LINK.search(kind)
        if link is None:
            assert found is None or isinstance(found, TYPES[kind]), f"{where}: {name}"
            continue
        section = next(title for title in SECTIONS if title.lower().replace(" ", "-") == link[1])
        for each in found if kind.startswith("list of") else [found]:
            if each is not None:
                check(each, fields(section), f"{where}.{name}")


def examples(command: str) -> list[Any]:
    """What a section's examples print, but for those that were cut off."""
    steps = [step for block in blocks(SECTIONS[command]) for step in block]
    return [json.loads(step.output) for step in steps if "--json" in step.command and " | " not in step.command]


COMMANDS_WITH_JSON = [
    f"ana {name}" for name in COMMANDS if "as_json" in {option.name for option in Later(name).load().params}
]


@pytest.mark.parametrize("command", COMMANDS_WITH_JSON)
def test_the_fields_of_a_command_are_those_of_its_table(command: str):
    known = fields(*PARTS.get(command, [command]))
    assert known
    for example in examples(command):
        for value in example if isinstance(example, list) else [example]:
            if "deleted" in value:
                check(value, fields("A deleted name"), command)
            elif command == "ana branch" and "current" not in value:
                check(value, fields("A name"), command)
            else:
                check(value, known, command)


def test_every_section_of_a_command_is_of_one_that_has_json():
    assert {title for title in SECTIONS if title.startswith("ana ")} == set(COMMANDS_WITH_JSON)
