"""What an import stores is what programs would have stored, and it comes out as it went in. P39."""

import os
import random
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from anabranch.repo import Repository
from anabranch.testing import consistency
from anabranch.transfer import building, export, export_tar, folder, tar
from anabranch.transfer.sieve import Sieve
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.trees import Version
from anabranch.worktree.ignore import Rules
from anabranch.worktree.tree import AttributeChanges
from tests.harness import snapshot
from tests.unit.helpers import MAIN, WHO, Branch, examples, make_repository, scratch

ALL = Sieve(Rules(), lambda _: True)
"""Leaves nothing out."""

DRESS = building.directory(0o755, 0, 0, 0)
NAMES = st.one_of(st.sampled_from([b"a", b"b", b"\xff\xfe", b"n" * 255]), st.binary(min_size=1, max_size=4)).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..", b".ana")
)
CONTENTS = st.one_of(
    st.binary(max_size=600),
    st.tuples(st.integers(0, 9), st.sampled_from([513, 70_000, 1 << 20, (1 << 20) + 1, 3_000_000])).map(
        lambda drawn: random.Random(drawn[0]).randbytes(drawn[1])
    ),
    st.sampled_from([bytes(300_000), bytes(2_000_000)]),
)
TARGETS = st.binary(min_size=1, max_size=5).filter(lambda target: b"\0" not in target)


class Hole(int):
    """A sparse file with a few bytes in its middle."""


class Again(int):
    """Another name of a file that was made before."""


TREES = st.recursive(
    CONTENTS | st.integers(1, 9_000_000).map(Hole) | TARGETS.map(lambda it: [it]) | st.integers(0, 9).map(Again),
    lambda below: st.dictionaries(NAMES, below, max_size=5),
    max_leaves=12,
)
FOLDERS = st.dictionaries(NAMES, TREES, max_size=5)


def make(place: bytes, what: object, files: list[bytes], number: int = 0) -> None:
    """Make what was drawn, with times, permissions and owners of its own."""
    if isinstance(what, dict):
        os.mkdir(place)
        for each, (name, below) in enumerate(what.items(), number * 7 + 1):
            make(place + b"/" + name, below, files, each)
    elif isinstance(what, list):
        os.symlink(what[0], place)
    elif isinstance(what, Again) and files:
        os.link(files[what % len(files)], place, follow_symlinks=False)
        return
    else:
        with open(place, "wb") as file:
            if isinstance(what, Hole):
                file.truncate(what)
                file.seek(what // 2)
                file.write(b"data")
            elif isinstance(what, bytes):
                file.write(what)
        files.append(place)
    if not isinstance(what, list):
        os.chmod(place, 0o700 | number % 0o100)
    if os.geteuid() == 0:
        os.chown(place, number % 5, number % 3, follow_symlinks=False)
    os.utime(place, ns=(0, 1_500_000_000_000_000_001 + number * 10**9 - number), follow_symlinks=False)


def write_in(main: Branch, place: Path, path: str) -> None:
    """Write a folder through the working tree, as programs would, in another order than an import."""
    of = place.lstat()
    kind = EntryKind.DIRECTORY if place.is_dir() and not place.is_symlink() else EntryKind.FILE
    if place.is_symlink():
        main.make(path, EntryKind.SYMLINK, 0o777, target=os.fsencode(os.readlink(place)))
    else:
        main.make(path, kind)
    if kind is EntryKind.DIRECTORY:
        for child in sorted(place.iterdir(), reverse=True):
            write_in(main, child, f"{path}/{child.name}")
    elif not place.is_symlink():
        data = place.read_bytes()
        for start in range(0, len(data), 700_000):
            main.write(path, data[start : start + 700_000], start)
    mode = None if place.is_symlink() else of.st_mode & 0o7777
    changes = AttributeChanges(mode=mode, uid=of.st_uid, gid=of.st_gid, mtime_ns=of.st_mtime_ns)
    main.tree.setattr(main.find(path), changes)


def put(repository: Repository, version: Version) -> Version:
    """Give the branch what was imported, and commit it; the version that is committed."""
    repository.restore(MAIN, version, [b"x"])
    done = repository.commit(MAIN, "imported", WHO)
    return repository.version(done.id)


def without_links(tree: object) -> object:
    """What was drawn, without further names of a file: link ids are drawn by lot."""
    if isinstance(tree, dict):
        return {name: without_links(below) for name, below in tree.items() if not isinstance(below, Again)}
    return tree


def take(repository: Repository, source: Path) -> Entry:
    """Import a folder as x; its entry."""
    taken = folder.take_folder(repository, source, b"x", DRESS, ALL, lambda _: None)
    assert taken.failed == []
    return put(repository, taken.version).at(b"x")


@examples(60)
@given(tree=FOLDERS)
def test_an_import_comes_out_as_it_went_in(tree: dict[bytes, object]):
    """As a folder, and through a tar stream of its own and one of Python's."""
    with scratch() as place, make_repository(place / "repository") as repository:
        source = place / "source"
        make(os.fsencode(source), tree, [])
        expected = snapshot(source)
        top = take(repository, source)
        version = repository.version(repository.resolve(MAIN).id)
        done = export.to_directory(repository, version, top, place / "out", lambda _: None)
        assert done.failed == []
        assert snapshot(place / "out") == expected
        export_tar.to_file(repository, version, top, place / "ours.tar", lambda _: None)
        command: list[str | Path] = ["tar", "--sparse", "--format=pax", "-C", source, "-cf", place / "theirs.tar", "."]
        subprocess.run(command, check=True)
        for stream in ("ours", "theirs"):
            with (place / f"{stream}.tar").open("rb") as raw:
                taken = tar.take_tar(repository, raw, b"x", DRESS, ALL, lambda _: None)
            assert taken.failed == []
            again = taken.version
            export.to_directory(repository, again, again.at(b"x"), place / stream, lambda _: None)
            assert snapshot(place / stream) == expected
        consistency.check(repository)


@examples(60)
@given(tree=FOLDERS)
def test_an_import_stores_what_programs_would_have_stored(tree: dict[bytes, object]):
    """The same ids, of everything; but for hard links, whose ids are drawn by lot."""
    with scratch() as place:
        source = place / "source"
        make(os.fsencode(source), without_links(tree), [])
        with make_repository(place / "imported") as repository:
            taken = take(repository, source)
        with make_repository(place / "written") as repository:
            main = Branch(repository)
            write_in(main, source, "x")
            main.commit()
            assert repository.version(repository.resolve(MAIN).id).at(b"x") == taken
