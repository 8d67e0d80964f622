"""Keeping all open working trees of a repository at one instant.

`cut`, `after` and what changes `branches` belong to the thread of the working trees; a cut is written, and rows are
taken into the meta environment, by any thread, one at a time. Overlay files are brought to disk before the rows that
name them, and deleted after those that no longer do.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from anabranch.ids import RefName
from anabranch.store.env import Batch, Environment
from anabranch.worktree import checkpoint, cuts
from anabranch.worktree.branch import Branch
from anabranch.worktree.checkpoint import Ended
from anabranch.worktree.content import Overlays
from anabranch.worktree.cuts import Cut, Key
from anabranch.worktree.journal import Journal
from anabranch.worktree.space import Space

log = logging.getLogger(__name__)

CHECKPOINT = 16 * 1024 * 1024
"""Bytes of journal after which its rows are taken in."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of the journal's records before a number, on their way into the meta environment."""

    rows: dict[Key, bytes | None]
    until: int


class Keeper:
    """The open working trees by branch, and what of them is not yet on disk."""

    def __init__(self, meta: Environment, overlays: Overlays, journal: Journal, space: Space) -> None:
        self._meta = meta
        self._overlays = overlays
        self._journal = journal
        self.space = space
        self._unwritten = Cut()
        self._journaled: dict[Key, bytes | None] = {}
        """Rows that are in the journal, and not yet in the meta environment."""
        self._size = 0
        self._lost: set[int] = set()
        """Overlay files that no row names any more, and that are still there."""
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
        cut.taken_in = self.space.pending
        try:
            self._write_again(cut)
            for branch in self.branches.values():
                table = branch.tree.table
                if table.touched or table.touched_names or table.doomed:
                    cuts.cut_table(cut, branch.number, table)
        except BaseException:
            self.keep(cut)
            raise
        finally:
            cut.unsynced(self._overlays.unsynced)
            self._overlays.unsynced.clear()
        return cut

    def _write_again(self, cut: Cut) -> None:
        """Raises OSError: then what could not be written again is still doubted."""
        for number in sorted(cut.doubted - cut.doomed):
            self._overlays.write_again(number, cut.sync[number])
            cut.doubted.discard(number)

    def cut_before_freeze(self, branch: Branch) -> None:
        """Later cuts hold the live generation alone: what is newer than its rows goes into the next one from here."""
        cuts.cut_table(self._unwritten, branch.number, branch.tree.table)

    def keep(self, cut: Cut) -> None:
        """A cut could not be written: its rows go first in the next one, before those of a freeze meanwhile."""
        later, self._unwritten = self._unwritten, cut
        cut.add(later)

    def write(self, cut: Cut) -> None:
        """Make a cut durable. Raises OSError; then nothing was written."""
        self._sync(cut)
        if cut.rows:
            rows = [(table, key, value) for (table, key), value in cut.rows.items()]
            self._size += self.space.insisting(lambda: self._journal.append(rows))
            self._journaled |= cut.rows

    def _sync(self, cut: Cut) -> None:
        for number in sorted(cut.sync.keys() - cut.doomed):
            cut.doubted.add(number)
            self._overlays.sync(number)
            cut.doubted.discard(number)
        if cut.sync:
            self._overlays.sync_names()

    @property
    def journal_size(self) -> int:
        """Bytes of the journal's records that are not yet taken in."""
        return self._size

    def wants_checkpoint(self) -> bool:
        """Whether the journal is long."""
        return self._size >= CHECKPOINT

    def begin_checkpoint(self) -> Taken:
        """Set the journal's rows aside, to be taken in while others are written."""
        taken = Taken(self._journaled, self._journal.turn())
        self._journaled, self._size = {}, 0
        return taken

    def take_in(self, taken: Taken) -> None:
        """Take what was set aside into the meta environment. Raises OSError: then `put_back` is to be called.

        Beside `write`; but neither a commit nor a change of branches' names may happen meanwhile.
        """
        if taken.rows:
            self.space.insisting(lambda: checkpoint.take_in(self._meta, taken.rows, taken.until))
        self._journal.forget(taken.until)

    def put_back(self, taken: Taken) -> None:
        """What was set aside was not taken in: it stays in the journal."""
        self._journaled = taken.rows | self._journaled
        self._size += CHECKPOINT

    def checkpoint(self) -> None:
        """Take the journal in, where nobody writes beside."""
        taken = self.begin_checkpoint()
        try:
            self.take_in(taken)
        except BaseException:
            self.put_back(taken)
            raise

    def commit(self, cut: Cut, also: Callable[[Batch], None], ended: Ended | None = None) -> None:
        """Make a cut durable by the transaction of a commit, which may end a generation.

        Raises OSError; then nothing was written.
        """
        self._sync(cut)
        until = self._journal.turn() + 1  # an append that failed may have left a record of the number in between
        checkpoint.take_in_with(self._meta, self._journaled | cut.rows, until, also, ended)
        self._journal.next = until
        self._journaled, self._size = {}, 0
        self._journal.forget(until)

    def sweep(self, number: int, generation: int) -> None:
        """Delete what is left of the rows of a working tree's generation that ended. Any thread, beside others."""
        checkpoint.sweep(self._meta, number, generation)

    def after(self, cut: Cut) -> None:
        """Delete the overlay files that no row names any more. What cannot be deleted now is deleted after the next.

        Raises nothing: what the cut was for is done.
        """
        self.space.pending = max(0, self.space.pending - cut.taken_in)
        self._lost |= cut.doomed
        try:
            self._lost = {number for number in self._lost if not self._overlays.remove(number)}
        except Exception:
            log.exception("overlay files could not be deleted; trying again later")

    def save(self) -> None:
        """Cut, write and clean up in one."""
        cut = self.cut()
        try:
            self.write(cut)
        except BaseException:
            self.keep(cut)
            raise
        self.after(cut)

    def close(self) -> None:
        """Let the journal's file go; what it holds is read back by the next opening."""
        self._journal.close()
