"""Extended attributes: their bytes, what is no such map, and that a commit keeps them. docs/format.md, "Entry"."""

import errno

import msgspec
import pytest
from blake3 import blake3

from anabranch.errors import DamagedError, FormatError
from anabranch.repo import Repository
from anabranch.store import layout
from anabranch.store.codec import encode
from anabranch.store.meta import OBJECTS, ObjectStore
from anabranch.store.records import Kind, seal, unseal
from anabranch.testing import consistency
from anabranch.versions import xattrs
from anabranch.versions.objects import Entry, EntryKind, Tag
from anabranch.versions.xattrs import Xattrs
from anabranch.worktree.inodes import decode_node, encode_node
from tests.harness import errno_of
from tests.unit.helpers import Branch

SMALL = {b"user.a": b"1", b"user.b": b""}
LARGE = {b"trusted.x": bytes(65_536), b"user.a": b"1"}


def test_a_map_has_one_encoding_in_the_order_of_its_names() -> None:
    assert xattrs.made(SMALL) == xattrs.made(dict(reversed(SMALL.items()))) == Xattrs(
        b"\x82\xc4\x06user.a\xc4\x011\xc4\x06user.b\xc4\x00"
    )  # fmt: skip
    assert xattrs.made({}).tags() == {}


def test_up_to_256_bytes_are_in_the_entry_and_more_in_an_object(objects: ObjectStore) -> None:
    most = 256 - len(encode({b"user.a": b""}))
    assert xattrs.made({b"user.a": bytes(most)}).tags().keys() == {5}
    held = xattrs.made({b"user.a": bytes(most + 1)})
    key = blake3(bytes(32), derive_key_context="anabranch 2026-11 object xattrs").digest()
    assert held.tags() == {6: blake3(held.map, key=key).digest()}
    xattrs.put(objects, held)
    entry = Entry(EntryKind.FILE, extra=held.tags())
    assert xattrs.load(objects, xattrs.of(entry)) == {b"user.a": bytes(most + 1)}


@pytest.mark.parametrize(
    "values",
    [
        {b"": b""}, {b"user.\0": b""}, {b"u" * 256: b""}, {b"user.a": bytes(65_537)},
        {b"user.%0250d" % n: b"" for n in range(257)}, {b"user.%d" % n: bytes(65_536) for n in range(16)},
    ],
)  # fmt: skip
def test_more_than_linux_takes_is_not_made(values: dict[bytes, bytes]) -> None:
    assert errno_of(xattrs.made, values) == errno.ENOSPC


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80", b"\x90", b"\xc4\x01a", b"\x81\xc4\x01a", b"\x81\xa1a\xc4\x00", b"\x81\xc4\x00\xc4\x00",
        b"\xde\x00\x01\xc4\x01a\xc4\x00", b"\x82\xc4\x01b\xc4\x00\xc4\x01a\xc4\x00",
        b"\x82\xc4\x01a\xc4\x00\xc4\x01a\xc4\x00", b"\x81\xc4\x01a\xc4\x00\x00", encode({b"a": bytes(65_537)}),
    ],
)  # fmt: skip
def test_a_map_that_no_writer_makes_is_damage(objects: ObjectStore, raw: bytes) -> None:
    stored = objects.put(Kind.XATTRS, raw)
    for held in (Xattrs(raw), Xattrs(object=stored)):
        with pytest.raises(DamagedError):
            xattrs.load(objects, held)


def test_tags_that_no_writer_makes_and_a_missing_object_are_damage(objects: ObjectStore) -> None:
    wrong: list[dict[int, int | bytes]] = [{Tag.XATTRS: 1}, {Tag.XATTRS_OBJECT: 1}, {Tag.XATTRS_OBJECT: b"id"}]
    for extra in wrong:
        with pytest.raises(DamagedError):
            xattrs.of(Entry(EntryKind.FILE, extra=extra))
    with pytest.raises(DamagedError, match="missing"):
        xattrs.load(objects, Xattrs(object=bytes(32)))


def test_an_older_row_of_an_inode_has_none(main: Branch) -> None:
    ino = main.make("file")
    key = b"its key"
    row = encode_node(main.tree.table.get(ino), key)
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(unseal(row, "row", key))[:14])
    node = decode_node(ino, 1, seal(older), key)
    assert node.xattrs == xattrs.NO_XATTRS
    assert encode_node(node, key) == row


def test_commits_keep_them_with_files_directories_links_and_their_names(main: Branch) -> None:
    main.mkdir("d")
    main.make("d/file")
    main.make("d/link", EntryKind.SYMLINK, target=b"file")
    main.link("d/file", "again")
    for path in ("", "d", "d/file", "d/link"):
        for name, value in LARGE.items():
            main.tree.set_xattr(main.find(path), name, value)
    main.commit()
    repository = main.repository
    version = repository.version(repository.resolve("main").id)
    for held in (b"", b"d", b"d/file", b"d/link", b"again"):
        assert repository.xattrs(version.at(held)) == LARGE
    consistency.check(repository)
    stored = [key for key, record in repository.meta.scan(OBJECTS) if record[1] == Kind.XATTRS]
    assert len(stored) == 1
    main.tree.set_xattr(main.find("d"), b"trusted.x", None)
    main.tree.set_xattr(main.find("again"), b"user.a", b"2")
    changes = {(change.path, str(change.change)) for change in repository.status(main.name)}
    assert changes == {(b"d", "attributes"), (b"d/file", "attributes"), (b"again", "attributes")}
    main.commit()
    version = repository.version(repository.resolve("main").id)
    assert repository.xattrs(version.at(b"d")) == {b"user.a": b"1"}
    assert repository.xattrs(version.at(b"d/file"))[b"user.a"] == b"2"
    consistency.check(repository)


def test_a_repository_that_may_have_some_says_so(repository: Repository) -> None:
    """A program that does not know the feature may read it, and not write."""
    record = repository.layout.record
    assert msgspec.json.decode(record.read_bytes())["read_only"] == []
    for _ in range(2):
        repository.configure("xattr", "on", "me")
        assert msgspec.json.decode(record.read_bytes())["read_only"] == ["xattr"]
    repository.configure("xattr", "off", "me")
    assert msgspec.json.decode(record.read_bytes())["read_only"] == ["xattr"]
    layout.check(repository.layout.path, writable=True)
    layout.demand(repository.layout, "more")
    layout.check(repository.layout.path, writable=False)
    with pytest.raises(FormatError, match="does not know: more"):
        layout.check(repository.layout.path, writable=True)


def test_names_outside_of_the_three_namespaces_are_refused() -> None:
    for name in (b"user.a", b"trusted.overlay.opaque", b"security.capability", b"user..", b"user.\xff"):
        xattrs.check_name(name)
    for name in (b"system.posix_acl_access", b"a", b"user", b"", b"users.a"):
        assert errno_of(xattrs.check_name, name) == errno.EOPNOTSUPP
    for name in (b"user.", b"trusted.", b"security."):
        assert errno_of(xattrs.check_name, name) == errno.EINVAL
