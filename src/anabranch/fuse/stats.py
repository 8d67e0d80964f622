"""What a daemon holds, and how much a branch does. Everything is known already, or costs what changed."""

import os
import time
from pathlib import Path

from anabranch.fuse.handles import Handles
from anabranch.ids import RefName
from anabranch.repo import Repository
from anabranch.report import Json
from anabranch.versions.objects import EntryKind, Tag
from anabranch.worktree.sides import uncommitted


class DaemonStats:
    """Of one mount, from its beginning on."""

    def __init__(self, repository: Repository, handles: Handles) -> None:
        self._repository = repository
        self._handles = handles
        self._since = time.monotonic()

    def now(self) -> Json:
        """The numbers by their names."""
        repository = self._repository
        files, size = repository.overlays.usage()
        branches = sorted(repository.keeper.branches.items())
        return {
            "pid": os.getpid(),
            "serving_seconds": int(time.monotonic() - self._since),
            "resident_bytes": _resident(),
            "open_handles": self._handles.opened,
            "known_inodes": self._handles.known,
            "chunk_cache_bytes": repository.chunks.cache.size,
            "journal_bytes": repository.keeper.journal_size,
            "overlay_files": files,
            "overlay_bytes": size,
            "uncommitted_inodes": {name: len(uncommitted(branch.tree.table)) for name, branch in branches},
        }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def of_branch(repository: Repository, name: RefName) -> Json:
    """How much the last commit of a branch holds, and what is not committed."""
    root = repository.resolve(name).commit.root
    changes = repository.status(name)
    return {
        "files": root.tag(Tag.FILES),
        "bytes": root.size,
        "uncommitted_changes": len(changes),
        "uncommitted_bytes": sum(change.new_size or 0 for change in changes if change.kind != EntryKind.DIRECTORY),
    }


def to_text(stats: Json) -> str:
    """`open handles: 3`, one number a line."""
    lines = []
    for name, value in stats.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        lines += [f"{name.replace('_', ' ')}{part and ' ' + part}: {number}\n" for part, number in rows]
    return "".join(lines)
