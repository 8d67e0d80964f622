"""Contents against lists of pieces, and against the nodes that docs/format.md says their manifests have.

Holes are so long that no list of chunks could hold them: the model counts runs. Where it cuts, it does so by hand.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from anabranch.ids import ObjectId
from anabranch.store.env import Environment
from anabranch.store.meta import TABLES, ObjectStore
from anabranch.store.records import Kind
from anabranch.versions.manifests import EMPTY, Manifests, Piece, Splice, Stored
from anabranch.versions.objects import Form
from tests.unit import written
from tests.unit.helpers import examples, scratch

NAMES = ["first", "second", "third"]
MAX = 262_144
HOLE = bytes(32)
READS, WRITES = 12, 3
"""Nodes that one splice may cost at each level; of those that are written, rows that are put in may cost more."""

which = st.sampled_from(NAMES)
seeds = st.integers(0, (1 << 32) - 1)
sizes = st.sampled_from([1, 1, 2, 5, 40, 300])


def numbered(n: int) -> tuple[ObjectId, int]:
    """Chunk `n`, 0 being the hole: its length goes with its id, as in real files. One has a single byte, one all."""
    if n == 0:
        return ObjectId(HOLE), MAX
    length = {1: 1, 2: MAX}.get(n, 600 + n % 50)
    return ObjectId(written.identity("chunk", b"%d" % n)), length


def new_pieces(dice: random.Random, count: int, many: int) -> list[Piece]:
    """Pieces of `many` different chunks; holes are as long as 2**22 chunks."""
    pieces: list[Piece] = []
    for _ in range(count):
        n = dice.randrange(many)
        most = 1 << dice.randint(0, 22) if n == 0 else dice.choice([1, 1, 1, 2, 9])
        pieces.append(Piece(*numbered(n), dice.randint(1, most)))
    return pieces


# --- the model: runs of chunks ---


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    runs: list[Piece] = []
    for chunk, length, repeat in pieces:
        if runs and runs[-1].chunk == chunk:
            repeat += runs.pop().repeat
        runs.append(Piece(chunk, length, repeat))
    return runs


def chunks_in(pieces: Sequence[Piece]) -> int:
    return sum(piece.repeat for piece in pieces)


def total(pieces: Sequence[Piece]) -> int:
    return sum(piece.length * piece.repeat for piece in pieces)


def taken(pieces: Sequence[Piece], first: int, last: int) -> list[Piece]:
    """The chunks from number `first` up to, without, number `last`."""
    runs: list[Piece] = []
    at = 0
    for chunk, length, repeat in pieces:
        count = min(last, at + repeat) - max(first, at)
        if count > 0:
            runs.append(Piece(chunk, length, count))
        at += repeat
    return runs


def located(pieces: Sequence[Piece]) -> list[tuple[int, Piece]]:
    """Each piece with its first byte."""
    found: list[tuple[int, Piece]] = []
    at = 0
    for piece in pieces:
        found.append((at, piece))
        at += piece.length * piece.repeat
    return found


def ranges(pieces: Sequence[Piece], offset: int, length: int) -> list[tuple[bytes, int, int]]:
    """The parts of chunks that make up a range of bytes."""
    parts: list[tuple[bytes, int, int]] = []
    for start, (chunk, size, repeat) in located(pieces):
        first = max(0, (offset - start) // size)
        last = min(repeat, -(-(offset + length - start) // size))
        for n in range(first, last):
            low, high = max(offset, start + n * size), min(offset + length, start + (n + 1) * size)
            if low < high:
                parts.append((chunk, low - start - n * size, high - low))
    return parts


def row_of(piece: Piece) -> written.Row:
    return piece.chunk, written.encode((piece.length, piece.repeat))


@dataclass
class Named:
    """A content that is alive, and what it should hold."""

    stored: Stored = EMPTY
    pieces: list[Piece] = field(default_factory=list)
    checked: bool = False


class ManifestsMachine(RuleBasedStateMachine):
    """Several contents in one store."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self._path = self._scratch.__enter__() / "meta.mdb"
        self._open()
        self.named = {name: Named() for name in NAMES}

    def _open(self) -> None:
        self.meta = Environment(self._path, TABLES)
        self.objects = ObjectStore(self.meta)
        self.files = Manifests(self.objects)

    def teardown(self) -> None:
        self.meta.close()
        self._scratch.__exit__(None, None, None)

    @rule()
    def reopen(self) -> None:
        self.objects.flush()
        self.meta.close()
        self._open()

    # --- changing ---

    @initialize(seed=seeds, count=st.sampled_from([1_000, 4_000]))
    def begin(self, seed: int, count: int) -> None:
        """One large content, a small one, and an empty one."""
        self.store(NAMES[0], seed, count, 100_000)
        self.store(NAMES[1], seed, 20, 4)

    @rule(
        name=which, seed=seeds, count=st.sampled_from([0, 1, 3, 100, 600, 2_000]), many=st.sampled_from([2, 5, 9_999])
    )
    def store(self, name: str, seed: int, count: int, many: int) -> None:
        pieces = new_pieces(random.Random(seed), count, many)
        self.named[name] = Named(self.files.store(pieces), joined(pieces))

    @rule(name=which, source=which)
    def copy(self, name: str, source: str) -> None:
        self.named[name] = Named(self.named[source].stored, list(self.named[source].pieces))

    @rule(
        name=which, seed=seeds, count=st.integers(1, 6), new=sizes, gone=st.sampled_from([0, 0, 1, 1, 3, 100]),
        many=st.sampled_from([1, 3, 9_999]),
    )  # fmt: skip
    def splice(self, name: str, seed: int, count: int, new: int, gone: int, many: int) -> None:
        """Put pieces in several places at once, over some of what is there or between it."""
        dice, pieces = random.Random(seed), self.named[name].pieces
        edits: list[tuple[int, int, list[Piece]]] = []
        done = 0
        for first in sorted(self._chunk(dice, pieces) for _ in range(count)):
            begin = max(first, done)
            done = min(begin + dice.randint(0, gone), chunks_in(pieces))
            edits.append((begin, done, new_pieces(dice, dice.randint(0, new), many)))
        self._splice(name, edits)

    @staticmethod
    def _chunk(dice: random.Random, pieces: list[Piece]) -> int:
        """The number of any chunk, or of the end: every run is as likely, however long."""
        run = dice.randint(0, len(pieces))
        before = chunks_in(pieces[:run])
        if run == len(pieces):
            return before
        return before + dice.choice([0, 0, dice.randrange(pieces[run].repeat), pieces[run].repeat - 1])

    def _splice(self, name: str, edits: list[tuple[int, int, list[Piece]]]) -> None:
        content = self.named[name]
        old, model, done = content.pieces, list[Piece](), 0
        splices: list[Splice] = []
        for first, last, pieces in edits:
            model += taken(old, done, first) + pieces
            splices.append(Splice(total(taken(old, 0, first)), total(taken(old, 0, last)), pieces))
            done = last
        model += taken(old, done, chunks_in(old))
        self.files.nodes.reads = self.files.nodes.writes = 0
        stored = self.files.splice(content.stored, splices)
        self._is_cheap(content.stored, stored, edits)
        self.named[name] = Named(stored, joined(model))

    def _is_cheap(self, old: Stored, new: Stored, edits: list[tuple[int, int, list[Piece]]]) -> None:
        rows = sum(len(pieces) for _, _, pieces in edits)
        fair = (len(edits) + 1) * max(self._levels(old), self._levels(new))
        assert self.files.nodes.reads <= READS * fair
        assert self.files.nodes.writes <= WRITES * fair + rows

    @rule(name=which, seed=seeds, count=sizes, many=st.sampled_from([1, 3, 9_999]))
    def append(self, name: str, seed: int, count: int, many: int) -> None:
        end = chunks_in(self.named[name].pieces)
        self._splice(name, [(end, end, new_pieces(random.Random(seed), count, many))])

    @rule(name=which, seed=seeds)
    def cut_off(self, name: str, seed: int) -> None:
        pieces = self.named[name].pieces
        self._splice(name, [(self._chunk(random.Random(seed), pieces), chunks_in(pieces), [])])

    @rule(name=which, seed=seeds)
    def fill_a_hole_and_empty_it_again(self, name: str, seed: int) -> None:
        """A chunk written over one of a hole's, or over any, and back: as it was before."""
        dice, content = random.Random(seed), self.named[name]
        place = self._chunk(dice, content.pieces)
        old = taken(content.pieces, place, place + 1)
        if old:
            self._splice(name, [(place, place + 1, [Piece(*numbered(77_777), 1)])])
            self._splice(name, [(place, place + 1, old)])
            assert self.named[name].stored == content.stored

    @rule(name=which, source=which, seed=seeds)
    def put_one_into_another(self, name: str, source: str, seed: int) -> None:
        dice, pieces = random.Random(seed), self.named[name].pieces
        place = self._chunk(dice, pieces)
        if len(pieces) + len(self.named[source].pieces) < 6_000:
            self._splice(name, [(place, place, self.named[source].pieces)])

    # --- looking ---

    def _offset(self, dice: random.Random, content: Named) -> int:
        """Any byte, often one beside a border, sometimes one after the end."""
        starts = [start for start, _ in located(content.pieces)]
        beside = dice.choice([*starts[-50:], *starts[:50], content.stored.size]) + dice.randint(-1, 1)
        return max(0, dice.choice([beside, dice.randint(0, content.stored.size)]))

    @rule(name=which, seed=seeds, length=st.sampled_from([0, 1, 2, 700, 100_000, 3_000_000]))
    def read_parts(self, name: str, seed: int, length: int) -> None:
        dice, content = random.Random(seed), self.named[name]
        offset = self._offset(dice, content)
        if content.stored.form != Form.EMPTY:
            assert self.files.parts(content.stored, offset, length) == ranges(content.pieces, offset, length)

    @rule(name=which, seed=seeds)
    def look_at_an_offset(self, name: str, seed: int) -> None:
        content = self.named[name]
        offset = self._offset(random.Random(seed), content)
        rest = [(start, run) for start, run in located(content.pieces) if start + total([run]) > offset]
        assert list(self.files.pieces(content.stored, offset)) == rest
        hole = rest[0][0] + total([rest[0][1]]) - offset if rest and rest[0][1].chunk == HOLE else 0
        self.files.nodes.reads = 0
        assert self.files.zeros_from(content.stored, offset) == hole
        assert self.files.nodes.reads <= 1 + self._levels(content.stored)
        if rest:
            start, run = rest[0]
            assert self.files.chunk_start(content.stored, offset) == offset - (offset - start) % run.length

    @rule(old=which, new=which)
    def compare(self, old: str, new: str) -> None:
        """Rows are the same when they end at the same byte of the content."""
        left, right = self.named[old], self.named[new]
        if left.stored.form == right.stored.form == Form.MANIFEST:
            before, after = (
                {start + total([run]): row_of(run) for start, run in located(side.pieces)} for side in (left, right)
            )
            ends = sorted(end for end in before.keys() | after.keys() if before.get(end) != after.get(end))
            found = list(self.files.changed(left.stored, right.stored))
            assert found == [(end, before.get(end), after.get(end)) for end in ends]

    # --- what always holds ---

    @invariant()
    def every_content_is_the_one_of_its_pieces(self) -> None:
        for content in self.named.values():
            if not content.checked:
                self._holds(content)
                content.checked = True

    def _holds(self, content: Named) -> None:
        stored, pieces = content.stored, content.pieces
        assert stored.size == total(pieces)
        assert list(self.files.pieces(stored)) == located(pieces)
        assert self.files.store(pieces) == stored, "made in one go"
        if not pieces:
            assert stored == EMPTY
        elif len(pieces) == 1 and pieces[0].repeat == 1 and pieces[0].chunk != HOLE:
            assert (stored.form, stored.content) == (Form.CHUNK, pieces[0].chunk)
        else:
            self._nodes_hold(stored, pieces)

    def _nodes_hold(self, stored: Stored, pieces: list[Piece]) -> None:
        tree = written.build([row_of(piece) for piece in pieces], written.MANIFEST)
        assert (stored.form, stored.content) == (Form.MANIFEST, tree.root)
        for name, raw in tree.nodes.items():
            assert self.objects.get(Kind.MANIFEST, ObjectId(name)) == raw

    @invariant()
    def equal_contents_have_equal_ids_and_others_others(self) -> None:
        for one in self.named.values():
            for other in self.named.values():
                assert (one.stored == other.stored) == (one.pieces == other.pieces)

    def _levels(self, stored: Stored) -> int:
        if stored.form != Form.MANIFEST:
            return 1
        level: int = written.decode(self.objects.get(Kind.MANIFEST, ObjectId(stored.content)))[0]
        return level + 1


def test_manifests_are_what_the_format_says_whatever_is_done_to_them() -> None:
    run_state_machine_as_test(ManifestsMachine, settings=examples(50, steps=25))
