"""Overlay files that stay as they are at one instant, for whoever copies them, while programs go on writing.

No file that was there is deleted before the end, and bytes that are to be overwritten are first put aside, once, in the
file `before`, each with its place. Who copies a file and then puts those back over the copy has what it held at the
instant, however long the copying takes: bytes are put aside before they are overwritten. docs/format.md, "Backup".
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from anabranch.errors import RefusedError
from anabranch.worktree.content import Overlays
from anabranch.worktree.ranges import Ranges

BEFORE = "before"
_PLACE = struct.Struct("<QQI")
"""Number of the overlay file, offset, length; the bytes follow."""


class OverlayPin:
    """Overlay files as they were when this was made, until `release`. In the thread of the working trees."""

    def __init__(self, overlays: Overlays, directory: Path) -> None:
        if overlays.pin is not None:
            raise RefusedError("another backup is being made", hint="try again when it is done")
        self._overlays = overlays
        self._path = directory / BEFORE
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = overlays.next_number()
        self._kept: dict[int, Ranges] = {}
        self._doomed: list[int] = []
        self.failed: OSError | None = None
        """Why bytes could not be put aside: what is copied after that is not of the instant."""
        overlays.pin = self

    def keep(self, number: int, offset: int, length: int) -> None:
        """Put aside what a file holds in a range, before it is overwritten."""
        if number >= self._end or self.failed is not None:
            return
        ranges = self._kept.setdefault(number, Ranges())
        try:
            for start, end, held in list(ranges.walk(offset, offset + length)):
                if not held:
                    self._put(number, start, self._overlays.read(number, start, end - start))
        except OSError as error:  # not the fault of whoever writes
            self.failed = error
        ranges.add(offset, offset + length)

    def _put(self, number: int, offset: int, data: bytes) -> None:
        view = memoryview(_PLACE.pack(number, offset, len(data)) + data if data else b"")
        while view:
            view = view[os.write(self._file, view) :]

    def spares(self, number: int) -> bool:
        """Whether a file that is to be deleted stays until the end."""
        if number >= self._end:
            return False
        self._doomed.append(number)
        return True

    def release(self) -> None:
        """Let go: programs' files are as ever."""
        self._overlays.pin = None
        for number in self._doomed:
            self._overlays.remove(number)
        os.close(self._file)
        self._path.unlink(missing_ok=True)


def put_aside(directory: Path) -> Iterator[tuple[int, int, bytes]]:
    """What was put aside so far: number, offset and bytes. One that is still being written is left out."""
    try:
        file = (directory / BEFORE).open("rb")
    except FileNotFoundError:
        return
    with file:
        while len(head := file.read(_PLACE.size)) == _PLACE.size:
            number, offset, length = _PLACE.unpack(head)
            data = file.read(length)
            if len(data) < length:
                return
            yield number, offset, data
