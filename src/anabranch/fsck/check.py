"""Looking for damage: each file by itself, then the walk over all that is named. Only reads, beside the owner too."""

from collections.abc import Iterator, Mapping

from anabranch.errors import DamagedError
from anabranch.fsck import rows, working
from anabranch.fsck.apart import apart
from anabranch.fsck.chunks import Confirmed, Far, Indexed, look_at_index, look_at_volume, look_for_places
from anabranch.fsck.findings import Finding, Report, Tally
from anabranch.fsck.walk import Walk
from anabranch.repo import Repository
from anabranch.store.layout import Layout
from anabranch.store.reindex import Progress
from anabranch.store.volumes import Volumes
from anabranch.worktree import checkpoint, journal

Item = Finding | Tally | Indexed | Confirmed | Far


def check(layout: Layout, progress: Progress, *, deep: bool, owned: bool) -> Report:
    """Look at all of a repository. `owned`: somebody may be changing its working trees meanwhile."""
    return _Check(layout, progress, deep=deep, owned=owned).run()


class _Check:
    def __init__(self, layout: Layout, progress: Progress, *, deep: bool, owned: bool) -> None:
        self._layout = layout
        self._progress = progress
        self._deep = deep
        self._owned = owned
        self._findings: list[Finding] = []
        self._tally = Tally()
        self._indexed: dict[int, int] = {}
        """Rows of the index by the volume that they lead to;"""
        self._confirmed: dict[int, int] = {}
        """and how many of these lead to a record."""

    def run(self) -> Report:
        layout, deep = self._layout, self._deep
        self._take(apart("meta.mdb", rows.look, layout, deep=deep))
        self._take(apart("journal", rows.look_at_journal, layout))
        self._volumes_and_index()
        known = {finding.thing.id: finding.what for finding in self._findings if finding.thing is not None}
        self._take(apart("history", look_at_history, layout, known, deep=deep, owned=self._owned))
        return Report(self._tally, _joined(self._findings))

    def _volumes_and_index(self) -> None:
        volumes = Volumes(self._layout.volumes, writable=False)
        numbers = volumes.numbers()
        total, before = sum(map(volumes.size, numbers)), 0
        for number in numbers:
            part = apart(f"volume {number}", look_at_volume, self._layout, number, deep=self._deep)
            self._take(part, number, before, total)
            before += volumes.size(number)
        # After the volumes: what comes meanwhile seems to lack its record, and is looked at again.
        self._take(apart("index.mdb", look_at_index, self._layout))
        for number in self._indexed.keys() - set(numbers):
            self._findings.append(Finding(f"volume {number}", "the volume is missing"))
        short = {number for number, there in self._indexed.items() if self._confirmed.get(number, 0) < there}
        if short:
            self._take(apart("volumes", look_for_places, self._layout, short))

    def _take(self, items: Iterator[Item], number: int = 0, before: int = 0, total: int = 0) -> None:
        for item in items:
            if isinstance(item, Finding):
                self._findings.append(item)
            elif isinstance(item, Tally):
                self._tally += item
            elif isinstance(item, Indexed):
                self._indexed = item.rows
            elif isinstance(item, Confirmed):
                self._confirmed[number] = item.rows
            else:
                self._progress(before + item.position, total)


def look_at_history(
    layout: Layout, known: Mapping[bytes, str], *, deep: bool, owned: bool
) -> Iterator[Finding | Tally]:
    """The walk, from every version, and from working trees that nobody is changing."""
    with Repository(layout.path) as repository:
        named, findings = working.look(repository) if not owned and _is_empty(repository) else ({}, [])
        yield from findings
        yield from Walk(repository, known, deep=deep).run(named)


def _is_empty(repository: Repository) -> bool:
    """Whether nothing of working trees is in the journal; one that cannot be read has its own look."""
    try:
        return not journal.read(repository.layout.journal, checkpoint.position(repository.meta)).records
    except DamagedError:
        return False


def _joined(findings: list[Finding]) -> list[Finding]:
    """One finding of each thing: where it was found first, with all that it takes with it."""
    joined: dict[object, Finding] = {}
    for number, finding in enumerate(findings):
        key = finding.thing.id if finding.thing is not None else number
        before = joined.get(key)
        if before is None:
            joined[key] = finding
        else:
            hits = [*before.hits, *finding.hits]
            joined[key] = Finding(before.where, before.what, before.thing, before.key, hits)
    return list(joined.values())
