"""Settings: what each key of a repository may be, its default, and its row in the meta environment.

A row is a text under the key with spaces for hyphens; a key without a row has its default (docs/format.md,
"Settings"). Reading is free for every thread and process; only the owner writes, in a batch of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from anabranch.errors import DamagedError, UsageError
from anabranch.ids import RefName, ref_name
from anabranch.store.env import Batch, Environment
from anabranch.store.meta import SETTINGS
from anabranch.store.records import LEVEL, seal, unseal

AUTHOR_MAX = 1024
"""Bytes of an author's name."""
LEVEL_MAX = 19
"""Zstd has higher ones, which need much more memory to read."""
MEMORY_MAX = 1 << 20
"""MiB, which is a TiB."""

ON, OFF = "on", "off"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """A key: how its text is read, which raises UsageError, and its default, None where there is always a row."""

    name: str
    read: Callable[[str], T]
    default: T | None

    @property
    def row(self) -> bytes:
        """Where the text is kept."""
        return self.name.replace("-", " ").encode()


class Setting(msgspec.Struct, frozen=True):
    """A key with its value, for who reads."""

    key: str
    value: str | int
    is_default: bool


def check_author(name: str) -> str:
    """An author's name as it is stored; empty is nobody's. Raises UsageError."""
    if not name.isprintable() or len(name.encode(errors="replace")) > AUTHOR_MAX:
        raise UsageError(f"{name!r} is no author", hint=f"up to {AUTHOR_MAX} bytes, no control characters")
    return name


def _author(text: str) -> str:
    if not text.strip():
        raise UsageError("author is a name", hint="ana config --unset author: whoever commits")
    return check_author(text)


def _number(name: str, what: str, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not digits or not 1 <= int(text) <= most:
            raise UsageError(f"{name} cannot be {text!r}", hint=f"{what}, from 1 to {most}")
        return int(text)

    return read


def _switch(text: str) -> str:
    if text not in (ON, OFF):
        raise UsageError(f"xattr cannot be {text!r}", hint=f"{ON}, or {OFF}")
    return text


AUTHOR = Key("author", _author, "")
"""Of commits for which nobody says another one; empty: whoever asks for the commit."""
DEFAULT_BRANCH: Key[RefName] = Key("default-branch", ref_name, None)
COMPRESSION = Key("compression", _number("compression", "a level of zstd", LEVEL_MAX), LEVEL)
"""Of chunks that are stored from now on."""
MEMORY = Key("memory", _number("memory", "MiB", MEMORY_MAX), 256)
"""MiB that a daemon keeps to be quick."""
XATTR = Key("xattr", _switch, OFF)
"""Whether mounts, and imports, know extended attributes."""
KEYS: dict[str, Key[Any]] = {key.name: key for key in (AUTHOR, DEFAULT_BRANCH, COMPRESSION, MEMORY, XATTR)}


def key_of(name: str) -> Key[Any]:
    """The key of a name as people type it. Raises UsageError."""
    if name not in KEYS:
        raise UsageError(f"there is no setting {name!r}", hint=f"the settings are {', '.join(KEYS)}")
    return KEYS[name]


class Settings:
    """The settings of an open repository."""

    def __init__(self, meta: Environment) -> None:
        self._meta = meta

    def get(self, key: Key[T]) -> T:
        """The value of a key. Raises DamagedError."""
        found = self._find(key)
        value = key.default if found is None else found
        if value is None:
            raise DamagedError(f"the repository has no {key.name}")
        return value

    def shown(self, key: Key[Any], actor: str) -> Setting:
        """A key as it holds for somebody, who is the author where nobody is set."""
        value = self.get(key)
        return Setting(key.name, actor if key is AUTHOR and not value else value, self._find(key) is None)

    def put(self, batch: Batch, key: Key[Any], text: str) -> None:
        """Set a key. Raises UsageError."""
        batch.put(SETTINGS, key.row, seal(str(key.read(text)).encode(), key.row))

    def unset(self, batch: Batch, key: Key[Any]) -> None:
        """Go back to a key's default. Raises UsageError where there is none."""
        if key.default is None:
            raise UsageError(f"{key.name} has no default", hint=f"set another one: ana config {key.name} VALUE")
        batch.delete(SETTINGS, key.row)

    def _find(self, key: Key[T]) -> T | None:
        row = self._meta.get(SETTINGS, key.row)
        if row is None:
            return None
        try:
            return key.read(unseal(row, f"the setting {key.name}", key.row).decode())
        except (UnicodeDecodeError, UsageError) as error:
            raise DamagedError(f"the setting {key.name} cannot be read: {error}") from error
