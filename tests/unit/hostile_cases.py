"""What an enemy may put into a repository: a table of cases, each by the name of what is wrong with it."""

import os
import shutil
import struct
from collections.abc import Callable

import zstandard

from anabranch.store.meta import LOGS, NAMES, NODES, REFS, SETTINGS, WORKTREES
from anabranch.store.records import Kind, object_id, seal, unseal
from anabranch.versions.trees import EMPTY_TREE
from tests.hostile import BIG, MAIN, SMALL, WHO, ZERO, Enemy, directory, encode, file, made_up
from tests.unit.helpers import random_bytes

Case = Callable[[Enemy], object]
CASES: dict[str, Case] = {}
WITHOUT: dict[str, set[str]] = {}
"""Commands that would write all the bytes that there truly are."""


def case(*without: str) -> Callable[[Case], Case]:
    """A hostile repository: what its enemy does. Its name is that of the function."""

    def add(function: Case) -> Case:
        CASES[function.__name__] = function
        WITHOUT[function.__name__] = set(without)
        return function

    return add


# --- directories ---


@case()
def a_directory_in_itself(enemy: Enemy) -> None:
    tree = made_up("circle")
    enemy.tree([(b"a", directory(tree)), (b"b", directory(tree)), (b"file", SMALL)], identity=tree)
    enemy.version(tree)


@case()
def a_directory_in_itself_by_way_of_others(enemy: Enemy) -> None:
    first, second, third = made_up("1"), made_up("2"), made_up("3")
    enemy.tree([(b"x", directory(second)), (b"y", directory(third))], identity=first)
    enemy.tree([(b"x", directory(third))], identity=second)
    enemy.tree([(b"x", directory(first)), (b"y", directory(first))], identity=third)
    enemy.version(first)


@case()
def a_directory_in_itself_that_says_it_has_links(enemy: Enemy) -> None:
    tree = made_up("circle")
    enemy.tree([(b"a", directory(tree, extra={3: 5}))], identity=tree)
    enemy.version(tree, root={"extra": {3: 5}})


@case()
def directories_far_too_deep(enemy: Enemy) -> None:
    tree = enemy.tree([(b"file", SMALL)])
    for _ in range(5_000):
        tree = enemy.tree([(b"deep", directory(tree))])
    enemy.version(tree)


@case()
def long_names_far_too_deep(enemy: Enemy) -> None:
    tree = enemy.tree([(b"file", SMALL)])
    for _ in range(300):
        tree = enemy.tree([(b"n" * 255, directory(tree))])
    enemy.version(tree)


def _named(name: bytes) -> Case:
    return lambda enemy: enemy.version(enemy.tree([(name, SMALL)]))


for _what, _name in {
    "slash": b"../../escaped", "absolute": b"/tmp/escaped", "nul": b"a\0b", "dot": b".", "dots": b"..", "empty": b"",
    "long": b"n" * 256, "control": b"\x1b]0;owned\x07\x1b[31m\n", "not_utf8": b"\xff\xfe",
}.items():  # fmt: skip
    CASES[f"a_name_{_what}"] = _named(_name)


@case()
def names_twice(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", SMALL), (b"a", SMALL)]))


@case()
def names_out_of_order(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"b", SMALL), (b"a", SMALL)]))


@case()
def names_twice_over_two_nodes(enemy: Enemy) -> None:
    leaf = enemy.tree([(b"a", SMALL), (b"b", SMALL)])
    sums = (2, 40, 2, 10, 0, 0)
    enemy.version(enemy.tree([(b"b", (leaf, *sums)), (b"c", (leaf, *sums))], level=1))


@case()
def children_that_are_one_on_every_level(enemy: Enemy) -> None:
    """2^30 rows, if anybody followed them."""
    node = enemy.tree([(b"a", SMALL), (b"b", SMALL)])
    for level in range(1, 31):
        node = enemy.tree([(b"b", (node, 2, 40, 2, 10, 0, 0)), (b"c", (node, 2, 40, 2, 10, 0, 0))], level=level)
    enemy.version(node)


@case()
def a_node_that_is_its_own_child(enemy: Enemy) -> None:
    node = made_up("node")
    enemy.tree([(b"a", (node, 1, 1, 1, 1, 0, 0)), (b"b", (node, 1, 1, 1, 1, 0, 0))], level=1, identity=node)
    enemy.version(node)


@case()
def a_node_of_a_level_that_cannot_be(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", SMALL)], level=BIG))


@case()
def a_node_of_millions_of_rows(enemy: Enemy) -> None:
    rows = [(b"%07d" % number, 0) for number in range(1_000_000)]
    enemy.version(enemy.tree(rows))


@case()
def entries_of_unknown_kinds(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", (9, 0o644, 0, 0, 0, 0, 0, b"", None))]))


@case()
def entries_that_are_no_entries(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", {"kind": [[[[]]]]}), (b"b", None)]))


@case()
def entries_nested_without_end(enemy: Enemy) -> None:
    deep: object = b""
    for _ in range(900):
        deep = [deep]
    enemy.version(enemy.tree([(b"a", (1, 0, 0, 0, 0, 0, 0, b"", {7: deep}))]))


@case()
def a_link_of_a_megabyte(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", (3, 0o777, 0, 0, 0, 1 << 20, 0, b"x" * (1 << 20), None))]))


@case()
def a_link_of_4096_bytes(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", (3, 0o777, 0, 0, 0, 4096, 0, b"x" * 4096, None))]))


@case()
def links_to_nothing_and_with_nul(enemy: Enemy) -> None:
    enemy.version(
        enemy.tree([(b"a", (3, 0o777, 0, 0, 0, 0, 0, b"", None)), (b"b", (3, 0o777, 0, 0, 0, 3, 0, b"a\0b", None))])
    )


@case()
def a_link_that_leads_outside(enemy: Enemy) -> None:
    """And a directory that would be written through it."""
    inside = enemy.tree([(b"escaped", SMALL)])
    target = b"../../../outside"
    link = (3, 0o777, 0, 0, 0, len(target), 0, target, None)
    enemy.version(enemy.tree([(b"a", link), (b"b", directory(inside)), (b"escaped", link)]))


@case()
def counts_that_lie(enemy: Enemy) -> None:
    inner = enemy.tree([(b"file", SMALL)])
    extra = {1: BIG, 2: BIG, 3: BIG}
    rows = [(name, directory(inner, size=BIG, extra=extra)) for name in (b"a", b"b", b"c")]
    enemy.version(enemy.tree(rows), root={"size": BIG, "extra": extra})


@case()
def counts_that_are_negative(enemy: Enemy) -> None:
    inner = enemy.tree([(b"file", SMALL)])
    enemy.version(enemy.tree([(b"a", directory(inner, extra={1: -5, 2: -(1 << 40), 3: -1}))]))


@case()
def counts_beyond_every_number(enemy: Enemy) -> None:
    inner = enemy.tree([(b"file", SMALL)])
    extra = dict.fromkeys((1, 2, 3, 4), (1 << 64) - 1)
    rows = [(b"a", directory(inner, extra=extra)), (b"b", directory(inner, extra=extra))]
    enemy.version(enemy.tree(rows), root={"extra": extra})


@case()
def sums_above_the_leaves_that_overflow(enemy: Enemy) -> None:
    leaf, more = enemy.tree([(b"a", SMALL)]), enemy.tree([(b"b", SMALL)])
    sums = (BIG, BIG, BIG, BIG, BIG, BIG)
    inner = enemy.tree([(b"a", (leaf, *sums)), (b"b", (more, *sums))], level=1)
    enemy.version(enemy.tree([(b"d", directory(inner))]))
    enemy.version(inner, links=inner)


@case()
def modes_owners_and_times_that_cannot_be(enemy: Enemy) -> None:
    rows = [(b"a", (1, 0o170777, 1 << 33, -1, (1 << 64) - 1, 5, 1, b"small", None))]
    enemy.version(enemy.tree(rows))


@case()
def times_at_the_ends(enemy: Enemy) -> None:
    rows = [(b"a", file(5, 1, b"small", mtime=BIG)), (b"b", file(5, 1, b"small", mtime=-BIG - 1))]
    enemy.version(enemy.tree(rows), root={"mtime": -BIG - 1}, time_ns=BIG)


@case()
def devices_that_cannot_be(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", (7, 0o666, 0, 0, 0, 0, 0, b"", {4: (1 << 64) - 1}))]))


@case()
def a_directory_that_is_a_manifest(enemy: Enemy) -> None:
    enemy.version(enemy.manifest([(ZERO, (262_144, 1))]))


@case()
def attributes_out_of_shape(enemy: Enemy) -> None:
    maps: list[object] = [b"\xc1", encode({b"": b""}), encode({b"user.b": b"", b"user.a": b""}), encode([1]), 5, b""]
    rows = [(b"%d" % number, file(5, 1, b"small", extra={5: value})) for number, value in enumerate(maps)]
    rows.append((b"z", file(5, 1, b"small", extra={6: b"short"})))
    enemy.version(enemy.tree(rows))


@case()
def attributes_without_end(enemy: Enemy) -> None:
    values = {b"user.%07d" % number: b"" for number in range(200_000)}
    held = enemy.put(Kind.XATTRS, encode(values))
    enemy.version(enemy.tree([(b"a", file(5, 1, b"small", extra={6: held}))]))


# --- hard links ---


@case()
def a_hard_link_that_leads_nowhere(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", (4, 0, 0, 0, 0, 0, 0, bytes(16), None))]), root={"extra": {3: 1}})


def _linked(entry: object, names: int = 2) -> Case:
    def build(enemy: Enemy) -> None:
        link = (4, 0, 0, 0, 0, 0, 0, bytes(16), None)
        rows = [(bytes(16), (entry, names)), (bytes(16) + b"a", None), (bytes(16) + b"../../escaped", None)]
        links = enemy.tree(sorted(rows))
        enemy.version(enemy.tree([(b"a", link), (b"b", link)]), links=links, root={"extra": {1: 2, 3: 2}})

    return build


CASES["a_hard_link_to_a_hard_link"] = _linked((4, 0, 0, 0, 0, 0, 0, bytes(16), None))
CASES["a_hard_link_to_a_directory"] = _linked(directory(EMPTY_TREE))
CASES["a_hard_link_without_names"] = _linked(SMALL, 0)
CASES["a_hard_link_of_too_many_names"] = _linked(SMALL, BIG)
CASES["names_of_hard_links_that_are_not_there"] = _linked(SMALL)


# --- contents ---


@case("cat", "tar")
def a_file_of_4_eib_of_zeros(enemy: Enemy) -> None:
    manifest = enemy.manifest([(ZERO, (262_144, 1 << 44))])
    enemy.version(enemy.tree([(b"a", file(1 << 62, 3, manifest))]))


@case()
def files_of_lengths_that_are_not_there(enemy: Enemy) -> None:
    chunk = enemy.chunk(b"x" * 1000)
    rows = [
        (b"a", file(BIG, 2, chunk)), (b"b", file(1 << 40, 2, ZERO)), (b"c", file(BIG, 3, enemy.manifest([]))),
        (b"d", file(1 << 40, 3, enemy.manifest([(chunk, (262_144, 1 << 22))]))), (b"e", file(5, 2, chunk)),
        (b"f", file(0, 2, chunk)), (b"g", file(0, 3, enemy.manifest([]))), (b"h", file(2000, 2, chunk)),
    ]  # fmt: skip
    enemy.version(enemy.tree(rows))


@case("cat", "tar", "export")
def manifests_that_are_one_on_every_level(enemy: Enemy) -> None:
    """2^54 rows; and a second one that differs in the last, for whoever compares."""
    chunk = enemy.chunk(b"x")
    for name in (b"a", b"b"):
        node, size = enemy.manifest([(chunk, (1, 1)), (made_up(f"{name!r}"), (1, 1))]), 2
        for level in range(1, 7):
            node, size = enemy.manifest([(node, size)] * 500, level=level), size * 500
        enemy.version(enemy.tree([(b"a", file(size, 3, node))]))


@case()
def manifests_that_lie(enemy: Enemy) -> None:
    leaf = enemy.manifest([(ZERO, (262_144, 1))])
    rows = [
        (b"a", file(100, 3, enemy.manifest([(leaf, 100)], level=1))),
        (b"b", file(BIG, 3, enemy.manifest([(ZERO, (262_144, BIG))]))),
        (b"c", file(BIG, 3, enemy.manifest([(leaf, BIG), (leaf, BIG)], level=1))),
        (b"d", file(10, 3, enemy.manifest([(ZERO, (0, 10)), (ZERO, (10, 0))]))),
        (b"e", file(10, 3, enemy.manifest([(b"short", (10, 1))]))),
        (b"f", file(262_144, 3, enemy.manifest([(leaf, 262_144)], level=5))),
    ]
    for number, row in enumerate(rows):
        enemy.version(enemy.tree([row]), name="main" if number == 0 else f"b{number}")
    enemy.version(enemy.tree(rows))


@case()
def a_manifest_that_is_its_own_child(enemy: Enemy) -> None:
    node = made_up("node")
    enemy.manifest([(node, 100)], level=1, identity=node)
    enemy.version(enemy.tree([(b"a", file(100, 3, node))]))


@case()
def records_that_lie_about_lengths(enemy: Enemy) -> None:
    bomb = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(bytes(1 << 28))
    named = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
    records = [
        (1 << 31, 1, bomb), (32 << 20, 1, bomb), (1, 1, bomb), (1, 1, named), (32 << 20, 1, named),
        (5, 0, b"small but"), ((1 << 32) - 1, 0, b"x"), (100, 1, b""), (100, 1, b"not zstd"),
    ]  # fmt: skip
    rows = [
        (b"%d" % number, directory(enemy.lying_record(Kind.TREE, *record))) for number, record in enumerate(records)
    ]
    enemy.version(enemy.tree(rows))


@case()
def a_node_that_unpacks_to_32_mib(enemy: Enemy) -> None:
    """Four thousand times: what is kept in memory must not be counted in nodes."""
    rows = []
    for number in range(60):
        many = [(b"%05d" % row, 0) for row in range(5_000)]
        rows.append((b"%04d" % number, directory(enemy.tree([(b"%04d" % number, SMALL), *many][1:]))))
    enemy.version(enemy.tree(rows))


# --- commits, refs, logs ---


@case()
def a_commit_that_is_its_own_parent(enemy: Enemy) -> None:
    commit = made_up("commit")
    enemy.version(EMPTY_TREE, parents=(commit,), identity=commit)


@case()
def generations_that_lie(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", SMALL)]), generation=BIG)


@case()
def a_commit_of_a_root_that_is_no_directory(enemy: Enemy) -> None:
    commit = enemy.put(Kind.COMMIT, encode((SMALL, EMPTY_TREE, (), 1, "", 0, "", {})))
    refs = enemy.repository.refs
    with enemy.repository.meta.write() as batch:
        refs.advance(batch, MAIN, 0, commit, WHO)


@case()
def words_that_move_a_terminal(enemy: Enemy) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\r\nana: all is well"
    enemy.version(enemy.tree([(evil.encode(), SMALL)]), message=evil, author=evil, metadata={evil: evil})


def _ref(name: bytes) -> Case:
    def build(enemy: Enemy) -> None:
        commit = enemy.version(enemy.tree([(b"a", SMALL)]))
        enemy.sealed(REFS, name, (False, 0, commit))
        enemy.sealed(LOGS, name + b"\0" + bytes(8), ("birth", commit, "", "", 1, 1, b"", ""))

    return build


for _what, _name in {
    "dots": b"../../etc", "slash": b"a/b", "control": b"\x1b[2J", "not_utf8": b"\xff", "at": b"main@1", "ana": b".ana",
}.items():  # fmt: skip
    CASES[f"a_branch_called_{_what}"] = _ref(_name)


@case()
def rows_of_logs_out_of_shape(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", SMALL)]))
    enemy.row(LOGS, b"main\0xyz", b"x")


@case()
def a_log_that_begins_in_the_far_future(enemy: Enemy) -> None:
    commit = enemy.version(enemy.tree([(b"a", SMALL)]))
    row = ("commit", commit, "\x1b[2J", "\x1b[2J", BIG, 0, b"", "\x1b[2J")
    enemy.sealed(LOGS, b"main\0" + struct.pack(">Q", (1 << 64) - 1), row)
    enemy.sealed(REFS, b"main", (False, BIG, commit))


@case()
def a_log_at_the_end_of_time(enemy: Enemy) -> None:
    commit = enemy.version(enemy.tree([(b"a", SMALL)]))
    enemy.sealed(LOGS, b"main\0" + struct.pack(">Q", 2), ("commit", commit, "", "", BIG, BIG, b"", ""))
    enemy.sealed(REFS, b"main", (False, 2, commit))


@case()
def a_log_that_goes_back_in_time(enemy: Enemy) -> None:
    commits = [enemy.version(enemy.tree([(b"%d" % number, SMALL)])) for number in range(1, 5)]
    first = enemy.repository.meta.get(LOGS, b"main\0" + bytes(8))
    assert first is not None
    previous = object_id(Kind.ROW, unseal(first, "row 0"))
    for number, commit in enumerate(commits, 1):
        row = ("\x1b[2J", commit, "", "", 9 - number, 0, previous, "")
        enemy.sealed(LOGS, b"main\0" + struct.pack(">Q", number), row)
        previous = object_id(Kind.ROW, encode(row))


# --- settings and working trees ---


@case()
def settings_out_of_shape(enemy: Enemy) -> None:
    for key in (b"author", b"compression", b"memory", b"xattr"):
        enemy.row(SETTINGS, key, seal(b"\xff\x1b[2J"))


@case()
def no_default_branch(enemy: Enemy) -> None:
    enemy.row(SETTINGS, b"default branch", seal(b"../../etc"))


@case()
def counters_beyond_every_number(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", SMALL)]))
    for key in (b"next inode", b"next working tree", b"journal"):
        enemy.row(SETTINGS, key, seal(b"\xff" * 40))


@case()
def counters_at_their_ends(enemy: Enemy) -> None:
    enemy.version(enemy.tree([(b"a", SMALL)]))
    enemy.row(SETTINGS, b"next inode", seal(b"\xff" * 8))
    enemy.row(SETTINGS, b"next working tree", seal(b"\xff" * 4))
    enemy.row(SETTINGS, b"journal", seal(b"\xff" * 8))


def _worktree(*row: object) -> Case:
    def build(enemy: Enemy) -> None:
        base = row[2] if row and len(row) > 2 else b""
        commit = enemy.version(enemy.tree([(b"a", SMALL)]))
        enemy.sealed(WORKTREES, b"main", [commit if value is base and base == b"base" else value for value in row])

    return build


CASES["a_working_tree_without_generations"] = _worktree(1, 20, b"base", ())
CASES["a_working_tree_of_numbers_that_cannot_be"] = _worktree(-1, -5, b"base", (-1,))
CASES["a_working_tree_of_large_numbers"] = _worktree(1 << 40, 1 << 63, b"base", (1 << 40,))
CASES["a_working_tree_over_nothing"] = _worktree(1, 20, b"", (1,))
CASES["a_working_tree_at_the_mounts_root"] = _worktree(1, 1, b"base", (1,))
CASES["a_working_tree_of_no_shape"] = _worktree("x")


def _node(kind: int, *, parent: int = 0, name: bytes = b"", base: bytes = EMPTY_TREE, content: object = None) -> object:
    return kind, 0o755, 0, 0, 0, 0, 2, 0, parent, name, b"", b"", base, content


def _changed(enemy: Enemy, nodes: dict[int, object], names: dict[tuple[int, bytes], int]) -> None:
    """A working tree of rows: its root is 20."""
    commit = enemy.version(enemy.tree([(b"a", SMALL)]))
    enemy.sealed(WORKTREES, b"main", (1, 20, commit, (1,)))
    for ino, node in nodes.items():
        enemy.sealed(NODES, struct.pack(">IIQ", 1, 1, ino), node)
    for (parent, name), child in names.items():
        enemy.row(NAMES, struct.pack(">IIQ", 1, 1, parent) + name, seal(struct.pack("<Q", child)))


@case()
def working_directories_in_circles(enemy: Enemy) -> None:
    nodes = {20: _node(2), 21: _node(2, parent=22, name=b"b"), 22: _node(2, parent=21, name=b"a")}
    _changed(enemy, nodes, {(20, b"a"): 21, (21, b"a"): 22, (22, b"b"): 21, (22, b"root"): 20})


@case()
def a_working_directory_in_itself(enemy: Enemy) -> None:
    _changed(enemy, {20: _node(2), 21: _node(2, parent=21, name=b"a")}, {(20, b"a"): 21, (21, b"a"): 21})


@case()
def working_directories_whose_parents_are_others(enemy: Enemy) -> None:
    nodes = {20: _node(2), 21: _node(2, parent=99, name=b"a"), 22: _node(1, parent=22, name=b"b")}
    _changed(enemy, nodes, {(20, b"a"): 21, (20, b"b"): 22})


@case()
def names_in_a_working_tree_that_cannot_be(enemy: Enemy) -> None:
    names = {(20, name): 21 for name in (b"..", b"../../escaped", b"a\0b", b"", b"n" * 300)}
    _changed(enemy, {20: _node(2), 21: _node(2, parent=20, name=b"..")}, names)


@case()
def a_root_that_is_a_file(enemy: Enemy) -> None:
    _changed(enemy, {20: _node(1, content=(5, b"small", None, 0, (), (), None, 0))}, {})


@case()
def working_files_of_contents_that_cannot_be(enemy: Enemy) -> None:
    contents: list[object] = [
        (BIG, None, (2, ZERO), 0, (), (), None, 0), (5, None, (3, b"short"), 0, (), (), None, 0),
        (1 << 62, None, None, 7, (), (), None, 0), (100, None, None, -1, (0,), (100,), None, 0),
        (100, None, None, 8, (50, 0), (10, 100, 200), None, 0), (-5, None, None, 9, (), (), None, (1 << 64) - 1),
        (1 << 40, b"small", None, 0, (), (), None, 0), None, (5, None, (9, b""), 0, (), (), None, 0),
    ]  # fmt: skip
    nodes = {30 + n: _node(1, parent=20, name=b"%d" % n, content=content) for n, content in enumerate(contents)}
    _changed(enemy, {20: _node(2), **nodes}, {(20, b"%d" % n): 30 + n for n in range(len(contents))})


def _one_file(content: object) -> Case:
    def build(enemy: Enemy) -> None:
        nodes = {20: _node(2), 21: _node(1, parent=20, name=b"f", content=content)}
        _changed(enemy, nodes, {(20, b"f"): 21})

    return build


CASES["a_working_file_of_a_size_that_is_not_there"] = _one_file((BIG, None, (2, ZERO), 0, (), (), None, 0))
CASES["a_working_file_of_a_short_id"] = _one_file((5, None, (3, b"short"), 0, (), (), None, 0))
CASES["a_working_file_of_an_overlay_that_is_not_there"] = _one_file((99, None, None, 7, (0,), (99,), None, 0))
CASES["a_working_file_of_a_negative_overlay"] = _one_file((100, None, None, -1, (0,), (100,), None, 0))
CASES["a_working_file_of_ranges_out_of_order"] = _one_file((100, None, None, 8, (50, 0), (10, 100), None, 0))
CASES["a_working_file_of_uneven_ranges"] = _one_file((100, None, None, 8, (50, 0, 3), (10,), None, 0))
CASES["a_working_file_of_negative_size"] = _one_file((-5, None, None, 9, (), (), None, -5))
CASES["a_working_file_of_nested_contents"] = _one_file(
    (5, None, None, 9, (), (), (5, None, None, 9, (), (), (5, None, None, 9, (), (), None, 5), 5), 5)
)


@case()
def rows_of_working_trees_with_short_keys(enemy: Enemy) -> None:
    _changed(enemy, {20: _node(2)}, {})
    enemy.sealed(NODES, struct.pack(">II", 1, 1) + b"x", _node(2))
    enemy.row(NAMES, struct.pack(">II", 1, 1) + b"x", seal(b"short"))


@case()
def ranges_out_of_shape(enemy: Enemy) -> None:
    content = (100, None, None, 7, (), (), None, 0)
    _changed(enemy, {20: _node(2), 21: _node(1, parent=20, name=b"f", content=content)}, {(20, b"f"): 21})
    (enemy.path / "overlays/7").write_bytes(b"x" * 100)
    enemy.sealed(NODES, struct.pack(">IIQI", 1, 0xFFFFFFFF, 7, 0), ([0, -5], [(1 << 64) - 1]))
    enemy.sealed(NODES, struct.pack(">IIQ", 1, 0xFFFFFFFF, 7), ([0], [5]))


# --- the journal ---


@case()
def a_journal_of_rows_of_other_tables(enemy: Enemy) -> None:
    enemy.journal_record([("refs", b"main", b"x"), ("objects", bytes(32), b"x"), ("nowhere", b"", None)])


@case()
def a_journal_of_short_keys(enemy: Enemy) -> None:
    enemy.journal_record([("nodes", b"", b"x"), ("names", b"x", b"x")])


@case()
def a_journal_of_rows_that_are_damaged(enemy: Enemy) -> None:
    _changed(enemy, {20: _node(2)}, {})
    enemy.journal_record([("nodes", struct.pack(">IIQ", 1, 1, 20), b"x"), ("worktrees", struct.pack(">I", 1), b"x")])


@case()
def a_journal_that_lies_about_its_length(enemy: Enemy) -> None:
    path = enemy.path / "journal" / f"{0:020}"
    path.write_bytes(struct.pack("<4sIQQ", b"AnaJ", (1 << 32) - 1, 0, 0) + b"x" * 100)


@case()
def a_journal_of_a_hole_of_a_terabyte(enemy: Enemy) -> None:
    with (enemy.path / "journal" / f"{0:020}").open("wb") as holes:
        holes.truncate(1 << 40)


@case()
def names_of_files_that_are_numbers_elsewhere(enemy: Enemy) -> None:
    for folder in ("journal", "overlays"):
        (enemy.path / folder / "²").write_bytes(b"")
        (enemy.path / folder / ("9" * 200)).write_bytes(b"")


# --- files of the repository ---


def _instead_of(name: str, content: bytes) -> Case:
    def build(enemy: Enemy) -> None:
        enemy.close()
        (enemy.path / name).write_bytes(content)

    return build


def _record(text: bytes) -> Case:
    return _instead_of("anabranch.json", text)


for _what, _text in {
    "a_list": b"[]", "a_word": b'"format"', "deep": b"[" * 100_000, "deep_inside": b'{"format": ' + b"[" * 100_000,
    "huge": b'{"format": "' + b"x" * (1 << 26) + b'"}', "of_odd_types": b'{"format": 1, "id": 5, "chunker": []}',
    "of_a_future_format": b'{"format": "\\u001b[2J"}', "of_a_huge_number": b'{"format": ' + b"9" * 5000 + b"}",
    "not_json": b"\xff\xfe", "empty": b"", "of_odd_features": b'{"format": 1, "id": "", "chunker": "\\u001b[2J",'
    b'"incompatible": ["\\u001b[2J"], "read_only": [], "ignorable": []}',
}.items():  # fmt: skip
    CASES[f"a_record_{_what}"] = _record(_text)


def _instead(name: str, *, pipe: bool = False) -> Case:
    """A link to the victim's file or folder in the place of a file or folder of the repository, or a pipe."""

    def build(enemy: Enemy) -> None:
        enemy.close()
        place = enemy.path / name
        outside = enemy.path.parent / "outside"
        target = outside / ("folder" if place.is_dir() else "file")
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        os.mkfifo(place) if pipe else place.symlink_to(target)

    return build


for _what in (
    "meta.mdb", "meta.mdb-lock", "meta.mdb.new", "index.mdb", "index.mdb-lock", "index.mdb.new", "index.mdb-lock.old",
    "volumes", "volumes/000000.mdb", "volumes/000000.mdb-lock", "overlays", "overlays/7", "journal",
    f"journal/{0:020}", "lock", "reserve", "daemon.log", "anabranch.json", "anabranch.new",
):  # fmt: skip
    CASES[f"a_link_instead_of_{_what}"] = _instead(_what)
for _what in ("meta.mdb", "anabranch.json", "lock", "daemon.log", "reserve", "volumes/000000.mdb", f"journal/{0:020}"):
    CASES[f"a_pipe_instead_of_{_what}"] = _instead(_what, pipe=True)


for _what in ("meta.mdb", "index.mdb", "volumes/000000.mdb"):
    CASES[f"noise_in_{_what}"] = _instead_of(_what, random_bytes(1, 10_000))
    CASES[f"nothing_in_{_what}"] = _instead_of(_what, b"")
