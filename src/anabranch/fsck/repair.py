"""Mending what can be mended, and listing what cannot. Only for the owner, with nothing of the repository open.

Copies of what is named by its content are as good as ours from wherever they are: their hash is computed first. What
is replaced of meta.mdb and the journal is kept in `damaged/`; volumes only get more.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError
from anabranch.fsck import bits
from anabranch.fsck.apart import apart
from anabranch.fsck.check import check
from anabranch.fsck.findings import Finding, Report, Sort
from anabranch.fsck.salvage import Salvage
from anabranch.ids import ID_SIZE, ObjectId
from anabranch.store import daily, private, reindex
from anabranch.store.arrival import settle
from anabranch.store.chunks import ChunkStore
from anabranch.store.env import Environment
from anabranch.store.index import Index
from anabranch.store.layout import Layout, sync_directory
from anabranch.store.meta import TABLES
from anabranch.store.records import Kind, frame, object_id
from anabranch.store.reindex import Progress
from anabranch.store.replace import replace
from anabranch.store.volumes import Place, Volumes
from anabranch.worktree import checkpoint, journal

_TURNED_BACK = 64
"""Chunks in which a flipped bit is looked for: in a large one that takes a minute."""
_META = ("objects", "refs", "logs", "worktrees", "nodes", "names", "numbers", "settings", "meta.mdb", "history")
"""Where a finding is that the meta file is written anew for."""
Said = tuple[bool, str]
"""What was mended, or with False what is lost."""


class Mended(msgspec.Struct, frozen=True):
    """What became of it; each a line."""

    mended: Sequence[str]
    lost: Sequence[str]


def repair(layout: Layout, source: Path | None, progress: Progress, *, deep: bool) -> tuple[Report, Mended]:
    """Mend until nothing more can be, and look again; `source` is another repository, a backup, to take copies from.

    What was mended may name what is damaged, too. Returns what is still damaged, and what was done.
    """
    settle(layout)
    said: list[Said] = []
    rebuilt = False
    while True:
        report = check(layout, progress, deep=deep, owned=False)
        done = list(_at_rest(layout, report, source))
        if not rebuilt and any(map(_is_of_index, report.findings)):
            rebuilt = True
            done += _index(layout, progress)
        else:
            done += _chunks(layout, report, source)
        if set(done) <= set(said):  # nothing, or nothing that was not tried before
            return report, Mended([line for good, line in said if good], [line for good, line in said if not good])
        said += done


def _at_rest(layout: Layout, report: Report, source: Path | None) -> Iterator[Said]:
    found = report.findings
    if any(finding.where in _META and not _is_chunk(finding) for finding in found):
        yield from _meta(layout, [] if source is None else [Layout(source).meta])
    if any(finding.where == "journal" for finding in found):
        yield from _journal(layout)


def _is_chunk(finding: Finding) -> bool:
    return finding.thing is not None and finding.thing.sort is Sort.CHUNK


def _is_of_index(finding: Finding) -> bool:
    """A chunk that the index does not have may still be in a volume."""
    return finding.where == "index.mdb" or (finding.where == "history" and _is_chunk(finding))


# --- meta.mdb ---


def _meta(layout: Layout, others: list[Path]) -> Iterator[Said]:
    """In a process of its own, since the old file may end who reads it; then once more, without that."""
    copies = [*daily.copies(layout), *others]
    for use_own in (True, False):
        said = list(apart("meta.mdb", salvage, layout, copies, use_own=use_own))
        if not any(isinstance(item, Finding) for item in said):
            break
    else:
        yield from ((False, item.what) for item in said if isinstance(item, Finding))
        return
    _set_aside(layout, layout.meta)
    replace(layout.meta)
    yield from (item for item in said if not isinstance(item, Finding))


def salvage(layout: Layout, copies: Sequence[Path], *, use_own: bool) -> Iterator[Said]:
    """Write meta.mdb.new, and say what became of it."""
    work = Salvage(layout, copies, use_own=use_own)
    work.run()
    yield from ((True, line) for line in work.mended)
    yield from ((False, line) for line in work.lost)


def _set_aside(layout: Layout, file: Path) -> None:
    """Keep a file that will be replaced, or is taken away."""
    private.make_directory(layout.aside)
    number = len(list(layout.aside.iterdir()))
    if file.is_dir():
        copy = shutil.copytree(file, layout.aside / f"{number}-{file.name}")
        for each in copy.iterdir():
            with each.open("rb") as opened:
                os.fsync(opened.fileno())
        sync_directory(copy)
    else:
        with suppress(FileNotFoundError):
            os.link(file, layout.aside / f"{number}-{file.name}")
    sync_directory(layout.aside)


# --- the journal ---


def _journal(layout: Layout) -> Iterator[Said]:
    try:
        meta = Environment(layout.meta, TABLES, writable=False, create=False)
    except DamagedError:  # which records count, it would say
        return
    try:
        first = checkpoint.position(meta)
    finally:
        meta.close()
    _set_aside(layout, layout.journal)
    for _ in range(_TURNED_BACK):
        try:
            journal.read(layout.journal, first)
            return
        except journal.BrokenJournalError as error:
            if error.path is not None and _turn_back(error.path, error.position, error.number):
                yield True, f"journal: a flipped bit was turned back in record {error.number}"
                continue
            journal.rewrite(layout.journal, first, error.before)
            yield False, f"journal: uncommitted changes from record {error.number} on are given up"
            return


def _turn_back(path: Path, position: int, number: int) -> bool:
    data = path.read_bytes()
    end = journal.end_of(data, position, number)
    stretch = data[position:end]
    if len(stretch) > journal.MENDABLE:
        return False
    mended = bits.turned_back(stretch, lambda tried: journal.is_record(tried, number))
    if mended is not None:
        journal.replace_file(path, data[:position] + mended + data[position + len(stretch) :])
    return mended is not None


# --- chunks ---


def _index(layout: Layout, progress: Progress) -> Iterator[Said]:
    rebuilt = reindex.rebuild(layout.path, progress)
    yield True, f"index.mdb: rebuilt, with {rebuilt.chunks} chunks"


def _chunks(layout: Layout, report: Report, source: Path | None) -> Iterator[Said]:
    things = [finding.thing for finding in report.findings if finding.thing is not None and _is_chunk(finding)]
    if not things:
        return
    others = None if source is None else ChunkStore(source, writable=False)
    volumes, index = Volumes(layout.volumes, writable=True), Index(layout.path, writable=True, create=False)
    tries = _TURNED_BACK
    try:
        for identity in map(ObjectId, (thing.id for thing in things)):
            how, record = "had from a copy", _copied(others, identity)
            if record is None and tries and (stored := _stored(volumes, index, identity)) is not None:
                tries -= 1
                how, record = "right again: a flipped bit was turned back", bits.turned_back(stored, bits.is_chunk)
            if record is None or record[:ID_SIZE] != identity:
                if index.delete(identity):
                    yield False, f"chunk {identity.hex()}, until the same content is stored again"
                continue
            index.put([(identity, volumes.append([record])[0])])
            yield True, f"chunk {identity.hex()} is {how}"
    finally:
        index.close()
        volumes.close()
        if others is not None:
            others.close()


def _copied(others: ChunkStore | None, identity: ObjectId) -> bytes | None:
    if others is None:
        return None
    with suppress(DamagedError):
        raw = others.get(identity)
        if object_id(Kind.CHUNK, raw) == identity:
            return identity + frame(Kind.CHUNK, identity, raw)
    return None


def _stored(volumes: Volumes, index: Index, identity: ObjectId) -> bytes | None:
    """What lies where a chunk should be."""
    with suppress(DamagedError):
        place: Place | None = index.get(identity)
        return None if place is None else volumes.read(place)
    return None
