"""Looking at every row of `meta.mdb`, and at the journal. Only reads, beside the owner too."""

from collections.abc import Iterator

from anabranch.errors import DamagedError, UsageError
from anabranch.fsck.affected import Affected
from anabranch.fsck.findings import Finding, Sort, Tally, Thing
from anabranch.ids import ref_name
from anabranch.store.env import Environment, View
from anabranch.store.layout import Layout
from anabranch.store.meta import LOGS, OBJECTS, REFS, TABLES, check_row
from anabranch.store.records import Kind, holds
from anabranch.versions.refs import check_ref, find_ref, last_number, log_name, read_row
from anabranch.worktree import checkpoint, journal

SORTS = {Kind.COMMIT: Sort.COMMIT, Kind.TREE: Sort.TREE, Kind.MANIFEST: Sort.MANIFEST, Kind.XATTRS: Sort.XATTRS}
"""A node of a link tree is a tree, as far as its record tells."""
_TRIES = 3
"""Looks at a journal that its owner may be shortening."""


def look(layout: Layout, *, deep: bool) -> Iterator[Finding | Tally]:
    """All tables of meta.mdb, each in one transaction; then refs against logs."""
    meta = Environment(layout.meta, TABLES, writable=False, create=False)
    try:
        for table in TABLES:
            yield from _table(meta, table, deep=deep)
        with meta.view() as view:
            yield from _names(view)
    finally:
        meta.close()


def _table(meta: Environment, table: str, *, deep: bool) -> Iterator[Finding | Tally]:
    found = expected = 0
    affected = Affected(meta)
    try:
        with meta.view() as view:
            expected = view.count(table)
            for key, value in view.scan(table):
                found += 1
                if (why := trouble(table, key, value, deep=deep)) is not None:
                    yield Finding(table, why, thing_of(table, key, value), key, affected.hits(table, key))
    except DamagedError as error:
        yield Finding(table, f"{error.message}; {expected - found} of {expected} rows come after it")
    else:
        if found != expected:
            yield Finding(table, f"{expected - found} of {expected} rows are lost")
    yield Tally(rows=found)


def trouble(table: str, key: bytes, value: bytes, *, deep: bool) -> str | None:
    """What is wrong with a row by itself."""
    try:
        check_row(table, key, value)
        if deep and table == OBJECTS and not holds(key, value):
            return f"object {key.hex()} holds other bytes than its id says"
    except DamagedError as error:
        return error.message
    return None


def thing_of(table: str, key: bytes, value: bytes) -> Thing | None:
    """The object of a row, if it is one; what a damaged record says of its kind may be wrong."""
    if table != OBJECTS:
        return None
    return Thing(next((sort for kind, sort in SORTS.items() if value[1:2] == bytes([kind])), Sort.TREE), key)


def _names(view: View) -> Iterator[Finding]:
    """Each log from its start, and each ref against its log."""
    stored = {log_name(key) for key, _ in view.scan(LOGS)} | {key for key, _ in view.scan(REFS)}
    for raw in sorted(stored):
        try:
            name = ref_name(raw.decode())
        except (UnicodeDecodeError, UsageError):
            yield Finding(LOGS, f"a name is {raw!r}")
            continue
        try:
            for number in range(last_number(view, name) + 1):
                read_row(view, name, number)
            check_ref(view, name, find_ref(view, name))
        except DamagedError as error:
            yield Finding(LOGS, error.message)


def look_at_journal(layout: Layout) -> Iterator[Finding | Tally]:
    """What the journal holds beyond meta.mdb. Its owner may be writing to it, and taking it in."""
    meta = Environment(layout.meta, TABLES, writable=False, create=False)
    try:
        for tries_left in reversed(range(_TRIES)):
            try:
                found = journal.read(layout.journal, checkpoint.position(meta))
            except (DamagedError, FileNotFoundError) as error:
                if not tries_left and layout.journal.exists():
                    yield Finding("journal", str(error))
            else:
                yield Tally(rows=sum(map(len, found.records)))
                return
    finally:
        meta.close()
