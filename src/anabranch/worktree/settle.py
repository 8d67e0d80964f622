"""Small new files leave memory: once closed, they become chunks, long before a commit asks for it.

Rows then name a chunk instead of holding the bytes, so the meta environment, which never shrinks, stays small, and a
commit has less to do. What was written meanwhile is noticed by the content's version and left for the next time.
"""

from collections.abc import Collection
from typing import NamedTuple

from anabranch.store.chunks import ChunkStore
from anabranch.store.meta import ObjectStore
from anabranch.versions.manifests import Stored
from anabranch.versions.objects import INLINE_MAX
from anabranch.worktree.content import MemoryContent, Sources, StoredContent
from anabranch.worktree.ingest import Ingest
from anabranch.worktree.inodes import Inode
from anabranch.worktree.table import Table


class Small(NamedTuple):
    """A small file as it was when it was chosen; `copy` is for the worker."""

    ino: Inode
    content: MemoryContent
    version: int
    copy: MemoryContent


def choose(table: Table, writing: Collection[Inode]) -> list[Small]:
    """The small files that changed since the last cut and that nobody has open for writing."""
    chosen = []
    for ino in table.touched & table.dirty:
        content = table.nodes[ino].content
        if isinstance(content, MemoryContent) and content.size > INLINE_MAX and ino not in writing:
            chosen.append(Small(ino, content, content.version, MemoryContent(bytes(content.data), content.generation)))
    return chosen


def store(objects: ObjectStore, chunks: ChunkStore, sources: Sources, chosen: list[Small]) -> list[Stored]:
    """Ingest them, durably. Any thread may do this."""
    ingest = Ingest(chunks, sources)
    stored = [ingest.run(small.copy) for small in chosen]
    chunks.flush()
    objects.flush()
    return stored


def settle(table: Table, chosen: list[Small], stored: list[Stored]) -> None:
    """Put what was stored in the place of what was chosen, where it is still the same."""
    for small, content in zip(chosen, stored, strict=True):
        node = table.nodes.get(small.ino)
        same = node is not None and node.content is small.content and small.content.version == small.version
        if same and node is not None and small.ino in table.dirty:
            node.content = StoredContent(content)
            table.touched.add(small.ino)
