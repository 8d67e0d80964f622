"""Calls on streams of directories. A slot holds one stream beside its descriptor."""

import os

from tests.posix.calls import Held, Stream, call
from tests.posix.libc import DirectoryStream

Names = list[tuple[bytes, int]]


@call
def seekdir(held: Held, path: bytes, where: int) -> tuple[Names, bool, bool]:
    """List with types; then seek to where a name was, and rewind: is the rest the same as before?"""
    with DirectoryStream(path) as stream:
        places, listed = [stream.tell()], []
        while (name := stream.read()) is not None:
            listed.append(name)
            places.append(stream.tell())
        where %= len(places)
        stream.seek(places[where])
        sought = list(stream) == listed[where:]
        stream.rewind()
        return sorted(name for name in listed if name[0] not in (b".", b"..")), sought, list(stream) == listed


@call
def stream_open(held: Held, slot: int, path: bytes) -> None:
    """opendir(3); it stays open while others add and remove names. What was in the slot is closed."""
    directory = DirectoryStream(path)
    try:
        before = _names(directory)
    except OSError:
        directory.close()
        raise
    if slot in held.streams:
        held.streams.pop(slot).directory.close()
    held.streams[slot] = Stream(directory, before, [])


@call
def stream_read(held: Held, slot: int, count: int) -> None:
    """Some names more, after which the place is told, left, and sought."""
    stream = held.streams[slot]
    for _ in range(count):
        name = stream.directory.read()
        if name is not None:
            stream.seen.append(name[0])
    place = stream.directory.tell()
    stream.directory.read()
    stream.directory.seek(place)


@call
def stream_end(held: Held, slot: int) -> tuple[set[bytes], bool]:
    """The rest: which names that were there all the time are missing, and is none there twice?"""
    stream = held.streams.pop(slot)
    with stream.directory as directory:
        stream.seen.extend(name for name, _ in directory)
        stayed = stream.before & _names(directory)
    names = {name for name, _ in stayed}
    return names - set(stream.seen), len(set(stream.seen)) == len(stream.seen)


def _names(directory: DirectoryStream) -> set[tuple[bytes, int]]:
    """Names and numbers, by a stream of its own."""
    with os.scandir(f"/proc/self/fd/{directory.descriptor()}") as entries:
        return {(os.fsencode(entry.name), entry.inode()) for entry in entries}
