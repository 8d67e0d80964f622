"""Reads everything that a repository has, one thing after the other: what each is, or that it is damaged.

Run as a program it is a process of its own, since a damaged page of LMDB's may end who reads it:
`python -m tests.rot.reader REPOSITORY` prints JSON, as far as it comes.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

from anabranch.errors import AnabranchError, DamagedError
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.versions.manifests import of
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import Version
from anabranch.worktree.inodes import Inode
from tests.unit.helpers import Branch

DAMAGED = "damaged"
NAMES = ("main", "kept", "exp", "ünï", "v1.0")
VERSIONS = {"main": 7, "kept": 2, "exp": 5, "ünï": 1, "v1.0": 1}
"""How many rows the log of each name has."""
SEEN = 2_000_000
"""Bytes that are read of a file."""
Item = tuple[str, str]


def versions(path: Path) -> Iterator[Item]:
    """Every version of every name, from a repository that is open for reading."""
    try:
        repository = Repository(path)
    except DamagedError:
        yield "open", DAMAGED
        return
    with repository:
        for tags in (False, True):
            yield f"names {tags}", _said(partial(_names, repository, tags))
        for name, count in VERSIONS.items():
            for number in range(count):
                yield from _version(repository, f"{name}@{number}")


def working_trees(path: Path) -> Iterator[Item]:
    """What is uncommitted, from a repository that is open for writing: this changes it."""
    try:
        repository = Repository(path, writable=True)
    except DamagedError:
        yield "open to write", DAMAGED
        return
    with repository:
        for name in ("main", "kept"):
            branch = Branch(repository, RefName(name))
            yield from _directory(branch, name, "")


def _version(repository: Repository, revision: str) -> Iterator[Item]:
    try:
        found = repository.resolve(revision)
        yield revision, f"{found.id.hex()} {found.commit.message}"
        version = repository.version(found.id)
    except DamagedError:
        yield revision, DAMAGED
        return
    except AnabranchError as error:
        yield revision, type(error).__name__
        return
    yield from _tree(repository, version, revision, version.root)


def _tree(repository: Repository, version: Version, path: str, entry: Entry) -> Iterator[Item]:
    names: list[str] = []
    try:
        for name, child in version.trees.entries(entry.tree):
            names.append(name.hex())
            below = f"{path}/{name.hex()}"
            yield below, _said(partial(_entry, repository, version, child))
            if child.kind is EntryKind.DIRECTORY:
                yield from _tree(repository, version, below, child)
    except DamagedError:
        yield f"{path}/", DAMAGED
    else:
        yield f"{path}/", str(names)


def _names(repository: Repository, tags: bool) -> str:
    return str([ref.name for ref in repository.refs.all(tags=tags)])


def _entry(repository: Repository, version: Version, held: Entry) -> str:
    entry, _ = version.resolve(held)
    attributes = (entry.kind.name, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size)
    content = b"" if entry.kind is EntryKind.DIRECTORY else entry.content
    if entry.kind is EntryKind.FILE:
        content = repository.contents.read_all(of(entry), 0, SEEN)
    return f"{attributes} {repository.xattrs(entry)} {sha256(content).hexdigest()}"


def _directory(branch: Branch, path: str, inside: str) -> Iterator[Item]:
    try:
        ino = branch.find(inside)
        names = [name for name, _ in branch.tree.entries(ino)]
        yield f"{path}/", str(names)
    except DamagedError:
        yield f"{path}/", DAMAGED
        return
    for name in names:
        below = f"{inside}/{name.decode(errors='surrogateescape')}"
        yield f"{path}/{name.hex()}", _said(partial(_inode, branch, below))
        try:
            is_directory = branch.tree.getattr(branch.find(below)).kind == EntryKind.DIRECTORY
        except DamagedError:
            continue
        if is_directory:
            yield from _directory(branch, f"{path}/{name.hex()}", below)


def _inode(branch: Branch, path: str) -> str:
    ino: Inode = branch.find(path)
    at = branch.tree.getattr(ino)
    content = b""
    if at.kind == EntryKind.FILE:
        content = branch.loaded(lambda: branch.tree.read(ino, 0, SEEN))
    elif at.kind == EntryKind.SYMLINK:
        content = branch.tree.readlink(ino)
    attributes = (at.kind.name, at.mode, at.uid, at.gid, at.size, at.mtime_ns, at.links)
    return f"{attributes} {branch.tree.xattrs(ino)} {sha256(content).hexdigest()}"


def _said(read: Callable[[], str]) -> str:
    try:
        return read()
    except DamagedError:
        return DAMAGED


def wrong(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What was read otherwise than it is, or is silently not there; not what is damaged, nor below that."""
    if DAMAGED in (found.get("open"), found.get("open to write")):
        return []
    bad = {key for key, value in found.items() if value == DAMAGED}
    return [
        key
        for key, value in expected.items()
        if found.get(key) not in (value, DAMAGED) and not any(_covers(damaged, key) for damaged in bad)
    ] + [key for key in found.keys() - expected.keys() if found[key] != DAMAGED]


def _covers(damaged: str, key: str) -> bool:
    return key == damaged or key.startswith(damaged if damaged.endswith("/") else f"{damaged}/")


def main() -> None:
    """Print each thing as soon as it is read."""
    sys.setrecursionlimit(10_000)
    read = {"versions": versions, "working": working_trees}[sys.argv[1]]
    for item in read(Path(sys.argv[2])):
        print(json.dumps(item), flush=True)


if __name__ == "__main__":
    main()
