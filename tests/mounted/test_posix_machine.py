"""Random calls by several processes of several users on a mount and on ext4: no difference. P73, P74."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.posix.machine import PosixMachine
from tests.posix.sides import Sides, mounted
from tests.unit.helpers import examples

pytestmark = pytest.mark.mounted

OPTIONS = ("--memory", "1", *["--allow-other"] * (os.geteuid() == 0))


@pytest.fixture
def sides(open_path: Path, fresh_repository: Path) -> Iterator[Sides]:
    """With little memory, so that files are taken from the kernel. In the end it says how much was compared."""
    with mounted(open_path, fresh_repository, *OPTIONS) as sides:
        yield sides
        print(sides.told())


def drive(sides: Sides, often: settings) -> None:
    """Run the machine there."""

    class Machine(PosixMachine):
        pass

    Machine.sides = sides
    without_shrinking = settings(often, phases=[Phase.generate])  # it took minutes; what was done is printed
    run_state_machine_as_test(Machine, settings=without_shrinking)


def test_random_calls_of_several_processes_do_the_same_on_both_p73_p74(sides: Sides):
    drive(sides, examples(25, steps=60))


@pytest.mark.slow
def test_very_many_random_calls_of_several_processes_do_the_same_on_both_p73_p74(sides: Sides):
    drive(sides, examples(500, steps=100))
