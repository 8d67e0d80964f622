"""A merge, or a reset, that is cut short at any call of the system or of LMDB: killed there, or refused. P102.

Whatever happens, the branch is at the version before, with all that was not committed, or at the one after; never are
there files of one over the base of the other.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import pytest

from anabranch.errors import AnabranchError
from anabranch.ids import RefName
from anabranch.merging.proposal import Propose, conclude
from anabranch.moves import Move
from anabranch.repo import Repository
from anabranch.store import handles, layout
from anabranch.testing import consistency
from anabranch.versions.merge import unresolved
from anabranch.versions.refs import Operation
from anabranch.worktree import content, journal, space
from tests.faults import boundary
from tests.faults.boundary import Boundaries
from tests.faults.switch import ALWAYS, Kind, Switch
from tests.harness import Completed, Mount, done, snapshot, wait_for
from tests.unit.helpers import MAIN, WHO, Branch, make_repository, random_bytes
from tests.unit.test_moves_machine import Shown, shown

EXP = RefName("exp")
FILES = ("small", "large", "d/a", "d/e/b", "gone/c")


WRITING = frozenset(
    (
        *(f"overlay.{call}" for call in ("pwrite", "fdatasync", "fsync")),
        *(f"journal.{call}" for call in ("open", "pwrite", "fdatasync", "ftruncate", "fsync")),
        *(f"meta.{call}" for call in ("put", "delete", "commit")), "space.statvfs",
    )
)  # fmt: skip
"""What a disk that is full, or read-only, refuses for long. One that cannot be read for long is another matter."""


class Killed(BaseException):
    """Nothing of this process runs any more."""


class Point:
    """The n-th call, from when it was set on, fails or is the last; 0: none, they are counted."""

    def __init__(self) -> None:
        self.calls = self.first = self.times = 0
        self.error: Callable[[str], BaseException] = lambda _: Killed()
        self.names: frozenset[str] = frozenset()
        self.seen: list[str] = []

    def set(
        self,
        first: int,
        error: Callable[[str], BaseException],
        times: int = ALWAYS,
        names: frozenset[str] = frozenset(),
    ) -> None:
        """Of some names, or of all."""
        self.calls, self.first, self.error, self.times, self.names = 0, first, error, times, names
        self.seen.clear()

    def hit(self, name: str) -> Kind | None:
        if self.names and name not in self.names:
            return None
        self.calls += 1
        self.seen.append(name)
        if self.first and self.first <= self.calls < self.first + self.times:
            raise self.error(name)
        return None


def disk_error(name: str) -> BaseException:
    if name.startswith("meta"):
        return lmdb.Error("injected: Input/output error")
    return OSError(errno.EIO, os.strerror(errno.EIO))


def full(name: str) -> BaseException:
    if name.startswith("meta"):
        return lmdb.MapFullError("injected")
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def foreseen_by_nobody(_: str) -> BaseException:
    return MemoryError("injected")


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Iterator[Point]:
    """Where the next move ends."""
    made = Point()
    boundaries = Boundaries(made)  # type: ignore[arg-type]  # it has all of a switch that is asked for
    open_environment: Any = lmdb.open

    def opened(path: str, **named: Any) -> Any:
        place = {"meta.mdb": "meta"}.get(Path(path).name)
        environment = open_environment(path, **named)
        return environment if place is None else boundary._Environment(environment, place, boundaries)

    for module, place, calls in (
        (content, "overlay", ("open", "pwrite", "pread", "fdatasync", "fsync")),
        (journal, "journal", ("open", "pwrite", "fdatasync", "ftruncate")),
        (space, "space", ("statvfs", "open", "posix_fallocate")),
    ):
        monkeypatch.setattr(module, "os", boundaries.names(os, place, calls))
    monkeypatch.setattr(journal, "sync_directory", boundaries.before("journal.fsync", layout.sync_directory))
    monkeypatch.setattr(handles, "lmdb", boundary._Names(lmdb, open=opened))
    yield made
    made.first = 0


@dataclass
class Scene:
    """A branch that is to move, with what is not committed, in a repository of its own."""

    repository: Repository
    move: Move
    before: Shown
    after: Shown

    @property
    def main(self) -> Branch:
        return Branch(self.repository)

    def state(self) -> tuple[int, Shown]:
        return self.repository.refs.get(MAIN).number, shown(self.main)

    def allowed(self) -> list[tuple[int, Shown]]:
        return [(self.move.expected, self.before), (self.move.expected + 1, self.after)]

    def reopen(self) -> None:
        """After the end of the process, however it was."""
        self.repository.close()
        self.repository = Repository(self.repository.layout.path, writable=True)


def scene(place: Path, wanted: str) -> Scene:
    """Ready to move: by a merge, or a reset to another version; all that is not committed was saved."""
    repository = make_repository(place)
    main = Branch(repository)
    for path in ("d", "d/e", "gone"):
        main.mkdir(path)
    for number, path in enumerate(FILES):
        main.write(path, random_bytes(number, 9 if number % 2 else 70_000))
    main.link("d/a", "linked")
    main.commit()
    repository.create_branch(EXP, repository.resolve("main").id, WHO)
    exp = Branch(repository, EXP)
    exp.write("small", b"longer, and of exp")
    exp.unlink("large")
    exp.write("linked", b"both names")
    exp.rename("d/e", "e")
    exp.unlink("gone/c")
    exp.rmdir("gone")
    exp.mkdir("new")
    exp.write("new/f", random_bytes(9, 70_000))
    exp.chmod("d", 0o700)
    exp.commit()
    main.write("other", b"of main")
    main.commit()
    main.write("mine", random_bytes(10, 200_000))
    main.write("other", b"not committed")
    main.mkdir("own")
    main.write("own/f", b"mine, too")
    repository.save()
    proposal = Propose(repository, MAIN, unresolved).merge(repository.resolve("exp"))
    move = conclude(repository, proposal, proposal.note, "ann")
    if wanted == "reset":  # takes away what only main has, but for what is not committed
        main.restore("other")
        repository.save()
        move = Move(move.expected, repository.resolve("exp").id, Operation.RESET, "exp")
    repository.objects.flush()
    return Scene(repository, move, shown(main), {})


def copied(source: Scene, place: Path, after: Shown) -> Scene:
    """The same again, since a repository may be copied while nobody has it open."""
    shutil.copytree(source.repository.layout.path, place)
    return Scene(Repository(place, writable=True), source.move, source.before, after)


class Runs:
    """One scene, again and again."""

    def __init__(self, place: Path, wanted: str, point: Point) -> None:
        self.place, self.point = place, point
        self.first = scene(place / "first", wanted)
        self.first.repository.close()
        done = copied(self.first, place / "done", {})
        assert shown(done.main) == self.first.before
        point.set(0, disk_error)
        done.repository.move(MAIN, done.move, WHO)
        self.calls = list(point.seen)
        self.after = shown(done.main)
        assert self.after != self.first.before
        done.repository.close()
        self.made = 0

    @contextlib.contextmanager
    def again(self) -> Iterator[Scene]:
        """A scene whose move may end early; it is looked at in the end."""
        self.made += 1
        made = copied(self.first, self.place / f"run-{self.made}", self.after)
        shown(made.main)
        table = made.main.tree.table
        table.known |= table.nodes.keys()  # as programs have looked at it
        try:
            yield made
        finally:
            self.point.set(0, disk_error)
            with contextlib.suppress(OSError):
                made.repository.close()
        with Repository(made.repository.layout.path) as reader:
            consistency.check(reader)


def every(calls: list[str], some: int) -> list[int]:
    """Numbers of calls: of each name the first, the last, and so many as are told; 0: all."""
    if not some:
        return list(range(1, len(calls) + 1))
    chosen = set(range(1, len(calls) + 1, max(1, len(calls) // some)))
    for name in set(calls):
        chosen |= {calls.index(name) + 1, len(calls) - calls[::-1].index(name)}
    return sorted(chosen)


MOST = [pytest.param(12, id="some"), pytest.param(0, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("wanted", ["merge", "reset"])
@pytest.mark.parametrize("some", MOST)
def test_a_process_that_is_killed_anywhere_leaves_one_version_or_the_other(
    place: Path, point: Point, wanted: str, some: int
):
    runs = Runs(place, wanted, point)
    numbers = set()
    for first in (*every(runs.calls, some), len(runs.calls) + 1):
        with runs.again() as made:
            point.set(first, lambda _: Killed())
            with contextlib.suppress(Killed):
                made.repository.move(MAIN, made.move, WHO)
            point.set(0, disk_error)
            made.reopen()
            number, seen = made.state()
            assert (number, seen) in made.allowed(), (first, runs.calls[first - 1 :][:1], number)
            numbers.add(number)
            made.main.write("later", b"later")
            made.main.commit()
            made.reopen()
            assert shown(made.main).keys() == {*seen, "later"}
    assert numbers == {runs.first.move.expected, runs.first.move.expected + 1}


ERRORS = pytest.mark.parametrize("error", [disk_error, full, foreseen_by_nobody], ids=["broken", "full", "unforeseen"])
FEW = [pytest.param(4, id="some"), pytest.param(0, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("wanted", ["merge", "reset"])
@ERRORS
@pytest.mark.parametrize("some", FEW)
def test_a_move_of_which_any_call_fails_has_not_happened_and_can_be_made_again(
    place: Path, point: Point, wanted: str, error: Callable[[str], BaseException], some: int
):
    runs = Runs(place, wanted, point)
    for first in every(runs.calls, some):
        fail(runs, first, error, times=1)


@pytest.mark.parametrize("wanted", ["merge", "reset"])
@ERRORS
@pytest.mark.parametrize("some", FEW)
def test_a_move_in_which_the_disk_takes_no_more_has_not_happened_and_can_be_made_again(
    place: Path, point: Point, wanted: str, error: Callable[[str], BaseException], some: int
):
    runs = Runs(place, wanted, point)
    for first in every([name for name in runs.calls if name in WRITING], some):
        fail(runs, first, error, names=WRITING)


def fail(
    runs: Runs, first: int, error: Callable[[str], BaseException], *,
    times: int = ALWAYS, names: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """One move: then it is not made, or made, and so it is after a reopening."""
    with runs.again() as made:
        runs.point.set(first, error, times, names)
        try:
            made.repository.move(MAIN, made.move, WHO)
        except (AnabranchError, OSError, MemoryError, lmdb.Error):
            is_made = False
        else:
            is_made = True
        what = first, runs.point.seen[first - 1 :], is_made
        runs.point.set(0, disk_error)
        assert made.state() == made.allowed()[is_made], what
        made.repository.save()
        made.reopen()
        assert made.state() == made.allowed()[is_made], what
        if not is_made:
            made.repository.move(MAIN, made.move, WHO)
            assert made.state() == made.allowed()[True], what


# --- on a mount ---


@pytest.fixture
def faulty(switch: Switch, mountable: Mount) -> Iterator[Mount]:
    """A mount whose calls can be made to fail, with two versions that differ in a bit of everything."""
    mountable.mount()
    top = mountable.main
    (top / "d/e").mkdir(parents=True)
    for number, path in enumerate(("small", "large", "d/a", "d/e/b")):
        (top / path).write_bytes(random_bytes(number, 9 if number % 2 else 70_000))
    os.link(top / "d/a", top / "linked")
    mountable.commit("one")
    (top / "small").write_text("longer than before")
    (top / "large").unlink()
    (top / "d/e").rename(top / "e")
    (top / "linked").write_text("of both names")
    (top / "new").write_bytes(random_bytes(9, 70_000))
    mountable.commit("other")
    with (top / "mine").open("wb") as file:
        file.write(random_bytes(10, 200_000))
        os.fsync(file.fileno())
    try:
        yield mountable
    finally:
        switch.lift()


def newest(mount: Mount) -> int:
    return int((mount.main / ".ana/head").read_text().split()[0].partition("@")[2])


def held(mount: Mount) -> dict[str, Any]:
    """What there is: times and numbers of links are other tests'."""
    return {path: (row[0], row[-1]) for path, row in snapshot(mount.main).items()}


def uncommitted(mount: Mount) -> list[str]:
    return [change["path"] for change in mount.json("status")["changes"]]


@pytest.mark.mounted
@pytest.mark.parametrize("every_nth", [pytest.param(9, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def test_a_move_on_a_mount_of_which_a_call_fails_has_happened_or_not(faulty: Mount, switch: Switch, every_nth: int):
    """By reverts of the last version: there are two states of the branch, in turn."""
    states = {newest(faulty) % 2: held(faulty)}
    switch.watch()
    done(faulty.ana("revert", "main"))
    calls = switch.calls
    states[newest(faulty) % 2] = held(faulty)
    for first in range(1, calls + 1, every_nth):
        before = newest(faulty)
        switch.arm(first, 1, Kind(first % 2))
        ended = faulty.ana("revert", "main")
        switch.lift()
        assert "Traceback" not in ended.stderr, ended.stderr
        assert newest(faulty) == before + (not ended.returncode)
        assert held(faulty) == states[newest(faulty) % 2], (first, ended.stderr)
        assert uncommitted(faulty) == ["mine"], (first, ended.stderr)
    os.truncate(faulty.path / "daemon.log", 0)
    faulty.remount()
    assert held(faulty) == states[newest(faulty) % 2]


@pytest.mark.mounted
@pytest.mark.parametrize("every_nth", [pytest.param(14, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def test_a_daemon_that_is_killed_in_a_move_is_found_at_one_version_or_the_other(
    faulty: Mount, switch: Switch, every_nth: int
):
    states = {newest(faulty) % 2: held(faulty)}
    switch.watch()
    done(faulty.ana("revert", "main"))
    calls = switch.calls
    states[newest(faulty) % 2] = held(faulty)
    for first in range(1, calls + 1, every_nth):
        before = newest(faulty)
        switch.watch()
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(faulty.ana, "revert", "main")
            wait_for(partial(is_reached, switch, first, ended), "calls of the move")
            faulty.kill()
        faulty.mount()
        assert newest(faulty) in (before, before + 1)
        assert newest(faulty) == before + 1 or ended.result().returncode, "what was said to be done is not"
        assert held(faulty) == states[newest(faulty) % 2], first
        assert uncommitted(faulty) == ["mine"]


def is_reached(switch: Switch, calls: int, ended: "Future[Completed]") -> bool:
    return switch.calls >= calls or ended.done()
