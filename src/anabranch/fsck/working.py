"""What working trees name of what is stored, and whether their own rows make a whole. Only reads."""

from collections.abc import Iterator
from pathlib import Path

from anabranch.errors import DamagedError
from anabranch.fsck.affected import uncommitted
from anabranch.fsck.findings import Finding, Hit, Sort, Thing
from anabranch.fsck.walk import Named, content_of
from anabranch.ids import ObjectId
from anabranch.repo import Repository
from anabranch.store.meta import WORKTREES
from anabranch.versions.objects import get_commit
from anabranch.worktree.branch import load_table
from anabranch.worktree.content import Content, OverlayContent, StoredContent
from anabranch.worktree.cuts import WORKTREE, WorktreeRow
from anabranch.worktree.inodes import Inode, Node
from anabranch.worktree.numbers import Numbers
from anabranch.worktree.table import Table


def look(repository: Repository) -> tuple[dict[str, list[Named]], list[Finding]]:
    """By what each working tree is called: what it names that is stored; and what is wrong with it.

    The rows of working trees are to be at rest: not those of a repository that somebody owns, nor with a journal.
    """
    named: dict[str, list[Named]] = {}
    findings: list[Finding] = []
    for key, sealed in repository.meta.scan(WORKTREES):
        branch = key.decode(errors="replace")
        called = uncommitted(key)
        try:
            row = WORKTREE.unseal(sealed, f"working tree of {branch}", key)
            table = _load(repository, row)
        except DamagedError as error:
            findings.append(Finding("worktrees", f"{called}: {error.message}", key=key))
            continue
        items = list(_items(table))
        named[called] = [named_one for path, node in items for named_one in _stored(node, path)]
        for path, node in items:
            for number in _overlays(node.content):
                if not Path(repository.layout.overlays, str(number)).exists():
                    what = f"overlay file {number} is missing"
                    findings.append(Finding("overlays", what, hits=[Hit(path, [called])]))
    return named, findings


def _load(repository: Repository, row: WorktreeRow) -> Table:
    commit = get_commit(repository.objects, ObjectId(row.base))
    numbers = Numbers(repository.meta)
    return load_table(repository.meta, repository.trees, numbers, row, commit, repository.layout.path.stat())[0]


def _items(table: Table) -> Iterator[tuple[bytes, Node]]:
    """The uncommitted inodes with a path of each."""
    places = {child: (ino, name) for ino in table.dirty for name, child in table.nodes[ino].changes.items()}
    for ino in sorted(table.dirty):
        yield _path(places, ino), table.nodes[ino]


def _path(places: dict[Inode, tuple[Inode, bytes]], ino: Inode) -> bytes:
    names: list[bytes] = []
    while ino in places and len(names) <= len(places):
        ino, name = places[ino]
        names.append(name)
    return b"/".join(reversed(names))


def _stored(node: Node, path: bytes) -> Iterator[Named]:
    for content in _contents(node.content):
        if isinstance(content, StoredContent):
            yield from content_of(content.stored, path)
    if node.xattrs.object and not node.xattrs.map:
        yield Named(Thing(Sort.XATTRS, node.xattrs.object), path)
    yield Named(Thing(Sort.TREE, node.base), path)


def _overlays(content: Content) -> Iterator[int]:
    if isinstance(content, OverlayContent):
        yield from (overlay.number for overlay in content.overlays())


def _contents(content: Content | None) -> Iterator[Content]:
    while content is not None:
        yield content
        content = content.below if isinstance(content, OverlayContent) else None
