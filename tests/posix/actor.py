"""A process of its own that performs calls on one filesystem, and what speaks to it.

A program, too: `python -m tests.posix.actor HOME UID`, which reads calls from its standard input and writes what came
of them to its standard output.
"""

import os
import pickle
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

from tests.harness import PATIENCE
from tests.posix import files, mappings, names, streams  # noqa: F401  (the calls)
from tests.posix.calls import Call, Held, perform

SHARED_GROUP = 5
"""The group that all users are in, beside the one of their own."""


class Actor:
    """A process on one of the filesystems."""

    def __init__(self, home: Path, uid: int) -> None:
        home.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.posix.actor", str(home), str(uid)],
            cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, call: Call) -> None:
        """Have it begin with a call."""
        assert self._process.stdin is not None
        pickle.dump(call, self._process.stdin)
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What came of the call."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert readable, f"a call has hung for {PATIENCE:.0f} s"
        return pickle.load(self._process.stdout)

    def perform(self, call: Call) -> Any:
        """What comes of a call."""
        self.ask(call)
        return self.answer()

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()


def become(uid: int) -> None:
    """Another user, for good."""
    if uid != os.geteuid():
        os.setgroups([uid, SHARED_GROUP])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def serve(held: Held, calls: BinaryIO, answers: BinaryIO) -> None:
    """Perform calls until there are no more."""
    while True:
        try:
            call = pickle.load(calls)
        except EOFError:
            return
        pickle.dump(perform(held, call), answers)
        answers.flush()


if __name__ == "__main__":
    home, uid = sys.argv[1:]
    os.chdir(home)
    become(int(uid))
    serve(Held(home), sys.stdin.buffer, sys.stdout.buffer)
