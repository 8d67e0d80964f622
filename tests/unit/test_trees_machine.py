"""Trees and link trees against dictionaries, and against the nodes that docs/format.md says they have.

What the rules draw are seeds of bulk changes: thousands of rows would be too much to draw one by one.
"""

import random
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from anabranch.ids import ObjectId
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind
from anabranch.versions import prolly
from anabranch.versions.objects import Entry, EntryKind, Form, LinkRow, Tag
from anabranch.versions.trees import EMPTY_TREE, Totals, Trees
from tests.unit import written
from tests.unit.helpers import examples, scratch
from tests.unit.written import Written

Entries = dict[bytes, Entry]
Delta = dict[bytes, Entry | None]

NAMES = ["first", "second", "third"]
COUNTS = [1, 1, 2, 3, 10, 50, 200]
STYLES = ["cluster", "random", "long", "edge"]
SINGLE = 16_384
COST = 4
"""Nodes that one change may cost at each level, read and written together."""
SPECIAL = [EntryKind.FIFO, EntryKind.SOCKET]
DEVICES = [EntryKind.CHARACTER, EntryKind.BLOCK]

which = st.sampled_from(NAMES)
seeds = st.integers(0, (1 << 32) - 1)
counts = st.sampled_from(COUNTS)
styles = st.sampled_from(STYLES)
odds = st.integers(0, 4)


# --- names and entries ---


def legal(name: bytes) -> bool:
    return 1 <= len(name) <= 255 and not {0, ord("/")} & set(name) and name not in (b".", b"..")


def new_name(dice: random.Random, style: str) -> bytes:
    """A name: side by side with others, anywhere, or of a length that makes nodes above the leaves small."""
    if style == "cluster":
        return b"part-%05d" % dice.randrange(1_500)
    if style == "long":
        return b"%06d-" % dice.randrange(100_000) + b"x" * dice.randint(100, 248)
    if style == "edge":
        return dice.choice([b"\x01", b"\xff", b" ", b"a"]) * dice.choice([1, 2, 3, 254, 255])
    name = dice.randbytes(dice.choice([1, 2, 3, 8, 40, 255]))
    return name if legal(name) else b"n" + name[1:].replace(b"/", b"-").replace(b"\0", b"0")


def new_entry(dice: random.Random, padding: int) -> Entry:
    """An entry of any kind; most are files, of up to about `padding` bytes."""
    kind = dice.choices(list(EntryKind), [12, 3, 1, 2, 1, 1, 1, 1])[0]
    attributes = dice.choice([0o644, 0, 0o7777]), dice.choice([0, 1_000, (1 << 32) - 1]), dice.choice([0, 70_000])
    time = dice.choice([0, -1, dice.getrandbits(62), -(1 << 63)])
    if kind is EntryKind.LINK:
        return Entry(kind, content=dice.randbytes(16))
    if kind is EntryKind.DIRECTORY:
        tags = {Tag.FILES: dice.getrandbits(20), Tag.SUBDIRECTORIES: dice.randint(0, 3), Tag.LINKS: dice.randint(0, 3)}
        held: dict[int, int | bytes] = {int(tag): value for tag, value in tags.items() if value}
        return Entry(
            kind, *attributes, time, dice.getrandbits(40), content=dice.randbytes(32), extra=held or None
        )  # fmt: skip
    if kind is EntryKind.SYMLINK:
        target = dice.randbytes(dice.randint(1, 1 + padding)).replace(b"\0", b"0")
        return Entry(kind, *attributes, time, len(target), content=target)
    if kind in SPECIAL:
        return Entry(kind, *attributes, time)
    if kind in DEVICES:
        return Entry(kind, *attributes, time, extra={Tag.DEVICE: dice.randint(1, 1 << 32)})
    return new_file(dice, attributes, time, padding)


def new_file(dice: random.Random, attributes: tuple[int, int, int], time: int, padding: int) -> Entry:
    form = dice.choice([Form.EMPTY, Form.INLINE, Form.INLINE, Form.INLINE, Form.CHUNK, Form.MANIFEST])
    if form is Form.EMPTY:
        return Entry(EntryKind.FILE, *attributes, time)
    if form is Form.INLINE:
        data = dice.randbytes(dice.randint(1, 1 + min(padding, 511)))
        return Entry(EntryKind.FILE, *attributes, time, len(data), form, data)
    return Entry(EntryKind.FILE, *attributes, time, dice.randint(513, 1 << 40), form, dice.randbytes(32))


def symlink(target: bytes) -> Entry:
    return Entry(EntryKind.SYMLINK, size=len(target), content=target)


def entry_row(name: bytes, entry: Entry) -> written.Row:
    fields = (
        int(entry.kind), entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size, int(entry.form), entry.content,
        entry.extra and {int(tag): value for tag, value in sorted(entry.extra.items())},
    )  # fmt: skip
    return name, written.encode(fields)


def rows_of(entries: Entries) -> list[written.Row]:
    return [entry_row(name, entry) for name, entry in sorted(entries.items())]


def applied(entries: Entries, delta: Delta) -> Entries:
    both: Delta = {**entries, **delta}
    return {name: entry for name, entry in both.items() if entry is not None}


small_deltas = st.dictionaries(
    st.one_of(st.sampled_from([b"a", b"b", b"part-00007", b"zz"]), st.binary(min_size=1, max_size=6).filter(legal)),
    st.one_of(st.none(), st.integers(0, 50).map(lambda n: new_entry(random.Random(n), 20))),
    max_size=8,
)


# --- the store ---


class Store:
    """Trees in a file, which can be closed and opened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open()

    def _open(self) -> None:
        self.meta = Environment(self._directory / "meta.mdb", TABLES)
        self.objects = ObjectStore(self.meta)
        self.trees = Trees(self.objects)
        self.trees.empty()

    def reopen(self) -> None:
        self.objects.flush()
        self.meta.close()
        self._open()

    def level(self, root: ObjectId) -> int:
        level: int = written.decode(self.objects.get(Kind.TREE, root))[0]
        return level

    def holds(self, tree: Written, root: ObjectId) -> None:
        """The root is the one of the text, and each of its nodes is there, byte by byte."""
        assert root == tree.root, "the tree is not the one that the format says"
        for name, raw in tree.nodes.items():
            assert self.objects.get(Kind.TREE, ObjectId(name)) == raw


class StoreMachine(RuleBasedStateMachine):
    """A store for one history."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self.store = Store(self._scratch.__enter__())

    def teardown(self) -> None:
        self.store.meta.close()
        self._scratch.__exit__(None, None, None)

    @property
    def trees(self) -> Trees:
        return self.store.trees

    @rule()
    def reopen(self) -> None:
        self.store.reopen()


# --- trees ---


@dataclass
class Named:
    """A tree that is alive, and what it should hold."""

    root: ObjectId = EMPTY_TREE
    entries: Entries = field(default_factory=dict)
    checked: bool = False


class TreesMachine(StoreMachine):
    """Several trees in one store."""

    def __init__(self) -> None:
        super().__init__()
        self.named = {name: Named() for name in NAMES}

    def _apply(self, name: str, delta: Delta) -> None:
        tree = self.named[name]
        nodes = self.trees.nodes
        nodes.reads = nodes.writes = 0
        root = self.trees.apply(tree.root, sorted(delta.items()))
        levels = 1 + max(self.store.level(tree.root), self.store.level(root))
        assert nodes.reads + nodes.writes <= COST * (len(delta) + 1) * levels
        self.named[name] = Named(root, applied(tree.entries, delta))

    # --- changing ---

    @initialize(style=styles, seed=seeds)
    def begin(self, style: str, seed: int) -> None:
        """One large tree, one of a few leaves, and an empty one."""
        self.fill(NAMES[0], seed, 1_500, "long")
        self.fill(NAMES[1], seed, 100, style)

    @rule(name=which, delta=small_deltas)
    def edit(self, name: str, delta: Delta) -> None:
        self._apply(name, delta)

    @rule(name=which, seed=seeds, count=counts, style=styles, padding=st.sampled_from([0, 20, 100, 511]))
    def change(self, name: str, seed: int, count: int, style: str, padding: int) -> None:
        """Adds, replacements and removals, of names that are there and of others."""
        dice, there = random.Random(seed), sorted(self.named[name].entries)
        delta: Delta = {}
        for _ in range(count):
            known = there and dice.random() < 0.4
            key = dice.choice(there) if known else new_name(dice, style)
            delta[key] = None if dice.random() < 0.3 else new_entry(dice, padding)
        self._apply(name, delta)

    @rule(name=which, seed=seeds, count=st.sampled_from([100, 700, 1_500]), style=styles)
    def fill(self, name: str, seed: int, count: int, style: str) -> None:
        dice = random.Random(seed)
        self._apply(name, {new_name(dice, style): new_entry(dice, dice.choice([10, 511])) for _ in range(count)})

    @rule(name=which, seed=seeds, size=st.sampled_from([64, 128]))
    def fill_evenly(self, name: str, seed: int, size: int) -> None:
        """Rows that together come to exactly the size at which a node is full, where no key ends it before."""
        dice = random.Random(seed)
        delta: Delta = {}
        for _ in range(1_500):
            key = b"part-%05d" % dice.randrange(100_000)
            length = 1 + size - written.size_of(entry_row(key, symlink(b"x")))
            target = dice.randbytes(length).replace(b"\0", b"0")
            assert written.size_of(entry_row(key, symlink(target))) == size
            delta[key] = symlink(target)
        self._apply(name, delta)

    @rule(name=which, first=st.floats(0, 1), length=st.floats(0, 0.6))
    def remove_a_range(self, name: str, first: float, length: float) -> None:
        there = sorted(self.named[name].entries)
        start = int(first * len(there))
        self._apply(name, dict.fromkeys(there[start : start + int(length * len(there)) + 1]))

    @rule(name=which, odd=odds)
    def empty(self, name: str, odd: int) -> None:
        if odd == 0:
            self._apply(name, dict.fromkeys(self.named[name].entries))
            assert self.named[name].root == EMPTY_TREE

    @rule(name=which, seed=seeds, odd=odds)
    def shrink_into_one_leaf(self, name: str, seed: int, odd: int) -> None:
        """Take rows away until the rest just fits."""
        if odd:
            return
        dice, entries = random.Random(seed), self.named[name].entries
        sizes = {row[0]: written.size_of(row) for row in rows_of(entries)}
        order = sorted(entries)
        dice.shuffle(order)
        total = sum(sizes.values())
        delta: Delta = {}
        while total > SINGLE:
            gone = order.pop()
            delta[gone] = None
            total -= sizes[gone]
        self._apply(name, delta)

    @rule(name=which, over=st.integers(-1, 1))
    def grow_to_the_limit(self, name: str, over: int) -> None:
        """One more file, so that the rows take 16,384 bytes, or one byte more or less."""
        tree = self.named[name]
        missing = SINGLE + over - self.trees.totals(tree.root).size
        delta: Delta = {}
        while missing > 900:
            key = b"fill-%05d" % (missing + len(tree.entries))
            if key in tree.entries:
                return
            delta[key] = symlink(b"x" * 400)
            missing -= written.size_of(entry_row(key, symlink(b"x" * 400)))
        for length in range(120, 900):
            last = symlink(b"y" * length)
            if b"last" not in tree.entries and written.size_of(entry_row(b"last", last)) == missing:
                self._apply(name, {**delta, b"last": last})
                assert self.trees.totals(self.named[name].root).size == SINGLE + over
                return

    @rule(name=which, source=which)
    def copy(self, name: str, source: str) -> None:
        held = self.named[source]
        self.named[name] = Named(held.root, dict(held.entries))

    @rule(name=which, goal=which)
    def turn_into_another(self, name: str, goal: str) -> None:
        """The difference of two trees, applied to one, gives the other."""
        here, there = self.named[name], self.named[goal]
        self._apply(name, {path: new for path, _, new in self.trees.diff(here.root, there.root)})
        assert self.named[name].root == there.root

    # --- looking ---

    @rule(old=which, new=which)
    def diff(self, old: str, new: str) -> None:
        left, right = self.named[old], self.named[new]
        self.trees.nodes.reads = 0
        found = list(self.trees.diff(left.root, right.root))
        reads = self.trees.nodes.reads
        assert found == difference(left.entries, right.entries)
        levels = 1 + max(self.store.level(left.root), self.store.level(right.root))
        assert reads <= COST * (len(found) + 1) * levels

    @rule(name=which, seed=seeds, open_=st.sampled_from(["neither", "start", "stop"]))
    def iterate(self, name: str, seed: int, open_: str) -> None:
        dice, tree = random.Random(seed), self.named[name]
        start = None if open_ == "start" else self._place(dice, tree)
        stop = None if open_ == "stop" else self._place(dice, tree)
        self.trees.nodes.reads = 0
        found = list(prolly.iterate(self.trees.nodes, tree.root, start, stop))
        reads = self.trees.nodes.reads
        inside = [key for key in sorted(tree.entries) if (start or b"") <= key and (stop is None or key < stop)]
        assert found == [(key, entry_row(key, tree.entries[key])) for key in inside]
        assert reads <= 2 * (len(inside) + 1) * (1 + self.store.level(tree.root))

    def _place(self, dice: random.Random, tree: Named) -> bytes:
        """A name that is there, its neighbour, or any other."""
        there = sorted(tree.entries)
        return (dice.choice(there) if there and dice.random() < 0.7 else new_name(dice, "random")) + dice.choice(
            [b"", b"\x01"]
        )

    @rule(name=which, seed=seeds)
    def look_up(self, name: str, seed: int) -> None:
        dice, tree = random.Random(seed), self.named[name]
        there = sorted(tree.entries)
        for key in [self._place(dice, tree) for _ in range(10)]:
            self.trees.nodes.reads = 0
            assert self.trees.lookup(tree.root, key) == tree.entries.get(key)
            assert self.trees.nodes.reads <= 1 + self.store.level(tree.root)
            first = next(prolly.iterate(self.trees.nodes, tree.root, key), None)
            at = bisect_left(there, key)
            assert (None if first is None else first[0]) == (there[at] if at < len(there) else None)

    # --- what always holds ---

    @invariant()
    def every_tree_is_the_one_of_its_entries(self) -> None:
        for tree in self.named.values():
            if not tree.checked:
                self._holds(tree)
                tree.checked = True

    def _holds(self, tree: Named) -> None:
        rows = rows_of(tree.entries)
        self.store.holds(written.build(rows, written.TREE), tree.root)
        assert list(self.trees.entries(tree.root)) == sorted(tree.entries.items())
        assert self.trees.apply(EMPTY_TREE, sorted(tree.entries.items())) == tree.root, "built in one go"
        sums = [sum(column) for column in zip(*map(written.of_entry, rows), strict=True)]
        assert self.trees.totals(tree.root) == (Totals(*sums) if rows else Totals())
        assert (self.store.level(tree.root) == 0) or sum(map(written.size_of, rows)) > SINGLE

    @invariant()
    def equal_trees_have_equal_ids_and_others_others(self) -> None:
        for one in self.named.values():
            for other in self.named.values():
                assert (one.root == other.root) == (one.entries == other.entries)


def difference(old: Mapping[bytes, object], new: Mapping[bytes, object]) -> list[tuple[bytes, object, object]]:
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [(key, old.get(key), new.get(key)) for key in keys]


def test_trees_are_what_the_format_says_whatever_is_done_to_them() -> None:
    run_state_machine_as_test(TreesMachine, settings=examples(40, steps=25))


# --- link trees ---

Linked = tuple[LinkRow, frozenset[bytes]]
Rows = dict[bytes, LinkRow | None]
Names = dict[tuple[bytes, bytes], bool]

LINK_IDS = [bytes(16), b"\xff" * 16, bytes(15) + b"\x01", bytes(15) + b"\x02", *(b"%016d" % n for n in range(300))]
FOLDERS = [b"", b"a/", b"a/b/", b"a/b/c/", b"ab/", b"z" * 255 + b"/", b"\xff/"]


def link_rows(linked: dict[bytes, Linked]) -> list[written.Row]:
    rows: list[written.Row] = []
    for link_id, (row, paths) in linked.items():
        _, entry = entry_row(b"", row.entry)
        rows.append((link_id, b"\x92" + entry + written.encode(row.names)))
        rows += ((link_id + path, b"\xc0") for path in paths)
    return sorted(rows)


def new_path(dice: random.Random) -> bytes:
    return dice.choice(FOLDERS) + dice.choice([b"f%d" % dice.randrange(40), b"\x01", b"y" * dice.randint(1, 255)])


def new_linked_file(dice: random.Random) -> Entry:
    return new_file(dice, (0o600, 5, 6), dice.getrandbits(40), dice.choice([3, 500]))


@dataclass
class NamedLinks:
    """A link tree that is alive, and what it should hold."""

    root: ObjectId = EMPTY_TREE
    linked: dict[bytes, Linked] = field(default_factory=dict)
    checked: bool = False


class LinkTreesMachine(StoreMachine):
    """Several link trees in one store."""

    def __init__(self) -> None:
        super().__init__()
        self.named = {name: NamedLinks() for name in NAMES}

    def _apply(self, name: str, changed: dict[bytes, Linked | None]) -> None:
        """Give some link ids other rows and names, or none."""
        tree = self.named[name]
        rows: Rows = {}
        names: Names = {}
        for link_id, linked in changed.items():
            old = tree.linked[link_id][1] if link_id in tree.linked else frozenset()
            new = frozenset[bytes]() if linked is None else linked[1]
            rows[link_id] = None if linked is None else linked[0]
            names |= {(link_id, path): path in new for path in old ^ new}
        root = self.trees.apply_links(tree.root, rows, names)
        both: dict[bytes, Linked | None] = {**tree.linked, **changed}
        self.named[name] = NamedLinks(root, {key: value for key, value in both.items() if value is not None})

    @rule(name=which, seed=seeds, count=st.sampled_from([1, 1, 2, 10, 60]))
    def change(self, name: str, seed: int, count: int) -> None:
        dice, linked = random.Random(seed), self.named[name].linked
        changed: dict[bytes, Linked | None] = {}
        for _ in range(count):
            link_id = dice.choice(LINK_IDS)
            changed[link_id] = self._changed(dice, linked.get(link_id))
        self._apply(name, changed)

    def _changed(self, dice: random.Random, linked: Linked | None) -> Linked | None:
        if linked is None or dice.random() < 0.2:
            paths = frozenset(new_path(dice) for _ in range(dice.choice([0, 1, 2, 3, 40])))
            return (LinkRow(new_linked_file(dice), len(paths)), paths) if paths else None
        row, old = linked
        lost = {path for path in old if dice.random() < 0.3}
        new = (old - lost) | {new_path(dice) for _ in range(dice.randint(0, 3))}
        entry = new_linked_file(dice) if dice.random() < 0.5 else row.entry
        return (LinkRow(entry, len(new)), new) if new else None

    @rule(name=which)
    def empty(self, name: str) -> None:
        self._apply(name, dict.fromkeys(self.named[name].linked))
        assert self.named[name].root == EMPTY_TREE

    @rule(name=which, source=which)
    def copy(self, name: str, source: str) -> None:
        held = self.named[source]
        self.named[name] = NamedLinks(held.root, dict(held.linked))

    @rule(old=which, new=which)
    def diff(self, old: str, new: str) -> None:
        left, right = self.named[old], self.named[new]
        rows = [{key: row for key, (row, _) in side.linked.items()} for side in (left, right)]
        assert list(self.trees.diff_links(left.root, right.root)) == difference(*rows)

    @rule(name=which, seed=seeds)
    def look_up(self, name: str, seed: int) -> None:
        dice, tree = random.Random(seed), self.named[name]
        for link_id in dice.sample(LINK_IDS, 5):
            row, paths = tree.linked.get(link_id, (None, frozenset()))
            assert self.trees.link(tree.root, link_id) == row
            assert list(self.trees.link_names(tree.root, link_id)) == sorted(paths)

    @invariant()
    def every_link_tree_is_the_one_of_its_rows(self) -> None:
        for tree in self.named.values():
            if not tree.checked:
                self._holds(tree)
                tree.checked = True

    def _holds(self, tree: NamedLinks) -> None:
        self.store.holds(written.build(link_rows(tree.linked), written.LINKS), tree.root)
        assert list(self.trees.links(tree.root)) == sorted((key, row) for key, (row, _) in tree.linked.items())
        rows: Rows = {key: row for key, (row, _) in tree.linked.items()}
        names = {(key, path): True for key, (_, paths) in tree.linked.items() for path in paths}
        assert self.trees.apply_links(EMPTY_TREE, rows, names) == tree.root, "built in one go"


def test_link_trees_are_what_the_format_says_whatever_is_done_to_them() -> None:
    run_state_machine_as_test(LinkTreesMachine, settings=examples(50, steps=25))


# --- link trees follow directories ---

Files = dict[bytes, Entry]
"""Path to a file's entry, or a hard link's."""


def below(files: Files, folder: bytes) -> Files:
    return {path[len(folder) :]: entry for path, entry in files.items() if path.startswith(folder)}


def link_names(files: Files) -> set[tuple[bytes, bytes]]:
    return {(entry.content, path) for path, entry in files.items() if entry.kind is EntryKind.LINK}


@dataclass
class State:
    """A version of a directory with all below, and its link tree."""

    root: ObjectId = EMPTY_TREE
    links: ObjectId = EMPTY_TREE
    files: Files = field(default_factory=dict)


class MovedLinksMachine(StoreMachine):
    """Every version ever made stays; a new one is made from any."""

    def __init__(self) -> None:
        super().__init__()
        self.states = [State()]

    def _tree(self, files: Files) -> ObjectId:
        """The directories of some paths, each built in one go."""
        entries: Entries = {path: entry for path, entry in files.items() if b"/" not in path}
        for name in {path.partition(b"/")[0] for path in files if b"/" in path}:
            entries[name] = self._folder(below(files, name + b"/"))
        return self.trees.apply(EMPTY_TREE, sorted(entries.items()))

    def _folder(self, files: Files) -> Entry:
        tree = self._tree(files)
        subdirectories = {path.partition(b"/")[0] for path in files if b"/" in path}
        size = sum(entry.size for entry in files.values())
        tags = {Tag.FILES: len(files), Tag.SUBDIRECTORIES: len(subdirectories), Tag.LINKS: len(link_names(files))}
        held: dict[int, int | bytes] = {int(tag): count for tag, count in tags.items() if count}
        return Entry(EntryKind.DIRECTORY, 0o755, size=size, content=tree, extra=held or None)

    def _make(self, old: State, files: Files) -> None:
        """A version after another one: the link tree is changed by what moved, and must be the one built anew."""
        root = self._tree(files)
        moved = self.trees.moved_links(old.root, root)
        before, after = link_names(old.files), link_names(files)
        assert moved == {name: name in after for name in before ^ after}
        counts = {key: sum(key == other for other, _ in after) for key, _ in before | after}
        rows: Rows = {key: LinkRow(self._linked(key), count) if count else None for key, count in counts.items()}
        links = self.trees.apply_links(old.links, rows, moved)
        alive: Rows = {key: row for key, row in rows.items() if row is not None}
        assert links == self.trees.apply_links(EMPTY_TREE, alive, dict.fromkeys(after, True))
        self.states.append(State(root, links, files))

    @staticmethod
    def _linked(link_id: bytes) -> Entry:
        return Entry(EntryKind.FILE, 0o644, size=3, form=Form.INLINE, content=link_id[-3:])

    @rule(pick=seeds, seed=seeds, count=st.sampled_from([1, 1, 3, 30]))
    def change_paths(self, pick: int, seed: int, count: int) -> None:
        dice, old = random.Random(seed), self.states[pick % len(self.states)]
        files = dict(old.files)
        for _ in range(count):
            self._change(dice, files)
        self._make(old, files)

    def _change(self, dice: random.Random, files: Files) -> None:
        if files and dice.random() < 0.35:
            del files[dice.choice(sorted(files))]
            return
        path = b"/".join(dice.choice([b"a", b"b", b"c", b"d%d" % dice.randrange(9)]) for _ in range(dice.randint(1, 4)))
        for other in list(files):
            if other.startswith(path + b"/") or path.startswith(other + b"/"):
                del files[other]  # a file where a directory was, or the other way round
        linked = Entry(EntryKind.LINK, content=dice.choice(LINK_IDS[:8]))
        files[path] = linked if dice.random() < 0.6 else self._linked(b"%d" % dice.randrange(100_000, 100_009))

    @rule(pick=seeds, folder=st.sampled_from([b"a/", b"b/", b"a/b/"]), new=st.sampled_from([b"moved/", b"c/x/"]))
    def move_a_directory(self, pick: int, folder: bytes, new: bytes) -> None:
        old = self.states[pick % len(self.states)]
        taken = new.rstrip(b"/").split(b"/")
        if any(path.startswith(new) or path in (taken[0], b"/".join(taken)) for path in old.files):
            return
        inside = {folder + path for path in below(old.files, folder)}
        moved = {new + path[len(folder) :]: old.files[path] for path in inside}
        self._make(old, {path: entry for path, entry in old.files.items() if path not in inside} | moved)

    @rule(first=seeds, second=seeds)
    def compare(self, first: int, second: int) -> None:
        old, new = self.states[first % len(self.states)], self.states[second % len(self.states)]
        before, after = link_names(old.files), link_names(new.files)
        assert self.trees.moved_links(old.root, new.root) == {name: name in after for name in before ^ after}

    @rule(first=seeds)
    def go_on_elsewhere(self, first: int) -> None:
        """From one version to the newest one's files, as if it had been made from there."""
        self._make(self.states[first % len(self.states)], self.states[-1].files)
        assert self.states[-1].links == self.states[-2].links


def test_a_link_tree_that_follows_its_directories_is_the_one_made_in_one_go() -> None:
    run_state_machine_as_test(MovedLinksMachine, settings=examples(100, steps=25))
