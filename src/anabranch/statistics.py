"""How much a repository holds, and how much of it had to be stored: counted, and measured on the disk. Only reads."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from anabranch.history import VersionName
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.store.layout import FORMAT, Layout
from anabranch.versions.objects import Commit, Tag, get_commit

SAMPLE = 2_000
"""Chunks that are looked at: of more, so many are measured and stand for all."""
_BLOCK = 512
"""What stat(2) counts in."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The room that the parts of a repository take on the disk, in bytes; holes take none."""

    volumes: int
    index: int
    meta: int
    journal: int
    overlays: int
    reserve: int
    all: int
    """These, and what little there is besides."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """The distinct chunks: how many, and their bytes before and after compression."""

    count: int
    raw: int
    stored: int
    exact: bool
    """Whether `raw` was counted; else it is what a sample says."""

    @property
    def compression(self) -> float | None:
        """How many bytes were made one; None without any."""
        return self.raw / self.stored if self.stored else None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a repository comes to."""

    path: Path
    format: int
    head: VersionName
    """The last version of the default branch,"""
    files: int
    bytes: int
    """and what it holds; each hard-linked file once."""
    branches: int
    tags: int
    versions: int
    """Distinct commits that a branch's log or a tag names."""
    version_bytes: int
    """What they hold, each for itself."""
    disk: Disk
    chunks: Chunks

    @property
    def deduplication(self) -> float | None:
        """How many bytes of versions are one in a chunk; None without chunks."""
        return self.version_bytes / self.chunks.raw if self.chunks.raw else None


def statistics(repository: Repository) -> Statistics:
    """Look at a repository. Reads each version's head, not its files. Raises DamagedError, OSError."""
    head = repository.resolve(repository.default_branch())
    commits = _commits(repository)
    return Statistics(
        path=repository.layout.path,
        format=FORMAT,
        head=head,
        files=head.commit.root.tag(Tag.FILES),
        bytes=_bytes(repository, head.commit),
        branches=len(repository.refs.all(tags=False)),
        tags=len(repository.refs.all(tags=True)),
        versions=len(commits),
        version_bytes=sum(_bytes(repository, get_commit(repository.objects, commit)) for commit in commits),
        disk=_disk(repository.layout),
        chunks=_chunks(repository),
    )


def _commits(repository: Repository) -> set[ObjectId]:
    commits = {ref.commit for ref in repository.refs.all(tags=True)}
    for ref in repository.refs.all(tags=False):
        commits.update(ObjectId(row.commit) for _, row in repository.refs.log(ref.name) if not row.ends)
    return commits


def _bytes(repository: Repository, commit: Commit) -> int:
    return commit.root.size + repository.trees.link_totals(ObjectId(commit.links)).bytes


def _chunks(repository: Repository) -> Chunks:
    count, stored = repository.chunks.count(), repository.chunks.stored()
    sizes = list(repository.chunks.sizes(SAMPLE))
    raw, compressed = sum(before for before, _ in sizes), sum(after for _, after in sizes)
    if count <= SAMPLE:
        return Chunks(count, raw, compressed, exact=True)
    return Chunks(count, round(stored * raw / compressed), stored, exact=False)


def _disk(layout: Layout) -> Disk:
    return Disk(
        volumes=_room(layout.volumes),
        index=_room(layout.index),
        meta=_room(layout.meta),
        journal=_room(layout.journal),
        overlays=_room(layout.overlays),
        reserve=_room(layout.reserve),
        all=_room(layout.path),
    )


def _room(top: Path) -> int:
    """The room of a file, or of a directory with everything in it."""
    below = (Path(path, name) for path, *names in os.walk(top) for name in chain(*names))
    return sum(map(_blocks, chain([top], below)))


def _blocks(path: Path) -> int:
    """What was deleted meanwhile takes none."""
    try:
        return path.lstat().st_blocks * _BLOCK
    except FileNotFoundError:
        return 0
