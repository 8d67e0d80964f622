"""Repositories that an enemy made: the project's own store, told to keep what no writer would.

Reading checks no identity, so anything can be under any id, with a right checksum.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from anabranch.ids import ObjectId, RefName
from anabranch.repo import Repository
from anabranch.store.meta import OBJECTS
from anabranch.store.records import HEADER, Kind, checksum, frame, object_id, seal
from anabranch.versions.refs import Who
from anabranch.versions.trees import EMPTY_TREE
from anabranch.worktree import journal

MAIN = RefName("main")
WHO = Who("enemy", "test")
encode = msgspec.msgpack.encode
Row = tuple[bytes, object]
"""A key, and a value that is still to be encoded."""

BIG = (1 << 63) - 1
ZERO = bytes(32)


def made_up(name: str) -> ObjectId:
    """An id of nothing."""
    return object_id(Kind.ROW, name.encode())


def directory(tree: bytes, **fields: object) -> tuple[object, ...]:
    """The entry of a directory, as the array that it is."""
    extra = fields.get("extra")
    return 2, fields.get("mode", 0o755), 0, 0, fields.get("mtime", 0), fields.get("size", 0), 0, tree, extra


def file(size: int, form: int, content: bytes, **fields: object) -> tuple[object, ...]:
    """The entry of a file."""
    return 1, fields.get("mode", 0o644), 0, 0, fields.get("mtime", 0), size, form, content, fields.get("extra")


SMALL = file(5, 1, b"small")


class Enemy:
    """Somebody with a repository of his own. What he hands over is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repository = Repository(path, writable=True)
        self._count = 0
        self._closed = False

    def close(self) -> None:
        """Hand it over."""
        if not self._closed:
            self._closed = True
            self.repository.close()

    # --- objects ---

    def put(self, kind: Kind, raw: bytes, identity: ObjectId | None = None) -> ObjectId:
        """Any bytes under any id."""
        self._count += 1
        identity = identity or made_up(f"{self._count}")
        self.put_record(identity, frame(kind, identity, raw))
        return identity

    def put_record(self, identity: ObjectId, record: bytes) -> None:
        self.repository.meta.put_all(OBJECTS, [(identity, record)])

    def lying_record(self, kind: Kind, raw_size: int, codec: int, payload: bytes) -> ObjectId:
        """A record with a right checksum whose header is as the enemy says."""
        self._count += 1
        identity = made_up(f"{self._count}")
        head = HEADER.pack(1, kind, codec, 0, 0, raw_size, len(payload), 0)[:16]
        self.put_record(identity, head + checksum(identity, head, payload).to_bytes(8, "little") + payload)
        return identity

    def node(self, kind: Kind, level: int, rows: Iterable[Row], identity: ObjectId | None = None) -> ObjectId:
        encoded = [(key, msgspec.Raw(encode(value))) for key, value in rows]
        return self.put(kind, encode((level, encoded)), identity)

    def tree(self, rows: Iterable[Row], level: int = 0, identity: ObjectId | None = None) -> ObjectId:
        return self.node(Kind.TREE, level, rows, identity)

    def manifest(self, rows: Iterable[Row], level: int = 0, identity: ObjectId | None = None) -> ObjectId:
        return self.node(Kind.MANIFEST, level, rows, identity)

    def chunk(self, raw: bytes, identity: ObjectId | None = None) -> ObjectId:
        self._count += 1
        identity = identity or made_up(f"{self._count}")
        self.repository.chunks._keep([identity + frame(Kind.CHUNK, identity, raw)])
        return identity

    # --- versions ---

    def version(
        self, tree: bytes, *, links: bytes = EMPTY_TREE, parents: tuple[bytes, ...] | None = None, generation: int = 1,
        root: dict[str, object] | None = None, message: str = "made up", author: str = "enemy", time_ns: int = 1,
        metadata: dict[str, str] | None = None, name: str = MAIN, identity: ObjectId | None = None,
    ) -> ObjectId:  # fmt: skip
        """A version of a branch whose root directory has a tree."""
        refs = self.repository.refs
        before = refs.find(RefName(name)) or refs.get(MAIN)
        parents = (before.commit,) if parents is None else parents
        fields = (directory(tree, **(root or {})), links, parents, generation, author, time_ns, message, metadata or {})
        commit = self.put(Kind.COMMIT, encode(fields), identity)
        with self.repository.meta.write() as batch:
            if refs.find(RefName(name)) is None:
                refs.create(batch, RefName(name), commit, WHO, tag=False)
            else:
                refs.advance(batch, RefName(name), before.number, commit, WHO)
        return commit

    # --- rows of tables ---

    def row(self, table: str, key: bytes, value: bytes) -> None:
        """A row as it is."""
        with self.repository.meta.write() as batch:
            batch.put(table, key, value)

    def sealed(self, table: str, key: bytes, value: object) -> None:
        self.row(table, key, seal(encode(value)))

    def journal_record(self, rows: object, number: int = 0) -> None:
        """A file of the journal with one whole record."""
        record = journal.encode_record(number, rows)  # type: ignore[arg-type]
        (self.path / "journal" / f"{number:020}").write_bytes(record)
