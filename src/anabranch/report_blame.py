"""What people and scripts read of a blame: the version that last changed each name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anabranch.escape import show_name, show_path
from anabranch.report import Json, json_path, moment, version_json
from anabranch.versions.objects import EntryKind

if TYPE_CHECKING:
    from anabranch.history import Blame

_MESSAGE = 40
"""Characters of a message that are shown: names stand behind it."""


def blame_text(found: list[Blame]) -> Iterator[str]:
    """`main@12  2026-11-20 10:00:00 UTC  ann  the first line of the message  flights.csv`, in columns."""
    rows = [(*_version(each), show_path(each.name) + "/" * (each.kind is EntryKind.DIRECTORY)) for each in found]
    widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        columns = [f"{text:<{width}}" for text, width in zip(row, widths, strict=False)]
        yield "  ".join([*columns, row[-1]]) + "\n"


def _version(blame: Blame) -> tuple[str, str, str, str]:
    version, commit = blame.version, blame.version.commit
    message = show_name((commit.message or "(empty)").partition("\n")[0])
    short = message if len(message) <= _MESSAGE else message[: _MESSAGE - 3] + "..."
    return show_name(str(version)), moment(version.time_ns), show_name(commit.author or "-"), short


def blame_json(found: list[Blame]) -> list[Json]:
    """The same for scripts."""
    return [
        {**json_path(each.name), "kind": each.kind.name.lower(), "last_change": version_json(each.version)}
        for each in found
    ]
