"""The differential machine while calls of the daemon fail.

A call may fail then on the mount alone, and that is how the two sides come apart: no other result differs, a commit
that fails changes nothing, and when the fault is lifted, all goes on.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.faults.switch import ALWAYS, BOUNDARIES, Kind, Switch
from tests.faults.work import usable
from tests.mounted.test_posix_machine import OPTIONS
from tests.posix import files
from tests.posix.calls import Call, Failed, Row
from tests.posix.machine import EVENTS, FURNITURE, PosixMachine
from tests.posix.sides import Both, Sides, mounted
from tests.unit.helpers import SEARCH, examples

pytestmark = pytest.mark.mounted

BROKEN = [name for name in BOUNDARIES if not name.startswith(("thread", "process"))]

OFTEN = 0.2
"""Of the calls, so many are followed by a new fault, until one was called."""


class FaultyMachine(PosixMachine):
    """Some calls of the daemon fail, and so may what needs them."""

    switch: Switch
    injected = 0
    parted = 0
    calm = False
    trouble: Exception | None = None

    def begin_anew(self) -> None:
        FaultyMachine.injected += self.switch.lift()
        self.hear()  # of what was done for others
        self.apart = False
        self.before = 0
        self.chance = Random(self.sides.histories)
        self.switch.watch()
        super().begin_anew()

    @property
    def struck(self) -> int:
        """How many faults there were since these directories were begun."""
        return self.before + self.switch.failed

    def fail(self) -> None:
        """From now on. Programs may hear of it later, so there is one fault for two directories."""
        boundaries = self.chance.choice([BROKEN, BROKEN, [self.chance.choice(BROKEN)]])
        first, times = self.chance.randint(1, 3), self.chance.choice([1, 3, ALWAYS])
        kind = self.chance.choice([Kind.BROKEN, Kind.FULL, Kind.ROTTEN])
        self.steps.append(f"{boundaries if len(boundaries) == 1 else 'anything'} fails: {kind.name}, {first}")
        self.before += self.switch.lift()
        self.switch.arm(first, times, kind, boundaries)

    def _meeting(self, theirs: Any, ours: Any) -> Both:
        """What a fault could change: whether a call works, and what there is. Attributes are another test's."""
        if isinstance(theirs, Failed) and isinstance(ours, Failed):
            return Both(None, None)
        if isinstance(theirs, Row) and isinstance(ours, Row):
            return Both(*((int(of.mode, 8) >> 12, of.nlink, of.size, of.rdev, of.content) for of in (theirs, ours)))
        return super()._meeting(theirs, ours)

    def disagreed(self, call: Call, came: Both) -> None:
        if not self.apart:
            told = isinstance(came.ours, Failed) or is_short(came) or self.uncertain.ours
            told = told or (call.name in ("read", "readv", "pread") and self.ask_fsync())
            if not self.struck or not told:
                super().disagreed(call, came)
            FaultyMachine.parted += 1
        self.apart = True

    def ask_fsync(self) -> bool:
        """Lift the fault; whether somebody who has a file open then hears that what was written could not be kept.
        Without its cache, as with O_DIRECT, the kernel shows what a file had before, as soon as it has failed to write
        something back.
        """
        self.switch.lift()
        open_files = [(who, slot) for who, slots in enumerate(self.slots) for slot in slots]
        came = [self.sides.pairs[who].ours.perform(files.fsync(slot)) for who, slot in open_files]
        return Failed("EIO") in came or Failed("ENOSPC") in came

    def do(self, who: int, call: Call) -> None:
        try:
            super().do(who, call)
        except Exception as error:
            FaultyMachine.trouble = error
            raise

    def look(self) -> dict[str, Any]:
        """Without faults: what cannot be read is not looked at."""
        self.switch.lift()
        return super().look()

    def after_step(self) -> None:
        if self.apart:
            self.mend()
        elif not self.calm and not self.struck and self.chance.random() < OFTEN:
            self.fail()  # in the place of one that did not come to be

    def mend(self) -> None:
        """Lift the fault; if it was noticed, all goes on elsewhere."""
        self.switch.lift()
        if self.apart:
            usable(self.sides.mount, "anew")
            self.begin_anew()
            self.calm = True
            self.do_all(0, FURNITURE)
            self.calm = False

    def hear(self) -> None:
        """What a fault did while nobody waited is told to the next fsync, once."""
        top = os.open(self.sides.mount.main, os.O_RDONLY)
        try:
            os.fsync(top)
        except OSError:
            self.apart = True
        finally:
            os.close(top)

    def teardown(self) -> None:
        self.mend()
        super().teardown()

    # --- what happens to the mount alone: commits may fail, all else is without faults ---

    def committed(self) -> Path | None:
        try:
            return super().committed()
        except OSError:
            if not self.struck:
                raise
            return None

    @rule(what=st.sampled_from(EVENTS), dice=st.integers(0, 2))
    def happens(self, what: str, dice: int) -> None:
        try:
            if not dice and what not in ("look", "commit"):
                self.switch.lift()
                self.apart = self.apart or bool(self.struck)  # of what was not yet brought in, nobody has heard
                self.hear()
                self.mend()
            super().happens(what, dice)
        except Exception as error:
            FaultyMachine.trouble = error
            raise


def is_short(came: Both) -> bool:
    """Whether a call said that it did a part only, which it does when something fails after a part is done."""
    theirs, ours = (count_of(outcome) for outcome in came)
    return theirs is not None and ours is not None and ours < theirs


def count_of(outcome: Any) -> int | None:
    """The bytes that a call copied, wrote or read."""
    match outcome:
        case bytes():
            return len(outcome)
        case int(count) | [int(count), *_]:
            return count
    return None


@pytest.fixture
def sides(switch: Switch, open_path: Path, fresh_repository: Path) -> Iterator[Sides]:
    """A mount whose calls can be made to fail, and a directory beside it."""
    with mounted(open_path, fresh_repository, *OPTIONS) as sides:
        yield sides
        switch.lift()
        print(f"{sides.told()}; {FaultyMachine.injected} faults, {FaultyMachine.parted} were noticed by programs")


def drive(sides: Sides, switch: Switch, seeds: int) -> None:
    """Run the machine there: a few histories a seed. What fails is not the same in a second one that begins as one
    before, and Hypothesis, which wants that, then goes no further.
    """
    FaultyMachine.sides, FaultyMachine.switch = sides, switch
    few = settings(examples(1, steps=60), max_examples=4, derandomize=False, phases=[Phase.generate])
    first = Random().getrandbits(64) if SEARCH else 0
    for number in range(first, first + seeds * (SEARCH or 1)):
        print(f"seed {number}", flush=True)
        try:
            run_state_machine_as_test(seed(number)(FaultyMachine), settings=few)
        except FlakyStrategyDefinition:
            if FaultyMachine.trouble is not None:
                raise FaultyMachine.trouble from None
    assert FaultyMachine.parted


def test_random_calls_differ_only_by_the_errors_of_faults(sides: Sides, switch: Switch):
    """P75, P76."""
    drive(sides, switch, 3)


@pytest.mark.slow
def test_very_many_random_calls_differ_only_by_the_errors_of_faults(sides: Sides, switch: Switch):
    """P75, P76."""
    drive(sides, switch, 200)
