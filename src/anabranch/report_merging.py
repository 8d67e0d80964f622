"""What people and scripts read of merges, reverts, cherry-picks and resets, before and after they were made."""

from collections.abc import Iterator

from anabranch.escape import show_name, show_path
from anabranch.history import VersionName
from anabranch.ids import short
from anabranch.merging.proposal import Proposal
from anabranch.moves import Moved
from anabranch.report import Json, change_json, iso, json_path, plural, size, version_json
from anabranch.versions.diff import Change
from anabranch.versions.objects import Entry, EntryKind
from anabranch.versions.refs import Operation
from anabranch.versions.renames import renamed
from anabranch.versions.threeway import Conflict

_DONE = {
    Operation.MERGE: "merged", Operation.REVERT: "reverted", Operation.PICK: "picked", Operation.RESET: "reset to",
}  # fmt: skip
_WIDTH = len("modified and deleted")


def conflict_text(conflict: Conflict) -> str:
    """`both modified         raw/x.csv  base 1.2 MB, ours 1.3 MB, theirs 1.2 MB`."""
    sides = (f"{name} {_side(entry)}" for name, entry in _sides(conflict))
    return f"{conflict.kind:<{_WIDTH}}  {show_path(conflict.path)}  {', '.join(sides)}\n"


def _sides(conflict: Conflict) -> Iterator[tuple[str, Entry | None]]:
    yield from (("base", conflict.base), ("ours", conflict.ours), ("theirs", conflict.theirs))


def _side(entry: Entry | None) -> str:
    if entry is None:
        return "none"
    return size(entry.size) if entry.kind is EntryKind.FILE else entry.kind.name.lower()


def conflict_json(conflict: Conflict) -> Json:
    """A conflict for scripts: its kind, and what each version has there."""
    return {**json_path(conflict.path), "kind": conflict.kind.value} | {
        name: _entry_json(entry) for name, entry in _sides(conflict)
    }


def _entry_json(entry: Entry | None) -> Json | None:
    if entry is None:
        return None
    return {
        "kind": entry.kind.name.lower(), "size": entry.size, "mode": f"{entry.mode:04o}", "mtime": iso(entry.mtime_ns),
    }  # fmt: skip


def moved_text(operation: Operation, source: VersionName, moved: Moved, changes: list[Change]) -> str:
    """`main@12 3f9ac2e1  merged exp@5: 3 files changed`."""
    version = f"{show_name(moved.branch)}@{moved.number} {short(moved.id)}"
    return f"{version}  {_DONE[operation]} {show_name(str(source))}: {_changed(changes)}\n"


def nothing_text(branch: str, source: VersionName) -> str:
    """That a branch has all of a version already."""
    return f"{show_name(branch)} has all of {show_name(str(source))} already\n"


def _changed(changes: list[Change]) -> str:
    files = sum(change.kind is not EntryKind.DIRECTORY for change in changes)
    return f"{plural(files, 'file')} changed"


def conflicts_text(proposal: Proposal) -> str:
    """The conflicts that nobody resolved, one a line."""
    return "".join(map(conflict_text, proposal.merged.conflicts))


def proposed_text(proposal: Proposal) -> str:
    """What would come of it, for `--dry-run`: the conflicts, or how much would change."""
    branch, source = show_name(proposal.branch), show_name(str(proposal.source))
    if proposal.is_nothing:
        return nothing_text(proposal.branch, proposal.source)
    if proposal.merged.conflicts:
        return conflicts_text(proposal)
    return f"{branch} would have {_DONE[proposal.operation]} {source}: {_changed(proposal.changes)}\n"


def proposal_json(proposal: Proposal, moved: Moved | None, tables: list[Json] | None = None) -> Json:
    """A merge, revert or cherry-pick for scripts; without `moved`, it was not made."""
    return {
        **_moved_json(proposal.operation, proposal.branch, proposal.source, moved, proposal.changes),
        "conflicts": [conflict_json(conflict) for conflict in proposal.merged.conflicts],
        "resolved": [conflict_json(conflict) for conflict in proposal.merged.resolved],
    } | ({} if tables is None else {"tables": tables})


def reset_json(source: VersionName, branch: str, moved: Moved | None, changes: list[Change]) -> Json:
    """A reset for scripts; without `moved`, the branch was there already."""
    return _moved_json(Operation.RESET, branch, source, moved, changes)


def _moved_json(
    operation: Operation, branch: str, source: VersionName, moved: Moved | None, changes: list[Change]
) -> Json:
    return {
        "operation": operation.value, "branch": branch, "from": version_json(source),
        "version": None if moved is None else f"{moved.branch}@{moved.number}",
        "id": None if moved is None else moved.id.hex(),
        "changes": [change_json(change) for change in renamed(changes)],
    }  # fmt: skip
