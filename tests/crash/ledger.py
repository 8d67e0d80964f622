"""A ledger: what a program began on the mount, and what it was told is done. One file a program, never on the mount.

Only the machine under the mount crashes in these tests, the ledger's does not: its lines need no fsync.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Op = dict[str, Any]
"""What a program does in one step, by name: `{"do": "write", "path": "a", "size": 7, "seed": 1, "sync": True}`."""


@dataclass
class Record:
    """One step: when it began, and when it was acknowledged, in nanoseconds of the machine's monotonic clock."""

    op: Op
    begun: int
    ended: int | None = None
    said: Op = field(default_factory=dict)


class Writer:
    """The program's side."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._begun = 0

    def begin(self, op: Op) -> None:
        """Say what is about to be asked for."""
        self._line({"begin": op})

    def end(self, **said: Any) -> None:
        """Say that it is done, and what is known since."""
        self._line({"end": said})

    def failed(self, why: str) -> None:
        """The last line: the mount is gone."""
        self._line({"failed": why})

    def _line(self, line: Op) -> None:
        os.write(self._descriptor, json.dumps({"at": time.monotonic_ns(), **line}).encode() + b"\n")


@dataclass
class Ledger:
    """The judge's side."""

    records: list[Record]
    failed: tuple[int, str] | None
    """When and why the program found the mount gone."""


def read(path: Path, *, until: float = float("inf")) -> Ledger:
    """What a program has written. What was acknowledged at `until` or later counts as not acknowledged."""
    ledger = Ledger([], None)
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if "begin" in line:
            ledger.records.append(Record(line["begin"], line["at"]))
        elif "end" in line:
            if line["at"] < until:
                ledger.records[-1].ended, ledger.records[-1].said = line["at"], line["end"]
        else:
            ledger.failed = line["at"], line["failed"]
    return ledger
