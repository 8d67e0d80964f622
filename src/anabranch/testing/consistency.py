"""A repository from the outside: is all that is named there, whole, and in its canonical form?

`check` walks every row of every log, every commit that it leads to, every tree, manifest and chunk, and raises
AssertionError at what is not as docs/format.md says. It reads through the store's own checks and repeats none of
their arithmetic where it can ask in another way: trees are built anew from their entries, content is cut anew.
"""

from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.store.chunker import MAX_SIZE, cut
from anabranch.store.meta import LOGS
from anabranch.store.records import Kind, object_id, unseal
from anabranch.versions import xattrs
from anabranch.versions.manifests import ZERO, Piece, Stored, of
from anabranch.versions.objects import COMMIT, INLINE_MAX, Commit, Entry, EntryKind, Form, Tag, get_commit
from anabranch.versions.refs import LOG_ROW, LogRow
from anabranch.versions.trees import EMPTY_TREE, Totals

RECUT_MAX = 64 * 1024 * 1024
"""Content up to this many bytes is cut anew; of larger ones only the chunks are read."""

Names = set[tuple[bytes, bytes]]
"""Names of hard links: link id and path."""


def check(repository: Repository) -> int:
    """Walk everything; returns the number of commits."""
    return _Walk(repository).run()


class _Walk:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._objects = repository.objects
        self._trees = repository.trees
        self._commits: set[bytes] = set()
        self._contents: set[bytes] = set()
        self._chunks: dict[ObjectId, bytes | None] = {}
        self._directories: dict[ObjectId, tuple[Totals, Names]] = {}
        self._trees.empty()

    def run(self) -> int:
        newest: dict[RefName, tuple[int, bytes]] = {}
        for name, number, row in self._logs():
            newest[name] = number, row.commit
            self._commit(ObjectId(row.commit))
        for ref in (*self._repository.refs.all(tags=False), *self._repository.refs.all(tags=True)):
            assert newest[ref.name] == (ref.number, ref.commit), f"{ref.name} is not where its log ends"
        return len(self._commits)

    def _logs(self) -> list[tuple[RefName, int, LogRow]]:
        rows: list[tuple[RefName, int, LogRow]] = []
        before: tuple[RefName, int, LogRow] | None = None
        for key, sealed in self._repository.meta.scan(LOGS):
            name, number = RefName(key[:-9].decode()), int.from_bytes(key[-8:], "big")
            raw = unseal(sealed, f"{name}@{number}")
            row = LOG_ROW.decode(raw)
            assert LOG_ROW.encode(row) == raw, f"{name}@{number} is not canonical"
            if before is not None and before[0] == name:
                assert number == before[1] + 1, f"{name} has no row {before[1] + 1}"
                assert row.time_ns > before[2].time_ns, f"{name}@{number} is not later than the row before"
                assert row.previous == object_id(Kind.ROW, LOG_ROW.encode(before[2])), "the chain is broken"
            else:
                assert (number, row.previous) == (0, b""), f"the log of {name} does not start at 0"
            before = name, number, row
            rows.append(before)
        return rows

    def _commit(self, start: ObjectId) -> None:
        todo = [start]
        while todo:
            identity = todo.pop()
            if identity in self._commits:
                continue
            self._commits.add(identity)
            commit = get_commit(self._objects, identity)
            again = object_id(Kind.COMMIT, COMMIT.encode(commit))
            assert again == identity, f"commit {identity.hex()} is not canonical"
            parents = [ObjectId(parent) for parent in commit.parents]
            generations = [get_commit(self._objects, parent).generation for parent in parents]
            assert commit.generation == (1 + max(generations) if generations else 0)
            assert list(commit.metadata) == sorted(commit.metadata)
            self._root(commit)
            todo += parents

    def _root(self, commit: Commit) -> None:
        assert commit.root.kind == EntryKind.DIRECTORY
        names = self._entry(commit.root)
        links = ObjectId(commit.links)
        rows = dict(self._trees.links(links))
        held = {(link_id, path) for link_id in rows for path in self._trees.link_names(links, link_id)}
        assert held == names, "the link tree does not hold just the names that there are"
        for link_id, row in rows.items():
            count = sum(link_id == named for named, _ in names)
            assert row.names == count > 0, f"link {link_id.hex()} has {count} names, not {row.names}"
            self._leaf(row.entry)
        again = self._trees.apply_links(EMPTY_TREE, dict(rows), dict.fromkeys(held, True))
        assert again == links, f"link tree {links.hex()} is not canonical"

    def _entry(self, entry: Entry) -> Names:
        """Check a directory's entry; returns the names of hard links below it."""
        self._xattrs(entry)
        totals, names = self._directory(entry.tree)
        held = (entry.size, entry.tag(Tag.FILES), entry.tag(Tag.SUBDIRECTORIES), entry.tag(Tag.LINKS))
        rightly = (totals.bytes, totals.files, totals.subdirectories, totals.links)
        assert held == rightly, "a directory's totals are wrong"
        assert all((entry.extra or {}).values()), "a directory's entry holds a zero that it should leave out"
        return names

    def _directory(self, tree: ObjectId) -> tuple[Totals, Names]:
        if (known := self._directories.get(tree)) is not None:
            return known
        entries = list(self._trees.entries(tree))
        assert self._trees.apply(EMPTY_TREE, entries) == tree, f"tree {tree.hex()} is not canonical"
        names: Names = set()
        files = size = subdirectories = 0
        for name, entry in entries:
            assert 1 <= len(name) <= 255, f"bad name {name!r}"
            assert not {b"/", b"\0"} & {name[i : i + 1] for i in range(len(name))}, f"bad name {name!r}"
            size += entry.size
            if entry.kind == EntryKind.DIRECTORY:
                names |= {(link_id, name + b"/" + path) for link_id, path in self._entry(entry)}
                files += entry.tag(Tag.FILES)
                subdirectories += 1
                continue
            files += 1
            if entry.kind == EntryKind.LINK:
                assert entry == Entry(EntryKind.LINK, content=entry.content), "a link's entry holds more than its id"
                names.add((entry.content, name))
            else:
                self._leaf(entry)
        totals = self._trees.totals(tree)
        rightly = (len(entries), files, size, subdirectories, len(names))
        held = (totals.entries, totals.files, totals.bytes, totals.subdirectories, totals.links)
        assert held == rightly, "a tree's totals are wrong"
        self._directories[tree] = totals, names
        return totals, names

    def _leaf(self, entry: Entry) -> None:
        assert entry.kind not in (EntryKind.DIRECTORY, EntryKind.LINK)
        assert 0 <= entry.mode <= 0o7777
        self._xattrs(entry)
        if entry.kind == EntryKind.SYMLINK:
            assert entry.size == len(entry.content)
        elif entry.kind == EntryKind.FILE:
            self._content(of(entry))
        else:
            assert (entry.size, entry.form, entry.content) == (0, Form.EMPTY, b"")

    def _xattrs(self, entry: Entry) -> None:
        again = xattrs.made(self._repository.xattrs(entry))
        assert again.tags() == xattrs.of(entry).tags(), "extended attributes are not where they should be"

    def _content(self, stored: Stored) -> None:
        if stored.form in (Form.EMPTY, Form.INLINE):
            assert stored.size == len(stored.content) <= INLINE_MAX
            assert (stored.form == Form.EMPTY) == (stored.size == 0), "an empty file is not inline"
            return
        if stored.content in self._contents:
            return
        self._contents.add(stored.content)
        assert stored.size > INLINE_MAX, "a file this small belongs into its entry"
        pieces = [piece for _, piece in self._repository.contents.manifests.pieces(stored)]
        assert sum(piece.bytes for piece in pieces) == stored.size
        again = self._repository.contents.manifests.store(pieces)
        assert again == stored, f"manifest {stored.content.hex()} is not canonical"
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
            assert after is None or piece.chunk != after.chunk, "equal chunks side by side are one row"
            if piece.chunk == ZERO:
                assert piece.length == MAX_SIZE, "only a maximal chunk of zeros has the reserved id"
            else:
                self._chunk(piece.chunk, piece.length)
        if stored.size <= RECUT_MAX:
            self._recut(stored, pieces)

    def _chunk(self, identity: ObjectId, length: int) -> None:
        if identity not in self._chunks:
            raw = self._repository.chunks.get(identity)
            assert object_id(Kind.CHUNK, raw) == identity, f"chunk {identity.hex()} holds other bytes"
            assert raw != bytes(MAX_SIZE), "a maximal chunk of zeros is never stored"
            self._chunks[identity] = None
            assert len(raw) == length

    def _recut(self, stored: Stored, pieces: list[Piece]) -> None:
        whole = b"".join(self._repository.contents.stream(stored))
        lengths = [piece.length for piece in pieces for _ in range(piece.repeat)]
        assert cut(whole, final=True) == lengths, "the content is not cut where its bytes say"
