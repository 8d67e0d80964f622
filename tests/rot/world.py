"""A small repository that has some of everything, at rest, and where the bits of its live records lie."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anabranch.ids import RefName
from anabranch.store.env import Environment
from anabranch.store.index import Index
from anabranch.store.layout import Layout
from anabranch.store.meta import TABLES
from anabranch.store.replace import compact
from anabranch.store.volumes import BLOCK, Volumes
from tests.fixtures.format1 import fill
from tests.unit.helpers import Branch, make_repository, random_bytes

LARGE = 3_000_000


def build(path: Path) -> Layout:
    """History of every kind, uncommitted changes in the tables, later ones in the journal; no free pages anywhere."""
    with make_repository(path) as repository:
        fill(repository)
        main, kept = Branch(repository), Branch(repository, RefName("kept"))
        main.write("noise", random_bytes(1, LARGE))
        ino = main.find("noise")
        main.tree.set_xattr(ino, b"user.long", random_bytes(2, 1_000))
        main.tree.set_xattr(ino, b"user.short", b"value")
        main.commit("attributes")
        repository.configure("author", "Ann", "me")
        _work(main, "in the tables", 10)
        _work(kept, "in the tables, too", 10)
        repository.settle_down()
        _work(main, "in the journal", 20)
        repository.save()
        _work(kept, "in the journal, later", 20)
        repository.save()
    layout = Layout(path)
    for file in (layout.meta, layout.index, *layout.volumes.glob("*.mdb")):
        compact(file)
    return layout


def _work(branch: Branch, folder: str, first: int) -> None:
    branch.mkdir(folder)
    for number in range(20):
        branch.write(f"{folder}/{number}", b"%d" % number * 500)
    branch.write(f"{folder}/large", random_bytes(3, 200_000))
    branch.link(f"{folder}/1", f"{folder}/another name")
    branch.write("long", b"overwritten", 100_000)
    branch.unlink(f"many/{first:05}")
    branch.rename(f"many/{first + 1:05}", f"{folder}/moved")
    branch.chmod("inline", 0o600)
    branch.tree.set_xattr(branch.find("one byte"), b"user.k", b"v")


@dataclass(frozen=True)
class Place:
    """A stretch of a file that a live record has."""

    file: Path
    start: int
    length: int
    what: str

    def bit(self, chance: random.Random) -> int:
        """One of its bits, counted from the start of the file."""
        return 8 * self.start + chance.randrange(8 * self.length)


def places(layout: Layout) -> Iterator[Place]:
    """Every live row and record."""
    yield from _rows(layout.meta, TABLES)
    yield from _rows(layout.index, ["chunks"])
    for file in sorted(layout.journal.iterdir()):
        yield Place(file, 0, file.stat().st_size, "journal")
    index, volumes = Index(layout.path, writable=False, create=False), Volumes(layout.volumes, writable=False)
    try:
        for identity, place in index.rows():
            assert isinstance(place, tuple)
            start = volumes.read(place._replace(length=min(place.length, BLOCK - place.position % BLOCK)))
            file = layout.volumes / f"{place.volume:06}.mdb"
            yield Place(file, file.read_bytes().index(start), len(start), f"chunk {identity.hex()}")
    finally:
        volumes.close()
        index.close()


def _rows(file: Path, tables: list[str] | tuple[str, ...]) -> Iterator[Place]:
    raw = file.read_bytes()
    environment = Environment(file, tables, writable=False, create=False)
    try:
        for table in tables:
            for key, value in list(environment.scan(table)):
                together = raw.find(key + value)
                if together >= 0:
                    yield Place(file, together, len(key + value), f"{table} {key!r}")
                else:  # a value that has pages of its own
                    yield Place(file, raw.index(value), len(value), f"{table} {key!r}")
    finally:
        environment.close()


def flip(file: Path, bit: int) -> None:
    """Make one bit of a file another one."""
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        (byte,) = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))
