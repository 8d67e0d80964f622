"""The items of a listing, packed: a directory of a million names is held whole for each who lists it.

Names with what belongs to them are encoded a few hundred at a time, some 60 bytes each instead of 800, and decoded
again where somebody reads. One thread.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import msgspec

from anabranch.fuse.areas import Item
from anabranch.versions.objects import Entry
from anabranch.worktree.inodes import Inode

_BLOCK = 256
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, Entry | int | None]]).decode


class Packed(Sequence[Item]):
    """Items in order."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._blocks: list[bytes] = []
        self._count = 0
        self._number = -1
        """Of the block that was decoded last;"""
        self._block: list[Item] = []
        """and what is in it."""
        rest = iter(items)
        while block := list(islice(rest, _BLOCK)):
            self._blocks.append(_encode(block))
            self._count += len(block)

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        """One of them."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self._count))]
        number, within = divmod(range(self._count)[index], _BLOCK)
        if number != self._number:
            self._number, self._block = number, _items(self._blocks[number])
        return self._block[within]

    def __iter__(self) -> Iterator[Item]:
        """All of them."""
        for block in self._blocks:
            yield from _items(block)


def _items(block: bytes) -> list[Item]:
    return [(name, Inode(what) if isinstance(what, int) else what) for name, what in _decode(block)]
