"""The two filesystems, and the processes on them."""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.harness import Mount, wait_for
from tests.posix.actor import Actor
from tests.posix.calls import Call
from tests.posix.draws import OTHERS

CLOCK = 5
"""CLOCK_REALTIME_COARSE, the kernel's clock for files."""
CROWD = 600
"""More files than a daemon with the least memory lets the kernel know."""


class Both(NamedTuple):
    """What came of one thing on the two filesystems."""

    theirs: Any
    ours: Any


@dataclass(frozen=True)
class Pair:
    """One user's process on each filesystem."""

    theirs: Actor
    ours: Actor

    def both(self, theirs: Call, ours: Call) -> Both:
        """Perform a call on each, at the same time."""
        self.theirs.ask(theirs)
        self.ours.ask(ours)
        return Both(self.theirs.answer(), self.ours.answer())


@dataclass
class Sides:
    """An ordinary directory and a mount; what was compared on them is counted."""

    plain: Path
    mount: Mount
    options: tuple[str, ...] = ()
    """The mount's."""
    pairs: list[Pair] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    histories: int = 0

    @contextmanager
    def populated(self, homes: Path) -> Iterator["Sides"]:
        """With three processes on each side; as root, two of them are other users."""
        homes.mkdir()
        users = OTHERS if os.geteuid() == 0 else [os.geteuid()] * len(OTHERS)
        try:
            for number, uid in enumerate(users):
                self.pairs.append(Pair(*(Actor(homes / f"{number}{side}", uid) for side in ("theirs", "ours"))))
            yield self
        finally:
            for pair in self.pairs:
                pair.theirs.end()
                pair.ours.end()

    def told(self) -> str:
        """What was compared."""
        calls, events = sum(self.tally.values()), sum(self.events.values())
        kinds = dict((self.tally + self.events).most_common())
        return f"{self.histories} histories, {calls} calls, {events} events: {kinds}"

    def found(self, difference: str, steps: list[str]) -> None:
        """Print a difference with all that came before: the daemon has a life of its own, it may not show again."""
        print("\n".join(["", *steps, difference]), flush=True)

    # --- what happens to the mount alone ---

    def remount(self) -> None:
        """Unmount and mount."""
        self.mount.umount()
        self.mount.mount(*self.options)

    def crash(self) -> None:
        """Kill the daemon when all of it is synced, and mount."""
        top = os.open(self.mount.main, os.O_RDONLY)
        os.fsync(top)
        os.close(top)
        self.mount.kill()
        self.mount.mount(*self.options)

    def drop_caches(self) -> bool:
        """Have the kernel forget what it has read of files and names, of all filesystems; only root may."""
        control = Path("/proc/sys/vm/drop_caches")
        if not os.access(control, os.W_OK):
            return False
        control.write_text("3")
        return True

    def evict(self) -> None:
        """Have so many other files listed that the daemon takes those of before from the kernel."""
        crowd = self.mount.main / "crowd"
        if not crowd.exists():
            crowd.mkdir()
            for number in range(CROWD):
                (crowd / f"{number}").touch()
        assert sum(entry.stat().st_size for entry in os.scandir(crowd)) == 0

    def ingest(self) -> None:
        """Wait until what lay in overlay files is in the store, as it is when nobody has written for some seconds."""
        stats = self.mount.root / ".ana/stats"
        wait_for(lambda: "overlay files: 0" in stats.read_text(), "idle files to be ingested")


@contextmanager
def mounted(place: Path, repository: Path, *options: str) -> Iterator[Sides]:
    """A mount of a copy of a repository, and a directory beside it, in a place that all users reach."""
    plain, root = place / "plain", place / "mnt"
    plain.mkdir()
    root.mkdir()
    with Mount(shutil.copytree(repository, place / "repo"), root).kept_tidy() as mount:
        mount.mount(*options)
        with Sides(plain, mount, options).populated(place / "homes") as sides:
            yield sides


def tick() -> int:
    """Wait until the kernel's clock for files is past now; returns it. Whatever was done before has an earlier time,
    on filesystems that look at the finer clock, too.
    """
    now = time.time_ns()
    while (moment := time.clock_gettime_ns(CLOCK)) <= now:
        time.sleep(0.0002)
    return moment


def remove(directory: Path) -> None:
    """With all that is in it, whatever its permissions."""
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwx", directory], check=False)
    subprocess.run(["rm", "-rf", directory], check=True)
