"""What the kernel holds: inode numbers that it knows, and open files and directories.

What it knows costs memory here. Directories stay, since a process may stand in one; of files, those that it met the
longest ago are `cold` above a limit, and are to be taken from it again.
"""

from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

import trio

from anabranch.fuse.areas import ROOT, Area
from anabranch.fuse.packed import Packed
from anabranch.worktree.inodes import Inode


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    uid: int
    gid: int
    pid: int


class Writer(Protocol):
    """What becomes of what is written to one handle of a control file."""

    async def write(self, data: bytes) -> int:
        """Take a piece. What it raises is the error of the system call."""

    async def flush(self) -> None:
        """A descriptor was closed."""

    def release(self) -> None:
        """The handle is gone."""


@dataclass(slots=True, eq=False)
class Handle:
    """An open file. What it may do is bound when it is opened."""

    number: int
    area: Area
    ino: Inode
    caller: Caller
    writable: bool
    ahead: int = 0
    """Up to where chunks have been loaded ahead of reading, or are being loaded."""
    wanted: int = 0
    """Up to where they are to be loaded."""
    loading: trio.Event | None = None
    """While chunks are loaded ahead: set when the next of them are there."""
    text: bytes = b""
    """Of a control file: what reading gives."""
    writer: Writer | None = None
    """Of a control file that is open for writing."""


@dataclass(slots=True)
class Listing:
    """An open directory: its names as they were when it was opened or rewound; a place is an ordinal in them."""

    number: int
    area: Area
    ino: Inode
    items: Packed | None = None
    stamp: object = None


Place = tuple[Inode, bytes]
"""A name in a directory."""

COLD = 1024
"""At most so many names are taken from the kernel in one go."""


class Handles:
    """The tables of both kinds, and of known inodes with their lookup counts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = count(1)
        self._files: dict[int, Handle] = {}
        self._listings: dict[int, Listing] = {}
        self._known: dict[Inode, tuple[Area, int]] = {}
        self._places: dict[Inode, Place] = {}
        """Where the kernel met files, those that it met last at the end."""
        self._other_places: dict[Inode, set[Place]] = {}
        """Where else it met those of several names, or of names that were to be taken back while they were open."""
        self.too_many = trio.Event()
        """Set when more files are known than should be."""

    @property
    def opened(self) -> int:
        """How many files and directories are open."""
        return len(self._files) + len(self._listings)

    @property
    def known(self) -> int:
        """How many inodes the kernel knows."""
        return len(self._known)

    @property
    def crowded(self) -> bool:
        """Whether so many more files are known than should be that no more must come by listings: while one goes on,
        the kernel gives hardly any back.
        """
        return len(self._places) > 2 * self._limit

    def area(self, ino: Inode) -> Area | None:
        """The area of a known inode."""
        known = self._known.get(ino)
        return None if known is None else known[0]

    def path(self, ino: Inode) -> bytes:
        """The path of an inode below the mount's root, for messages: of a file perhaps one that it had before."""
        if ino == ROOT:
            return b""
        area = self.area(ino)
        path = None if area is None else area.path(ino)
        if path is not None:
            return path
        place = self._places.get(ino)
        return b"inode %d" % ino if place is None else self.path_of(*place)

    def places(self, ino: Inode) -> set[Place]:
        """Where the kernel met a file; some may have been removed since."""
        last, others = self._places.get(ino), self._other_places.get(ino, set())
        return others if last is None else others | {last}

    def path_of(self, parent: Inode, name: bytes) -> bytes:
        """The path of a name in a directory."""
        above = self.path(parent)
        return above + b"/" + name if above else name

    def remember(self, ino: Inode, area: Area, place: Place | None) -> None:
        """The kernel got the inode once more; a file under this name."""
        if place is not None:
            self._meet(ino, place)
            if len(self._places) > self._limit:
                self.too_many.set()
        known = self._known.get(ino)
        self._known[ino] = (area, 1 if known is None else known[1] + 1)
        if known is None:
            area.remembered(ino)

    def _meet(self, ino: Inode, place: Place) -> None:
        before = self._places.pop(ino, None)
        self._places[ino] = place
        if before is not None and before != place:
            self._other_places.setdefault(ino, set()).add(before)

    def moved(self, ino: Inode, before: Place, place: Place) -> None:
        """What the kernel knows has another name: at the old one there may be something else soon."""
        others = self._other_places.get(ino, set())
        others.discard(before)
        if self._places.get(ino) == before:
            self._places[ino] = place
        elif others or ino in self._places:
            self._meet(ino, place)

    def forget(self, ino: Inode, times: int) -> None:
        """The kernel gave the inode back so many times."""
        known = self._known.get(ino)
        if known is None:
            return
        area, left = known[0], known[1] - times
        if left > 0:
            self._known[ino] = (area, left)
        else:
            del self._known[ino]
            self._places.pop(ino, None)
            self._other_places.pop(ino, None)
            area.forgotten(ino)

    def cold(self) -> list[Place]:
        """Some of the names of files above the limit that nobody has open, told once; none when there are few."""
        excess = min(len(self._places) - self._limit, COLD)
        if excess <= 0:
            self.too_many = trio.Event()
            return []
        opened = {handle.ino for handle in self._files.values()}
        cold = []
        for ino in list(islice(self._places, excess)):
            place = self._places.pop(ino)
            if ino in opened:
                self._other_places.setdefault(ino, set()).add(place)
            else:
                cold.append(place)
        return cold

    def open(self, area: Area, ino: Inode, caller: Caller, *, writable: bool) -> Handle:
        """Open a file."""
        handle = Handle(next(self._numbers), area, ino, caller, writable)
        self._files[handle.number] = handle
        return handle

    def file(self, number: int) -> Handle:
        """An open file."""
        return self._files[number]

    def ino(self, number: int) -> Inode:
        """The inode of an open file or directory."""
        return (self._files.get(number) or self._listings[number]).ino

    def close(self, number: int) -> Handle:
        """Close a file."""
        return self._files.pop(number)

    def opendir(self, area: Area, ino: Inode) -> Listing:
        """Open a directory."""
        listing = Listing(next(self._numbers), area, ino)
        self._listings[listing.number] = listing
        return listing

    def listing(self, number: int) -> Listing:
        """An open directory."""
        return self._listings[number]

    def closedir(self, number: int) -> None:
        """Close a directory."""
        del self._listings[number]

    def is_open(self, ino: Inode) -> bool:
        """Whether a file is open."""
        return any(handle.ino == ino for handle in self._files.values())

    def open_in(self, area: Area) -> bool:
        """Whether a file of an area is open."""
        return any(handle.area is area for handle in self._files.values())

    def writing(self) -> set[Inode]:
        """The inodes that are open for writing, of any area."""
        return {handle.ino for handle in self._files.values() if handle.writable}

    def writers(self, area: Area) -> list[Inode]:
        """The inodes of an area that are open for writing."""
        return list({handle.ino for handle in self._files.values() if handle.writable and handle.area is area})
