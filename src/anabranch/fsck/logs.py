"""Logs put together again from rows that were found anywhere: each row names the one before by its hash. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from anabranch.ids import ObjectId
from anabranch.store.records import Kind, object_id
from anabranch.versions.objects import Commit
from anabranch.versions.refs import LOG_ROW, LogRow, Operation, RefRow

Places = Mapping[bytes, Mapping[int, bytes]]
"""Rows, unsealed, by name and number."""


def chained(places: Iterable[Places], refs: Mapping[bytes, RefRow]) -> dict[bytes, list[bytes]]:
    """The logs that the rows of several repositories make, by name; the rows of the first are preferred.

    A row that lies at a wrong place is found by the row that it follows. A log has the name under which most of its
    rows lie; of a single row, that with a ref where this log ends.
    """
    following: dict[bytes, list[bytes]] = defaultdict(list)
    names: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for rows in places:
        for name, numbered in rows.items():
            for raw in numbered.values():
                following[LOG_ROW.decode(raw).previous].append(raw)
                names[raw][name] += 1
    found: dict[bytes, list[bytes]] = {}
    for first in dict.fromkeys(following.pop(b"", [])):
        log = _chain(first, following)
        votes = sum((names[raw] for raw in log), Counter[bytes]())
        votes.update(name for name, ref in refs.items() if ref == ref_of(log))
        (name, _), *_ = votes.most_common(1)
        found.setdefault(name, log)
    return found


def _chain(first: bytes, following: Mapping[bytes, list[bytes]]) -> list[bytes]:
    chain = [first]
    while after := following.get(object_id(Kind.ROW, chain[-1])):
        chain.append(after[0])
    return chain


def completed(
    log: Sequence[bytes], rows: Mapping[int, bytes], ref: RefRow | None, commit_at: Callable[[bytes], Commit | None]
) -> list[bytes]:
    """A log that goes on over rows that are lost, as far as the rest tells which commits they were.

    That is what the ref says of the newest one, and of the others the commit after each. Numbers keep their meaning;
    the chain begins anew at the first of them. A row that was lost has the author and the time of its commit.
    """
    done = list(log)
    for number in range(len(log), 1 + (max(rows, default=-1) if ref is None else ref.number)):
        raw = rows.get(number)
        row = _lost_row(number, rows, ref, commit_at) if raw is None else LOG_ROW.decode(raw)
        if row is None or raw in done:  # a row that lay at a wrong place has been found
            break
        if done:
            earliest = LOG_ROW.decode(done[-1]).time_ns + 1
            previous = object_id(Kind.ROW, done[-1])
            row = msgspec.structs.replace(row, previous=previous, time_ns=max(row.time_ns, earliest))
        done.append(LOG_ROW.encode(row))
    return done


def _lost_row(
    number: int, rows: Mapping[int, bytes], ref: RefRow | None, commit_at: Callable[[bytes], Commit | None]
) -> LogRow | None:
    identity = ref.commit if ref is not None and ref.number == number else None
    if identity is None and (after := rows.get(number + 1)) is not None:
        identity = _before(LOG_ROW.decode(after), commit_at)
    commit = None if identity is None else commit_at(identity)
    if identity is None or commit is None:
        return None
    operation = Operation.COMMIT if number else Operation.TAG if ref is not None and ref.is_tag else Operation.BIRTH
    return LogRow(operation, identity, commit.author, "repair", commit.time_ns, commit.time_ns, b"")


def _before(after: LogRow, commit_at: Callable[[bytes], Commit | None]) -> bytes | None:
    """The commit at which a name stood before a row, as far as that tells: a reset comes from anywhere."""
    if after.ends:
        return after.commit
    commit = None if after.operation == Operation.RESET else commit_at(after.commit)
    return commit.parents[0] if commit is not None and commit.parents else None


def ref_of(log: list[bytes]) -> RefRow | None:
    """The ref of a name with this log; None if it was given up."""
    rows = [LOG_ROW.decode(raw) for raw in log]
    if rows[-1].ends:
        return None
    is_tag = next((row.operation == Operation.TAG for row in reversed(rows) if row.operation in _BIRTHS), False)
    return RefRow(is_tag, len(rows) - 1, ObjectId(rows[-1].commit))


_BIRTHS = (Operation.BIRTH, Operation.TAG)
