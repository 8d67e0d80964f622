"""A disk that takes everything but the root of an LMDB file: then LMDB gives the file up."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def root_cannot_be_written(path: Path) -> Iterator[None]:
    """Inside, LMDB fails to write the root of a file: it has a descriptor for that alone, which is replaced."""
    (descriptor,) = (number for number in map(int, os.listdir("/proc/self/fd")) if _is_for_roots(number, path))
    kept, useless = os.dup(descriptor), os.open(path, os.O_RDONLY)
    os.dup2(useless, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(useless)


def _is_for_roots(descriptor: int, path: Path) -> bool:
    try:
        flags = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split("flags:")[1].split()[0]
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path) and bool(int(flags, 8) & os.O_DSYNC)
    except FileNotFoundError:
        return False
