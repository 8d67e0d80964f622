"""Trees against a dictionary: equal entries, equal ids; and a change in a large one touches few nodes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import DamagedError, NotFoundError, UsageError
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store.codec import encode
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind
from anabranch.versions import prolly
from anabranch.versions.objects import Entry, EntryKind, Form, LinkRow, Tag
from anabranch.versions.trees import EMPTY_TREE, MAX_NODE, Totals, Trees, Version
from tests.unit.helpers import examples, scratch

Delta = list[tuple[bytes, Entry | None]]


@contextmanager
def fresh_trees() -> Iterator[tuple[Trees, ObjectStore]]:
    """Trees over a store of their own."""
    with scratch() as directory:
        meta = Environment(directory / "meta.mdb", TABLES)
        try:
            objects = ObjectStore(meta)
            trees = Trees(objects)
            trees.empty()
            yield trees, objects
        finally:
            meta.close()


@pytest.fixture
def trees(objects: ObjectStore) -> Trees:
    made = Trees(objects)
    made.empty()
    return made


def file(content: int, extra: int = 0) -> Entry:
    """A small file; `extra` bytes make its row longer."""
    data = content.to_bytes(4, "big") + bytes(extra)
    return Entry(EntryKind.FILE, 0o644, 1, 1, content, len(data), Form.INLINE, data)


def numbered(count: int) -> dict[bytes, Entry]:
    return {b"file-%08d" % n: file(n) for n in range(count)}


def build(trees: Trees, entries: dict[bytes, Entry]) -> ObjectId:
    return trees.apply(trees.empty(), sorted(entries.items()))


names = st.one_of(
    st.integers(0, 400).map(lambda n: b"n%d" % n),
    st.binary(min_size=1, max_size=255).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    ),
)
entries = st.builds(file, st.integers(0, 1000), st.sampled_from([0, 0, 100, 500]))
deltas = st.lists(st.dictionaries(names, st.one_of(st.none(), entries), max_size=60), max_size=6)


@given(deltas, st.sampled_from([0, 90, 400]))
@examples(120)
def test_equal_trees_have_equal_ids_whatever_the_order_of_edits(
    deltas: list[dict[bytes, Entry | None]], start: int
) -> None:
    with fresh_trees() as (trees, _):
        model = numbered(start)
        root = build(trees, model)
        for delta in deltas:
            root = trees.apply(root, sorted(delta.items()))
            for name, entry in delta.items():
                if entry is None:
                    model.pop(name, None)
                else:
                    model[name] = entry
            assert root == build(trees, model)
        assert dict(trees.entries(root)) == model
        assert [name for name, _ in trees.entries(root)] == sorted(model)
        assert trees.totals(root).entries == trees.totals(root).files == len(model)
        assert trees.totals(root).bytes == sum(entry.size for entry in model.values())
        for name in [*model, b"absent", b"\xff" * 255]:
            assert trees.lookup(root, name) == model.get(name)


@given(st.permutations(range(40)), st.integers(1, 40))
@examples(25)
def test_a_directory_filled_one_by_one_in_any_order_is_the_one_filled_at_once(order: list[int], width: int) -> None:
    with fresh_trees() as (trees, _):
        rows = {b"x%02d" % n * width: file(n, 480) for n in order}
        root = EMPTY_TREE
        for name, entry in rows.items():
            root = trees.apply(root, [(name, entry)])
        assert root == build(trees, rows)
        for name in list(rows)[20:]:
            root = trees.apply(root, [(name, None)])
            del rows[name]
        assert root == build(trees, rows)


@given(
    st.dictionaries(names, entries, max_size=300), st.dictionaries(names, st.one_of(st.none(), entries), max_size=40)
)
@examples(60)
def test_a_diff_names_exactly_what_differs_in_order(old: dict[bytes, Entry], delta: dict[bytes, Entry | None]) -> None:
    new = {name: entry for name, entry in (old | delta).items() if entry is not None}
    with fresh_trees() as (trees, _):
        found = list(trees.diff(build(trees, old), build(trees, new)))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    assert found == [(name, old.get(name), new.get(name)) for name in names]


def test_a_tree_without_entries_is_the_empty_tree_however_it_came_to_be(trees: Trees) -> None:
    full = build(trees, numbered(3000))
    assert trees.apply(full, [(name, None) for name in sorted(numbered(3000))]) == EMPTY_TREE
    assert list(trees.entries(EMPTY_TREE)) == []
    assert trees.totals(EMPTY_TREE) == Totals()


def test_taking_back_a_change_gives_the_old_id_again(trees: Trees) -> None:
    model = numbered(5000)
    root = build(trees, model)
    name = b"file-00002500"
    for other in (file(1, 500), None):
        changed = trees.apply(root, [(name, other)])
        assert changed != root
        assert trees.apply(changed, [(name, model[name])]) == root


def test_removing_a_name_that_is_not_there_changes_nothing(trees: Trees) -> None:
    root = build(trees, numbered(2000))
    assert trees.apply(root, [(b"absent", None), (b"file-00001000x", None), (b"zzz", None)]) == root


def test_a_tree_is_one_node_exactly_while_its_rows_fit_into_sixteen_kibibytes(trees: Trees) -> None:
    model: dict[bytes, Entry] = {}
    levels: set[tuple[int, bool]] = set()
    for n in range(60):
        model[b"n%03d" % n] = file(n, 400)
        root = build(trees, model)
        node = trees.nodes.get(root)
        levels.add((node.level, trees.totals(root).size <= MAX_NODE))
    assert levels == {(0, True), (1, False)}


def test_one_change_in_twenty_thousand_entries_touches_few_nodes(objects: ObjectStore) -> None:
    """P40."""
    count = 20_000
    trees = Trees(objects)
    root = build(trees, numbered(count))
    allowed = 4 * math.ceil(math.log(trees.nodes.writes, 2))
    for name in (b"file-%08d" % 0, b"file-%08d" % (count // 2), b"file-%08d" % (count - 1), b"new", b"a"):
        trees.nodes.reads = trees.nodes.writes = 0
        changed = trees.apply(root, [(name, file(1, 300))])
        assert trees.nodes.reads <= allowed, name
        assert trees.nodes.writes <= allowed // 2, name
        trees.nodes.reads = 0
        assert [found[0] for found in trees.diff(root, changed)] == [name]
        assert trees.nodes.reads <= allowed, name
        trees.nodes.reads = 0
        assert trees.lookup(changed, name) == file(1, 300)
        assert trees.nodes.reads <= 5, name


def test_the_totals_of_a_large_directory_are_read_from_its_root_alone(objects: ObjectStore) -> None:
    root = build(Trees(objects), numbered(20_000))
    trees = Trees(objects)
    assert trees.totals(root).files == 20_000
    assert trees.nodes.reads == 1


def test_totals_count_what_lies_below_subdirectories(trees: Trees) -> None:
    below = build(trees, numbered(10))
    folder = Entry(EntryKind.DIRECTORY, 0o755, size=40, content=below, extra={Tag.FILES: 10})
    link = Entry(EntryKind.LINK, content=b"0123456789abcdef")
    totals = trees.totals(build(trees, {b"a": folder, b"b": folder, b"c": link, b"d": file(1)}))
    assert (totals.entries, totals.files, totals.bytes, totals.subdirectories) == (4, 22, 84, 2)


def test_link_trees_are_built_like_trees(trees: Trees) -> None:
    rows = {bytes([n]) * 16: LinkRow(file(n), 2) for n in range(200)}
    names = {(link_id, path): True for link_id in rows for path in (b"a/b", b"z")}
    root = trees.apply_links(EMPTY_TREE, dict(rows), names)
    seven = bytes([7]) * 16
    assert trees.link(root, seven) == rows[seven]
    assert trees.link(root, bytes(15) + b"x") is None
    assert list(trees.link_names(root, seven)) == [b"a/b", b"z"]
    assert dict(trees.links(root)) == rows
    less = trees.apply_links(root, {seven: None}, {(seven, b"a/b"): False, (seven, b"z"): False})
    assert list(trees.diff_links(root, less)) == [(seven, rows[seven], None)]
    assert list(trees.link_names(less, seven)) == []
    assert trees.apply_links(less, {seven: rows[seven]}, {(seven, b"a/b"): True, (seven, b"z"): True}) == root


def test_a_missing_node_is_damage_not_an_empty_directory(trees: Trees) -> None:
    with pytest.raises(DamagedError):
        trees.lookup(ObjectId(bytes(ID_SIZE)), b"name")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", prolly.encode_node(-1, []), prolly.encode_node(1, []), prolly.encode_node(99, [(b"a", b"\x01")])],
)
def test_a_node_that_no_writer_writes_is_damage(objects: ObjectStore, raw: bytes) -> None:
    identity = objects.put(Kind.TREE, raw)
    with pytest.raises(DamagedError):
        list(Trees(objects).entries(identity))


def test_a_child_at_a_wrong_level_is_damage_so_no_circle_of_nodes_can_be_entered(objects: ObjectStore) -> None:
    leaf = objects.put(Kind.TREE, prolly.encode_node(0, []))
    row = encode((leaf, 0, 0, 0, 0, 0, 0))
    skewed = objects.put(Kind.TREE, prolly.encode_node(2, [(b"a", row), (b"b", row)]))
    with pytest.raises(DamagedError, match="wrong place"):
        Trees(objects).lookup(skewed, b"a")


def test_a_difference_with_a_child_at_a_wrong_level_is_damage(trees: Trees, objects: ObjectStore) -> None:
    root = build(trees, numbered(2_000))
    node = trees.nodes.get(root)
    lifted = objects.put(Kind.TREE, prolly.encode_node(node.level + 1, node.rows))
    with pytest.raises(DamagedError, match="wrong place"):
        list(trees.diff(lifted, build(trees, numbered(2_500))))


def make_version(trees: Trees) -> Version:
    link_id = bytes(16)
    names = {(link_id, b"folder/other"): True, (link_id, b"linked"): True}
    links = trees.apply_links(EMPTY_TREE, {link_id: LinkRow(file(5), 2)}, names)
    inner = build(trees, {b"file": file(1), b"other": Entry(EntryKind.LINK, content=link_id)})
    folder = Entry(EntryKind.DIRECTORY, 0o700, content=inner, extra={Tag.FILES: 2})
    root = build(trees, {b"folder": folder, b"linked": Entry(EntryKind.LINK, content=link_id)})
    return Version(trees, Entry(EntryKind.DIRECTORY, 0o755, content=root, extra={Tag.SUBDIRECTORIES: 1}), links)


def test_a_version_is_read_by_path_with_hard_links_resolved(trees: Trees) -> None:
    version = make_version(trees)
    assert version.at(b"") == version.root
    assert version.at(b"/folder//file") == file(1)
    assert version.at(b"linked") == version.at(b"folder/other") == file(5)
    assert version.resolve(Entry(EntryKind.LINK, content=bytes(16))) == (file(5), 2)
    assert version.resolve(version.root) == (version.root, 3)


def test_a_path_that_is_not_in_a_version_is_not_found_and_one_through_a_file_is_wrong(trees: Trees) -> None:
    version = make_version(trees)
    with pytest.raises(NotFoundError):
        version.at(b"folder/absent")
    with pytest.raises(UsageError):
        version.at(b"folder/file/deeper")


def test_a_hard_link_without_its_row_is_damage(trees: Trees) -> None:
    version = Version(trees, make_version(trees).root, EMPTY_TREE)
    with pytest.raises(DamagedError):
        version.at(b"linked")
