"""The daemon is killed at random moments under load. P17, P19, P26, P32, P33, P34.

Nothing is proved about fsync here, since what the daemon handed to the kernel survives it: see test_power.py.
"""

from pathlib import Path

import pytest

from tests.crash.crash import OPEN_WITHOUT_FSYNC, PROGRAMS, WITHOUT_FSYNC, campaign

pytestmark = pytest.mark.mounted


def test_everything_promised_is_there_after_each_of_10_kills(tmp_path: Path, fresh_repository: Path):
    with campaign(tmp_path, fresh_repository, power=False, programs=PROGRAMS) as crashes:
        crashes.rounds(10)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_everything_promised_is_there_after_each_of_200_kills(tmp_path: Path, fresh_repository: Path, part: int):
    """Four repositories, 50 times each."""
    with campaign(tmp_path, fresh_repository, power=False, programs=PROGRAMS) as crashes:
        crashes.rounds(50, seconds=(0.0, 3.0), programs=6)


def test_a_kill_loses_no_more_than_5_seconds_of_what_was_not_fsynced_p34(tmp_path: Path, fresh_repository: Path):
    with campaign(tmp_path, fresh_repository, power=False, programs=WITHOUT_FSYNC) as crashes:
        crashes.rounds(1, seconds=(5.5, 6.5))


def test_a_kill_loses_no_more_than_5_seconds_of_a_file_that_stays_open_p34(tmp_path: Path, fresh_repository: Path):
    with campaign(tmp_path, fresh_repository, power=False, programs=OPEN_WITHOUT_FSYNC) as crashes:
        crashes.rounds(1, seconds=(5.5, 6.5))
