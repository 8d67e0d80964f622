"""The power of the repository's disk is cut at random moments under load. P17, P19, P26, P32, P33, P34.

The disk is an ext4 filesystem in a file, on a loop device, which is told to stop where it is. What was written to it
and not synced is gone, as with a real disk; what a real disk does to sectors that it was just writing is not tried.
"""

import os
from pathlib import Path

import pytest

from tests.crash.crash import PROGRAMS, WITHOUT_FSYNC, campaign
from tests.harness import REQUIRED

pytestmark = pytest.mark.mounted


@pytest.fixture(autouse=True)
def loop_devices() -> None:
    """Only root can make a disk; where the mounted tests must run, root must be able to."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount an ext4 filesystem, whose power is cut")
    if not Path("/dev/loop-control").exists():
        if REQUIRED:
            pytest.fail("/dev/loop-control is missing, and ANABRANCH_REQUIRE_FUSE=1", pytrace=False)
        pytest.skip("/dev/loop-control is missing: no disk whose power could be cut")


def test_everything_promised_is_there_after_each_of_10_power_cuts(tmp_path: Path, fresh_repository: Path):
    with campaign(tmp_path, fresh_repository, power=True, programs=PROGRAMS, size=4 << 30) as crashes:
        crashes.rounds(10)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_everything_promised_is_there_after_each_of_200_power_cuts(tmp_path: Path, fresh_repository: Path, part: int):
    """Four repositories, 50 times each."""
    with campaign(tmp_path, fresh_repository, power=True, programs=PROGRAMS, size=16 << 30) as crashes:
        crashes.rounds(50, seconds=(0.0, 3.0), programs=6)


def test_a_power_cut_loses_no_more_than_5_seconds_of_what_was_not_fsynced_p34(tmp_path: Path, fresh_repository: Path):
    with campaign(tmp_path, fresh_repository, power=True, programs=WITHOUT_FSYNC, size=4 << 30) as crashes:
        crashes.rounds(1, seconds=(5.5, 6.5))
