"""Single bits flipped all over a small repository. P35, P80."""

import json
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.errors import AnabranchError
from anabranch.fsck import check as checking
from anabranch.fsck import repair as repairing
from anabranch.fsck.findings import Finding, Report
from anabranch.store.layout import Layout
from tests.rot import reader
from tests.rot.world import Place, build, flip, places
from tests.unit.helpers import SEARCH, scratch

SEED = random.randrange(1 << 32) if SEARCH else 35
"""The same bits every time; with ANABRANCH_SEARCH other ones."""


class World:
    """The repository as it is when nothing is damaged, and copies of it to damage."""

    def __init__(self, directory: Path) -> None:
        self.layout = build(directory / "sound")
        self._copy = directory / "copy"
        self.versions = dict(reader.versions(self.fresh().path))
        self.working = dict(reader.working_trees(self.fresh().path))
        by_table: dict[str, list[Place]] = defaultdict(list)
        for place in places(self.layout):
            by_table[place.what.split()[0]].append(place)
        self.places = dict(by_table)

    def fresh(self) -> Layout:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.layout.path, self._copy)
        return Layout(self._copy)

    def damaged(self, file: Path, bit: int) -> Layout:
        layout = self.fresh()
        flip(layout.path / file.relative_to(self.layout.path), bit)
        return layout


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with scratch() as directory:
        yield World(directory)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a check run in this process: where only records are damaged, none ends it, and it is much quicker."""

    def here(where: str, part: Callable[..., Iterator[object]], *arguments: Any, **named: Any) -> Iterator[object]:
        try:
            yield from part(*arguments, **named)
        except (AnabranchError, OSError) as error:
            yield Finding(where, str(error))

    monkeypatch.setattr(checking, "apart", here)
    monkeypatch.setattr(repairing, "apart", here)


def check(layout: Layout, *, deep: bool = False) -> Report:
    return checking.check(layout, lambda *_: None, deep=deep, owned=False)


def chosen(world: World, count: int) -> Iterator[tuple[str, Place, int]]:
    """Bits of live records, each table as often as any other."""
    chance = random.Random(SEED)
    for number in range(count):
        table = sorted(world.places)[number % len(world.places)]
        place = chance.choice(world.places[table])
        yield table, place, place.bit(chance)


def test_a_sound_repository_has_no_damage(world: World, at_once: None) -> None:
    report = check(world.fresh(), deep=True)
    assert report.findings == []
    assert report.looked_at.versions == 7
    assert report.looked_at.chunks > 400


def damage_records(world: World, count: int) -> None:
    """P35, P80, P81: nobody reads anything wrong, it is found, and turned back."""
    for table, place, bit in chosen(world, count):
        what = f"bit {bit - 8 * place.start} of {place.what}"
        layout = world.damaged(place.file, bit)
        assert not reader.wrong(world.versions, dict(reader.versions(layout.path))), what
        assert not reader.wrong(world.working, dict(reader.working_trees(layout.path))), what
        layout = world.damaged(place.file, bit)
        assert check(layout).findings, f"missed: {what}"
        left, done = repairing.repair(layout, None, lambda *_: None, deep=True)
        assert left.findings == [], what
        assert done.mended, what
        assert done.lost == [], what
        assert dict(reader.versions(layout.path)) == world.versions, what
        if table != "journal" or bit < 8 * (place.length - 28):
            assert dict(reader.working_trees(layout.path)) == world.working, what


def test_a_flipped_bit_of_any_record_is_found_turned_back_and_never_read(world: World, at_once: None) -> None:
    damage_records(world, 24 * (SEARCH or 1))


def test_a_row_under_a_wrong_key_hides_no_other_that_lies_beside_it(world: World) -> None:
    """P35: LMDB looks for a key among sorted ones, so one that was changed sends it astray."""
    place = next(place for place in world.places["logs"] if place.what.startswith("logs b'exp") and "x04" in place.what)
    for bit in range(8 * place.start, 8 * (place.start + len("exp") + 9)):
        layout = world.damaged(place.file, bit)
        assert not reader.wrong(world.versions, dict(reader.versions(layout.path))), bit - 8 * place.start


@pytest.mark.slow
def test_many_flipped_bits_of_records_are_found_turned_back_and_never_read(world: World, at_once: None) -> None:
    damage_records(world, 3_000)


def damage_anything(world: World, count: int) -> None:
    """P35, P80: pages of LMDB's own, too. Each read is a process of its own, as it may end it."""
    chance = random.Random(SEED)
    files = [world.layout.meta, world.layout.index, *world.layout.volumes.glob("*.mdb"), *journals(world.layout)]
    for _ in range(count):
        file = chance.choice(files)
        bit = chance.randrange(8 * file.stat().st_size)
        what = f"bit {bit} of {file.name}"
        failed = False
        for sort, expected in (("versions", world.versions), ("working", world.working)):
            found, code = read_apart(sort, world.damaged(file, bit).path)
            failed = failed or code != 0 or found != expected
            if code == 0:
                assert not reader.wrong(expected, found), what
            else:  # what it had said before it was ended
                assert not [key for key, value in found.items() if expected.get(key, value) not in (value,)], what
        if failed:
            assert check(world.damaged(file, bit)).findings, f"missed: {what}"


def journals(layout: Layout) -> list[Path]:
    return list(layout.journal.iterdir())


def read_apart(sort: str, path: Path) -> tuple[dict[str, str], int]:
    command = [sys.executable, "-m", "tests.rot.reader", sort, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=Path.cwd())
    assert ended.returncode <= 0, ended.stderr
    return dict(json.loads(line) for line in ended.stdout.splitlines() if line.endswith("]")), ended.returncode


def test_a_flipped_bit_anywhere_is_never_read_and_found_if_anybody_could_meet_it(world: World) -> None:
    damage_anything(world, 5 * (SEARCH or 1))


@pytest.mark.slow
def test_many_flipped_bits_anywhere_are_never_read(world: World) -> None:
    damage_anything(world, 300)
