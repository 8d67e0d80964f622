"""Contents leave memory and overlay files: once closed, they become chunks, long before a commit asks for it.

Small new files do so before the next cut: their rows then name a chunk instead of holding the bytes. Larger ones wait
until nobody has written for a while, since a file that is written again would be chunked again. What was written
meanwhile is noticed by the content's version, and left for the next time.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from anabranch.store.chunks import ChunkStore
from anabranch.store.meta import ObjectStore
from anabranch.versions.contents import Contents
from anabranch.versions.objects import INLINE_MAX
from anabranch.worktree.content import MemoryContent, OverlayContent, Overlays, Sources, StoredContent
from anabranch.worktree.ingest import Ingest
from anabranch.worktree.inodes import Inode
from anabranch.worktree.table import Table

IDLE_NS = 3_000_000_000
"""How long nobody must have written to a file in an overlay."""

RETRY_NS = 60_000_000_000


class Chosen(NamedTuple):
    """A content as it was when it was chosen; `copy` is for the worker."""

    ino: Inode
    content: MemoryContent | OverlayContent
    version: int
    copy: MemoryContent | OverlayContent


def choose(table: Table, writing: Collection[Inode]) -> list[Chosen]:
    """The small files that changed since the last cut and that nobody has open for writing."""
    chosen = []
    for ino in table.touched & table.dirty:
        content = table.nodes[ino].content
        if isinstance(content, MemoryContent) and content.size > INLINE_MAX and ino not in writing:
            chosen.append(Chosen(ino, content, content.version, content.copy()))
    return chosen


def choose_idle(table: Table, writing: Collection[Inode], now_ns: int) -> Chosen | None:
    """A file in an overlay that nobody has open for writing, nor has written to for a while."""
    for ino in list(table.overlaid):
        node = table.nodes.get(ino)
        if node is None or ino not in table.dirty or not isinstance(node.content, OverlayContent):
            table.overlaid.discard(ino)
        elif ino not in writing and now_ns - node.content.written_ns >= IDLE_NS:
            return Chosen(ino, node.content, node.content.version, node.content.copy())
    return None


def put_off(chosen: Chosen, now_ns: int) -> None:
    """It could not be ingested: not for a while."""
    if isinstance(chosen.content, OverlayContent):
        chosen.content.written_ns = now_ns + RETRY_NS


def store(objects: ObjectStore, chunks: ChunkStore, sources: Sources, chosen: list[Chosen]) -> list[StoredContent]:
    """Ingest small ones, durably. Any thread may do this: no overlay file is read."""
    stored = [_stored(each, Ingest(chunks, sources)) for each in chosen]
    chunks.flush()
    objects.flush()
    return stored


def store_idle(
    objects: ObjectStore, contents: Contents, overlay_directory: Path, chosen: Chosen, check: Callable[[], None]
) -> StoredContent:
    """Ingest a file in an overlay, durably, in a thread of its own. `check` is called now and then, and may raise."""
    overlays = Overlays(overlay_directory, open_files=1)
    try:
        stored = _stored(chosen, Ingest(contents.chunks, Sources(contents, overlays), check))
    finally:
        overlays.close()
    contents.chunks.flush()
    objects.flush()
    return stored


def _stored(chosen: Chosen, ingest: Ingest) -> StoredContent:
    return StoredContent(ingest.run(chosen.copy), chosen.copy.added + ingest.added)


def settle(table: Table, chosen: list[Chosen], stored: list[StoredContent]) -> None:
    """Put what was stored in the place of what was chosen, where it is still the same."""
    for each, content in zip(chosen, stored, strict=True):
        node = table.nodes.get(each.ino)
        same = node is not None and node.content is each.content and each.content.version == each.version
        if same and node is not None and each.ino in table.dirty:
            table.doom(node.content)
            node.content = content
            table.touched.add(each.ino)
