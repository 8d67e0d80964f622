"""The switch by which a test makes the calls of a daemon fail."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.switch import VARIABLE, Switch
from tests.unit.helpers import scratch

HOOK = Path(__file__).parent / "hook"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    """The faults of daemons that are started from now on."""
    control = tmp_path / "faults"
    monkeypatch.setenv(VARIABLE, str(control))
    monkeypatch.setenv("PYTHONPATH", f"{HOOK}:{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    switch = Switch(control)
    yield switch
    switch.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, in memory if possible."""
    with scratch() as directory:
        yield directory
