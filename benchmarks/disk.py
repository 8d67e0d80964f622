"""Bytes on disk: those of a repository by kind of file, and those of other programs that store the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import lmdb

_COMMAND_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes: allocated, by kind of file; `apparent` is the sum of the lengths; `free` is within index and meta."""

    total: int
    apparent: int
    volumes: int
    index: int
    meta: int
    other: int
    free: int

    def __sub__(self, before: DiskUse) -> DiskUse:
        return DiskUse(*(getattr(self, field.name) - getattr(before, field.name) for field in fields(DiskUse)))


def disk_use(repository: Path) -> DiskUse:
    """What a repository takes on disk now."""
    kinds = {"volumes": 0, "index": 0, "meta": 0, "other": 0}
    apparent = 0
    for path, status in _files(repository):
        kinds[_kind(path, repository)] += status.st_blocks * 512
        apparent += status.st_size
    free = sum(map(_free, (repository / "index.mdb", repository / "meta.mdb")))
    return DiskUse(sum(kinds.values()), apparent, **kinds, free=free)


def allocated(folder: Path) -> int:
    """The bytes that the files below a folder take on disk."""
    return sum(status.st_blocks * 512 for _, status in _files(folder))


class Peer(ABC):
    """Another program that stores the same files, its repository in a folder of its own."""

    name: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder / self.name

    @classmethod
    def is_installed(cls) -> bool:
        return shutil.which(cls.name) is not None

    @abstractmethod
    def start(self) -> None:
        """Make an empty repository."""

    @abstractmethod
    def store(self, source: Path, number: int) -> int:
        """Store a folder as version `number`; returns the bytes that the repository then takes."""


class Restic(Peer):
    """restic, as it is without options."""

    name = "restic"

    def start(self) -> None:
        self._run("init")

    def store(self, source: Path, number: int) -> int:
        self._run("backup", str(source))
        return allocated(self._folder)

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"RESTIC_REPOSITORY": str(self._folder), "RESTIC_PASSWORD": "benchmark"}
        _run(["restic", "--quiet", "--no-cache", *arguments], environment)


class Borg(Peer):
    """Borg without encryption, with its zstd at level 1."""

    name = "borg"

    def start(self) -> None:
        self._run("init", "--encryption=none", str(self._folder))

    def store(self, source: Path, number: int) -> int:
        self._run("create", "--compression=zstd,1", f"{self._folder}::{number}", str(source))
        return allocated(self._folder)

    def _run(self, *arguments: str) -> None:
        own = {"BORG_BASE_DIR": f"{self._folder}-own", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        _run(["borg", *arguments], os.environ | own)


class Archive(Peer):
    """`tar | zstd -1` of everything, anew for each version: a yardstick for the first one."""

    name = "tar | zstd -1"

    @classmethod
    def is_installed(cls) -> bool:
        return bool(shutil.which("tar") and shutil.which("zstd"))

    def start(self) -> None:
        self._size = 0

    def store(self, source: Path, number: int) -> int:
        self._size += int(_run(["sh", "-c", 'tar -c -C "$0" . | zstd -1 -q | wc -c', str(source)], dict(os.environ)))
        return self._size


PEERS: tuple[type[Peer], ...] = (Restic, Borg, Archive)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            yield path, path.lstat()


def _kind(path: Path, repository: Path) -> str:
    first = path.relative_to(repository).parts[0].partition(".")[0]
    return first if first in ("volumes", "index", "meta") else "other"


def _free(path: Path) -> int:
    """The bytes of an LMDB file that hold nothing: pages that copy-on-write and deleting have let go."""
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_dbs=32) as environment:
        page = environment.stat()["psize"]
        free = environment.info()["last_pgno"] + 1 - 2  # two pages describe the file
        with environment.begin() as transaction:
            main = environment.stat()
            tables = [
                environment.open_db(bytes(key), transaction, create=False)
                for key in transaction.cursor().iternext(values=False)
            ]
            for statistics in (main, *(transaction.stat(table) for table in tables)):
                free -= sum(statistics[kind] for kind in ("branch_pages", "leaf_pages", "overflow_pages"))
    return int(free * page)


def _run(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=_COMMAND_SECONDS
    ).stdout
