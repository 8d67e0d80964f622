"""Opening the working tree of a branch: its rows over its base commit."""

import os
from dataclasses import dataclass

from anabranch.ids import ObjectId, RefName
from anabranch.store.env import Environment
from anabranch.store.meta import SETTINGS
from anabranch.store.records import seal, unseal_counter
from anabranch.versions.objects import Commit
from anabranch.versions.trees import Trees
from anabranch.worktree import checkpoint, cuts
from anabranch.worktree.content import Sources
from anabranch.worktree.cuts import Row, WorktreeRow
from anabranch.worktree.inodes import Inode, Kept, from_entry
from anabranch.worktree.numbers import Numbers
from anabranch.worktree.space import Space
from anabranch.worktree.table import Table
from anabranch.worktree.tree import WorkingTree

WORKTREE_COUNTER = b"next working tree"


@dataclass(slots=True)
class Branch:
    """An open working tree: its branch's name, which may change, and its own number, which does not."""

    name: RefName
    number: int
    tree: WorkingTree


def new_worktree(meta: Environment, numbers: Numbers, name: RefName, commit: ObjectId) -> WorktreeRow:
    """Keep a working tree for a branch that has none yet, clean over a commit."""
    root = numbers.fresh()
    with meta.write() as batch:
        stored = batch.get(SETTINGS, WORKTREE_COUNTER)
        number = 1 if stored is None else unseal_counter(stored, 4, "working tree counter", WORKTREE_COUNTER)
        batch.put(SETTINGS, WORKTREE_COUNTER, seal((number + 1).to_bytes(4, "little"), WORKTREE_COUNTER))
        row = WorktreeRow(number, root, commit, (1,))
        checkpoint.put_row(batch, name, row)
    return row


def open_worktree(
    meta: Environment,
    trees: Trees,
    numbers: Numbers,
    sources: Sources,
    row: WorktreeRow,
    base: Commit,
    owner: os.stat_result,
    space: Space,
) -> WorkingTree:
    """Load what is kept of a working tree over its base commit, and delete what is no longer part of it."""
    space.insisting(lambda: checkpoint.sweep_stale(meta, row))
    table, stale = load_table(meta, trees, numbers, row, base, owner)
    space.insisting(lambda: meta.set_all(stale))
    return WorkingTree(table, numbers, sources, space)


def load_table(
    meta: Environment, trees: Trees, numbers: Numbers, row: WorktreeRow, base: Commit, owner: os.stat_result
) -> tuple[Table, list[Row]]:
    """The inodes of a working tree, and how to delete rows that nothing names. Raises DamagedError.

    The empty commit belongs to nobody: over it, the owner of the repository has the root directory.
    """
    root = from_entry(base.root, Kept(Inode(row.root)), Inode(0), b"")
    if base.generation == 0:
        root.uid, root.gid, root.mtime_ns, root.ctime_ns = owner.st_uid, owner.st_gid, *([owner.st_mtime_ns] * 2)
    table = Table(
        trees,
        numbers,
        root,
        base_commit=ObjectId(row.base),
        links=ObjectId(base.links),
        generation=row.generations[-1],
    )
    return table, cuts.load(meta, row, table)
