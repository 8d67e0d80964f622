"""What people say about conflicts: a strategy for all, and rules for paths; the last rule that matches wins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from anabranch.errors import UsageError
from anabranch.repo import Repository
from anabranch.transfer.building import own_directory
from anabranch.transfer.folder import take_folder
from anabranch.transfer.sieve import Sieve
from anabranch.versions.merge import Chosen
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.threeway import Conflict
from anabranch.worktree.ignore import Rules

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

OURS, THEIRS, BASE = "ours", "theirs", "base"
STRATEGIES = (OURS, THEIRS)
_SIDES: Mapping[str, Callable[[Conflict], Entry | None]] = {
    OURS: lambda conflict: conflict.ours,
    THEIRS: lambda conflict: conflict.theirs,
    BASE: lambda conflict: conflict.base,
}
_TOP = b"file"
_ROOT = b"."
"""What the top of a branch is called."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which paths, as in gitignore(5), and what they become: a side's, or what a file of this machine holds."""

    glob: str
    choice: str

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Of `GLOB=CHOICE`. Raises UsageError."""
        glob, equals, choice = text.rpartition("=")
        if not equals or not glob or not choice:
            raise UsageError(f"{text} is no GLOB=ours|theirs|base|FILE", hint="for example --resolve '*.csv=theirs'")
        if choice not in _SIDES and not Path(choice).is_file():
            raise UsageError(
                f"{choice} is neither ours, theirs or base, nor a file", hint="FILE is a path on this machine"
            )
        return cls(glob, choice)


@dataclass(slots=True)
class Resolution:
    """Resolves conflicts. What files of this machine hold is stored through the repository that is given."""

    repository: Repository
    strategy: str | None = None
    rules: Sequence[Rule] = ()
    tables: Callable[[Conflict], Entry | None] | None = None
    """Merges tables row by row, where nobody has said anything else of their paths."""
    _specs: "list[GitIgnoreSpec]" = field(default_factory=list)
    _matched: set[int] | None = None
    """Which rules matched a conflict; None: there was none to match."""

    @property
    def idle(self) -> list[Rule]:
        """The rules that matched none of the conflicts, if there were any: perhaps they were meant to."""
        if self._matched is None:
            return []
        return [rule for number, rule in enumerate(self.rules) if number not in self._matched]

    def __call__(self, conflict: Conflict) -> Chosen | None:
        """What becomes of a conflict; None if nobody has said."""
        choice = self._ruled(conflict)
        if choice is None and self.tables is not None and (merged := self.tables(conflict)) is not None:
            return Chosen(merged)
        choice = choice or self.strategy
        if choice is None:
            return None
        if choice in _SIDES:
            return Chosen(_SIDES[choice](conflict))
        return Chosen(self._taken(Path(choice), conflict))

    def _ruled(self, conflict: Conflict) -> str | None:
        if len(self._specs) != len(self.rules):
            from pathspec import GitIgnoreSpec  # takes 25 ms, and most merges do without

            self._specs = [GitIgnoreSpec.from_lines([rule.glob]) for rule in self.rules]
        is_directory = any(side and side.kind is EntryKind.DIRECTORY for side in (conflict.ours, conflict.theirs))
        text = (conflict.path or _ROOT).decode(errors="surrogateescape") + "/" * is_directory
        matching = [number for number, spec in enumerate(self._specs) if spec.match_file(text)]
        self._matched = (self._matched or set()).union(matching)
        return self.rules[matching[-1]].choice if matching else None

    def _taken(self, file: Path, conflict: Conflict) -> Entry | None:
        """A file of this machine, with the attributes that the path has on a side that has one."""
        taken = take_folder(
            self.repository, file.resolve(), _TOP, own_directory(), Sieve(Rules(), lambda _: True), lambda _: None
        )
        entry = taken.version.named(_TOP)
        if entry is None:
            raise UsageError(f"{file} cannot be read: {taken.failed[0][1]}")
        like = next((side for side in (conflict.ours, conflict.theirs) if side and side.kind is EntryKind.FILE), None)
        if like is None:
            return entry
        return msgspec.structs.replace(entry, mode=like.mode, uid=like.uid, gid=like.gid)
