"""Canonical MessagePack of one type: encoder and decoder side by side. Pure; docs/format.md, "Terms".

What cannot be decoded is damage, whatever is wrong with it. A sealed row has its checksum in front.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar, cast

import msgspec

from anabranch.errors import DamagedError
from anabranch.store.records import seal, unseal

T = TypeVar("T")

encode = msgspec.msgpack.Encoder().encode
"""Canonical as long as maps are built in the order of their keys, which is up to who builds them."""


class Codec(Generic[T]):
    """Reads and writes values of one type. Safe for use by several threads."""

    def __init__(self, type_: type[T] | object, what: str) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(cast(type[T], type_))
        self._many: msgspec.msgpack.Decoder[list[T]] = msgspec.msgpack.Decoder(list[type_])  # type: ignore[valid-type]
        self._what = what

    def encode(self, value: T) -> bytes:
        """The canonical bytes of a value."""
        return encode(value)

    def decode(self, raw: bytes | memoryview | msgspec.Raw, what: str | None = None) -> T:
        """The value of canonical bytes. Raises DamagedError, naming what they were to be."""
        try:
            return self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DamagedError(f"{what or self._what} cannot be read: {error}") from error

    def decode_all(self, values: Sequence[bytes]) -> list[T]:
        """The values of many canonical bytes, at once. Raises DamagedError."""
        try:
            return self._many.decode(b"".join((b"\xdd", len(values).to_bytes(4), *values)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DamagedError(f"{self._what} cannot be read: {error}") from error

    def seal(self, value: T, key: bytes = b"") -> bytes:
        """A value as a row."""
        return seal(encode(value), key)

    def unseal(self, sealed: bytes, what: str, key: bytes = b"") -> T:
        """The value of a row. Raises DamagedError."""
        return self.decode(unseal(sealed, what, key), what)
