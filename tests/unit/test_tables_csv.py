"""CSV tables, compared and merged row by row, against the model of tests/tables.py."""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from anabranch.tables.merge import merge
from anabranch.tables.rows import Cell, ChangedRow, compare
from tests.tables import Plain, compared, merged, need_duckdb, plain, surplus
from tests.unit.helpers import examples

need_duckdb()

VALUES = st.one_of(
    st.none(), st.text(alphabet="a0,;\"\n\r\t |\\é'#", max_size=4), st.sampled_from(["007", "NULL", "1e3", "née"])
)
KEYS = st.one_of(st.none(), st.sampled_from(["1", "01", "001", "", "a,b", '"', "x\ny"]))


@dataclass(frozen=True)
class Style:
    """How a file is written."""

    delimiter: str
    newline: str
    always: bool
    ends: bool
    packed: bool

    def text(self, table: Plain) -> bytes:
        lines = [self.delimiter.join(map(self._value, row)) for row in (table.header, *table.rows)]
        text = (self.newline.join(lines) + self.newline * self.ends).encode()
        return gzip.compress(text, mtime=0) if self.packed else text

    def _value(self, value: str | None) -> str:
        if value is None:
            return ""
        if not (self.always or value == "" or any(sign in value for sign in f'{self.delimiter}"\r\n')):
            return value
        return '"' + value.replace('"', '""') + '"'

    @property
    def name(self) -> str:
        return "table.csv.gz" if self.packed else "table.csv"


STYLES = st.builds(
    Style, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.booleans()
)


@st.composite
def tables(draw: st.DrawFn, header: tuple[str, ...] = ("id", "a", "b")) -> Plain:
    """Rows with keys of their own."""
    keys = draw(st.lists(KEYS, unique=True, max_size=6))
    return Plain(header, tuple((key, *(draw(VALUES) for _ in header[1:])) for key in keys))


@st.composite
def kindred(draw: st.DrawFn, base: Plain) -> Plain:
    """A table that came from another one: some rows changed, some gone, some new, in another order perhaps."""
    rows = {row[0]: row for row in base.rows}
    rows |= {row[0]: row for row in draw(tables(base.header)).rows if draw(st.booleans())}
    kept = [row for row in rows.values() if draw(st.integers(0, 3))]
    return Plain(base.header, tuple(draw(st.permutations(kept)) if draw(st.booleans()) else kept))


@contextmanager
def written(*files: tuple[str, Style, Plain]) -> Iterator[list[Path]]:
    """Files in a new folder, each in a folder of its own, and a path for one more."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name, style.name) for name, style, _ in files]
        for path, (_, style, table) in zip(paths, files, strict=True):
            path.parent.mkdir()
            path.write_bytes(style.text(table))
        yield [*paths, Path(folder, "out.csv")]


@examples(60)
@given(st.data(), STYLES, STYLES)
def test_a_comparison_by_key_is_that_of_the_model(data: st.DataObject, one: Style, two: Style):
    old = data.draw(tables())
    new = data.draw(kindred(old))
    if data.draw(st.booleans()):
        new = Plain(("more", "b", "id"), tuple((None, row[2], row[0]) for row in new.rows))
    with written(("old", one, old), ("new", two, new)) as (before, after, _):
        found = compare(before, after, ["id"], sample=3)
    added, removed, changed = compared(old, new, ("id",))
    assert (found.old_rows, found.new_rows) == (len(old.rows), len(new.rows))
    assert (found.added.count, found.removed.count, found.changed) == (len(added), len(removed), len(changed))
    assert found.added.shown == tuple(new.by(("id",))[key] for key in added[:3])
    assert found.removed.shown == tuple(old.by(("id",))[key] for key in removed[:3])
    assert found.changed_rows == tuple(cells(old, new, key[0]) for key in changed[:3])


def cells(old: Plain, new: Plain, key: str | None) -> ChangedRow:
    """What changed in a row."""
    before, after = (dict(zip(side.header, side.by(("id",))[(key,)], strict=True)) for side in (old, new))
    common = [name for name in new.header if name in old.header]
    return ChangedRow(
        (key,), tuple(Cell(name, before[name], after[name]) for name in common if before[name] != after[name])
    )


@examples(40)
@given(st.data(), STYLES, STYLES)
def test_without_a_key_rows_are_a_multiset(data: st.DataObject, one: Style, two: Style):
    rows = st.lists(st.tuples(st.sampled_from(["1", None, ""]), st.sampled_from(["x", "y"])), max_size=7)
    old, new = (Plain(("id", "a"), tuple(data.draw(rows))) for _ in range(2))
    with written(("old", one, old), ("new", two, new)) as (before, after, _):
        found = compare(before, after, sample=100)
    assert (found.added.count, found.removed.count, found.changed) == (surplus(new, old), surplus(old, new), 0)
    assert len(found.added.shown) == found.added.count
    whole = Plain(old.header, (*old.rows, *found.added.shown))
    assert surplus(Plain(old.header, (*new.rows, *found.removed.shown)), whole) == 0
    assert surplus(whole, Plain(old.header, (*new.rows, *found.removed.shown))) == 0


@examples(80)
@given(st.data(), st.lists(STYLES, min_size=3, max_size=3), st.booleans())
def test_a_merge_is_that_of_the_model(data: st.DataObject, styles: list[Style], alike: bool):
    base = data.draw(tables())
    ours, theirs = data.draw(kindred(base)), data.draw(kindred(base))
    if data.draw(st.booleans()):
        theirs = theirs.only(("b", "id", "a"))
    style = styles[1]
    names = zip(("base", "ours", "theirs"), [style] * 3 if alike else styles, (base, ours, theirs), strict=True)
    with written(*names) as (first, second, third, out):
        done = merge(first, second, third, ["id"], out)
        text = out.read_bytes() if out.exists() else None
        rest = [path.name for path in out.parent.iterdir()]
    assert sorted(rest) == ["base", "ours", *(["out.csv"] if text is not None else []), "theirs"]
    rows, conflicts = merged(base, ours, theirs, ("id",))
    assert done.conflicts == len(conflicts)
    assert {plain(conflict.key) for conflict in done.listed} == conflicts
    for conflict in done.listed:
        told = [conflict.base, conflict.ours, conflict.theirs]
        assert told == [side.only(base.header).by(("id",)).get(conflict.key) for side in (base, ours, theirs)]
    if conflicts:
        assert text is None
        return
    assert done.rows == len(rows)
    assert len(rows) == len(ours.rows) + done.added - done.removed
    assert text is not None
    expected = style.text(Plain(base.header, tuple(rows)))
    if alike and theirs.header == base.header and (ours.rows or style.ends):  # else nothing tells how ours ends a line
        unpacked = [gzip.decompress(each) if style.packed else each for each in (text, expected)]
        assert unpacked[0].rstrip(b"\r\n") == unpacked[1].rstrip(b"\r\n")
    else:
        again = written(("ours", style, Plain(base.header, tuple(rows))), ("merged", style, base))
        with again as (wanted, got, _):
            got.write_bytes(text)
            assert not compare(wanted, got)
