"""Rebuilding the index from the volumes. Only for the owner of the repository, with no store of it open.

The new index is written beside the old one and takes its place at the end, so a crash leaves the old one or the new
one. What is damaged is told and left out; everything else is indexed. Memory is bounded by BATCH_ROWS places and the
window of a scan. Of several records of one chunk (a crash between volume and index leaves such) the last one counts.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError
from anabranch.ids import ObjectId
from anabranch.store.index import NAME, Index
from anabranch.store.replace import new_file, remove_new, replace
from anabranch.store.scan import Found, Lost, scan
from anabranch.store.volumes import LOG_MAX, Place, Volumes

BATCH_ROWS = 100_000
"""So many places are sorted at a time, which takes about 40 MB."""

Progress = Callable[[int, int], None]
"""Told from time to time how many bytes were scanned, of how many in all."""


class Damage(msgspec.Struct, frozen=True):
    """A stretch of a volume's log without an intact record."""

    volume: int
    position: int
    end: int
    why: str

    def __str__(self) -> str:
        """`volume 0, from 512 to 70120: no intact record`."""
        return f"volume {self.volume}, from {self.position} to {self.end}: {self.why}"


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuilding came to. `lost` chunks were in the old index, as far as that could be read, and are in no
    volume.
    """

    chunks: int
    volumes: int
    damaged: list[Damage]
    lost: int = 0


def rebuild(directory: Path, progress: Progress) -> Rebuilt:
    """Make the index of a repository anew."""
    remove_new(directory / NAME)
    volumes = Volumes(directory / "volumes", writable=True)
    try:
        index = Index(directory, writable=True, create=True, name=new_file(directory / NAME).name)
        try:
            damaged = _fill(index, volumes, progress)
            lost = max(_count_old(directory) - index.count(), 0)
            rebuilt = Rebuilt(index.count(), len(volumes.numbers()), damaged, lost)
        finally:
            index.close()
        replace(directory / NAME)
        return rebuilt
    except BaseException:
        remove_new(directory / NAME)
        raise
    finally:
        volumes.close()


def _count_old(directory: Path) -> int:
    try:
        index = Index(directory, writable=False, create=False)
    except (DamagedError, OSError):
        return 0
    try:
        return index.count()
    except DamagedError:
        return 0
    finally:
        index.close()


def _fill(index: Index, volumes: Volumes, progress: Progress) -> list[Damage]:
    numbers = volumes.numbers()
    total = sum(volumes.size(number) for number in numbers)
    before = 0
    damaged: list[Damage] = []
    batch: dict[ObjectId, Place] = {}
    for number, items in walk(volumes):
        for item in items:
            progress(before + item.end, total)
            if isinstance(item, Damage):
                damaged.append(item)
                continue
            batch[item.identity] = Place(number, item.position, item.length)
            if len(batch) >= BATCH_ROWS:
                index.put(batch.items())
                batch.clear()
        if number in numbers:
            before += volumes.size(number)
    index.put(batch.items())
    return damaged


def walk(
    volumes: Volumes, part: Callable[[int], tuple[int, int]] = lambda _: (0, LOG_MAX)
) -> Iterator[tuple[int, Iterator[Found | Damage]]]:
    """The volumes by number, and of each what it holds: all of it, or where its log's `part` starts and ends.

    A volume is damage that is missing, cannot be opened, or is empty although others follow.
    """
    numbers = volumes.numbers()
    for number in range(numbers[-1] + 1 if numbers else 0):
        if number not in numbers:
            yield number, iter([Damage(number, 0, 0, "the volume is missing")])
        else:
            yield number, _items(volumes, number, part, is_last=number == numbers[-1])


def _items(
    volumes: Volumes, number: int, part: Callable[[int], tuple[int, int]], *, is_last: bool
) -> Iterator[Found | Damage]:
    item: Found | Lost | None = None
    start = 0
    try:
        start, end = part(number)
        for item in scan(volumes.blocks(number, start, end), start):
            yield Damage(number, item.position, item.end, "no intact record") if isinstance(item, Lost) else item
    except DamagedError as error:
        yield Damage(number, 0, 0, error.message)
        return
    if item is None and not start and not is_last:
        yield Damage(number, 0, 0, "the volume is empty")
