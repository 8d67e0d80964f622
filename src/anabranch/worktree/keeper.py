"""Keeping all open working trees of a repository at one instant.

`cut` and what changes `branches` belong to the thread of the working trees; a cut is written by any thread, one at a
time (see checkpoint.py for what is in a cut, and why in that order).
"""

from anabranch.ids import RefName
from anabranch.store.env import Environment
from anabranch.worktree import checkpoint
from anabranch.worktree.branch import Branch
from anabranch.worktree.checkpoint import Cut
from anabranch.worktree.content import Overlays


class Keeper:
    """The open working trees by branch, and what of them is not yet on disk."""

    def __init__(self, meta: Environment, overlays: Overlays) -> None:
        self._meta = meta
        self._overlays = overlays
        self._unwritten = Cut()
        self.branches: dict[RefName, Branch] = {}

    def has_unsaved(self) -> bool:
        """Whether a cut would hold anything."""
        tables = (branch.tree.table for branch in self.branches.values())
        return bool(
            self._unwritten.rows or any(table.touched or table.touched_names or table.doomed for table in tables)
        )

    def cut(self) -> Cut:
        """Everything of all open working trees that is not yet kept, at this instant."""
        cut, self._unwritten = self._unwritten, Cut()
        cut.sync |= self._overlays.unsynced
        self._overlays.unsynced.clear()
        try:
            for branch in self.branches.values():
                checkpoint.cut_table(cut, branch.name, branch.number, branch.tree.table)
        except BaseException:
            self.keep(cut)
            raise
        return cut

    def cut_before_freeze(self, branch: Branch) -> None:
        """Later cuts hold the live generation alone: what is newer than its rows goes into the next one from here."""
        checkpoint.cut_table(self._unwritten, branch.name, branch.number, branch.tree.table)

    def keep(self, cut: Cut) -> None:
        """A cut could not be written: its rows go first in the next one, before those of a freeze meanwhile."""
        later, self._unwritten = self._unwritten, cut
        cut.rows += later.rows
        cut.sync |= later.sync
        cut.doomed |= later.doomed

    def write(self, cut: Cut) -> None:
        """Make a cut durable; any thread, one at a time."""
        checkpoint.write(self._meta, self._overlays, cut)

    def after(self, cut: Cut) -> None:
        """Delete the overlay files that no row names any more."""
        for number in cut.doomed:
            self._overlays.remove(number)

    def save(self) -> None:
        """Cut, write and clean up in one."""
        cut = self.cut()
        self.write(cut)
        self.after(cut)
