"""The folder of a repository: its files, and the record that says what format they have.

The record is read before anything else is opened. A format or an incompatible feature that this version does not know
is refused; an unknown read-only feature allows reading. docs/format.md, "Repository".
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from anabranch.errors import DamagedError, DeniedError, ExistsError, FormatError, NotFoundError, UsageError
from anabranch.store.chunker import CHUNKER_ID

FORMAT = 1
XATTR = "xattr"
"""The read-only feature of a repository that may hold extended attributes: who does not know them would drop them."""
_KNOWN = frozenset((XATTR,))
RECORD = "anabranch.json"


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
    _check_path(path)
    layout = Layout(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if layout.record.exists():
            raise ExistsError(f"{path} is a repository already")
        if any(path.iterdir()):
            raise UsageError(f"{path} is not empty", hint="a repository wants a folder of its own")
        layout.overlays.mkdir(mode=0o700)
        layout.volumes.mkdir(mode=0o700)
        path.chmod(0o700)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is not a folder") from None
    except PermissionError as error:
        raise DeniedError(f"cannot make {path}: {error.strerror}") from error
    return layout


def _check_path(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the path {path} is not UTF-8", hint="put the repository elsewhere") from None


def write_record(layout: Layout) -> None:
    """The last step of making a repository: from here on it is one."""
    _write(layout, RepositoryRecord(FORMAT, os.urandom(16).hex(), CHUNKER_ID, [], [], []))


def demand(layout: Layout, feature: str) -> None:
    """Let only programs that know a feature write from now on; durable when it returns. For the owner alone."""
    record = msgspec.json.decode(layout.record.read_bytes(), type=RepositoryRecord)
    if feature not in record.read_only:
        _write(layout, msgspec.structs.replace(record, read_only=[*record.read_only, feature]))


def _write(layout: Layout, record: RepositoryRecord) -> None:
    text = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    temporary = layout.record.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(layout.record)
    sync_directory(layout.path)


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
    _check_path(path)
    layout = Layout(path)
    try:
        text = layout.record.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not path.exists():
            raise NotFoundError(f"{path} does not exist", hint=f"ana init {path}") from None
        raise UsageError(f"{path} is not a repository: it has no {RECORD}", hint="'ana init' makes one") from None
    except PermissionError as error:
        raise DeniedError(f"cannot read {layout.record}: {error.strerror}") from error
    try:
        loose = msgspec.json.decode(text)
        version = loose["format"]
        if version != FORMAT:
            raise FormatError(
                f"{path} has format {version}; this version knows format {FORMAT}",
                hint="use a newer version of Anabranch",
            )
        record = msgspec.convert(loose, RepositoryRecord)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise DamagedError(f"{layout.record} cannot be read: {error}") from error
    unknown = record.incompatible + ([name for name in record.read_only if name not in _KNOWN] if writable else [])
    if record.chunker != CHUNKER_ID:
        unknown.append(f"chunker {record.chunker}")
    if unknown:
        raise FormatError(f"{path} needs features that this version does not know: {', '.join(unknown)}")
    return layout
