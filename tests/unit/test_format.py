"""The format of docs/format.md: the bytes of each record, that they come back, that bad ones are clean errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.meta import ObjectStore
from anabranch.store.records import Kind, frame, object_id, seal, unframe, unseal
from anabranch.versions import prolly
from anabranch.versions.manifests import ZERO, Manifests, Piece, Stored, decode_piece, encode_piece
from anabranch.versions.objects import COMMIT, ENTRY, LINK_ROW, Commit, Entry, EntryKind, Form, LinkRow, Tag, get_commit
from anabranch.versions.refs import LOG_ROW, REF_ROW, LogRow, Operation, RefRow
from anabranch.versions.trees import EMPTY_TREE, Trees, Version
from tests.unit.helpers import examples

# --- any value ---

counts = st.one_of(st.integers(0, 1000), st.integers(0, 2**63 - 1))
times = st.integers(-(2**63), 2**63 - 1)
ids = st.binary(min_size=ID_SIZE, max_size=ID_SIZE).map(ObjectId)
texts = st.text(max_size=20)
extras = st.one_of(
    st.none(), st.dictionaries(st.integers(1, 9), st.one_of(counts, st.binary(max_size=300)), min_size=1, max_size=3)
).map(lambda extra: extra and dict(sorted(extra.items())))
attributes = st.tuples(st.integers(0, 0o7777), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), times)


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(EntryKind))
    if kind is EntryKind.LINK:
        return Entry(kind, content=draw(st.binary(min_size=16, max_size=16)))
    size, form, content = 0, Form.EMPTY, b""
    if kind is EntryKind.FILE:
        form = draw(st.sampled_from(Form))
        if form is Form.INLINE:
            content = draw(st.binary(min_size=1, max_size=512))
        elif form is not Form.EMPTY:
            content = draw(ids)
        size = draw(counts) if form >= Form.CHUNK else len(content)
    elif kind is EntryKind.DIRECTORY:
        size, content = draw(counts), draw(ids)
    elif kind is EntryKind.SYMLINK:
        content = draw(st.binary(min_size=1, max_size=100)).replace(b"\0", b"0")
        size = len(content)
    return Entry(kind, *draw(attributes), size, form, content, draw(extras))


entries = any_entry()
shared = entries.filter(lambda entry: entry.kind not in (EntryKind.DIRECTORY, EntryKind.LINK))
link_rows = st.builds(LinkRow, shared, counts.filter(bool))
roots = entries.filter(lambda entry: entry.kind is EntryKind.DIRECTORY)
metadata = st.dictionaries(texts, texts, max_size=3).map(lambda held: dict(sorted(held.items())))
commits = st.builds(Commit, roots, ids, st.lists(ids, max_size=3).map(tuple), counts, texts, times, texts, metadata)
log_rows = st.builds(LogRow, st.sampled_from(Operation), ids, texts, texts, times, times, ids, texts)
ref_rows = st.builds(RefRow, st.booleans(), counts, ids)
pieces = st.builds(Piece, ids, st.integers(1, 262_144), st.integers(1, 2**45))


@dataclass(frozen=True)
class Record:
    """One kind of record: any value of it, and its encoder and decoder."""

    values: st.SearchStrategy[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


RECORDS = {
    "entry": Record(entries, ENTRY.encode, ENTRY.decode),
    "link row": Record(link_rows, LINK_ROW.encode, LINK_ROW.decode),
    "commit": Record(commits, COMMIT.encode, COMMIT.decode),
    "log row": Record(log_rows, LOG_ROW.encode, LOG_ROW.decode),
    "ref row": Record(ref_rows, REF_ROW.encode, REF_ROW.decode),
    "piece": Record(
        pieces, lambda piece: b"".join(encode_piece(piece)), lambda raw: decode_piece((raw[:ID_SIZE], raw[ID_SIZE:]))
    ),
}
kinds = pytest.mark.parametrize("name", RECORDS)


@kinds
def test_what_was_encoded_comes_back_and_has_one_encoding(name: str) -> None:
    record = RECORDS[name]

    @given(record.values)
    @examples(150)
    def check(value: Any) -> None:
        raw = record.encode(value)
        assert record.decode(raw) == value
        assert record.encode(record.decode(raw)) == raw

    check()


@kinds
def test_every_truncation_is_damage_and_every_flipped_byte_is_a_clean_error_or_another_value(name: str) -> None:
    """The checksum of its record or row finds the flips; what a program with an error writes must not crash us."""
    record = RECORDS[name]

    @given(record.values, st.integers(1, 255))
    @examples(40)
    def check(value: Any, flip: int) -> None:
        raw = record.encode(value)
        for end in range(len(raw)):
            with pytest.raises(DamagedError):
                record.decode(raw[:end])
        for at in range(len(raw)):
            try:
                record.decode(raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
            except DamagedError:
                continue

    check()


@kinds
def test_noise_is_damage_or_a_value_and_nothing_else(name: str) -> None:
    @given(st.binary(max_size=200))
    @examples(150)
    def check(raw: bytes) -> None:
        try:
            RECORDS[name].decode(raw)
        except DamagedError:
            return

    check()


@given(st.sampled_from([Kind.TREE, Kind.MANIFEST, Kind.COMMIT, Kind.CHUNK]), st.binary(max_size=400))
@examples(40)
def test_every_truncation_and_flipped_byte_of_a_stored_object_is_damage(kind: Kind, raw: bytes) -> None:
    identity = object_id(kind, raw)
    record = frame(kind, identity, raw)
    for end in range(len(record)):
        with pytest.raises(DamagedError):
            unframe(kind, identity, record[:end])
    for at in range(len(record)):
        for flip in (0x01, 0x80, 0xFF):
            with pytest.raises(DamagedError):
                unframe(kind, identity, record[:at] + bytes([record[at] ^ flip]) + record[at + 1 :])


@given(log_rows.map(LOG_ROW.encode))
@examples(40)
def test_every_truncation_and_flipped_byte_of_a_sealed_row_is_damage(raw: bytes) -> None:
    sealed = seal(raw)
    for end in range(len(sealed)):
        with pytest.raises(DamagedError):
            unseal(sealed[:end], "row")
    for at in range(len(sealed)):
        with pytest.raises(DamagedError):
            unseal(sealed[:at] + bytes([sealed[at] ^ 0x10]) + sealed[at + 1 :], "row")


def test_values_that_are_nested_too_deeply_are_damage() -> None:
    fields = ENTRY.encode(Entry(EntryKind.FILE))[1:]
    with pytest.raises(DamagedError):
        ENTRY.decode(b"\x9a" + fields + b"\x91" * 200_000 + b"\xc0")


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_a_directory_with_a_name_that_cannot_be_is_damage(objects: ObjectStore, name: bytes) -> None:
    """Whoever unpacks a version must not be led out of its folder."""
    tree = objects.put(Kind.TREE, prolly.encode_node(0, [(name, ENTRY.encode(file(1)))]))
    with pytest.raises(DamagedError, match="a bad name"):
        list(Trees(objects).entries(tree))


def test_sums_that_no_reader_would_take_are_not_made(objects: ObjectStore) -> None:
    trees = Trees(objects)
    huge = Entry(EntryKind.FILE, size=1 << 62, form=Form.MANIFEST, content=ZERO)
    with pytest.raises(OSError, match="too large"):
        trees.totals(trees.apply(trees.empty(), [(b"a", huge), (b"b", huge)]))


# --- nodes that no writer writes ---


def file(n: int) -> Entry:
    data = b"%d" % n * 40
    return Entry(EntryKind.FILE, 0o644, 1, 1, n, len(data), Form.INLINE, data)


def flipped(raw: bytes, at: int, flip: int) -> bytes:
    at %= len(raw)
    return raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]


@given(st.data())
@examples(300)
def test_whatever_a_node_holds_reading_a_tree_ends_in_values_or_in_damage(data: st.DataObject) -> None:
    """Also where the checksum is right: a root over children that were tampered with."""
    store = _Memory()
    trees = Trees(store)
    root = trees.apply(trees.empty(), [(b"%04d" % n, file(n)) for n in range(300)])
    node = store.get(Kind.TREE, root)
    bad = store.put(Kind.TREE, flipped(node, data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 255))))
    for read in (
        lambda: list(trees.entries(bad)),
        lambda: trees.lookup(bad, b"0123"),
        lambda: trees.totals(bad),
        lambda: list(trees.diff(root, bad)),
        lambda: trees.apply(bad, [(b"0123", None), (b"new", file(1))]),
    ):
        try:
            read()
        except DamagedError:
            continue


@given(st.data())
@examples(300)
def test_whatever_a_node_holds_reading_a_manifest_ends_in_ranges_or_in_damage(data: st.DataObject) -> None:
    store = _Memory()
    files = Manifests(store)
    stored = files.store([Piece(object_id(Kind.CHUNK, b"%d" % n), 600 + n, 1 + n % 2) for n in range(700)])
    node = store.get(Kind.MANIFEST, ObjectId(stored.content))
    raw = flipped(node, data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 255)))
    bad = Stored(stored.size, Form.MANIFEST, store.put(Kind.MANIFEST, raw))
    for read in (
        lambda: list(files.pieces(bad)),
        lambda: files.parts(bad, stored.size // 2, 5000),
        lambda: files.parts(bad, stored.size - 5, 5000),
        lambda: list(files.changed(stored, bad)),
        lambda: files.zeros_from(bad, 12_345),
    ):
        try:
            read()
        except DamagedError:
            continue


class _Memory(ObjectStore):
    """Objects in a dictionary: no disk, for many small examples."""

    def __init__(self) -> None:
        self._held: dict[ObjectId, bytes] = {}

    def put(self, kind: Kind, raw: bytes) -> ObjectId:
        identity = object_id(kind, raw)
        self._held[identity] = raw
        return identity

    def get(self, kind: Kind, identity: ObjectId) -> bytes:
        if identity not in self._held:
            raise DamagedError(f"{kind.name.lower()} {identity.hex()} is missing")
        return self._held[identity]


def test_a_commit_whose_hard_links_are_missing_is_damage_where_they_are_read(objects: ObjectStore) -> None:
    trees = Trees(objects)
    root = trees.apply(trees.empty(), [(b"linked", Entry(EntryKind.LINK, content=bytes(16)))])
    version = Version(trees, Entry(EntryKind.DIRECTORY, content=root), EMPTY_TREE)
    with pytest.raises(DamagedError, match="hard link 0000"):
        version.at(b"linked")


def test_what_is_not_a_commit_is_not_read_as_one(objects: ObjectStore) -> None:
    for raw in (b"", b"\xc0", prolly.encode_node(0, []), ENTRY.encode(file(1))):
        with pytest.raises(DamagedError, match="cannot be read"):
            get_commit(objects, objects.put(Kind.COMMIT, raw))


# --- vectors: bytes and ids that may never change ---

SYMLINK = Entry(EntryKind.SYMLINK, 0o777, 0, 0, -1, 3, content=b"a/b")
DIRECTORY = Entry(EntryKind.DIRECTORY, 0o755, 1000, 100, 5, 46, content=EMPTY_TREE, extra={Tag.FILES: 2, Tag.LINKS: 1})
LINK = Entry(EntryKind.LINK, content=bytes(range(16)))
DEVICE = Entry(EntryKind.BLOCK, 0o660, 0, 6, 7, extra={Tag.DEVICE: 2049})
LARGE = Entry(EntryKind.FILE, 0o644, 1, 2, 1_763_700_000_123_456_789, 1 << 40, Form.MANIFEST, ZERO)
COMMIT_VALUE = Commit(DIRECTORY, EMPTY_TREE, (bytes(32),), 1, "ann", 9, "why", {"a": "1", "b": "2"})
LOG_VALUE = LogRow(Operation.COMMIT, bytes(32), "ann", "command", 9, 8, b"", "")

VECTORS = {
    "file": (
        ENTRY.encode(file(1)),
        "9901cd01a40101012801c42831313131313131313131313131313131313131313131313131313131313131313131313131313131c0",
    ),
    "symlink": (
        ENTRY.encode(SYMLINK),
        "9903cd01ff0000ff0300c403612f62c0",
    ),
    "directory": (
        ENTRY.encode(DIRECTORY),
        "9902cd01edcd03e864052e00c420c64c69a1c18d90a2b6153a2e550acb3dbb594f59a6e838d86ac6fbcefcdd86cf8201020301",
    ),
    "link": (
        ENTRY.encode(LINK),
        "9904000000000000c410000102030405060708090a0b0c0d0e0fc0",
    ),
    "device": (
        ENTRY.encode(DEVICE),
        "9908cd01b00006070000c4008104cd0801",
    ),
    "large file": (
        ENTRY.encode(LARGE),
        "9901cd01a40102cf1879ebce3db70d15cf000001000000000003c4200000000000000000000000000000000000000000"
        "000000000000000000000000c0",
    ),
    "link row": (
        LINK_ROW.encode(LinkRow(file(1), 2)),
        "929901cd01a40101012801c4283131313131313131313131313131313131313131313131313131313131313131313131"
        "3131313131c002",
    ),
    "commit": (
        COMMIT.encode(COMMIT_VALUE),
        "989902cd01edcd03e864052e00c420c64c69a1c18d90a2b6153a2e550acb3dbb594f59a6e838d86ac6fbcefcdd86cf82"
        "01020301c420c64c69a1c18d90a2b6153a2e550acb3dbb594f59a6e838d86ac6fbcefcdd86cf91c42000000000000000"
        "0000000000000000000000000000000000000000000000000001a3616e6e09a377687982a161a131a162a132",
    ),
    "log row": (
        LOG_ROW.encode(LOG_VALUE),
        "98a6636f6d6d6974c4200000000000000000000000000000000000000000000000000000000000000000a3616e6ea763"
        "6f6d6d616e640908c400a0",
    ),
    "ref row": (
        REF_ROW.encode(RefRow(is_tag=False, number=300, commit=bytes(32))),
        "93c2cd012cc4200000000000000000000000000000000000000000000000000000000000000000",
    ),
    "sealed row": (
        seal(b"row"),
        "6d10ca607a940eda726f77",
    ),
    "leaf of a tree": (
        prolly.encode_node(0, [(b"a", ENTRY.encode(LINK)), (b"b", ENTRY.encode(SYMLINK))]),
        "92009292c401619904000000000000c410000102030405060708090a0b0c0d0e0fc092c401629903cd01ff0000ff0300c403612f62c0",
    ),
    "leaf of a manifest": (
        prolly.encode_node(0, [encode_piece(Piece(ZERO, 262_144, 4))]),
        "92009192c420000000000000000000000000000000000000000000000000000000000000000092ce0004000004",
    ),
    "record": (
        frame(Kind.CHUNK, object_id(Kind.CHUNK, b"noise"), b"noise"),
        "0101000000000000050000000500000008be96bc768bad8f6e6f697365",
    ),
}
"""Bytes that may never change: the record, and what it is encoded as."""


@pytest.mark.parametrize("name", VECTORS)
def test_the_bytes_of_a_record_are_those_of_the_format_for_ever(name: str) -> None:
    raw, expected = VECTORS[name]
    assert raw.hex() == expected


IDS = {
    Kind.CHUNK: "b3c26002e9142c2e40fcd21e15cf4829a8c41bafc101f6564666799eadad8462",
    Kind.MANIFEST: "8f621bc5aabbd86e268fd05edb68034fa542fd3245cd0b2bd2883eb35392bc00",
    Kind.TREE: "f31264c160810dbfffb212402aa2d6eff59655ce2d050065f0aaba484aaea815",
    Kind.COMMIT: "03f3e29c976144caf7b8917537bd9e8c7193fa778a3138e044ec58f2f7b2393e",
    Kind.ROW: "a122b72f84ae0b676283b829306cd64deef6a8948e3b2e1d2babb3790dfa3f93",
}


@pytest.mark.parametrize("kind", IDS)
def test_the_id_of_an_object_is_that_of_the_format_for_ever(kind: Kind) -> None:
    assert object_id(kind, b"noise").hex() == IDS[kind]


def test_the_empty_tree_and_the_empty_commit_have_the_same_ids_everywhere() -> None:
    root = Entry(EntryKind.DIRECTORY, 0o755, content=EMPTY_TREE)
    empty = Commit(root, EMPTY_TREE, (), 0, "", 0, "", {})
    assert EMPTY_TREE.hex() == "c64c69a1c18d90a2b6153a2e550acb3dbb594f59a6e838d86ac6fbcefcdd86cf"
    assert object_id(Kind.COMMIT, COMMIT.encode(empty)).hex() == (
        "94c6f39f6e046ac475fdc20f327798d3448d85a0ba1de9bad26bd940f4a2c58e"
    )


def test_large_trees_manifests_and_link_trees_have_the_same_ids_for_ever() -> None:
    store = _Memory()
    trees, files = Trees(store), Manifests(store)
    root = trees.apply(trees.empty(), [(b"%04d" % n, file(n)) for n in range(300)])
    assert root.hex() == "83a249f1fbe89f6ef25e2d0358a2a375d9bab56fb920426d4720b9219951e25f"
    content = files.store([Piece(object_id(Kind.CHUNK, b"%d" % n), 600 + n, 1 + n % 2) for n in range(700)]).content
    assert content.hex() == "0afd1b477c566ac8a2079bb29a83eaceb19b7b25a8c3d312a8794cb27b0f6f2d"
    rows = {bytes([n]) * 16: LinkRow(file(n), 3) for n in range(40)}
    names = {(link_id, b"dir/%d" % n): True for link_id in rows for n in range(3)}
    links = trees.apply_links(EMPTY_TREE, dict(rows), names)
    assert links.hex() == "d475cdc50d6bc28df107cb1a0bfb667e7fa7e473ab4bfdc100ea41844fda851f"
