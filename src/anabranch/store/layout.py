"""The folder of a repository: its files, and the record that says what format they have.

The record is read before anything else is opened. A format or an incompatible feature that this version does not know
is refused; an unknown read-only feature allows reading. docs/format.md, "Repository".
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError, DeniedError, ExistsError, FormatError, NotFoundError, UsageError
from anabranch.store import private
from anabranch.store.chunker import CHUNKER_ID

FORMAT = 1
XATTR = "xattr"
"""The read-only feature of a repository that may hold extended attributes: who does not know them would drop them."""
_KNOWN = frozenset((XATTR,))
RECORD = "anabranch.json"
_RECORD_MAX = 64 * 1024
"""Bytes of a repository record."""
OTHERS = "it is its owner's alone; where it is mounted with --allow-other, others have the control files in .ana"
"""For whoever may not."""
_OWN = ("anabranch.", "meta.mdb", "index.mdb", "lock", "reserve", "daemon.log")
"""How names of the repository's own files begin,"""
_OWN_DIRECTORIES = frozenset(("volumes", "overlays", "journal", "daily", "damaged", "incoming", "arrived"))
"""and what is a directory."""


class RepositoryRecord(msgspec.Struct, frozen=True):
    """What a repository is; JSON, for people to read."""

    format: int
    id: str
    """128 random bits in hexadecimal."""
    chunker: str
    incompatible: list[str]
    """Features that a version must know to touch the repository at all."""
    read_only: list[str]
    """Features that a version must know to write."""
    ignorable: list[str]
    """Features that a version need not know."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a repository."""

    path: Path

    @property
    def record(self) -> Path:
        """The repository record."""
        return self.path / RECORD

    @property
    def meta(self) -> Path:
        """The meta environment."""
        return self.path / "meta.mdb"

    @property
    def index(self) -> Path:
        """The index of the chunks."""
        return self.path / "index.mdb"

    @property
    def volumes(self) -> Path:
        """The directory of the chunks."""
        return self.path / "volumes"

    @property
    def overlays(self) -> Path:
        """The directory of the overlay files."""
        return self.path / "overlays"

    @property
    def journal(self) -> Path:
        """The directory of the journal."""
        return self.path / "journal"

    @property
    def daily(self) -> Path:
        """The directory of the daily copies of the meta environment."""
        return self.path / "daily"

    @property
    def incoming(self) -> Path:
        """Where what comes into a backup is gathered,"""
        return self.path / "incoming"

    @property
    def arrived(self) -> Path:
        """And what it is called when all of it is there."""
        return self.path / "arrived"

    @property
    def aside(self) -> Path:
        """The directory of what a repair has replaced."""
        return self.path / "damaged"

    @property
    def reserve(self) -> Path:
        """Holds room on the disk for what must go on when it is full."""
        return self.path / "reserve"

    @property
    def lock(self) -> Path:
        """Says who may write; what is locked is the folder."""
        return self.path / "lock"

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.path / "socket"

    @property
    def log(self) -> Path:
        """What the daemon has to say."""
        return self.path / "daemon.log"


def create(path: Path) -> Layout:
    """Make the folder and its record. Raises ExistsError, UsageError, DeniedError."""
    check_path(path)
    layout = Layout(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        private.make_directory(path)
        if layout.record.exists():
            raise ExistsError(f"{path} is a repository already")
        if any(path.iterdir()):
            raise UsageError(f"{path} is not empty", hint="a repository wants a folder of its own")
        path.chmod(0o700)
        private.make_directory(layout.overlays)
        private.make_directory(layout.volumes)
        private.make_directory(layout.daily)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is not a folder") from None
    except PermissionError as error:
        raise DeniedError(f"cannot make {path}: {error.strerror}") from error
    return layout


def check_path(path: Path) -> None:
    """Raises UsageError for a path that is no text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the path {path} is not UTF-8", hint="put the repository elsewhere") from None


def write_record(layout: Layout) -> None:
    """The last step of making a repository: from here on it is one."""
    write_json(layout.record, RepositoryRecord(FORMAT, os.urandom(16).hex(), CHUNKER_ID, [], [], []))


def read_record(layout: Layout) -> RepositoryRecord:
    """The record of a repository that `check` has let pass."""
    return msgspec.json.decode(layout.record.read_bytes(), type=RepositoryRecord)


def identity(path: Path) -> str:
    """The id of a repository. Raises as `check` does."""
    return read_record(check(path, writable=False)).id


def demand(layout: Layout, feature: str) -> None:
    """Let only programs that know a feature write from now on; durable when it returns. For the owner alone."""
    record = read_record(layout)
    if feature not in record.read_only:
        write_json(layout.record, msgspec.structs.replace(record, read_only=[*record.read_only, feature]))


def write_json(path: Path, content: msgspec.Struct) -> None:
    """Have a file hold this, for people to read; durable when it returns, and never half of it."""
    temporary = path.with_suffix(".new")
    with os.fdopen(private.open_file(temporary, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was renamed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(path: Path, *, writable: bool) -> Layout:
    """The layout of an existing repository of a format that we know.

    Raises NotFoundError, UsageError, DeniedError, FormatError, DamagedError.
    """
    check_path(path)
    layout = Layout(path)
    try:
        _check_owner(path)
        check_shape(path)
        text = _read(layout.record)
    except (FileNotFoundError, NotADirectoryError):
        if not path.exists():
            raise NotFoundError(f"{path} does not exist", hint=f"ana init {path}") from None
        hint = "'ana init' makes one"
        if layout.meta.exists():
            hint = "if it has lost it, copy that of a backup, which is the same"
        elif layout.volumes.exists():
            hint = "it may be a backup that was cut short: run 'ana backup' again"
        raise UsageError(f"{path} is not a repository: it has no {RECORD}", hint=hint) from None
    except PermissionError as error:
        raise DeniedError(f"cannot read {layout.record}: {error.strerror}", hint=OTHERS) from error
    try:
        loose = msgspec.json.decode(text)
        version = loose["format"]
        if version != FORMAT:
            raise FormatError(
                f"{path} has format {version}; this version knows format {FORMAT}",
                hint="use a newer version of Anabranch",
            )
        record = msgspec.convert(loose, RepositoryRecord)
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError) as error:
        raise DamagedError(f"{layout.record} cannot be read: {error}") from error
    unknown = record.incompatible + ([name for name in record.read_only if name not in _KNOWN] if writable else [])
    if record.chunker != CHUNKER_ID:
        unknown.append(f"chunker {record.chunker}")
    if unknown:
        raise FormatError(f"{path} needs features that this version does not know: {', '.join(unknown)}")
    return layout


def _read(record: Path) -> bytes:
    with record.open("rb") as file:
        text = file.read(_RECORD_MAX + 1)
    if len(text) > _RECORD_MAX:
        raise DamagedError(f"{record} is too long")
    return text


def _check_owner(path: Path) -> None:
    """What others can change while we look at it is no repository of ours; root is trusted to know."""
    owner = path.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise DeniedError(f"{path} belongs to another user ({owner})", hint=OTHERS)


def check_shape(path: Path) -> None:
    """A link in the place of a file of the repository would have us write elsewhere; a pipe would never answer."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name in _OWN_DIRECTORIES:
                fits = entry.is_dir(follow_symlinks=False)
            elif entry.name == "socket":
                fits = not entry.is_symlink()
            else:
                fits = not entry.name.startswith(_OWN) or entry.is_file(follow_symlinks=False)
            if not fits:
                raise DamagedError(f"{path / entry.name} is not what it should be", hint="look at it: ls -l")
