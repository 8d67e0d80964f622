"""What people and scripts read of the store: how much is in it, what became of rebuilding its index, or of a backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from anabranch.escape import show_name
from anabranch.report import Json, plural, size

if TYPE_CHECKING:
    from anabranch.fsck.findings import Finding, Hit, Report
    from anabranch.fsck.repair import Mended
    from anabranch.statistics import Statistics
    from anabranch.store.reindex import Rebuilt
    from anabranch.transfer.backup import BackedUp


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


_SHOWN = 20
"""Paths of one damage that people are shown."""


def checked_text(found: Report) -> str:
    """What was looked at, and each damage with what it hits."""
    seen = found.looked_at
    damages = plural(len(found.findings), "damage") if found.findings else "no damage"
    parts = (plural(seen.versions, "version"), plural(seen.rows, "row"), plural(seen.chunks, "chunk"), size(seen.bytes))
    return "".join([f"{', '.join(parts)}: {damages}\n", *map(_damage_text, found.findings)])


def _damage_text(finding: Finding) -> str:
    lines = [f"damaged: {finding.where}: {finding.what}"]
    lines += [f"    {_path(hit)}  {_versions(hit.versions)}" for hit in finding.hits[:_SHOWN]]
    if (more := len(finding.hits) - _SHOWN) > 0:
        lines.append(f"    and {plural(more, 'path')} more")
    if finding.thing is not None and not finding.hits:
        lines.append("    no version leads there, as far as they can be read")
    return "".join(f"{line}\n" for line in lines)


def _path(hit: Hit) -> str:
    return show_name(hit.path.decode(errors="surrogateescape")) or "(everything)"


def _versions(names: Sequence[str]) -> str:
    """`main@3 to main@12, exp@1`: what follows on each other in one log, as a range."""
    ranges: list[tuple[str, int, int]] = []
    others: list[str] = []
    for name in names:
        branch, at, digits = name.rpartition("@")
        if not at or not digits.isdigit():
            others.append(show_name(name))
        elif ranges and ranges[-1][0] == branch and ranges[-1][2] == int(digits) - 1:
            ranges[-1] = branch, ranges[-1][1], int(digits)
        else:
            ranges.append((branch, int(digits), int(digits)))
    shown = (f"{one}@{first}" + (f" to {one}@{last}" if last > first else "") for one, first, last in ranges)
    return ", ".join([*map(show_name, shown), *others])


def mended_text(done: Mended) -> str:
    """What was mended, and what is lost."""
    lines = [*(f"mended: {line}" for line in done.mended), *(f"lost: {line}" for line in done.lost)]
    return "".join(f"{show_name(line)}\n" for line in lines)


def checked_json(found: Report, done: Mended | None) -> Json:
    """The same for scripts, with every path."""
    return {
        "mended": list(done.mended) if done else [], "lost": list(done.lost) if done else [],
        "versions": found.looked_at.versions, "rows": found.looked_at.rows, "chunks": found.looked_at.chunks,
        "bytes": found.looked_at.bytes,
        "damaged": [
            {
                "where": finding.where, "what": finding.what,
                "id": None if finding.thing is None else finding.thing.id.hex(),
                "hits": [
                    {"path": hit.path.decode(errors="surrogateescape"), "versions": list(hit.versions)}
                    for hit in finding.hits
                ],
            }
            for finding in found.findings
        ],
    }  # fmt: skip


def backed_up_text(done: BackedUp) -> str:
    """`12 versions in /disk/flights, 12.3 MB copied`, and what is damaged in the source."""
    counts = f"{plural(done.versions, 'version')} in {show_name(str(done.path))}, {size(done.bytes)} copied"
    return f"{counts}\n" + "".join(f"damaged: {it}\n" for it in done.damaged)


def backed_up_json(done: BackedUp) -> Json:
    """The same for scripts."""
    return {
        "to": str(done.path), "versions": done.versions, "chunks": done.chunks, "added_bytes": done.bytes,
        "damaged": done.damaged,
    }  # fmt: skip
