"""What people and scripts read of a repository: status, log, diff, branches, tags; as text and as JSON values.

The command line and the control files print the same. Names that are not UTF-8 are shown escaped; JSON gives them
whole in `path_b64` too.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from anabranch.escape import show_json, show_line, show_name, show_path
from anabranch.ids import RefName, short
from anabranch.versions.diff import Change, ChangeKind
from anabranch.versions.objects import Entry, EntryKind, Form, Tag
from anabranch.versions.refs import Ref

if TYPE_CHECKING:  # who gives us such a thing has imported it; others would wait for it
    from anabranch.commit import Committed
    from anabranch.history import VersionName
    from anabranch.settings import Setting
    from anabranch.transfer.export import Exported
    from anabranch.transfer.intake import Imported
    from anabranch.worktree.restore import Restored

Json = dict[str, object]

LETTERS = {
    ChangeKind.ADDED: "A",
    ChangeKind.DELETED: "D",
    ChangeKind.RENAMED: "R",
    ChangeKind.MODIFIED: "M",
    ChangeKind.ATTRIBUTES: "a",
    ChangeKind.TYPE: "T",
}


WORDS = {ChangeKind.ATTRIBUTES: "attributes only", ChangeKind.TYPE: "of another type"}


def to_json(value: object) -> str:
    """One JSON document, indented, with a newline."""
    return show_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n"


def json_path(path: bytes) -> Json:
    """A path for scripts: the name itself; one that is not UTF-8 escaped as for people, and whole in `path_b64`."""
    return _named("path", path)


def _named(key: str, path: bytes) -> Json:
    try:
        return {key: path.decode()}
    except UnicodeDecodeError:
        return {key: show_path(path), f"{key}_b64": base64.b64encode(path).decode()}


def size(count: int) -> str:
    """A number of bytes for people: `512 B`, `1.2 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def moment(time_ns: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(time_ns: int) -> str:
    """A time for scripts, UTC, to the nanosecond."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"


def plural(count: int, word: str) -> str:
    """`1 file`, `3 files`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


# --- changes ---


def change_line(change: Change) -> str:
    """`M  data/flights.csv  1.2 MB -> 1.3 MB`, `R  raw.csv -> data/raw.csv  1.2 MB`."""
    paths = [change.path] if change.old_path is None else [change.old_path, change.path]
    path = " -> ".join(show_path(path) + ("/" if change.kind == EntryKind.DIRECTORY else "") for path in paths)
    old, new = change.old_size, change.new_size
    if change.change == ChangeKind.MODIFIED or (change.change == ChangeKind.TYPE and None not in (old, new)):
        sizes = f"  {size(old or 0)} -> {size(new or 0)}"
    else:
        known = new if new is not None else old
        sizes = "" if known is None else f"  {size(known)}"
    return f"{LETTERS[change.change]}  {path}{sizes}"


def change_json(change: Change) -> Json:
    """A change for scripts."""
    return {
        **json_path(change.path),
        **({} if change.old_path is None else _named("old_path", change.old_path)),
        "change": change.change,
        "kind": change.kind.name.lower(),
        "old_size": change.old_size,
        "new_size": change.new_size,
    }


def diff_text(changes: Iterable[Change], lines: Callable[[Change], Iterable[str]] = lambda _: ()) -> Iterator[str]:
    """One line a change, and below it, indented, the changed lines of its text, if they are asked for."""
    for change in changes:
        yield change_line(change) + "\n"
        for line in lines(change):
            yield f"    {show_line(line)}\n"


def names_text(changes: Iterable[Change]) -> Iterator[str]:
    """One path a line."""
    return (show_path(change.path) + "\n" for change in changes)


def stat_text(changes: Iterable[Change]) -> Iterator[str]:
    """`3 paths differ: 1 added, 2 modified; 1.2 MB -> 1.3 MB in them`."""
    counts: Counter[ChangeKind] = Counter()
    old = new = 0
    for change in changes:
        counts[change.change] += 1
        old, new = old + (change.old_size or 0), new + (change.new_size or 0)
    kinds = ", ".join(f"{counts[kind]} {WORDS.get(kind, kind)}" for kind in ChangeKind if counts[kind])
    total = counts.total()
    verb = "differs" if total == 1 else "differ"
    yield f"{plural(total, 'path')} {verb}" + (f": {kinds}; {size(old)} -> {size(new)} in all" if total else "") + "\n"


def diff_json(old: str, new: str, changes: Iterable[Change]) -> Json:
    """A diff for scripts."""
    return {"from": old, "to": new, "changes": [change_json(change) for change in changes]}


def status_text(base: VersionName, changes: list[Change], ignored: list[bytes] | None = None) -> str:
    """Where a branch stands, what is not committed, and if asked for, what is ignored."""
    return status_head(base, changes) + "".join(status_rest(changes, ignored))


def status_head(base: VersionName, changes: list[Change]) -> str:
    """A status before its changes."""
    head = f"On branch {show_name(str(base.name))}, version {_short(base)}\n"
    if not changes:
        return head + "Nothing to commit: the branch equals its last commit.\n"
    return head + f"Uncommitted: {plural(len(changes), 'change')}\n"


def status_rest(changes: list[Change], ignored: list[bytes] | None) -> Iterator[str]:
    """The lines of a status after its head."""
    yield from diff_text(changes)
    if ignored is not None:
        yield f"Ignored: {plural(len(ignored), 'path')}\n"
    yield from (f"I  {show_path(path)}\n" for path in ignored or ())


def status_json(base: VersionName, changes: list[Change], ignored: list[bytes] | None = None) -> Json:
    """A status for scripts."""
    status: Json = {
        "branch": base.name,
        "base": version_json(base),
        "clean": not changes,
        "changes": [*map(change_json, changes)],
    }
    return status if ignored is None else {**status, "ignored": [*map(json_path, ignored)]}


# --- settings ---


def settings_text(settings: Iterable[Setting]) -> str:
    """`compression     1    (default)`: one line a key, the values in a column."""
    return "".join(
        f"{each.key:<16}{show_path(str(each.value).encode())}{'  (default)' * each.is_default}\n" for each in settings
    )


def setting_json(setting: Setting) -> Json:
    """A setting for scripts."""
    return {"key": setting.key, "value": setting.value, "default": setting.is_default}


def settings_json(settings: Iterable[Setting]) -> list[Json]:
    """All settings for scripts."""
    return [*map(setting_json, settings)]


# --- versions ---


def version_line(version: VersionName) -> str:
    """`main@12  3f9ac2e1  2026-11-20 10:00:00 UTC  ann  the first line of the message`."""
    commit = version.commit
    message = (commit.message or "(empty)").partition("\n")[0]
    when, author = moment(version.time_ns), commit.author or "-"
    return f"{_short(version, '  ')}  {when}  {show_name(author)}  {show_name(message)}"


def _short(version: VersionName, gap: str = " ") -> str:
    return f"{show_name(str(version))}{gap}{short(version.id)}"


def version_json(version: VersionName) -> Json:
    """A version for scripts."""
    commit = version.commit
    return {
        "version": str(version),
        "name": version.name,
        "number": version.number,
        "id": version.id.hex(),
        "parents": [parent.hex() for parent in commit.parents],
        "author": commit.author,
        "time": iso(version.time_ns),
        "message": commit.message,
        "metadata": commit.metadata,
    }


def shown_text(version: VersionName) -> str:
    """The head of a version, before its changes."""
    commit = version.commit
    lines = [
        f"{version}  {version.id.hex()}",
        *(f"Parent:  {parent.hex()}" for parent in commit.parents),
        f"Author:  {commit.author or '-'}",
        f"Date:    {moment(version.time_ns)}",
        *(f"{key}: {value}" for key, value in commit.metadata.items()),
        "",
        *(f"    {line}" for line in (commit.message or "(empty)").split("\n")),
        "",
    ]
    return "".join(show_name(line) + "\n" for line in lines)


def shown_json(version: VersionName, changes: Iterable[Change]) -> Json:
    """A version with its changes, for scripts."""
    return {**version_json(version), "changes": [*map(change_json, changes)]}


def log_text(versions: Iterable[VersionName]) -> str:
    """One line a version, newest first."""
    return "".join(version_line(version) + "\n" for version in versions)


def log_json(versions: Iterable[VersionName]) -> list[Json]:
    """A log for scripts."""
    return [version_json(version) for version in versions]


def committed_text(done: Committed) -> str:
    """`main@12 3f9ac2e1  3 files changed, 1.2 MB new`."""
    version = f"{show_name(done.branch)}@{done.number} {short(done.id)}"
    return f"{version}  {plural(done.files, 'file')} changed, {size(done.added)} new\n"


def committed_json(done: Committed) -> Json:
    """A commit's result for scripts."""
    return {
        "version": f"{done.branch}@{done.number}", "branch": done.branch, "number": done.number, "id": done.id.hex(),
        "files": done.files, "added_bytes": done.added,
    }  # fmt: skip


def restored_text(branch: RefName, source: VersionName, done: Restored) -> str:
    """`main restored from main@12 3f9ac2e1  3 files put back, 1 name taken away`."""
    return (
        f"{show_name(branch)} restored from {_short(source)}  {plural(done.files, 'file')} put back,"
        f" {plural(done.removed, 'name')} taken away\n"
    )


def restored_json(branch: RefName, source: VersionName, done: Restored) -> Json:
    """A restore's result for scripts."""
    return {"branch": branch, "from": version_json(source), "files": done.files, "removed": done.removed}


def imported_text(branch: RefName, place: bytes, done: Imported, restored: Restored) -> str:
    """`12 files, 1.2 MB, imported to main:raw  3 changed, 1 name taken away`."""
    failed = f"; {plural(done.left_out, 'path')} ignored" if done.left_out else ""
    failed += f"; {plural(len(done.failed), 'path')} could not be read" if done.failed else ""
    return (
        f"{plural(done.files, 'file')}, {size(done.size)}, {size(done.added)} new, imported to"
        f" {branch}:{show_path(place)}"
        f"  {restored.files} changed, {plural(restored.removed, 'name')} taken away{failed}\n"
    )


def imported_json(
    branch: RefName, place: bytes, done: Imported, restored: Restored, committed: Committed | None
) -> Json:
    """An import's result for scripts."""
    failed = [{**json_path(path), "error": why} for path, why in done.failed]
    return {
        "branch": branch, "to": json_path(place), "files": done.files, "bytes": done.size, "changed": restored.files,
        "removed": restored.removed, "ignored": done.left_out, "failed": failed,
        "commit": committed and committed_json(committed),
    }  # fmt: skip


def exported_text(place: str, done: Exported) -> str:
    """`12 files, 1.2 MB, are in /tmp/flights`."""
    failed = f"; {plural(len(done.failed), 'path')} could not be written" if done.failed else ""
    return f"{plural(done.files, 'file')}, {size(done.size)}, written to {show_name(place)}{failed}\n"


def exported_json(place: str, done: Exported) -> Json:
    """An export's result for scripts."""
    failed = [{**json_path(path), "error": why} for path, why in done.failed]
    return {"to": place, "files": done.files, "bytes": done.size, "failed": failed}


# --- names ---


def refs_text(refs: Iterable[Ref], current: RefName | None = None) -> str:
    """One name a line, with a star at the current one."""
    return "".join(f"{'*' if ref.name == current else ' '} {ref_line(ref)}\n" for ref in refs)


def ref_line(ref: Ref) -> str:
    """`main@12  3f9ac2e1`, or `v1.0  3f9ac2e1` of a tag."""
    name = show_name(ref.name)
    return f"{name if ref.is_tag else f'{name}@{ref.number}'}  {short(ref.commit)}"


def deleted_json(ref: Ref) -> Json:
    """A branch or tag that was deleted, for scripts."""
    return {"deleted": ref_json(ref)}


def deleted_line(ref: Ref) -> str:
    """`deleted exp, which was exp@3  3f9ac2e1; to bring it back: ana branch --restore exp`."""
    name = show_name(ref.name)
    back = f"ana tag {name} @{short(ref.commit)}" if ref.is_tag else f"ana branch --restore {name}"
    return f"deleted {name}, which was {ref_line(ref)}; to bring it back: {back}\n"


def ref_json(ref: Ref) -> Json:
    """A branch or tag for scripts."""
    return {"name": ref.name, "number": None if ref.is_tag else ref.number, "id": ref.commit.hex()}


def branches_json(refs: Iterable[Ref], current: RefName) -> list[Json]:
    """Branches for scripts."""
    return [{**ref_json(ref), "current": ref.name == current} for ref in refs]


def tags_json(refs: Iterable[Ref]) -> list[Json]:
    """Tags for scripts."""
    return [*map(ref_json, refs)]


def usage_text(path: bytes, entry: Entry, rows: list[tuple[bytes, Entry]]) -> Iterator[str]:
    """Size, number of files, name: of each child, and of all."""
    named = [*((show_path(name) + ("/" if _is_directory(row) else ""), row) for name, row in rows)]
    named.append((show_path(path) or ".", entry))
    return (f"{size(row.size):>10}  {plural(_files(row), 'file'):>12}  {name}\n" for name, row in named)


def usage_json(path: bytes, entry: Entry, rows: list[tuple[bytes, Entry]]) -> Json:
    """The same for scripts."""
    children = [{**json_path(name), "bytes": row.size, "files": _files(row)} for name, row in rows]
    return {**json_path(path), "bytes": entry.size, "files": _files(entry), "children": children}


def _is_directory(entry: Entry) -> bool:
    return entry.kind == EntryKind.DIRECTORY


def _files(entry: Entry) -> int:
    return entry.tag(Tag.FILES) if _is_directory(entry) else 1


def entry_line(name: bytes, entry: Entry) -> str:
    """A line of `ana ls`: mode, size, time, name."""
    kinds = {EntryKind.DIRECTORY: "d", EntryKind.SYMLINK: "l", EntryKind.FILE: "-"}
    kind = kinds.get(entry.kind, "?")
    slash = "/" if entry.kind == EntryKind.DIRECTORY else ""
    return f"{kind}{entry.mode:04o}  {size(entry.size):>10}  {moment(entry.mtime_ns)}  {show_path(name)}{slash}"


def entry_json(name: bytes, entry: Entry, attributes: Iterable[bytes]) -> Json:
    """An entry for scripts, with the names of its extended attributes."""
    return {
        **json_path(name), "kind": entry.kind.name.lower(), "mode": f"{entry.mode:04o}", "uid": entry.uid,
        "gid": entry.gid, "size": entry.size, "mtime": iso(entry.mtime_ns), "content_id": _content_id(entry),
        "xattrs": [attribute.decode(errors="backslashreplace") for attribute in attributes],
    }  # fmt: skip


def _content_id(entry: Entry) -> str | None:
    """The id of a file's chunk or manifest, or of a directory's tree: equal ones hold the same. None of small files."""
    named = entry.kind is EntryKind.DIRECTORY or (entry.kind is EntryKind.FILE and entry.form >= Form.CHUNK)
    return entry.content.hex() if named else None
