"""Calls on mappings. A slot holds one mapping beside its descriptor."""

import ctypes
import mmap
import os
import resource
from collections.abc import Callable
from typing import Any

from tests.posix.calls import Held, Mapping, Row, call, pattern, row, shown
from tests.posix.libc import MS_SYNC, done, libc


@call
def map_file(held: Held, slot: int, size: int, shared: bool, writable: bool) -> None:
    """mmap(2) from the beginning on; it may be longer than the file."""
    descriptor = held.descriptors[slot]
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    address = done(libc.mmap(None, size, protection, mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, descriptor, 0))
    if slot in held.mappings:
        held.mappings.pop(slot).unmap()
    inode = os.open(f"/proc/self/fd/{descriptor}", os.O_PATH)  # the file itself may be closed, and the mapping stays
    held.mappings[slot] = Mapping(address, size, inode, writable)


@call
def load(held: Held, slot: int, offset: int, size: int) -> Any:
    mapping = held.mappings[slot]
    if offset + size > mapping.size:
        return "there is other memory"
    if not mapping.has(offset, size):
        return _in_a_child(lambda: ctypes.string_at(mapping.address + offset + size - 1, 1))
    return shown(ctypes.string_at(mapping.address + offset, size))


@call
def store(held: Held, slot: int, seed: int, offset: int, size: int) -> tuple[Any, Row]:
    """What became of it, and of which file."""
    mapping = held.mappings[slot]
    data, result = pattern(seed, size), None
    if offset + size > mapping.size:
        pass
    elif mapping.writable and mapping.has(offset, size):
        ctypes.memmove(mapping.address + offset, data, size)
    else:
        result = _in_a_child(lambda: ctypes.memset(mapping.address + offset + size - 1, 0, 1))
    return result, row(os.fstat(mapping.inode))


@call
def msync(held: Held, slot: int) -> None:
    mapping = held.mappings[slot]
    done(libc.msync(mapping.address, mapping.size, MS_SYNC))


@call
def munmap(held: Held, slot: int) -> None:
    held.mappings.pop(slot).unmap()


def _in_a_child(touch: Callable[[], object]) -> int:
    """The signal that ends a process that does this."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        touch()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
