"""The machine: random calls on both sides, compared after each; now and then something happens to the mount alone.

To build on it, subclass it: `sides` is where it runs, `after_step` is called after each call, and `disagreed` is told
of each difference. It raises; who lets one pass, as an error that was provoked, calls `begin_anew` in `after_step`: two
empty directories take the place of those that are apart, and those stay until the history ends.
"""

import errno
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.posix import draws, names
from tests.posix.calls import Call, Failed, Row
from tests.posix.sides import Both, Sides, remove, tick
from tests.unit.helpers import SEARCH

DAY = 86_400_000_000_000
BELOW = "1/2/3"
"""Where processes stand in the base, so that some `..` too many still lead to what is compared."""
users = st.sampled_from(range(len(draws.OTHERS)))
FURNITURE = [
    names.mkdir(b"dir", 0o777), names.mkdir(b"dir/sub", 0o777), names.put(b"a", 1, 70_000), names.put(b"dir/a", 2, 300),
    names.chmod(b"a", 0o666), names.link(b"a", b"dir/b", True), names.symlink(b"dir", b"link"),
]  # fmt: skip
EVENTS = ["look", "look", "commit", "commit", "branch", "restore", "remount", "crash", "drop_caches", "evict"]
EVENTS += ["ingest"] * bool(SEARCH)  # which takes seconds


def several(calls: list[draws.Calls]) -> st.SearchStrategy[list[Call]]:
    """Some of them."""
    return st.lists(st.one_of(calls), min_size=1, max_size=6)


class PosixMachine(RuleBasedStateMachine):
    """Two directories that see the same calls."""

    sides: Sides

    def __init__(self) -> None:
        super().__init__()
        self.watchful = True
        self.steps: list[str] = []
        self.made: list[Both] = []
        self.begin_anew()

    @initialize(watchful=st.booleans(), furnished=st.booleans())
    def be_watchful_or_not(self, watchful: bool, furnished: bool) -> None:
        """Look at everything after each step, or seldom, which leaves the kernel's caches alone."""
        self.watchful = watchful
        self.do_all(0, FURNITURE * furnished)

    def begin_anew(self) -> None:
        """Two empty directories, and processes that hold nothing."""
        self.sides.histories += 1
        name = f"history-{self.sides.histories}"
        self.bases = Both(self.sides.plain / name, self.sides.mount.main / name)
        self.made.append(self.bases)
        self.moments = [tick()]
        for base in self.bases:
            (base / BELOW).mkdir(parents=True)
            for directory in (base, *(base / BELOW[:length] for length in (1, 3, 5))):
                directory.chmod(0o777)
        self.uncertain: Both = Both(set(), set())
        """Inodes that were written to through a mapping: the time may be that of the store, or of the write-back."""
        self.stand()

    def stand(self) -> None:
        """All processes let go of everything, and go where the paths count from."""
        self.forget_held()
        self._all_begin(Both(*(base / BELOW for base in self.bases)))

    def forget_held(self) -> None:
        """Nobody holds anything."""
        self.slots: list[set[int]] = [set() for _ in self.sides.pairs]
        self.mapped: list[set[int]] = [set() for _ in self.sides.pairs]

    def _all_begin(self, starts: Both) -> None:
        for pair in self.sides.pairs:
            calls = [names.begin(str(base), str(start)) for base, start in zip(self.bases, starts, strict=True)]
            self.compare(calls[1], pair.both(*calls))

    def leave(self) -> None:
        """All processes let go of everything."""
        self.forget_held()
        for pair in self.sides.pairs:
            self.compare(names.leave(), pair.both(names.leave(), names.leave()))

    def teardown(self) -> None:
        self.leave()
        for bases in self.made:
            for base in bases:
                remove(base)

    # --- comparing ---

    def do_all(self, who: int, calls: list[Call]) -> None:
        """One after the other."""
        for call in calls:
            self.do(who, call)

    def do(self, who: int, call: Call) -> None:
        """Perform a call on both sides, and compare."""
        self.moments.append(tick())
        self.steps.append(f"{who}: {call!r}")
        came = self.sides.pairs[who].both(call, call)
        self.steps[-1] += f" -> {came.theirs!r}"
        self.sides.tally[call.name] += 1
        self.keep_track(who, call, came)
        self.compare(call, came)
        if self.watchful:
            self.look()
        self.after_step()

    def after_step(self) -> None:
        """For machines that are built on this one."""

    def compare(self, call: Call, came: Both) -> None:
        """They must agree."""
        theirs, ours = self._meeting(*came)
        if theirs != ours:
            self.disagreed(call, Both(theirs, ours))

    def disagreed(self, call: Call, came: Both) -> None:
        """There is a difference."""
        told = f"{call!r}\n{difference(came)}"
        self.sides.found(told, self.steps)
        raise AssertionError(told)

    def look(self) -> dict[str, Any]:
        """Compare everything that there is; returns what is on the mount."""
        came = self.sides.pairs[0].both(names.look(), names.look())
        self.compare(names.look(), came)
        found: dict[str, Any] = came.ours
        return found

    def keep_track(self, who: int, call: Call, came: Both) -> None:
        """Which slots are in use, as far as calls worked on both sides."""
        if any(isinstance(outcome, Failed) for outcome in came):
            return
        slots, mapped, arguments = self.slots[who], self.mapped[who], call.arguments
        match call.name:
            case "open_file":
                slots.add(arguments[0])
            case "openat" | "dup":
                slots.add(arguments[1])
            case "close":
                slots.discard(arguments[0])
            case "map_file":
                mapped.add(arguments[0])
            case "munmap":
                mapped.discard(arguments[0])
            case "store":
                for uncertain, (_, of) in zip(self.uncertain, came, strict=True):
                    uncertain.add(of.ino)

    def _meeting(self, theirs: Any, ours: Any) -> Both:
        """What came of a call, as it is compared: times by the step that they fall into."""
        match theirs, ours:
            case Row(), Row():
                both = [
                    of._replace(ino=0, mtime_ns=self._step(of.mtime_ns), ctime_ns=self._step(of.ctime_ns))
                    for of in (theirs, ours)
                ]
                is_uncertain = theirs.ino in self.uncertain.theirs or ours.ino in self.uncertain.ours
                if is_uncertain or stat.S_ISFIFO(int(theirs.mode, 8)):  # the kernel tells FUSE of no write into one
                    both = [of._replace(mtime_ns=0, ctime_ns=0) for of in both]
                return Both(*both)
            case dict(), dict() if theirs.keys() == ours.keys():
                met = {key: self._meeting(theirs[key], ours[key]) for key in theirs}
                return Both(*({key: pair[side] for key, pair in met.items()} for side in (0, 1)))
            case ((tuple() | list()), (tuple() | list())) if len(theirs) == len(ours):
                pairs = [self._meeting(one, other) for one, other in zip(theirs, ours, strict=True)]
                return Both([pair.theirs for pair in pairs], [pair.ours for pair in pairs])
        return Both(theirs, ours)

    def _step(self, moment: int) -> int:
        """The number of the step that a time falls into; one that was set is itself."""
        recent = self.moments[0] - DAY < moment < self.moments[-1] + DAY
        return bisect_right(self.moments, moment) if recent else moment

    # --- calls ---

    @rule(who=users, calls=several(draws.made))
    def make_and_remove(self, who: int, calls: list[Call]) -> None:
        self.do_all(who, calls)

    @rule(who=users, calls=several([*draws.attributes, *draws.looking]))
    def change_attributes_and_look(self, who: int, calls: list[Call]) -> None:
        self.do_all(who, calls)

    @rule(who=users, calls=several(draws.opening))
    def open_some(self, who: int, calls: list[Call]) -> None:
        self.do_all(who, calls)

    @rule(data=st.data())
    @precondition(lambda self: any(self.slots))
    def read_and_write(self, data: st.DataObject) -> None:
        self.with_slots(data, self.slots, draws.content)

    @rule(data=st.data())
    @precondition(lambda self: any(self.slots))
    def use_descriptors(self, data: st.DataObject) -> None:
        self.with_slots(data, self.slots, draws.held)

    @rule(data=st.data())
    @precondition(lambda self: any(self.mapped))
    def use_mappings(self, data: st.DataObject) -> None:
        self.with_slots(data, self.mapped, draws.mapped)

    def with_slots(
        self, data: st.DataObject, held: list[set[int]], calls: Callable[[st.SearchStrategy[int]], list[draws.Calls]]
    ) -> None:
        """Calls of somebody who has something."""
        who = data.draw(st.sampled_from([who for who, slots in enumerate(held) if slots]))
        if draws.ALIGNED in held[who] and (held[who] == {draws.ALIGNED} or data.draw(st.booleans())):
            self.do_all(who, data.draw(several(draws.direct)))
        else:
            self.do_all(who, data.draw(several(calls(st.sampled_from(sorted(held[who] - {draws.ALIGNED}))))))

    # --- what happens to the mount alone, which nobody must notice: P74 ---

    @contextmanager
    def unnoticed(self, *, held: bool = True) -> Iterator[None]:
        """Everything is the same afterwards, numbers and times too; with `held`, descriptors stay open."""
        if not held:
            self.leave()
        before = self.look()
        yield
        if not held:
            self.stand()
        after = self.look()
        if after != before:
            self.disagreed(names.look(), Both(before, after))

    @rule(what=st.sampled_from(EVENTS), dice=st.integers(0, 2))
    def happens(self, what: str, dice: int) -> None:
        """Seldom, since calls are what is to be compared."""
        if not dice:
            self.steps.append(what)
            self.sides.events[what] += 1
            getattr(self, what)()

    def commit(self) -> None:
        """What the version holds is what the ordinary directory held."""
        with self.unnoticed():
            version = self.committed()
        if version is not None:
            self.same_in(version)

    def committed(self) -> Path | None:
        """The directory of a new version, if there was something to commit."""
        try:
            return self.sides.mount.commit("a step")
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return None

    def same_in(self, top: Path) -> None:
        """A version, or another branch, holds what the ordinary directory does."""
        calls = names.look(), names.look(str(top / self.bases.ours.name))
        came = self.sides.pairs[0].both(*calls)
        held = any(self.slots) or any(self.mapped)
        self.compare(calls[1], Both(*(without_moments(found, mtimes=not held) for found in came)))

    def branch(self) -> None:
        """One made from here holds the same; a commit comes first, as it is made from the last one."""
        self.committed()
        exp = self.sides.mount.root / "exp"
        exp.mkdir()
        self.same_in(exp)
        exp.rmdir()

    def restore(self) -> None:
        """Of what was just committed: the time of a directory alone is no change (P18), and would be put back."""
        with self.unnoticed():
            if self.committed() is not None:
                (self.sides.mount.main / ".ana/restore").write_text(".\n")

    def remount(self) -> None:
        with self.unnoticed(held=False):
            self.sides.remount()

    def crash(self) -> None:
        """After an fsync."""
        with self.unnoticed(held=False):
            self.sides.crash()

    def drop_caches(self) -> None:
        with self.unnoticed():
            self.sides.drop_caches()

    def ingest(self) -> None:
        with self.unnoticed(held=False):
            self.sides.ingest()

    def evict(self) -> None:
        with self.unnoticed():
            self.sides.evict()


def without_moments(rows: dict[str, Any], *, mtimes: bool) -> dict[str, Any]:
    """Without what a version does not hold: when attributes changed, when files that are open were written to (P13),
    and the time of a directory, which alone is no change (P18).
    """

    def seen(of: Row) -> Row:
        return of._replace(ctime_ns=0, mtime_ns=of.mtime_ns if mtimes and of.size is not None else 0)

    return {path: seen(of) if isinstance(of, Row) else of for path, of in rows.items()}


def difference(came: Both) -> str:
    """What differs, in lines."""
    theirs, ours = came
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return f"theirs: {theirs}\nours:   {ours}"
    lines = []
    for path in sorted(theirs.keys() | ours.keys()):
        one, other = theirs.get(path), ours.get(path)
        if one != other:
            lines.append(f"{path}\n  theirs: {one}\n  ours:   {other}")
    return "\n".join(lines)
