"""What people and scripts read of the store: how much is in it, and what became of a rebuilding of its index."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from anabranch.escape import show_name
from anabranch.report import Json, plural, size

if TYPE_CHECKING:
    from anabranch.statistics import Statistics
    from anabranch.store.reindex import Rebuilt


def info_text(found: Statistics, mounted: str | None) -> str:
    """A repository in a few lines, each with a label."""
    chunks, parts = found.chunks, asdict(found.disk)
    about = "" if chunks.exact else "about "
    rows = {
        "Repository": f"{show_name(str(found.path))}, format {found.format}",
        "Mounted at": "-" if mounted is None else show_name(mounted),
        "Branches": f"{found.branches:,}, by default {show_name(str(found.head.name))}",
        "Tags": f"{found.tags:,}",
        "Versions": f"{found.versions:,}, {size(found.version_bytes)} in all of them",
        "Last version": f"{show_name(str(found.head))}, {plural(found.files, 'file')}, {size(found.bytes)}",
        "On disk": f"{size(parts.pop('all'))}: " + ", ".join(f"{part} {size(room)}" for part, room in parts.items()),
        "Chunks": f"{chunks.count:,}, {about}{size(chunks.raw)}, compressed {size(chunks.stored)}",
        "Compression": _ratio(chunks.compression, about),
        "Deduplication": _ratio(found.deduplication, about),
    }
    return "".join(f"{label + ':':<15}{text}\n" for label, text in rows.items())


def _ratio(ratio: float | None, about: str) -> str:
    return "-" if ratio is None else f"{about}{ratio:.2f} to 1"


def info_json(found: Statistics, mounted: str | None) -> Json:
    """The same for scripts; sizes in bytes."""
    chunks = found.chunks
    return {
        "path": str(found.path), "format": found.format, "mounted_at": mounted,
        "default_branch": found.head.name, "branches": found.branches, "tags": found.tags, "versions": found.versions,
        "last_version": {"version": str(found.head), "files": found.files, "bytes": found.bytes},
        "disk": asdict(found.disk),
        "chunks": {"count": chunks.count, "bytes": chunks.raw, "stored": chunks.stored, "exact": chunks.exact},
        "version_bytes": found.version_bytes, "compression": chunks.compression, "deduplication": found.deduplication,
    }  # fmt: skip


def reindexed_text(rebuilt: Rebuilt) -> str:
    """`12,345 chunks in 2 volumes, 0 damaged records`, and where each of these lies."""
    chunks, volumes, damaged = (
        f"{count:,} {word if count == 1 else word + 's'}"
        for count, word in (
            (rebuilt.chunks, "chunk"), (rebuilt.volumes, "volume"), (len(rebuilt.damaged), "damaged record"),
        )
    )  # fmt: skip
    those = "1 chunk of the old index is" if rebuilt.lost == 1 else f"{rebuilt.lost:,} chunks of the old index are"
    lost = f"lost: {those} in no volume\n" if rebuilt.lost else ""
    return f"{chunks} in {volumes}, {damaged}\n" + lost + "".join(f"damaged: {it}\n" for it in rebuilt.damaged)


def reindexed_json(rebuilt: Rebuilt) -> Json:
    """A rebuilding of the index for scripts."""
    return {
        "chunks": rebuilt.chunks,
        "volumes": rebuilt.volumes,
        "lost": rebuilt.lost,
        "damaged": [msgspec.structs.asdict(damage) for damage in rebuilt.damaged],
    }
